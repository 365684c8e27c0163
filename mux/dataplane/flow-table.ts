/**
 * The MUX's memory of flows: five-tuple -> pool member. It keeps a flow on its DIP when the pool changes. It is a cache: any
 * entry may be missing, and then the map (the pool's Maglev table) decides again, as every other MUX would (Ananta §3.3.3).
 *
 *     first packet  -> untrusted   short lifetime, a quota of its own
 *     second packet -> trusted     lifetime of the rule, another quota          (a SYN is never a second packet)
 *
 * A SYN flood therefore fills the untrusted quota only; at quota no state is made and packets go by the map: service
 * degrades, the VIP stays up.
 *
 * An entry names the member by slot and generation of the member table: raising a generation makes all its flows stale at
 * once, without a walk.
 *
 *     hash --> buckets [ . 3 . 1 0 . . ]     open addressing, linear probing, at most half full; record + 1, 0 is empty
 *                          |
 *                          v
 *              words   [ 16 words | 16 words | ... ]      one record is one cache line: the rest of a packet's work is in it
 *
 * Queues by age: 0 is untrusted; 1..15 are trusted, one per idle time, so that the oldest of a queue expires first. A busy
 * flow is moved to the front of its queue only when its time is older than `TOUCH_MS`.
 *
 * Times are milliseconds modulo 2^32, signed; ages are differences. All numbers are signed 32-bit words: nothing is boxed.
 */
import { TOUCH_MS } from "../../dataplane/aged-queues.js";
import type { MuxLayout, MuxTimeouts } from "../../dataplane/layouts.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import type { PacketHeader } from "../../packet/header.js";

export const UNTRUSTED = 0;
export const TRUSTED = 1;

/** Entries that one `expire` looks at: keeps a tick below a millisecond or two. Insertion reclaims on its own, too. */
const EXPIRE_MAX = 8_192;

const RECORD_SHIFT = 4; // 16 words
const SOURCE3 = 0;
const PORTS = 1;
const PROTOCOL = 2;
const VIP = 3;
const SOURCE0 = 4;
const SOURCE1 = 5;
const SOURCE2 = 6;
const HASH = 7;
const MEMBER = 8;
const GENERATION = 9;
const SEEN = 10;
const NEXT = 11; // towards the older
const PREVIOUS = 12; // towards the newer
const QUEUE = 13;
const CLASS = 14; // queue that the flow is in once it is trusted
const REDIRECTED = 15; // FastPath's, see `fastpath.ts`

const NIL = -1;
const FREE = -1;
const QUEUES = 16;

export class FlowTable {
  readonly capacity: number;
  size = 0;
  /** New flows that found their quota full: they went by the map without an entry. */
  refusedCount = 0;
  readonly #words: Int32Array;
  readonly #buckets: Int32Array;
  readonly #mask: number;
  readonly #quotas: readonly [number, number];
  readonly #lifetimesMs = new Int32Array(QUEUES);
  readonly #sizes = new Int32Array(QUEUES);
  readonly #newest = new Int32Array(QUEUES).fill(NIL);
  readonly #oldest = new Int32Array(QUEUES).fill(NIL);
  #queueCount = 2;
  #trustedSize = 0;
  #freeHead = NIL;
  /** Records that were never in use: the memory behind them is not touched before. */
  #fresh = 0;

  constructor(layout: Pick<MuxLayout, "trustedFlows" | "untrustedFlows">, timeouts: MuxTimeouts) {
    this.capacity = layout.trustedFlows + layout.untrustedFlows;
    this.#quotas = [layout.untrustedFlows, layout.trustedFlows];
    this.#words = new Int32Array(this.capacity << RECORD_SHIFT);
    let buckets = 8;
    while (buckets < this.capacity * 2) buckets *= 2;
    this.#mask = buckets - 1;
    this.#buckets = new Int32Array(buckets);
    this.#lifetimesMs[UNTRUSTED] = timeouts.untrustedMs;
    this.#lifetimesMs[TRUSTED] = timeouts.trustedMs;
  }

  /** Entries that are `UNTRUSTED`, or `TRUSTED` with whatever idle time. */
  sizeOf(queue: number): number {
    return queue === UNTRUSTED ? this.#sizes[UNTRUSTED]! : this.#trustedSize;
  }

  /**
   * Class of an idle time, for `insert`; 0 ms: the default. There are fifteen; one more idle time shares the class of the
   * next longer one, or of the longest. Off the packet path.
   */
  idleClass(idleMs: number): number {
    if (idleMs === 0) return TRUSTED;
    let best = TRUSTED;
    for (let queue = TRUSTED; queue < this.#queueCount; queue++) {
      const lifetime = this.#lifetimesMs[queue]!;
      if (lifetime === idleMs) return queue;
      const bestLifetime = this.#lifetimesMs[best]!;
      const isBetter = bestLifetime < idleMs ? lifetime > bestLifetime : lifetime > idleMs && lifetime < bestLifetime;
      if (isBetter) best = queue;
    }
    if (this.#queueCount === QUEUES) return best;
    this.#lifetimesMs[this.#queueCount] = idleMs;
    return this.#queueCount++;
  }

  /**
   * The entry of this flow or `NOT_FOUND`. `header` has the client's address; `ports`: source port high, destination port low;
   * `hash`: the flow hash. An entry past its lifetime that the tick has not reached yet is still good.
   */
  find(hash: number, header: PacketHeader, vipId: number, ports: number, protocol: number): number {
    const buckets = this.#buckets;
    const words = this.#words;
    const mask = this.#mask;
    const source3 = header.source3;
    let bucket = hash & mask;
    for (;;) {
      const entry = buckets[bucket]! - 1; // masked
      if (entry < 0) return NOT_FOUND;
      const at = entry << RECORD_SHIFT;
      if (
        words[at + HASH] === hash &&
        words[at + SOURCE3] === source3 &&
        words[at + PORTS] === ports &&
        words[at + VIP] === vipId &&
        words[at + PROTOCOL] === protocol &&
        words[at + SOURCE2] === header.source2 &&
        words[at + SOURCE1] === header.source1 &&
        words[at + SOURCE0] === header.source0
      )
        return entry;
      bucket = (bucket + 1) & mask;
    }
  }

  /** Makes an untrusted entry for a flow that has none. `NOT_FOUND`: at quota, no entry was made. */
  insert(
    hash: number,
    header: PacketHeader,
    vipId: number,
    ports: number,
    protocol: number,
    member: number,
    generation: number,
    idleClass: number,
    nowMs: number,
  ): number {
    if (!this.#hasRoom(UNTRUSTED, nowMs)) {
      this.refusedCount++;
      return NOT_FOUND;
    }
    const words = this.#words;
    let entry = this.#freeHead;
    if (entry !== NIL) this.#freeHead = words[(entry << RECORD_SHIFT) + NEXT]!;
    else entry = this.#fresh++;
    const at = entry << RECORD_SHIFT;
    words[at + SOURCE0] = header.source0;
    words[at + SOURCE1] = header.source1;
    words[at + SOURCE2] = header.source2;
    words[at + SOURCE3] = header.source3;
    words[at + PORTS] = ports;
    words[at + PROTOCOL] = protocol;
    words[at + VIP] = vipId;
    words[at + HASH] = hash;
    words[at + MEMBER] = member;
    words[at + GENERATION] = generation;
    words[at + CLASS] = idleClass;
    words[at + REDIRECTED] = 0;
    const mask = this.#mask;
    let bucket = hash & mask;
    while (this.#buckets[bucket] !== 0) bucket = (bucket + 1) & mask;
    this.#buckets[bucket] = entry + 1;
    this.size++;
    this.#link(entry, UNTRUSTED, nowMs);
    return entry;
  }

  member(entry: number): number {
    return this.#words[(entry << RECORD_SHIFT) + MEMBER]!;
  }

  generation(entry: number): number {
    return this.#words[(entry << RECORD_SHIFT) + GENERATION]!;
  }

  /** What FastPath noted about the flow; 0 for a new one. */
  redirectedAt(entry: number): number {
    return this.#words[(entry << RECORD_SHIFT) + REDIRECTED]!;
  }

  setRedirectedAt(entry: number, value: number): void {
    this.#words[(entry << RECORD_SHIFT) + REDIRECTED] = value;
  }

  /** A further packet of the flow was seen, not a SYN: it is trusted, if there is room among the trusted. */
  confirm(entry: number, nowMs: number): void {
    const at = entry << RECORD_SHIFT;
    const words = this.#words;
    const queue = words[at + QUEUE]!;
    if (queue === UNTRUSTED && this.#hasRoom(TRUSTED, nowMs)) {
      this.#unlink(entry);
      this.#link(entry, words[at + CLASS]!, nowMs);
    } else if (((nowMs - words[at + SEEN]!) | 0) >= TOUCH_MS) {
      this.#unlink(entry);
      this.#link(entry, queue, nowMs);
    }
  }

  /** The flow starts again, on another member: untrusted, whatever it was. At quota the entry is given up. */
  restart(entry: number, member: number, generation: number, nowMs: number): void {
    const at = entry << RECORD_SHIFT;
    if (this.#words[at + QUEUE] !== UNTRUSTED && !this.#hasRoom(UNTRUSTED, nowMs)) {
      this.remove(entry);
      return;
    }
    this.#words[at + MEMBER] = member;
    this.#words[at + GENERATION] = generation;
    this.#words[at + REDIRECTED] = 0;
    this.#unlink(entry);
    this.#link(entry, UNTRUSTED, nowMs);
  }

  remove(entry: number): void {
    const buckets = this.#buckets;
    const words = this.#words;
    const mask = this.#mask;
    let hole = words[(entry << RECORD_SHIFT) + HASH]! & mask;
    while (buckets[hole] !== entry + 1) hole = (hole + 1) & mask;
    let bucket = hole;
    for (;;) {
      bucket = (bucket + 1) & mask;
      const other = buckets[bucket]!;
      if (other === 0) break;
      // An entry may fill the hole unless its home lies cyclically in (hole, bucket].
      const home = words[((other - 1) << RECORD_SHIFT) + HASH]! & mask;
      if (((bucket - home) & mask) >= ((bucket - hole) & mask)) {
        buckets[hole] = other;
        hole = bucket;
      }
    }
    buckets[hole] = 0;
    this.#unlink(entry);
    const at = entry << RECORD_SHIFT;
    words[at + QUEUE] = FREE;
    words[at + NEXT] = this.#freeHead;
    this.#freeHead = entry;
    this.size--;
  }

  clear(): void {
    this.#buckets.fill(0);
    this.#sizes.fill(0);
    this.#newest.fill(NIL);
    this.#oldest.fill(NIL);
    this.#trustedSize = 0;
    this.#freeHead = NIL;
    this.#fresh = 0;
    this.size = 0;
  }

  /** Forgets entries past their lifetime, a bounded number per call. */
  expire(nowMs: number): void {
    let budget = EXPIRE_MAX;
    for (let queue = 0; queue < this.#queueCount; queue++) {
      for (; budget > 0 && this.#expireOldest(queue, nowMs); budget--);
    }
  }

  /** First place that was never in use: listings end here. */
  get end(): number {
    return this.#fresh;
  }

  isLive(entry: number): boolean {
    return entry < this.#fresh && this.#words[(entry << RECORD_SHIFT) + QUEUE] !== FREE;
  }

  isTrusted(entry: number): boolean {
    return this.#words[(entry << RECORD_SHIFT) + QUEUE]! > UNTRUSTED;
  }

  idleMs(entry: number, nowMs: number): number {
    return (nowMs - this.#words[(entry << RECORD_SHIFT) + SEEN]!) | 0;
  }

  vipId(entry: number): number {
    return this.#words[(entry << RECORD_SHIFT) + VIP]!;
  }

  protocol(entry: number): number {
    return this.#words[(entry << RECORD_SHIFT) + PROTOCOL]!;
  }

  /** A live entry's key, for people. */
  key(entry: number): {
    source: readonly [number, number, number, number];
    ports: number;
    protocol: number;
    vipId: number;
  } {
    const at = entry << RECORD_SHIFT;
    const word = (which: number): number => this.#words[at + which]!;
    return {
      source: [word(SOURCE0), word(SOURCE1), word(SOURCE2), word(SOURCE3)],
      ports: word(PORTS),
      protocol: word(PROTOCOL),
      vipId: word(VIP),
    };
  }

  /** Room in a quota, made by an oldest entry if that one's time is over. */
  #hasRoom(quota: number, nowMs: number): boolean {
    if (quota === UNTRUSTED)
      return this.#sizes[UNTRUSTED]! < this.#quotas[UNTRUSTED] || this.#expireOldest(UNTRUSTED, nowMs);
    if (this.#trustedSize < this.#quotas[TRUSTED]) return true;
    for (let queue = TRUSTED; queue < this.#queueCount; queue++) if (this.#expireOldest(queue, nowMs)) return true;
    return false;
  }

  #expireOldest(queue: number, nowMs: number): boolean {
    const entry = this.#oldest[queue]!;
    if (entry === NIL || this.idleMs(entry, nowMs) < this.#lifetimesMs[queue]!) return false;
    this.remove(entry);
    return true;
  }

  #link(entry: number, queue: number, nowMs: number): void {
    const words = this.#words;
    const at = entry << RECORD_SHIFT;
    const newest = this.#newest[queue]!;
    words[at + SEEN] = nowMs;
    words[at + QUEUE] = queue;
    words[at + PREVIOUS] = NIL;
    words[at + NEXT] = newest;
    if (newest === NIL) this.#oldest[queue] = entry;
    else words[(newest << RECORD_SHIFT) + PREVIOUS] = entry;
    this.#newest[queue] = entry;
    this.#sizes[queue]!++;
    if (queue !== UNTRUSTED) this.#trustedSize++;
  }

  #unlink(entry: number): void {
    const words = this.#words;
    const at = entry << RECORD_SHIFT;
    const queue = words[at + QUEUE]!;
    const next = words[at + NEXT]!;
    const previous = words[at + PREVIOUS]!;
    if (previous === NIL) this.#newest[queue] = next;
    else words[(previous << RECORD_SHIFT) + NEXT] = next;
    if (next === NIL) this.#oldest[queue] = previous;
    else words[(next << RECORD_SHIFT) + PREVIOUS] = previous;
    this.#sizes[queue]!--;
    if (queue !== UNTRUSTED) this.#trustedSize--;
  }
}
