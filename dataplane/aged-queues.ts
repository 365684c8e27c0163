/**
 * Records that age: each is in one of a few queues, newest in front, and every queue has one lifetime. Expiry looks at the
 * far end only, so it costs nothing per record that lives. Owns the record numbers (free list).
 *
 *     queue q:  front (newest) <-> ... <-> back (oldest)      all on one lifetime, so the back expires first
 *
 * Touching a record moves it to the front only when its time is older than `TOUCH_MS`: on a busy flow that is one packet in
 * many, which saves the neighbours' cache lines. The order is therefore right to within `TOUCH_MS`.
 *
 * Times are milliseconds modulo 2^32 (49 days); ages are differences modulo 2^32. Nothing lives that long.
 *
 * Invariants
 *  (Q1) A record is in exactly one queue, or free.
 *  (Q2) `seen` does not increase from front to back, to within TOUCH_MS.
 */
const NIL = 0xffff_ffff;

/** Our choice: far below every lifetime (the shortest is 5 s), far above the time between packets of a busy flow. */
export const TOUCH_MS = 500;

export const NO_RECORD = -1;

export class AgedQueues {
  readonly capacity: number;
  size = 0;
  /** Lifetime of each queue in ms. */
  readonly lifetimesMs: Uint32Array;
  /** Records per queue. */
  readonly sizes: Uint32Array;
  /** Queue of a record; 255 when free. */
  readonly queueOf: Uint8Array;
  readonly #seen: Uint32Array;
  readonly #next: Uint32Array; // towards the back
  readonly #previous: Uint32Array; // towards the front
  readonly #front: Uint32Array;
  readonly #back: Uint32Array;
  #freeHead: number;

  constructor(capacity: number, lifetimesMs: readonly number[]) {
    this.capacity = capacity;
    this.lifetimesMs = Uint32Array.from(lifetimesMs);
    this.sizes = new Uint32Array(lifetimesMs.length);
    this.queueOf = new Uint8Array(capacity).fill(255);
    this.#seen = new Uint32Array(capacity);
    this.#next = new Uint32Array(capacity);
    this.#previous = new Uint32Array(capacity);
    this.#front = new Uint32Array(lifetimesMs.length).fill(NIL);
    this.#back = new Uint32Array(lifetimesMs.length).fill(NIL);
    for (let record = 0; record < capacity; record++) this.#next[record] = record + 1 < capacity ? record + 1 : NIL;
    this.#freeHead = capacity > 0 ? 0 : NIL;
  }

  /** A free record, put at the front of `queue`; `NO_RECORD` when all are in use. */
  add(queue: number, nowMs: number): number {
    const record = this.#freeHead;
    if (record === NIL) return NO_RECORD;
    this.#freeHead = this.#next[record]!;
    this.size++;
    this.#pushFront(record, queue, nowMs);
    return record;
  }

  /** Gives a record back. */
  free(record: number): void {
    this.#unlink(record);
    this.queueOf[record] = 255;
    this.#next[record] = this.#freeHead;
    this.#freeHead = record;
    this.size--;
  }

  /** The record was used now: it stays in its queue. */
  touch(record: number, nowMs: number): void {
    if (((nowMs >>> 0) - this.#seen[record]!) >>> 0 < TOUCH_MS) return;
    const queue = this.queueOf[record]!;
    this.#unlink(record);
    this.#pushFront(record, queue, nowMs);
  }

  /** Starts the lifetime of `queue` for the record now. */
  move(record: number, queue: number, nowMs: number): void {
    this.#unlink(record);
    this.#pushFront(record, queue, nowMs);
  }

  /** The oldest record of `queue` if its lifetime has passed, else `NO_RECORD`. */
  expired(queue: number, nowMs: number): number {
    const record = this.#back[queue]!;
    if (record === NIL || this.idleMs(record, nowMs) < this.lifetimesMs[queue]!) return NO_RECORD;
    return record;
  }

  /** The oldest record of `queue`, or `NO_RECORD`. */
  oldest(queue: number): number {
    const record = this.#back[queue]!;
    return record === NIL ? NO_RECORD : record;
  }

  /** The next newer record of the same queue, or `NO_RECORD`: to walk from `oldest` on. */
  newer(record: number): number {
    const newer = this.#previous[record]!;
    return newer === NIL ? NO_RECORD : newer;
  }

  isFree(record: number): boolean {
    return this.queueOf[record] === 255;
  }

  idleMs(record: number, nowMs: number): number {
    return ((nowMs >>> 0) - this.#seen[record]!) >>> 0;
  }

  #pushFront(record: number, queue: number, nowMs: number): void {
    const front = this.#front[queue]!;
    this.#seen[record] = nowMs; // modulo 2^32, fraction cut
    this.queueOf[record] = queue;
    this.#previous[record] = NIL;
    this.#next[record] = front;
    if (front === NIL) this.#back[queue] = record;
    else this.#previous[front] = record;
    this.#front[queue] = record;
    this.sizes[queue]!++;
  }

  #unlink(record: number): void {
    const queue = this.queueOf[record]!;
    const next = this.#next[record]!;
    const previous = this.#previous[record]!;
    if (previous === NIL) this.#front[queue] = next;
    else this.#next[previous] = next;
    if (next === NIL) this.#back[queue] = previous;
    else this.#previous[next] = previous;
    this.sizes[queue]!--;
  }
}
