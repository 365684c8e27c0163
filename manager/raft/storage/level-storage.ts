/**
 * The log in a key-value store (LevelDB where real), term and vote beside it in their own file.
 *
 * One synced batch per `persist` holds: cut-off blocks deleted, one block for all new entries, the copy of term and vote,
 * the switch to a received snapshot, and the tail (facts.ts). One block per batch, not one record per entry, is worth 2.5 x
 * in throughput; its price is that cutting into a block rewrites its head.
 *
 * What `open` does with what it finds is in `open-log.ts`; records and their checksums in `records.ts`.
 *
 * (D1) Every write that matters is synced. Snapshot chunks too: a later sync does not cover an older log file of LevelDB.
 * (D2) Batches that change log or snapshot go one after another, so that the tail's sequence is their order on disk.
 *      So do those that change which sets of chunks are kept, and the clearing away of all others: otherwise a set begun
 *      meanwhile would be cleared with them.
 * (D3) The log mark follows a batch within MARK_DELAY_MS. A store that loses a synced batch later than that is found out;
 *      one that loses it within that time, together with the process, is not. Writing the mark with every batch would close
 *      the gap at the price of a second fsync on the way of every commit.
 */
import type { LogIndex } from "../../../core/brands.js";
import { assert } from "../../../core/assert.js";
import { AnantaError } from "../../../core/errors.js";
import type { Clock, Disk, Store, Timer } from "../../../runtime/env.js";
import type { Entry, HardState, SnapshotMeta } from "../core/types.js";
import { chunkSetOf, storedSnapshotOf, type Meta, type SnapshotRecord, type Tail } from "./facts.js";
import { HardStateFile, type StoredHardState } from "./hard-state-file.js";
import {
  blockKey,
  chunkKey,
  HARD_STATE_KEY,
  META_KEY,
  RECEIVING_KEY,
  SNAPSHOT_KEY,
  TAIL_KEY,
  type ChunkSet,
} from "./keys.js";
import type { BlockInfo } from "./open-blocks.js";
import { openLog, type FolderOptions, type FoundLog } from "./open-log.js";
import { decodeBlockRecord, encodeBlockRecord, seal, sealFacts } from "./records.js";
import { clearOtherChunks, readChunk, verifySnapshot, writeChunk } from "./snapshot-chunks.js";
import type { OpenedStorage, RaftStorage, StorageBatch, StoredSnapshot } from "./storage.js";
import { SYNCED } from "./synced.js";
import { writeFailure } from "./write-failure.js";
import { WriteWatch } from "./write-watch.js";

export interface LevelStorageOptions extends FolderOptions {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly folder: string;
}

/** (D3) Each mark costs three turns of the event loop and a sync that stands in the way of the log's; 40 a second are not felt. */
const MARK_DELAY_MS = 25;
/** Blocks that one batch deletes: a snapshot may leave ten thousand behind, and their keys are made on the event loop. */
const COMPACTED_AT_ONCE = 256;

type Operation =
  | { readonly type: "put"; readonly key: Uint8Array; readonly value: Uint8Array }
  | { readonly type: "del"; readonly key: Uint8Array };

interface Opened {
  readonly store: Store;
  readonly file: HardStateFile;
  meta: Meta;
  hardState: StoredHardState;
  /** As the newest finished batch left it. */
  tail: Tail;
  snapshot: SnapshotRecord | null;
  receiving: SnapshotRecord | null;
  /** Whose chunks an own snapshot is being written under. */
  taking: ChunkSet | null;
  /** Ascending, contiguous. */
  blocks: BlockInfo[];
}

export class LevelStorage implements RaftStorage {
  readonly #options: LevelStorageOptions;
  readonly #watch: WriteWatch;
  #opened: Opened | null = null;
  /** (D2) */
  #lastBatch: Promise<unknown> = Promise.resolve();
  #marking: Promise<void> = Promise.resolve();
  #markTimer: Timer | null = null;
  #failure: AnantaError | null = null;

  constructor(options: LevelStorageOptions) {
    this.#options = options;
    this.#watch = new WriteWatch(options.clock);
  }

  async open(): Promise<OpenedStorage> {
    const { disk, folder } = this.#options;
    await disk.makeFolder(folder);
    const store = await disk.openStore(`${folder}/log`);
    let file: HardStateFile | null = null;
    let found: FoundLog;
    try {
      file = await HardStateFile.open(disk, `${folder}/hard-state`);
      found = await openLog(store, file, this.#options);
    } catch (error) {
      await store.close();
      await file?.close();
      if (error instanceof AnantaError) throw error;
      throw writeFailure(`Cannot open the data folder ${folder}`, error);
    }
    const { meta, hardState, tail, snapshot, receiving, blocks } = found;
    this.#opened = { store, file, meta, hardState, tail, snapshot, receiving, taking: null, blocks: [...blocks] };
    return found.opened;
  }

  async persist(batch: StorageBatch): Promise<void> {
    await this.#inTurn(async (opened) => {
      const operations: Operation[] = [];
      let { tail } = opened;
      if (batch.snapshot !== null) tail = switchToReceived(opened, operations, batch.snapshot);
      if (batch.entries.length > 0) tail = await appendBlock(opened, operations, tail, batch);
      if (tail !== opened.tail) operations.push({ type: "put", key: TAIL_KEY, value: sealFacts(tail) });
      const writes: Promise<unknown>[] = [];
      if (batch.hardState !== null) writes.push(writeHardState(opened, operations, batch.hardState));
      if (operations.length > 0) writes.push(opened.store.batch(operations, SYNCED));
      await Promise.all(writes);
      this.#durable(opened, tail);
      if (batch.snapshot !== null) await clearOtherChunks(opened.store, keptSets(opened));
    });
  }

  async writeSnapshotChunk(meta: SnapshotMeta, number: number, data: Uint8Array): Promise<void> {
    const { snapshot } = this.#present();
    assert(meta.index !== snapshot?.meta.index, "the present snapshot is never written to");
    const set: ChunkSet = { index: meta.index, origin: "own" };
    if (number === 0)
      await this.#inTurn((opened) => {
        opened.taking = set; // (D2)
        return writeChunk(opened.store, set, number, data);
      });
    else await this.#orFail((opened) => writeChunk(opened.store, set, number, data));
  }

  async completeSnapshot(snapshot: StoredSnapshot): Promise<boolean> {
    const record: SnapshotRecord = { ...snapshot, origin: "own" };
    // Pair of the check in `readSnapshotChunk`: what becomes the state was readable when it did.
    if (!(await isWhole(this.#present().store, record))) return false;
    await this.#inTurn(async (opened) => {
      assert(snapshot.meta.index > (opened.snapshot?.meta.index ?? 0), "snapshots advance");
      const tail = { ...opened.tail, sequence: opened.tail.sequence + 1, snapshotIndex: snapshot.meta.index };
      opened.snapshot = record;
      opened.taking = null;
      const operations: Operation[] = [
        { type: "put", key: SNAPSHOT_KEY, value: sealFacts(record) },
        { type: "put", key: TAIL_KEY, value: sealFacts(tail) },
      ];
      await opened.store.batch(operations, SYNCED);
      this.#durable(opened, tail);
      await clearOtherChunks(opened.store, keptSets(opened));
    });
    return true;
  }

  async receiveSnapshotChunk(snapshot: StoredSnapshot, number: number, data: Uint8Array): Promise<void> {
    if (number > 0) {
      await this.#orFail(async (opened) => {
        assert(opened.receiving?.digest === snapshot.digest, "chunks of one snapshot follow one another");
        await writeChunk(opened.store, chunkSetOf(opened.receiving), number, data);
      });
      return;
    }
    await this.#inTurn(async (opened) => {
      const record: SnapshotRecord = { ...storedSnapshotOf(snapshot), origin: "received" };
      opened.receiving = null;
      await clearOtherChunks(opened.store, keptSets(opened));
      const operations: Operation[] = [
        { type: "put", key: RECEIVING_KEY, value: sealFacts(record) },
        { type: "put", key: chunkKey(chunkSetOf(record), 0), value: seal(data) },
      ];
      opened.receiving = record;
      await opened.store.batch(operations, SYNCED);
    });
  }

  async verifyReceived(): Promise<boolean> {
    const { store, receiving } = this.#present();
    assert(receiving !== null, "a snapshot was received");
    if (await isWhole(store, receiving)) return true;
    await this.#inTurn(async (opened) => {
      opened.receiving = null;
      await opened.store.del(RECEIVING_KEY, SYNCED);
      await clearOtherChunks(opened.store, keptSets(opened));
    });
    return false;
  }

  async readSnapshotChunk(digest: string, number: number): Promise<Uint8Array | null> {
    const { store, snapshot } = this.#present();
    if (snapshot?.digest !== digest) return null;
    assert(number < snapshot.chunkCount, "the chunk exists");
    try {
      return await readChunk(store, chunkSetOf(snapshot), number);
    } catch (error) {
      if (this.#opened?.snapshot?.digest !== digest) return null; // another one took its place meanwhile
      throw error;
    }
  }

  async compactTo(index: LogIndex): Promise<void> {
    for (let isDone = false; !isDone;) {
      await this.#inTurn(async (opened) => {
        const kept = opened.blocks.slice(0, COMPACTED_AT_ONCE).findIndex(({ lastIndex }) => lastIndex > index);
        isDone = kept >= 0 || opened.blocks.length <= COMPACTED_AT_ONCE;
        const gone = opened.blocks.splice(0, kept >= 0 ? kept : COMPACTED_AT_ONCE);
        const operations = gone.map(({ firstIndex }): Operation => ({ type: "del", key: blockKey(firstIndex) }));
        // Not synced: should it be lost, the blocks are merely still there.
        if (operations.length > 0) await opened.store.batch(operations);
      });
    }
  }

  async markRepaired(): Promise<void> {
    await this.#inTurn(async (opened) => {
      opened.meta = { ...opened.meta, damage: null };
      await opened.store.put(META_KEY, sealFacts(opened.meta), SYNCED);
    });
  }

  freeBytes(): Promise<number> {
    return this.#options.disk.freeBytes(this.#options.folder);
  }

  oldestWriteMs(): number {
    return this.#watch.oldestMs();
  }

  async close(): Promise<void> {
    const opened = this.#opened;
    if (opened === null) return;
    this.#opened = null;
    this.#markTimer?.cancel();
    this.#markTimer = null;
    this.#watch.stop();
    if (this.#failure === null) {
      await this.#lastBatch;
      await this.#marking;
      await this.#writeMark(opened).catch(() => undefined); // a mark that is behind does no harm
    }
    await opened.store.close();
    await opened.file.close();
  }

  #present(): Opened {
    assert(this.#opened !== null, "the storage is open");
    return this.#opened;
  }

  /** (D2) */
  #inTurn(work: (opened: Opened) => Promise<void>): Promise<void> {
    const done = this.#lastBatch.then(() => this.#orFail(work));
    this.#lastBatch = done.catch(() => undefined); // the next one finds `#failure`
    return done;
  }

  /** (S3) After one failure nothing more is written. */
  async #orFail(work: (opened: Opened) => Promise<void>): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    const opened = this.#present();
    try {
      await this.#watch.watch(() => work(opened));
    } catch (cause) {
      this.#failure ??= writeFailure(`A write to ${this.#options.folder} failed; the process must end`, cause);
      throw this.#failure;
    }
  }

  #durable(opened: Opened, tail: Tail): void {
    if (tail === opened.tail) return;
    opened.tail = tail;
    if (this.#opened === null) return;
    this.#markTimer ??= this.#options.clock.setTimer(MARK_DELAY_MS, () => {
      this.#markTimer = null;
      this.#marking = this.#marking.then(() => this.#orFail((now) => this.#writeMark(now))).catch(() => undefined); // the next batch meets `#failure`
    });
  }

  async #writeMark(opened: Opened): Promise<void> {
    const { sequence, lastIndex } = opened.tail;
    if (sequence > (opened.file.mark?.sequence ?? 0)) await opened.file.writeMark({ sequence, lastIndex }); // (D3)
  }
}

/** Do its chunks read back with its digest? */
async function isWhole(store: Store, snapshot: SnapshotRecord): Promise<boolean> {
  try {
    await verifySnapshot(store, snapshot);
    return true;
  } catch (error) {
    if (error instanceof AnantaError && error.code === "STORAGE_DAMAGED") return false;
    throw error;
  }
}

/** The chunks that stay. */
const keptSets = ({ snapshot, receiving, taking }: Opened): ChunkSet[] => {
  const sets = [snapshot, receiving].flatMap((record) => (record === null ? [] : [chunkSetOf(record)]));
  return taking === null ? sets : [...sets, taking];
};

/** Term and vote go to their file and, in the same batch as the entries, to the store. */
function writeHardState(opened: Opened, operations: Operation[], { term, votedFor }: HardState): Promise<void> {
  opened.hardState = { generation: opened.hardState.generation + 1, term, votedFor };
  operations.push({ type: "put", key: HARD_STATE_KEY, value: sealFacts(opened.hardState) });
  return opened.file.write(opened.hardState);
}

function switchToReceived(opened: Opened, operations: Operation[], snapshot: StoredSnapshot): Tail {
  const record = opened.receiving;
  assert(record !== null && record.digest === snapshot.digest, "the snapshot was received and verified");
  assert(record.meta.index > (opened.snapshot?.meta.index ?? 0), "snapshots advance");
  operations.push({ type: "put", key: SNAPSHOT_KEY, value: sealFacts(record) }, { type: "del", key: RECEIVING_KEY });
  for (const block of opened.blocks) operations.push({ type: "del", key: blockKey(block.firstIndex) });
  opened.blocks = [];
  opened.snapshot = record;
  opened.receiving = null;
  const { index } = record.meta;
  return { ...opened.tail, sequence: opened.tail.sequence + 1, lastIndex: index, snapshotIndex: index };
}

async function appendBlock(
  opened: Opened,
  operations: Operation[],
  tail: Tail,
  { entries, commitIndex }: StorageBatch,
): Promise<Tail> {
  const first = entries[0]!; // the caller checked that there are entries
  const chainBefore = await cutFrom(opened, operations, first.index, commitIndex);
  const lastBlock = opened.blocks.at(-1);
  const expected = lastBlock !== undefined ? lastBlock.lastIndex + 1 : (opened.snapshot?.meta.index ?? 0) + 1;
  assert(
    first.index === expected || (lastBlock === undefined && first.index <= expected),
    "stored entries are contiguous",
  );
  // Blocks that were compacted may come back (their deletion is not synced), so the chain goes on from them.
  const previousChain = lastBlock?.chain ?? chainBefore ?? tail.chain;
  const { record, chain } = encodeBlockRecord(entries, { previousChain, commitIndex });
  operations.push({ type: "put", key: blockKey(first.index), value: record });
  const lastIndex = (first.index + entries.length - 1) as LogIndex;
  opened.blocks.push({ firstIndex: first.index, lastIndex, previousChain, chain });
  return { ...tail, sequence: opened.tail.sequence + 1, lastIndex, chain };
}

/**
 * Removes `index` and everything after it; a block that begins before it keeps its head. Returns the chain value before
 * the first block that was removed whole, null when none was.
 */
async function cutFrom(
  opened: Opened,
  operations: Operation[],
  index: LogIndex,
  commitIndex: LogIndex,
): Promise<number | null> {
  const { blocks, store } = opened;
  let chainBefore: number | null = null;
  for (let last = blocks.at(-1); last !== undefined && last.lastIndex >= index; last = blocks.at(-1)) {
    blocks.pop();
    if (last.firstIndex >= index) {
      operations.push({ type: "del", key: blockKey(last.firstIndex) });
      chainBefore = last.previousChain;
      continue;
    }
    const record = await store.get(blockKey(last.firstIndex));
    if (record === undefined) throw new AnantaError("STORAGE_DAMAGED", `The block at ${last.firstIndex} is missing.`);
    const block = decodeBlockRecord(record);
    const head: readonly Entry[] = block.entries.slice(0, index - last.firstIndex);
    const rewritten = encodeBlockRecord(head, { previousChain: block.previousChain, commitIndex });
    operations.push({ type: "put", key: blockKey(last.firstIndex), value: rewritten.record });
    const { firstIndex, previousChain } = last;
    blocks.push({ firstIndex, lastIndex: (index - 1) as LogIndex, previousChain, chain: rewritten.chain });
  }
  return chainBefore;
}
