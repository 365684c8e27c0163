/**
 * How many ranges of a VIP one DIP may get now. Three things hold it back, besides its own limit:
 *
 *   1. what is reserved: ranges that members of the VIP's pools still lack up to `minPorts` are free, but not for others;
 *   2. scarcity: the last sixteenth of the stock is shared by max-min. It is poured over the DIPs like water, the poorest
 *      first; a DIP may be lifted to the water level and no further, so that whoever has nothing always finds something;
 *   3. what is free at all.
 *
 * Nothing that is owned is ever taken away for this. Everything follows from the state, so every replica answers alike.
 */
import type { DipId } from "../../core/brands.js";
import { RANGES_PER_SPACE } from "./port-ranges.js";
import type { PortSpace } from "./port-space.js";

/** Below so many free and unreserved ranges, sharing begins: 504. Smaller leaves latecomers less, larger idles more. */
export const SCARCE_BELOW = RANGES_PER_SPACE / 16;

/** Ranges that the DIP may get of the space, 0..freeCount. */
export function grantable(space: PortSpace, dip: DipId): number {
  const owned = space.ownedBy(dip);
  const lacks = space.lackOf(dip);
  const own = Math.min(lacks, space.freeCount);
  const unreserved = Math.max(0, space.freeCount - space.shortfall);
  if (unreserved >= SCARCE_BELOW) return own + unreserved;
  return own + Math.min(unreserved, Math.max(0, waterLevel(space, unreserved) - owned - own));
}

/** Ranges to which pouring `stock` ranges over the DIPs of the space, the poorest first, lifts the poorest: rounded up. */
export function waterLevel(space: PortSpace, stock: number): number {
  const known = space.knownLevel;
  if (known !== null && known.stock === stock) return known.level;
  const owned = [...space.ownedByDip.values()];
  for (const member of space.members) if (space.ownedBy(member) === 0) owned.push(0);
  owned.sort((a, b) => a - b);
  let left = stock;
  let level = owned[0] ?? stock;
  for (let lifted = 1; lifted <= owned.length; lifted++) {
    const next = owned[lifted] ?? Infinity;
    const needed = (next - level) * lifted;
    if (needed > left) {
      level += Math.ceil(left / lifted);
      break;
    }
    left -= needed;
    level = next;
  }
  space.knownLevel = { stock, level };
  return level;
}
