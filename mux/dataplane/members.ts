/**
 * Members of pools: (pool, DIP) -> slot, which Maglev tables and flow entries name. A slot outlives the membership, so that the
 * flows of a member that was taken out of a pool stay where they are; it goes with the DIP, or when room is needed.
 *
 * Two generations per slot, one for TCP and one for other protocols: raising one makes the flows of that kind stale.
 *
 *     member goes down    others move at once; TCP stays, or is reset where the pool says so
 *     drain is over       both end
 *     DIP goes            both are stale: the map decides again
 */
import type { MuxPoolItem } from "../../dataplane/mux-items.js";
import { MEMBER_DOWN, MEMBER_ENDED, MEMBER_UP, type MemberState } from "../../dataplane/mux-items.js";
import { RecordTable } from "../../dataplane/record-table.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import { PROTOCOL_TCP } from "../../packet/ipv4.js";
import type { DipTable } from "./dip-table.js";

/** Not in its pool any more, but flows may name it. */
const GONE = 255;

export class MemberTable {
  readonly capacity: number;
  /** Slot in the DIP table, or `NOT_FOUND` while the DIP has no host. */
  readonly dipSlot: Int32Array;
  readonly state: Uint8Array;
  /** Of `slot`: [slot * 2] for TCP, [slot * 2 + 1] for others. */
  readonly generations: Int32Array;
  /** 1: TCP flows that a raised generation made stale are answered with a reset. */
  readonly resets: Uint8Array;
  readonly #slots: RecordTable;
  readonly #ofDip = new Map<number, number[]>();
  #goneCount = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.#slots = new RecordTable(capacity);
    this.dipSlot = new Int32Array(capacity);
    this.state = new Uint8Array(capacity);
    this.generations = new Int32Array(capacity * 2);
    this.resets = new Uint8Array(capacity);
  }

  /** Slots of members that are in their pools. */
  get size(): number {
    return this.#slots.size - this.#goneCount;
  }

  find(poolId: number, dipId: number): number {
    return this.#slots.find(poolId, dipId);
  }

  dipId(slot: number): number {
    return this.#slots.keyWord(slot, 1);
  }

  /** Generation that a flow of this protocol has now. */
  generation(slot: number, protocol: number): number {
    return this.generations[slot * 2 + (protocol === PROTOCOL_TCP ? 0 : 1)]!;
  }

  /** The members of a pool as it is now. Room was checked by the caller. */
  putPool(pool: MuxPoolItem, before: MuxPoolItem | null, dips: DipTable): void {
    const now = new Set<number>();
    for (const member of pool.members) {
      now.add(member.dipId);
      this.#put(pool, member.dipId, member.state ?? MEMBER_UP, dips);
    }
    if (before === null) return;
    for (const { dipId } of before.members) if (!now.has(dipId)) this.#leave(pool.poolId, dipId);
  }

  removePool(pool: MuxPoolItem): void {
    for (const { dipId } of pool.members) this.#leave(pool.poolId, dipId);
  }

  /** The DIP has a slot now, or another locator. */
  dipPut(dipId: number, dipSlot: number): void {
    for (const slot of this.#ofDip.get(dipId) ?? []) this.dipSlot[slot] = dipSlot;
  }

  dipRemoved(dipId: number): void {
    for (const slot of [...(this.#ofDip.get(dipId) ?? [])]) {
      this.#raise(slot, true, true);
      this.dipSlot[slot] = NOT_FOUND;
      if (this.state[slot] === GONE) this.#free(slot);
    }
  }

  #put(pool: MuxPoolItem, dipId: number, state: MemberState, dips: DipTable): void {
    let slot = this.#slots.find(pool.poolId, dipId);
    if (slot === NOT_FOUND) {
      if (this.#slots.size === this.capacity) this.#freeGone();
      slot = this.#slots.upsert(pool.poolId, dipId);
      const others = this.#ofDip.get(dipId);
      if (others === undefined) this.#ofDip.set(dipId, [slot]);
      else others.push(slot);
      this.dipSlot[slot] = dips.find(dipId);
      this.state[slot] = state;
      this.resets[slot] = 0;
      return;
    }
    const before = this.state[slot]!;
    if (before === GONE) this.#goneCount--;
    this.state[slot] = state;
    if (before === state) return;
    if (state === MEMBER_UP) this.resets[slot] = 0;
    if (state === MEMBER_DOWN) {
      const resets = pool.resetOnProbeDown === true;
      if (resets) this.resets[slot] = 1;
      this.#raise(slot, resets, true);
    } else if (state === MEMBER_ENDED) {
      this.resets[slot] = 1;
      this.#raise(slot, true, true);
    }
  }

  #leave(poolId: number, dipId: number): void {
    const slot = this.#slots.find(poolId, dipId);
    if (slot === NOT_FOUND || this.state[slot] === GONE) return;
    this.state[slot] = GONE;
    this.#goneCount++;
    if (this.dipSlot[slot] === NOT_FOUND) this.#free(slot);
  }

  /** All slots whose members left: their flows go by the map again. */
  #freeGone(): void {
    for (let slot = 0; slot < this.capacity; slot++)
      if (this.#slots.isUsed(slot) && this.state[slot] === GONE) this.#free(slot);
  }

  #free(slot: number): void {
    this.#raise(slot, true, true);
    const dipId = this.dipId(slot);
    const others = (this.#ofDip.get(dipId) ?? []).filter((other) => other !== slot);
    if (others.length === 0) this.#ofDip.delete(dipId);
    else this.#ofDip.set(dipId, others);
    this.#slots.remove(slot);
    this.#goneCount--;
    this.state[slot] = MEMBER_UP;
    this.resets[slot] = 0;
  }

  #raise(slot: number, tcp: boolean, others: boolean): void {
    if (tcp) this.generations[slot * 2]!++;
    if (others) this.generations[slot * 2 + 1]!++;
  }
}
