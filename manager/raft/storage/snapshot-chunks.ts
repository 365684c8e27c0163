/** The chunks of snapshots in the store: written, read back, checked against the digest of the whole, and cleared away. */
import { AnantaError } from "../../../core/errors.js";
import type { Store } from "../../../runtime/env.js";
import { SnapshotDigest } from "../snapshot-digest.js";
import { chunkSetOf, type SnapshotRecord } from "./facts.js";
import { CHUNK_RANGE, chunkKey, chunkRangeOf, type ChunkSet } from "./keys.js";
import { seal, unseal } from "./records.js";
import { SYNCED } from "./synced.js";

/** Synced: a later sync of another write does not cover an older log file of LevelDB. */
export async function writeChunk(store: Store, set: ChunkSet, number: number, data: Uint8Array): Promise<void> {
  await store.put(chunkKey(set, number), seal(data), SYNCED);
}

/** Throws STORAGE_DAMAGED when it is not there or not as it was written. */
export async function readChunk(store: Store, set: ChunkSet, number: number): Promise<Uint8Array> {
  const record = await store.get(chunkKey(set, number));
  if (record === undefined) throw new AnantaError("STORAGE_DAMAGED", `Snapshot chunk ${number} is missing.`);
  return unseal(record);
}

/** Reads all of it. Throws STORAGE_DAMAGED when it is not what the digest was taken of. */
export async function verifySnapshot(store: Store, snapshot: SnapshotRecord): Promise<void> {
  const digest = new SnapshotDigest();
  for (let number = 0; number < snapshot.chunkCount; number++)
    digest.add(await readChunk(store, chunkSetOf(snapshot), number));
  const { byteCount } = digest;
  if (byteCount !== snapshot.byteCount || digest.finish() !== snapshot.digest)
    throw new AnantaError("STORAGE_DAMAGED", "The snapshot's chunks do not have its digest.");
}

/** How many chunks from the first on are there and whole, and whether the one behind them is there and is not. */
export async function countWholeChunks(
  store: Store,
  snapshot: SnapshotRecord,
): Promise<{ readonly whole: number; readonly damaged: boolean }> {
  for (let number = 0; number < snapshot.chunkCount; number++) {
    const record = await store.get(chunkKey(chunkSetOf(snapshot), number));
    if (record === undefined) return { whole: number, damaged: false };
    try {
      unseal(record);
    } catch {
      return { whole: number, damaged: true };
    }
  }
  return { whole: snapshot.chunkCount, damaged: false };
}

/** Deletes every chunk that belongs to none of `kept`. Not synced: should it be lost, they are deleted another time. */
export async function clearOtherChunks(store: Store, kept: readonly ChunkSet[]): Promise<void> {
  let from = CHUNK_RANGE.gte;
  const ranges = kept.map((set) => chunkRangeOf(set)).sort((a, b) => Buffer.compare(a.gte, b.gte));
  for (const { gte, lt } of ranges) {
    await store.clear({ gte: from, lt: gte });
    from = lt;
  }
  await store.clear({ gte: from, lt: CHUNK_RANGE.lt });
}
