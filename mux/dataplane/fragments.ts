/**
 * Fragments: only the first one has ports, so where the others go must be remembered. Routers hash fragments without ports and
 * so separate them from their flow; the pipeline therefore brings all fragments between two addresses to one MUX of the pool,
 * which keeps this table. It is bounded, entries live seconds, and a fragment that overtook its first one
 * waits a moment in a bounded store.
 */
import { AgedQueues, NO_RECORD } from "../../dataplane/aged-queues.js";
import { FRAGMENT_MS, HELD_FRAGMENT_MS } from "../../dataplane/layouts.js";
import { PacketBatch } from "../../dataplane/packet-batch.js";
import { NOT_FOUND, WordIndex } from "../../dataplane/word-index.js";
import type { PacketHeader } from "../../packet/header.js";

/** A fragment that waits may be this long: one of a usual MTU. Longer ones do not wait. */
const HELD_BYTES = 2_048;

export class FragmentTable {
  readonly #entries: AgedQueues;
  readonly #index: WordIndex;
  readonly #dipSlot: Int32Array;
  readonly #held: AgedQueues;
  readonly #heldKeys: Int32Array;
  readonly #heldLengths: Int32Array;
  /** What waits, one place of `HELD_BYTES` each. */
  readonly store: PacketBatch;

  constructor(capacity: number, heldCapacity: number) {
    this.#entries = new AgedQueues(capacity, [FRAGMENT_MS]);
    this.#index = new WordIndex(capacity);
    this.#dipSlot = new Int32Array(capacity);
    this.#held = new AgedQueues(heldCapacity, [HELD_FRAGMENT_MS]);
    this.#heldKeys = new Int32Array(heldCapacity * 4);
    this.#heldLengths = new Int32Array(heldCapacity);
    this.store = new PacketBatch({ packets: 1, bytes: Math.max(1, heldCapacity) * HELD_BYTES });
  }

  get size(): number {
    return this.#entries.size;
  }

  get heldCount(): number {
    return this.#held.size;
  }

  /** DIP slot of the packet that this is a part of, or `NOT_FOUND`. `hash` covers source, destination, id and protocol. */
  find(hash: number, vipId: number, header: PacketHeader): number {
    const entry = this.#index.find(hash, hash, vipId, header.fragmentId, header.source3);
    return entry === NOT_FOUND ? NOT_FOUND : this.#dipSlot[entry]!;
  }

  /** The first fragment went to this DIP. False: the table is full. */
  put(hash: number, vipId: number, header: PacketHeader, dipSlot: number, nowMs: number): boolean {
    let entry = this.#index.find(hash, hash, vipId, header.fragmentId, header.source3);
    if (entry === NOT_FOUND) {
      this.expire(nowMs);
      entry = this.#entries.add(0, nowMs);
      if (entry === NO_RECORD) return false;
      this.#index.insert(entry, hash, hash, vipId, header.fragmentId, header.source3);
    }
    this.#dipSlot[entry] = dipSlot;
    return true;
  }

  expire(nowMs: number): void {
    for (let entry = this.#entries.expired(0, nowMs); entry !== NO_RECORD; entry = this.#entries.expired(0, nowMs)) {
      this.#index.remove(entry);
      this.#entries.free(entry);
    }
  }

  /** Keeps a copy of a fragment whose first one has not come yet. False: no room. */
  hold(hash: number, vipId: number, batch: PacketBatch, header: PacketHeader, nowMs: number): boolean {
    if (header.totalBytes > HELD_BYTES) return false;
    const place = this.#held.add(0, nowMs);
    if (place === NO_RECORD) return false;
    this.#heldKeys[place * 4] = hash;
    this.#heldKeys[place * 4 + 1] = vipId;
    this.#heldKeys[place * 4 + 2] = header.fragmentId;
    this.#heldKeys[place * 4 + 3] = header.source3;
    this.#heldLengths[place] = header.totalBytes;
    this.store.copyIn(batch, header.offset, place * HELD_BYTES, header.totalBytes);
    return true;
  }

  /** Place of a fragment that waits for the first one of this packet, or `NOT_FOUND`; `free` it afterwards. */
  nextHeld(hash: number, vipId: number, fragmentId: number, source3: number): number {
    const keys = this.#heldKeys;
    for (let place = this.#held.oldest(0); place !== NO_RECORD; place = this.#held.newer(place)) {
      const at = place * 4;
      if (keys[at] === hash && keys[at + 1] === vipId && keys[at + 2] === fragmentId && keys[at + 3] === source3)
        return place;
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
    this.#held.free(place);
  }

  /** Gives up fragments that have waited in vain; answers how many. */
  expireHeld(nowMs: number): number {
    let count = 0;
    for (let place = this.#held.expired(0, nowMs); place !== NO_RECORD; place = this.#held.expired(0, nowMs)) {
      this.#held.free(place);
      count++;
    }
    return count;
  }
}
