/**
 * Fragments: only the first one has ports, so what became of it must be remembered for the others: at a MUX the DIP, at a host the
 * NAT entry. Bounded: entries live seconds, the oldest gives way to a new one, and a fragment that overtook its first one waits a
 * moment in a bounded store, of which nobody may fill more than a part.
 *
 * A packet is known by a keyed hash over its addresses, protocol and identification, and besides by the identification, the source's
 * last word and its scope: a MUX's VIP, a host's machine and direction.
 */
import { AgedQueues, NO_RECORD } from "./aged-queues.js";
import { FRAGMENT_MS } from "./layouts.js";
import { PacketBatch } from "./packet-batch.js";
import { NOT_FOUND, WordIndex } from "./word-index.js";
import type { PacketHeader } from "../packet/header.js";

/** A fragment that waits may be this long: one of a usual MTU. Longer ones do not wait. */
const HELD_BYTES = 2_048;

interface HeldFragmentOptions {
  /** Fragments that wait, in all. */
  readonly capacity: number;
  /** How long they wait, per queue. */
  readonly lifetimesMs: readonly number[];
  /** Who they wait for, and how many may wait for each; default: one, and all. */
  readonly groups?: number;
  readonly perGroup?: number;
}

export class FragmentTable {
  readonly #entries: AgedQueues;
  readonly #index: WordIndex;
  readonly #value: Int32Array;
  readonly #held: AgedQueues;
  readonly #heldKeys: Int32Array;
  readonly #heldLengths: Int32Array;
  readonly #heldGroups: Uint32Array;
  readonly #perGroup: Uint32Array;
  readonly #perGroupMax: number;
  /** What waits, one place of `HELD_BYTES` each. */
  readonly store: PacketBatch;

  /** `capacity`: packets under way. */
  constructor(capacity: number, held: HeldFragmentOptions) {
    const heldCapacity = held.capacity;
    this.#entries = new AgedQueues(capacity, [FRAGMENT_MS]);
    this.#index = new WordIndex(capacity);
    this.#value = new Int32Array(capacity);
    this.#held = new AgedQueues(heldCapacity, held.lifetimesMs);
    this.#heldKeys = new Int32Array(heldCapacity * 4);
    this.#heldLengths = new Int32Array(heldCapacity);
    this.#heldGroups = new Uint32Array(heldCapacity);
    this.#perGroup = new Uint32Array(held.groups ?? 1);
    this.#perGroupMax = held.perGroup ?? heldCapacity;
    this.store = new PacketBatch({ packets: 1, bytes: Math.max(1, heldCapacity) * HELD_BYTES });
  }

  get size(): number {
    return this.#entries.size;
  }

  get heldCount(): number {
    return this.#held.size;
  }

  /** What was kept for the packet that this is a part of, or `NOT_FOUND`. `hash` covers source, destination, id and protocol. */
  find(hash: number, scope: number, fragmentId: number, source3: number): number {
    const entry = this.#index.find(hash, hash, scope, fragmentId, source3);
    return entry === NOT_FOUND ? NOT_FOUND : this.#value[entry]!;
  }

  /** Keeps `value`, any number but `NOT_FOUND`, for the packet's other fragments. */
  put(hash: number, scope: number, fragmentId: number, source3: number, value: number, nowMs: number): void {
    let entry = this.#index.find(hash, hash, scope, fragmentId, source3);
    if (entry === NOT_FOUND) {
      if (this.#entries.size === this.#entries.capacity) this.#forget(this.#entries.oldest(0));
      entry = this.#entries.add(0, nowMs);
      if (entry === NO_RECORD) return; // of capacity 0
      this.#index.insert(entry, hash, hash, scope, fragmentId, source3);
    }
    this.#value[entry] = value;
  }

  expire(nowMs: number): void {
    for (let entry = this.#entries.expired(0, nowMs); entry !== NO_RECORD; entry = this.#entries.expired(0, nowMs))
      this.#forget(entry);
  }

  #forget(entry: number): void {
    if (entry === NO_RECORD) return;
    this.#index.remove(entry);
    this.#entries.free(entry);
  }

  /** Keeps a copy of the parsed fragment, whose first one has not come yet: its place, or `NOT_FOUND` when there is no room. */
  hold(
    hash: number,
    scope: number,
    fragmentId: number,
    source3: number,
    batch: PacketBatch,
    { offset, totalBytes }: PacketHeader,
    nowMs: number,
    queue = 0,
    group = 0,
  ): number {
    if (totalBytes > HELD_BYTES || this.#perGroup[group]! >= this.#perGroupMax) return NOT_FOUND;
    const place = this.#held.add(queue, nowMs);
    if (place === NO_RECORD) return NOT_FOUND;
    this.#heldGroups[place] = group;
    this.#perGroup[group]!++;
    this.#heldKeys[place * 4] = hash;
    this.#heldKeys[place * 4 + 1] = scope;
    this.#heldKeys[place * 4 + 2] = fragmentId;
    this.#heldKeys[place * 4 + 3] = source3;
    this.#heldLengths[place] = totalBytes;
    this.store.copyIn(batch, offset, place * HELD_BYTES, totalBytes);
    return place;
  }

  /** Place of a fragment that waits for the first one of this packet, or `NOT_FOUND`; `free` it afterwards. */
  nextHeld(hash: number, scope: number, fragmentId: number, source3: number): number {
    const keys = this.#heldKeys;
    for (let queue = 0; queue < this.#held.sizes.length; queue++) {
      for (let place = this.#held.oldest(queue); place !== NO_RECORD; place = this.#held.newer(place)) {
        const at = place * 4;
        if (keys[at] === hash && keys[at + 1] === scope && keys[at + 2] === fragmentId && keys[at + 3] === source3)
          return place;
      }
    }
    return NOT_FOUND;
  }

  heldOffset(place: number): number {
    return place * HELD_BYTES;
  }

  heldLength(place: number): number {
    return this.#heldLengths[place]!;
  }

  free(place: number): void {
    this.#perGroup[this.#heldGroups[place]!]!--;
    this.#held.free(place);
  }

  /** Gives up fragments that have waited in vain; answers how many. */
  expireHeld(nowMs: number): number {
    let count = 0;
    const held = this.#held;
    for (let queue = 0; queue < held.sizes.length; queue++) {
      for (let place = held.expired(queue, nowMs); place !== NO_RECORD; place = held.expired(queue, nowMs)) {
        this.free(place);
        count++;
      }
    }
    return count;
  }
}
