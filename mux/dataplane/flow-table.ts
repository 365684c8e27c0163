/**
 * The MUX's memory of flows: five-tuple -> DIP. It keeps a flow on its DIP when the pool changes. It is a cache: any entry
 * may be missing, and then the map (the pool's Maglev table) decides again, as every other MUX would (Ananta §3.3.3).
 *
 *     first packet  -> untrusted   short lifetime, a quota of its own
 *     second packet -> trusted     long lifetime, another quota          (a SYN is never a second packet)
 *
 * A SYN flood therefore fills the untrusted quota only; at quota no state is made and packets go by the map: service
 * degrades, the VIP stays up.
 *
 * An entry names the DIP by slot and generation of the DIP table. Removing a DIP raises its slot's generation, so all its
 * flows are stale at once, without a walk.
 */
import { AgedQueues, NO_RECORD } from "../../dataplane/aged-queues.js";
import type { MuxLayout, MuxTimeouts } from "../../dataplane/layouts.js";
import { NOT_FOUND, WordIndex } from "../../dataplane/word-index.js";

export const UNTRUSTED = 0;
export const TRUSTED = 1;

/** Entries that one `expire` looks at: keeps a tick below a millisecond or two. Insertion reclaims on its own, too. */
const EXPIRE_MAX = 8_192;

export class FlowTable {
  readonly #index: WordIndex;
  readonly #queues: AgedQueues;
  readonly #quotas: readonly [number, number];
  /** DIP of each entry: slot in the DIP table, and the slot's generation when the entry was made. */
  readonly dipSlot: Uint32Array;
  readonly dipGeneration: Uint32Array;
  /** New flows that found their quota full: they went by the map without an entry. */
  refusedCount = 0;

  constructor(layout: MuxLayout, timeouts: MuxTimeouts) {
    const capacity = layout.trustedFlows + layout.untrustedFlows;
    this.#index = new WordIndex(capacity);
    this.#queues = new AgedQueues(capacity, [timeouts.untrustedMs, timeouts.trustedMs]);
    this.#quotas = [layout.untrustedFlows, layout.trustedFlows];
    this.dipSlot = new Uint32Array(capacity);
    this.dipGeneration = new Uint32Array(capacity);
  }

  get size(): number {
    return this.#queues.size;
  }

  get capacity(): number {
    return this.#queues.capacity;
  }

  sizeOf(queue: number): number {
    return this.#queues.sizes[queue]!;
  }

  /**
   * The entry of this flow or `NOT_FOUND`. `ports`: source port high, destination port low; `hash`: the flow hash. An entry
   * past its lifetime that the tick has not reached yet is still good.
   */
  find(hash: number, source: number, destination: number, ports: number, protocol: number): number {
    return this.#index.find(hash, source, destination, ports, protocol);
  }

  /** Makes an untrusted entry for a flow that has none. `NOT_FOUND`: at quota, no entry was made. */
  insert(
    hash: number,
    source: number,
    destination: number,
    ports: number,
    protocol: number,
    dipSlot: number,
    dipGeneration: number,
    nowMs: number,
  ): number {
    if (!this.#hasRoom(UNTRUSTED, nowMs)) {
      this.refusedCount++;
      return NOT_FOUND;
    }
    const entry = this.#queues.add(UNTRUSTED, nowMs);
    this.#index.insert(entry, hash, source, destination, ports, protocol);
    this.dipSlot[entry] = dipSlot;
    this.dipGeneration[entry] = dipGeneration;
    return entry;
  }

  /** A further packet of the flow was seen, not a SYN: it is trusted, if there is room among the trusted. */
  confirm(entry: number, nowMs: number): void {
    if (this.#queues.queueOf[entry] === UNTRUSTED && this.#hasRoom(TRUSTED, nowMs)) {
      this.#queues.move(entry, TRUSTED, nowMs);
    } else this.#queues.touch(entry, nowMs);
  }

  /** The flow starts again, on another DIP: untrusted, whatever it was. At quota the entry is given up. */
  restart(entry: number, dipSlot: number, dipGeneration: number, nowMs: number): void {
    if (this.#queues.queueOf[entry] === TRUSTED && !this.#hasRoom(UNTRUSTED, nowMs)) {
      this.remove(entry);
      return;
    }
    this.dipSlot[entry] = dipSlot;
    this.dipGeneration[entry] = dipGeneration;
    this.#queues.move(entry, UNTRUSTED, nowMs);
  }

  remove(entry: number): void {
    this.#index.remove(entry);
    this.#queues.free(entry);
  }

  clear(): void {
    for (let entry = 0; entry < this.capacity; entry++) if (!this.#queues.isFree(entry)) this.#queues.free(entry);
    this.#index.clear();
  }

  /** Forgets entries past their lifetime, a bounded number per call. */
  expire(nowMs: number): void {
    let budget = EXPIRE_MAX;
    for (let queue = UNTRUSTED; queue <= TRUSTED; queue++) {
      for (; budget > 0; budget--) {
        const entry = this.#queues.expired(queue, nowMs);
        if (entry === NO_RECORD) break;
        this.remove(entry);
      }
    }
  }

  isLive(entry: number): boolean {
    return !this.#queues.isFree(entry);
  }

  isTrusted(entry: number): boolean {
    return this.#queues.queueOf[entry] === TRUSTED;
  }

  idleMs(entry: number, nowMs: number): number {
    return this.#queues.idleMs(entry, nowMs);
  }

  /** Words of a live entry's key: source, destination, ports, protocol. */
  keyWord(entry: number, word: number): number {
    return this.#index.keys[entry * 4 + word]!;
  }

  /** Room in a queue's quota, made by its oldest entry if that one's time is over. */
  #hasRoom(queue: number, nowMs: number): boolean {
    if (this.#queues.sizes[queue]! < this.#quotas[queue as 0 | 1]) return true;
    const oldest = this.#queues.expired(queue, nowMs);
    if (oldest === NO_RECORD) return false;
    this.remove(oldest);
    return true;
  }
}
