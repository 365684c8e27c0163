/**
 * Who owned which SNAT ports when: intervals of ownership, kept for weeks, in a store of their own beside the log.
 * Every replica writes its own from the entries that it applies. What is owned now stands in the replicated state; here is
 * what has ended.
 *
 *     applied entries --> buffer --200 ms--> store        who owned VIP:port at T? --> state (now), else store
 *
 *  (O1) What is in the store is complete up to the index under "through", but for the gaps that it names: a replica that
 *       restarts applies what it lost again, and leaves out what it has.
 *  (O2) A gap is told, never filled: a snapshot that was installed, or a power loss, hides entries from this replica.
 *  (O3) The history never stands in the way: a store that fails is reported, and the replica works on without it.
 */
import type { DipId, LogIndex } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import type { Clock, Disk, Log, Store, Timer } from "../../runtime/env.js";
import { nextTurn } from "../slices.js";
import type { Dip } from "../state/objects.js";
import type { AppliedBatch } from "../state/commands/results.js";
import type { EndedOwnership } from "../state/snat/allocator.js";
import {
  alignedBlocks,
  blockPrefix,
  blocksAround,
  bucketKey,
  endedKey,
  endedPrefix,
  endOf,
  gapKey,
  markKey,
  numberIn,
  stockKey,
  THROUGH_KEY,
  type EndedRecord,
  type HistoryGap,
  type Space,
} from "./history-keys.js";

export interface HistorySettings {
  /** Older intervals are forgotten. */
  readonly retentionMs: number;
  /** More than so many are never kept: the oldest go first. About 150 bytes each. */
  readonly recordsMax: number;
}

export const HISTORY_SETTINGS: HistorySettings = { retentionMs: 30 * 86_400_000, recordsMax: 2_000_000 };

/** What is not written yet when a process is killed is applied again; the pause makes batches of it. */
const FLUSH_MS = 200;
/** Some milliseconds of work: a host that comes back without its ranges ends thousands of intervals in one entry. */
const WRITES_PER_TURN = 256;
const MARK_MS = 1_000;
const BUCKET_MS = 3_600_000;
/** The oldest bucket goes as a whole, so it must be a small part of all. */
const BUCKETS_MIN = 16;

export interface PastOwner extends EndedRecord {
  readonly first: number;
  readonly count: number;
  readonly untilIndex: LogIndex;
}

interface Bucket {
  readonly id: number;
  readonly beganMs: number;
  readonly beganIndex: LogIndex;
  records: number;
}

interface Write {
  readonly key: string;
  readonly value: string;
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (value: Uint8Array): string => new TextDecoder().decode(value);

export class OwnershipHistory {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #settings: HistorySettings;
  #buckets: Bucket[] = [];
  #gaps: HistoryGap[] = [];
  #pending: Write[] = [];
  #through: LogIndex;
  #markedMs = -Infinity;
  /** Wall clock of the newest entry seen; null: none since the start. */
  #wallMs: number | null = null;
  #timer: Timer | null = null;
  #flushing: Promise<void> = Promise.resolve();
  #failure: AnantaError | null = null;

  private constructor(options: {
    readonly store: Store;
    readonly clock: Clock;
    readonly log: Log;
    readonly settings: HistorySettings;
    readonly through: LogIndex;
  }) {
    this.#store = options.store;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#settings = options.settings;
    this.#through = options.through;
  }

  /** Rejects with STORAGE_LOCKED, STORAGE_DAMAGED or STORAGE_FAILED. */
  static async open(options: {
    readonly disk: Disk;
    readonly clock: Clock;
    readonly log: Log;
    readonly folder: string;
    readonly settings: HistorySettings;
  }): Promise<OwnershipHistory> {
    await options.disk.makeFolder(options.folder);
    const store = await options.disk.openStore(`${options.folder}/ownership`);
    try {
      const through = Number(text((await store.get(bytes(THROUGH_KEY))) ?? bytes("0"))) as LogIndex;
      const history = new OwnershipHistory({ ...options, store, through });
      for await (const [key, value] of store.iterator({ gte: bytes("bucket/"), lt: bytes(endOf("bucket/")) })) {
        history.#buckets.push({ ...(JSON.parse(text(value)) as Omit<Bucket, "id">), id: numberIn(text(key)) });
      }
      const marks = { gte: bytes("mark/"), lt: bytes(endOf("mark/")), reverse: true, limit: 1 };
      for await (const value of store.values(marks)) history.#wallMs = Number(text(value));
      for await (const value of store.values({ gte: bytes("gap/"), lt: bytes(endOf("gap/")) }))
        history.#gaps.push(JSON.parse(text(value)) as HistoryGap);
      return history;
    } catch (caught) {
      await store.close();
      throw new AnantaError(
        "STORAGE_DAMAGED",
        `the ownership history in ${options.folder} cannot be read`,
        {},
        { cause: caught },
      );
    }
  }

  /** Everything up to here is in, but for the gaps. */
  get through(): LogIndex {
    return this.#through;
  }

  /** Null: all is well. */
  get failure(): AnantaError | null {
    return this.#failure;
  }

  gaps(): readonly HistoryGap[] {
    return this.#gaps;
  }

  /** Wall clock ms since which intervals that ended are known here; null: nothing is known yet. */
  get sinceMs(): number | null {
    return this.#buckets[0]?.beganMs ?? null;
  }

  /** An entry was applied. `dip` names a DIP as of now. */
  applied(batch: Pick<AppliedBatch, "index" | "ended">, wallMs: number, dip: (id: DipId) => Dip | null): void {
    if (batch.index <= this.#through) return; // (O1) written before a restart
    this.#wallMs = wallMs;
    this.#through = batch.index;
    if (Math.abs(wallMs - this.#markedMs) >= MARK_MS) {
      this.#markedMs = wallMs;
      this.#put({ key: markKey(batch.index), value: String(wallMs) });
    }
    for (const ended of batch.ended) this.#end(ended, batch.index, wallMs, dip(ended.dip));
  }

  /** The state was replaced by a snapshot's: what lies between is a gap (O2), unless it was seen before. */
  restored(index: LogIndex): void {
    if (index <= this.#through) return;
    const untilMs = this.#clock.wallMs();
    const gap: HistoryGap = { fromIndex: this.#through, untilIndex: index, fromMs: this.#wallMs, untilMs };
    this.#log.warn("ownership history has a gap", { from: gap.fromIndex, until: index });
    this.#through = index;
    this.#gaps.push(gap);
    this.#put({ key: gapKey(index), value: JSON.stringify(gap) });
  }

  /** A snapshot of the state is being made: after a restart from it, this much must be known to be in. */
  saved(): void {
    this.#soon();
  }

  /** How the ports stood at `wallMs`. */
  recordStock(wallMs: number, sample: string): void {
    this.#put({ key: stockKey(wallMs), value: sample });
  }

  /** Samples from `sinceMs` on, oldest first. */
  async stockSince(sinceMs: number): Promise<readonly { readonly atMs: number; readonly sample: string }[]> {
    await this.flush();
    const found = [];
    const range = { gte: bytes(stockKey(Math.max(0, Math.floor(sinceMs)))), lt: bytes(endOf("stock/")) };
    for await (const [key, value] of this.#store.iterator(range))
      found.push({ atMs: numberIn(text(key)), sample: text(value) });
    return found;
  }

  /** Wall clock ms of the entry, up to a second early; null: before what is known here. */
  async wallOf(index: LogIndex): Promise<number | null> {
    await this.flush();
    return this.#wallBefore(index);
  }

  /** Intervals that ended and hold the range, newest first. Walks all of its buckets. */
  async ownersOf(space: Space, range: number): Promise<readonly PastOwner[]> {
    await this.flush();
    const found: PastOwner[] = [];
    for (const { id } of this.#buckets) {
      for (const block of blocksAround(range)) {
        const prefix = blockPrefix(id, space, block);
        for await (const [key, value] of this.#store.iterator({ gte: bytes(prefix), lt: bytes(endOf(prefix)) })) {
          const record = JSON.parse(text(value)) as EndedRecord;
          found.push({
            ...record,
            first: block.first,
            count: 1 << block.size,
            untilIndex: numberIn(text(key)) as LogIndex,
          });
        }
      }
    }
    return found.sort((a, b) => b.untilIndex - a.untilIndex);
  }

  /** Resolves when everything told so far is written, or cannot be. */
  flush(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = null;
    this.#flushing = this.#flushing.then(() => this.#write());
    return this.#flushing;
  }

  async stop(): Promise<void> {
    await this.flush();
    this.#failure ??= new AnantaError("CANCELLED", "the history is closed");
    await this.#store.close();
  }

  #end(ended: EndedOwnership, untilIndex: LogIndex, untilMs: number, dip: Dip | null): void {
    const blocks = alignedBlocks(ended.range, ended.count);
    const bucket = this.#bucket({ wallMs: untilMs, index: untilIndex }, blocks.length);
    const { grantedIndex } = ended;
    // When it was granted is looked up at the time of writing: marks lie in the store.
    const record = { tenant: dip?.tenant ?? "", dip: dip?.address ?? "", fromIndex: grantedIndex, untilMs };
    for (const block of blocks)
      this.#put({ key: endedKey(bucket.id, ended, block, untilIndex), value: JSON.stringify(record) });
  }

  #bucket({ wallMs, index }: { readonly wallMs: number; readonly index: LogIndex }, more: number): Bucket {
    let newest = this.#buckets.at(-1);
    if (
      newest === undefined ||
      wallMs - newest.beganMs >= BUCKET_MS ||
      newest.records + more > this.#settings.recordsMax / BUCKETS_MIN
    ) {
      newest = {
        id: (newest?.id ?? 0) + 1,
        beganMs: Math.max(wallMs, newest?.beganMs ?? 0),
        beganIndex: index,
        records: 0,
      };
      this.#buckets.push(newest);
    }
    newest.records += more;
    this.#put({
      key: bucketKey(newest.id),
      value: JSON.stringify(newest),
    });
    return newest;
  }

  #put(write: Write): void {
    if (this.#failure !== null) return;
    this.#pending.push(write);
    this.#soon();
  }

  #soon(): void {
    if (this.#failure !== null) return;
    this.#timer ??= this.#clock.setTimer(FLUSH_MS, () => void this.flush());
  }

  async #write(): Promise<void> {
    if (this.#failure !== null) return;
    const writes = this.#pending;
    const through = this.#through;
    this.#pending = [];
    try {
      const last = new Map(writes.map(({ key, value }) => [key, value]));
      last.set(THROUGH_KEY, String(through));
      await this.#addStarts(last);
      await this.#store.batch(await this.#encoded(last));
      await this.#forget();
    } catch (caught) {
      this.#failure = new AnantaError(
        "STORAGE_FAILED",
        "the ownership history cannot be written",
        {},
        { cause: caught },
      );
      this.#log.error("ownership history failed: it is not written any more", {
        reason: AnantaError.from(caught).message,
      });
    }
  }

  async #encoded(writes: ReadonlyMap<string, string>) {
    const puts: { readonly type: "put"; readonly key: Uint8Array; readonly value: Uint8Array }[] = [];
    for (const [key, value] of writes) {
      puts.push({ type: "put", key: bytes(key), value: bytes(value) });
      if (puts.length % WRITES_PER_TURN === 0) await nextTurn(this.#clock);
    }
    return puts;
  }

  /** Puts the wall clock of its grant into every record of an interval. */
  async #addStarts(writes: Map<string, string>): Promise<void> {
    const marks = [...writes]
      .filter(([key]) => key.startsWith("mark/"))
      .map(([key, wall]) => ({ index: numberIn(key), wallMs: Number(wall) }));
    const known = new Map<LogIndex, number | null>();
    let count = 0;
    for (const [key, value] of writes) {
      if (!key.startsWith("ended/")) continue;
      if (++count % WRITES_PER_TURN === 0) await nextTurn(this.#clock);
      const record = JSON.parse(value) as Omit<EndedRecord, "fromMs">;
      const { fromIndex } = record;
      if (!known.has(fromIndex)) {
        const fresh = marks.findLast(({ index }) => index <= fromIndex);
        known.set(fromIndex, fresh?.wallMs ?? (await this.#wallBefore(fromIndex)));
      }
      writes.set(key, JSON.stringify({ ...record, fromMs: known.get(fromIndex) ?? null }));
    }
  }

  async #wallBefore(index: LogIndex): Promise<number | null> {
    const marks = { gte: bytes("mark/"), lte: bytes(markKey(index)), reverse: true, limit: 1 };
    for await (const value of this.#store.values(marks)) return Number(text(value));
    return null;
  }

  async #forget(): Promise<void> {
    if (this.#wallMs === null) return;
    const cutoffMs = this.#wallMs - this.#settings.retentionMs;
    let records = this.#buckets.reduce((sum, bucket) => sum + bucket.records, 0);
    while (this.#buckets.length > 1) {
      const [oldest, next] = this.#buckets;
      if (oldest === undefined || next === undefined) return;
      if (next.beganMs > cutoffMs && records <= this.#settings.recordsMax) return;
      this.#buckets = this.#buckets.slice(1);
      records -= oldest.records;
      await this.#store.clear({ gte: bytes(endedPrefix(oldest.id)), lt: bytes(endOf(endedPrefix(oldest.id))) });
      await this.#store.clear({ gte: bytes(markKey(0)), lt: bytes(markKey(next.beganIndex)) });
      await this.#store.clear({ gte: bytes(stockKey(0)), lt: bytes(stockKey(next.beganMs)) });
      await this.#store.del(bytes(bucketKey(oldest.id)));
      const kept = this.#gaps.filter(({ untilMs }) => untilMs >= next.beganMs);
      for (const gap of this.#gaps) if (!kept.includes(gap)) await this.#store.del(bytes(gapKey(gap.untilIndex)));
      this.#gaps = kept;
    }
  }
}
