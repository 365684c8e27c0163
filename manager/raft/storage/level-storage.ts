/**
 * The log in a key-value store (LevelDB where real), term and vote beside it in their own file.
 *
 * One synced batch per `persist` holds: cut-off blocks deleted, one block for all new entries, the copy of term and vote,
 * the switch to a received snapshot. One block per batch, not one record per entry, is worth 2.5 x in throughput; its price
 * is that cutting into a block rewrites its head.
 *
 * What `open` does with what it finds is in `open-log.ts`; records and their checksums in `records.ts`.
 *
 * (D1) Every write that matters is synced. Snapshot chunks too: a later sync does not cover an older log file of LevelDB.
 */
import type { LogIndex } from "../../../core/brands.js";
import { assert } from "../../../core/assert.js";
import { AnantaError } from "../../../core/errors.js";
import type { Env, Store } from "../../../runtime/env.js";
import type { Entry, HardState, SnapshotMeta } from "../core/types.js";
import { HardStateFile, type StoredHardState } from "./hard-state-file.js";
import { blockKey, chunkKey, chunkRangeOf, CHUNK_RANGE, HARD_STATE_KEY, META_KEY, SNAPSHOT_KEY } from "./keys.js";
import { openLog, type BlockInfo, type Meta } from "./open-log.js";
import { decodeBlockRecord, encodeBlockRecord, seal, sealFacts, unseal } from "./records.js";
import type { OpenedStorage, RaftStorage, StorageBatch, StoredSnapshot } from "./storage.js";
import { SYNCED } from "./synced.js";

export interface LevelStorageOptions {
  readonly disk: Env["disk"];
  readonly folder: string;
  /** Whose data this is; a folder of someone else is refused. */
  readonly owner: { readonly clusterId: string; readonly clusterEpoch: number; readonly nodeId: number };
  /** Format an empty folder as a new replica's, instead of taking it for lost state. */
  readonly bootstrap: boolean;
  /** Format an empty folder as that of a replica which joins a running cluster, under this identity. */
  readonly join?: string | null;
}

type Operation =
  | { readonly type: "put"; readonly key: Uint8Array; readonly value: Uint8Array }
  | { readonly type: "del"; readonly key: Uint8Array };

export class LevelStorage implements RaftStorage {
  readonly #options: LevelStorageOptions;
  #store: Store | null = null;
  #file: HardStateFile | null = null;
  #meta: Meta | null = null;
  #hardState: StoredHardState = { generation: 0, term: 0 as StoredHardState["term"], votedFor: null };
  #snapshot: StoredSnapshot | null = null;
  /** Ascending, contiguous. */
  #blocks: BlockInfo[] = [];
  #failure: AnantaError | null = null;

  constructor(options: LevelStorageOptions) {
    this.#options = options;
  }

  async open(): Promise<OpenedStorage> {
    const { disk, folder } = this.#options;
    await disk.makeFolder(folder);
    this.#store = await disk.openStore(`${folder}/log`);
    this.#file = await HardStateFile.open(disk, `${folder}/hard-state`);
    const found = await openLog(this.#store, this.#file, this.#options);
    this.#meta = found.meta;
    this.#hardState = found.hardState;
    this.#snapshot = found.opened.snapshot;
    this.#blocks = [...found.blocks];
    return found.opened;
  }

  async persist(batch: StorageBatch): Promise<void> {
    await this.#orFail(async () => {
      const operations: Operation[] = [];
      if (batch.snapshot !== null) await this.#switchSnapshot(operations, batch.snapshot, { emptyLog: true });
      if (batch.entries.length > 0) await this.#appendBlock(operations, batch.entries, batch.commitIndex);
      const writes: Promise<unknown>[] = [];
      if (batch.hardState !== null) writes.push(this.#writeHardState(operations, batch.hardState));
      if (operations.length > 0) writes.push(this.#opened().batch(operations, SYNCED));
      await Promise.all(writes);
      if (batch.snapshot !== null) await this.#deleteOlderChunks(batch.snapshot.meta);
    });
  }

  async writeSnapshotChunk(meta: SnapshotMeta, number: number, data: Uint8Array): Promise<void> {
    assert(meta.index !== this.#snapshot?.meta.index, "the present snapshot is never written to");
    await this.#orFail(() => this.#opened().put(chunkKey(meta.index, number), seal(data), SYNCED)); // (D1)
  }

  async completeSnapshot(snapshot: StoredSnapshot): Promise<void> {
    await this.#orFail(async () => {
      const operations: Operation[] = [];
      await this.#switchSnapshot(operations, snapshot, { emptyLog: false });
      await this.#opened().batch(operations, SYNCED);
      await this.#deleteOlderChunks(snapshot.meta);
    });
  }

  async readSnapshotChunk(number: number): Promise<Uint8Array> {
    assert(this.#snapshot !== null && number < this.#snapshot.chunkCount, "the chunk exists");
    const record = await this.#opened().get(chunkKey(this.#snapshot.meta.index, number));
    if (record === undefined) throw new AnantaError("STORAGE_DAMAGED", `Snapshot chunk ${number} is missing.`);
    return unseal(record);
  }

  async compactTo(index: LogIndex): Promise<void> {
    const operations: Operation[] = [];
    while (this.#blocks.length > 0 && this.#blocks[0]!.lastIndex <= index) {
      operations.push({ type: "del", key: blockKey(this.#blocks.shift()!.firstIndex) }); // length > 0
    }
    // Not synced: should it be lost, the blocks are merely still there.
    if (operations.length > 0) await this.#orFail(() => this.#opened().batch(operations));
  }

  async markRepaired(): Promise<void> {
    assert(this.#meta !== null, "the storage is open");
    this.#meta = { ...this.#meta, damage: null };
    const record = sealFacts(this.#meta);
    await this.#orFail(() => this.#opened().put(META_KEY, record, SYNCED));
  }

  freeBytes(): Promise<number> {
    return this.#options.disk.freeBytes(this.#options.folder);
  }

  async close(): Promise<void> {
    await this.#store?.close();
    await this.#file?.close();
    this.#store = null;
    this.#file = null;
  }

  #opened(): Store {
    assert(this.#store !== null, "the storage is open");
    return this.#store;
  }

  /** Term and vote go to their file and, in the same batch as the entries, to the store. */
  #writeHardState(operations: Operation[], { term, votedFor }: HardState): Promise<void> {
    assert(this.#file !== null, "the storage is open");
    this.#hardState = { generation: this.#hardState.generation + 1, term, votedFor };
    operations.push({ type: "put", key: HARD_STATE_KEY, value: sealFacts(this.#hardState) });
    return this.#file.write(this.#hardState);
  }

  async #appendBlock(operations: Operation[], entries: readonly Entry[], commitIndex: LogIndex): Promise<void> {
    const first = entries[0]!; // the caller checked that there are entries
    await this.#cutFrom(operations, first.index, commitIndex);
    const lastBlock = this.#blocks.at(-1);
    const expected = lastBlock !== undefined ? lastBlock.lastIndex + 1 : (this.#snapshot?.meta.index ?? 0) + 1;
    assert(
      first.index === expected || (lastBlock === undefined && first.index <= expected),
      "stored entries are contiguous",
    );
    const { record, chain } = encodeBlockRecord(entries, { previousChain: lastBlock?.chain ?? 0, commitIndex });
    operations.push({ type: "put", key: blockKey(first.index), value: record });
    this.#blocks.push({ firstIndex: first.index, lastIndex: (first.index + entries.length - 1) as LogIndex, chain });
  }

  /** Removes `index` and everything after it; a block that begins before it keeps its head. */
  async #cutFrom(operations: Operation[], index: LogIndex, commitIndex: LogIndex): Promise<void> {
    for (let last = this.#blocks.at(-1); last !== undefined && last.lastIndex >= index; last = this.#blocks.at(-1)) {
      if (last.firstIndex >= index) {
        operations.push({ type: "del", key: blockKey(last.firstIndex) });
        this.#blocks.pop();
        continue;
      }
      const record = await this.#opened().get(blockKey(last.firstIndex));
      if (record === undefined) throw new AnantaError("STORAGE_DAMAGED", `The block at ${last.firstIndex} is missing.`);
      const block = decodeBlockRecord(record);
      const head = block.entries.slice(0, index - last.firstIndex);
      const rewritten = encodeBlockRecord(head, { previousChain: block.previousChain, commitIndex });
      operations.push({ type: "put", key: blockKey(last.firstIndex), value: rewritten.record });
      this.#blocks.pop();
      this.#blocks.push({ firstIndex: last.firstIndex, lastIndex: (index - 1) as LogIndex, chain: rewritten.chain });
    }
  }

  async #switchSnapshot(
    operations: Operation[],
    snapshot: StoredSnapshot,
    options: { readonly emptyLog: boolean },
  ): Promise<void> {
    for (let number = 0; number < snapshot.chunkCount; number++) {
      const record = await this.#opened().get(chunkKey(snapshot.meta.index, number));
      if (record === undefined) throw new AnantaError("STORAGE_DAMAGED", `Snapshot chunk ${number} is missing.`);
      unseal(record); // pair of the check in `readSnapshotChunk`: what becomes the state was readable when it did
    }
    operations.push({ type: "put", key: SNAPSHOT_KEY, value: sealFacts(snapshot) });
    if (options.emptyLog) {
      for (const block of this.#blocks) operations.push({ type: "del", key: blockKey(block.firstIndex) });
      this.#blocks = [];
    }
    this.#snapshot = snapshot;
  }

  /** Not synced: should it be lost, `open` deletes them again. Newer ones may be on their way in. */
  async #deleteOlderChunks(present: SnapshotMeta): Promise<void> {
    await this.#opened().clear({ gte: CHUNK_RANGE.gte, lt: chunkRangeOf(present.index).gte });
  }

  /** (S3) After one failure nothing more is written. */
  async #orFail<Result>(work: () => Promise<Result>): Promise<Result> {
    if (this.#failure !== null) throw this.#failure;
    try {
      return await work();
    } catch (cause) {
      this.#failure = new AnantaError(
        "STORAGE_FAILED",
        "A write to durable storage failed; the process must end.",
        {},
        { cause },
      );
      throw this.#failure;
    }
  }
}
