/**
 * How many ranges of a VIP one DIP may get now. Three things hold it back, besides its own limit:
 *
 *   1. what is reserved: ranges that members of the VIP's pools still lack up to `minPorts` are free, but not for others;
 *   2. what others wait for: claims that were made before its own, if it has one (see `snat-claims`);
 *   3. scarcity: the last sixteenth of the stock is shared by max-min. It is poured over the DIPs like water, the poorest
 *      first; a DIP may be lifted to the water level and no further, so that whoever has nothing always finds something;
 *   4. what is free at all.
 *
 * Nothing that is owned is ever taken away for this. Everything follows from the state, so every replica answers alike.
 */
import type { DipId } from "../../../core/brands.js";
import { RANGES_PER_SPACE } from "./port-ranges.js";
import type { PortSpace } from "./port-space.js";

/** Below so many free and unreserved ranges, sharing begins: 504. Smaller leaves latecomers less, larger idles more. */
export const SCARCE_BELOW = RANGES_PER_SPACE / 16;

/** Ranges that the DIP may get of the space, 0..freeCount. From `enough` on it may be less than that: found out sooner. */
export function grantable(space: PortSpace, dip: DipId, enough = Infinity): number {
  const own = Math.min(space.lackOf(dip), space.freeCount);
  const unreserved = Math.max(0, space.freeCount - space.shortfall - claimedAhead(space, dip));
  const scarce = Math.min(unreserved, SCARCE_BELOW);
  const plenty = own + unreserved - scarce;
  if (plenty >= enough) return plenty;
  const owned = space.ownedBy(dip) + plenty;
  return plenty + Math.min(scarce, Math.max(0, waterLevel(space, scarce, { dip, owned }) - owned));
}

/** Ranges that are kept for claims before the DIP's own. */
function claimedAhead(space: PortSpace, dip: DipId): number {
  if (space.claims.size === 0) return 0; // nearly always
  const own = space.claims.get(dip);
  let ahead = 0;
  for (const claim of space.claims.values()) {
    const isAhead =
      own === undefined || claim.sinceMs < own.sinceMs || (claim.sinceMs === own.sinceMs && claim.dip < dip);
    // What it lacks is in the shortfall; after a change of minPorts that may be more than it claims.
    if (isAhead) ahead += Math.max(0, claim.ranges - space.lackOf(claim.dip));
  }
  return ahead;
}

/**
 * Ranges to which pouring `stock` ranges over the DIPs of the space, the poorest first, lifts the poorest: rounded up. `to`: a DIP
 * of which it is to be supposed that it owns so many.
 */
export function waterLevel(
  space: PortSpace,
  stock: number,
  to: { readonly dip: DipId; readonly owned: number } | null = null,
): number {
  const isAsItIs = to === null || (to.owned === space.ownedBy(to.dip) && (to.owned > 0 || space.members.has(to.dip)));
  const known = isAsItIs ? space.knownLevel : null;
  if (known !== null && known.stock === stock) return known.level;
  const owned: number[] = [];
  for (const [dip, count] of space.ownedByDip) if (isAsItIs || dip !== to?.dip) owned.push(count);
  for (const member of space.members)
    if (space.ownedBy(member) === 0 && (isAsItIs || member !== to?.dip)) owned.push(0);
  if (!isAsItIs && to !== null) owned.push(to.owned);
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
  if (isAsItIs) space.knownLevel = { stock, level };
  return level;
}
