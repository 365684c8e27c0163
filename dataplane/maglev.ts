/**
 * Maglev table (Eisenbud et al., NSDI 2016, §3.4), weighted: which member of a pool a hash belongs to. Each member has a
 * permutation of the table's slots, made from its id; members take turns, each taking the first slot of its permutation that
 * is still free, until the table is full. A change of one member moves little more than that member's share.
 *
 *     slot   0 1 2 3 4 5 6        hash % 7 = 4  ->  member 12
 *     owner  7 12 7 9 12 9 7
 *
 * Invariants
 *  (M1) The table is a function of the size and the *set* of (dipId, weight): members take their turns in order of dipId,
 *       whatever order they came in. So every MUX has the same table.
 *  (M2) Any member of weight above 0 has a slot: in the first round all take a turn, then by weight.
 *  (M3) The size is fixed by the pool's declared `maxMembers`, never by how many there are just now: a size that follows the
 *       count moves nearly all flows when it steps.
 */
import { assert } from "../core/assert.js";
import { mixWords } from "./flow-hash.js";
import type { MuxPoolMember } from "./mux-items.js";

/** Primes, so that every skip from 1 to size - 1 gives a permutation; each about twice the one before. */
const SIZE_LADDER = [127, 251, 509, 1_021, 2_039, 4_093, 8_191, 16_381, 32_749, 65_537] as const;

/** Maglev's own table size; 100 slots per member keep shares within about 1 % of each other (§5.3). */
const SLOTS_PER_MEMBER = 100;

/** Largest size; beyond 655 members the shares become less even. */
export const MAGLEV_SIZE_MAX = 65_537;

/** Number of slots for a pool that may have `maxMembers` members. */
export function maglevSize(maxMembers: number): number {
  return SIZE_LADDER.find((size) => size >= maxMembers * SLOTS_PER_MEMBER) ?? MAGLEV_SIZE_MAX;
}

export interface MaglevTable {
  /** Owner of each slot as a place in `dipIds`. Empty when no member takes flows. */
  readonly slots: Uint16Array;
  /** Members of weight above 0, ascending. */
  readonly dipIds: Uint32Array;
}

const EMPTY: MaglevTable = { slots: new Uint16Array(0), dipIds: new Uint32Array(0) };

const OFFSET_SEED = 0x6d61676c; // any two constants, the same for ever: they are part of the wire contract between MUXes
const SKIP_SEED = 0x65762d31;

/** Builds the table: about 10 ns per slot and turn. Off the packet loop. Members with weight above 0 fit the size. */
export function buildMaglevTable(size: number, members: readonly MuxPoolMember[]): MaglevTable {
  const active = members.filter((member) => member.weight > 0).sort((a, b) => a.dipId - b.dipId); // (M1)
  const count = active.length;
  if (count === 0) return EMPTY;
  assert(count <= size && count <= 65_535, "a Maglev table has at least one slot per member");
  const next = new Uint32Array(count); // slot that the member tries next
  const skip = new Uint32Array(count);
  const weights = new Uint32Array(count);
  const credit = new Uint32Array(count);
  let weightMax = 0;
  active.forEach((member, i) => {
    next[i] = (mixWords(member.dipId, OFFSET_SEED, 0, 0) >>> 0) % size;
    skip[i] = ((mixWords(member.dipId, SKIP_SEED, 0, 0) >>> 0) % (size - 1)) + 1;
    weights[i] = member.weight;
    weightMax = Math.max(weightMax, member.weight);
  });
  const FREE = 0xffff;
  const slots = new Uint16Array(size).fill(FREE);
  let filled = 0;
  credit.fill(weightMax); // (M2): everyone can afford the first turn
  for (let round = 0; filled < size; round++) {
    for (let i = 0; i < count && filled < size; i++) {
      // A turn costs the largest weight; each round earns the member's own.
      if (round > 0) credit[i]! += weights[i]!;
      if (credit[i]! < weightMax) continue;
      credit[i]! -= weightMax;
      let slot = next[i]!;
      while (slots[slot] !== FREE) slot = (slot + skip[i]!) % size;
      slots[slot] = i;
      next[i] = (slot + skip[i]!) % size;
      filled++;
    }
  }
  return { slots, dipIds: Uint32Array.from(active, (member) => member.dipId) };
}

/** The member that owns `hash` (32 bits, signed or not), or 0 when the pool takes no flows. */
export function maglevMember(table: MaglevTable, hash: number): number {
  const size = table.slots.length;
  return size === 0 ? 0 : table.dipIds[table.slots[(hash >>> 0) % size]!]!; // both in range by construction
}
