/**
 * What DIPs wait for when a VIP's ports have run short, and who is asked to give some back for it.
 *
 *     a request finds nothing --> the DIP claims what it lacks of its fair share --> whoever owns more than that is asked (`recalls`)
 *       `-- asked for no more for 60 s, or got it --> no claim, nobody is asked
 *
 * The fair share is max-min over everything that the VIP has but the last sixteenth, which stays free for newcomers: nobody is held
 * to less than it asks for or is guaranteed, nor to less than another gets.
 *
 *  (C1) Nobody is asked for what its guaranteed minimum or its fair share holds, and all together for no more than is claimed.
 *  (C2) Claims are served in the order in which they were made: what comes back is nobody else's (`snat-share`).
 *  (C3) It does not swing: who owns hardly more than a claimant is to have is left alone, and what was given back can be had
 *       again only where it is not scarce.
 *  (C4) At most 64 DIPs are asked at once, those that own most. A claim is looked at when it is made, repeated, served or lapses.
 *
 * Nothing is taken: a host returns ranges that carry no flow, of its own choice. Everything follows from the state.
 */
import type { DipId } from "../../../core/brands.js";
import type { Claim, PortSpace } from "./port-space.js";
import type { Recalls } from "./recalls.js";
import { SCARCE_BELOW } from "./share.js";

/** A claimant is told to ask again after 10 s: it may miss some of these, and a claim that nobody repeats holds nobody up for long. */
export const CLAIM_MS = 60_000;
/** Each one is a change of its host's view. */
const ASKED_MAX = 64;
/** (C3) Of what the best claimant is to have, and in ranges. */
const SLACK_SHARE = 1 / 8;
const SLACK_RANGES = 2;

export interface ClaimContext {
  readonly recalls: Recalls;
  readonly nowMs: number;
  /** Somebody runs the DIP, so that there is who gives back. */
  readonly canGive: (dip: DipId) => boolean;
}

/** The DIP has asked in vain for `wanted` ranges, which it may own. Null: it has its fair share. */
export function makeClaim(space: PortSpace, dip: DipId, wanted: number, context: ClaimContext): Claim | null {
  const sinceMs = space.claims.get(dip)?.sinceMs ?? context.nowMs;
  space.claims.set(dip, { dip, wanted, ranges: 0, sinceMs, untilMs: context.nowMs + CLAIM_MS });
  settleClaims(space, context);
  return space.claims.get(dip) ?? null;
}

/** The DIP has been granted ranges. */
export function serveClaim(space: PortSpace, dip: DipId, granted: number, context: ClaimContext): void {
  const claim = space.claims.get(dip);
  if (claim === undefined) return;
  if (claim.wanted > granted) space.claims.set(dip, { ...claim, wanted: claim.wanted - granted });
  else space.claims.delete(dip);
  settleClaims(space, context);
}

/** Claims that were not repeated lapse. */
export function lapseClaims(space: PortSpace, context: ClaimContext): void {
  let lapsed = false;
  for (const { dip, untilMs } of [...space.claims.values()])
    if (untilMs <= context.nowMs) lapsed = space.claims.delete(dip);
  if (lapsed) settleClaims(space, context);
}

/** In order (C2). */
export function claimsInOrder(space: PortSpace): readonly Claim[] {
  return [...space.claims.values()].sort((a, b) => a.sinceMs - b.sinceMs || a.dip - b.dip);
}

/** Ranges of each claim, and whom to ask for how many (C1, C4). O(DIPs at the VIP). */
function settleClaims(space: PortSpace, { recalls, nowMs, canGive }: ClaimContext): void {
  const level = space.claims.size === 0 ? Infinity : fairLevel(space);
  let target = 0;
  let missing = SCARCE_BELOW + space.shortfall - space.freeCount - space.quarantinedCount;
  for (const claim of [...space.claims.values()]) {
    const fair = Math.min(demandOf(space, claim.dip), Math.max(level, guaranteed(space, claim.dip)));
    const ranges = fair - space.ownedBy(claim.dip);
    if (ranges <= 0) {
      space.claims.delete(claim.dip);
      continue;
    }
    space.claims.set(claim.dip, { ...claim, ranges });
    target = Math.max(target, fair);
    missing += ranges - space.lackOf(claim.dip); // what it lacks is in the shortfall
  }
  const asked = new Map<DipId, number>();
  if (space.claims.size > 0 && level < Infinity) {
    const richFrom = target + Math.max(SLACK_RANGES, Math.ceil(target * SLACK_SHARE));
    const rich = [...space.ownedByDip]
      .map(([dip, owned]) => ({ dip, owned, excess: owned - Math.max(level, guaranteed(space, dip)) }))
      .filter(({ dip, owned, excess }) => owned >= richFrom && excess > 0 && canGive(dip))
      .sort((a, b) => b.owned - a.owned || a.dip - b.dip);
    for (const { dip, excess } of rich.slice(0, ASKED_MAX)) {
      if (missing <= 0) break;
      asked.set(dip, Math.min(excess, missing));
      missing -= excess;
    }
  }
  recalls.askForSurplus(space, asked, nowMs);
}

const guaranteed = (space: PortSpace, dip: DipId): number => (space.members.has(dip) ? space.minRanges : 0);

/** What it owns and waits for, or is guaranteed. */
const demandOf = (space: PortSpace, dip: DipId): number =>
  Math.max(space.ownedBy(dip) + (space.claims.get(dip)?.wanted ?? 0), guaranteed(space, dip));

/**
 * The ranges to which demands are held when all that the VIP has, but what stays free, is shared by max-min: the largest whole number
 * at which the shares fit. Infinity: all demands can be met.
 */
export function fairLevel(space: PortSpace): number {
  const stock = space.ownedCount + space.quarantinedCount + space.freeCount - SCARCE_BELOW;
  const dips = new Set([...space.ownedByDip.keys(), ...space.claims.keys()]);
  if (space.minRanges > 0) for (const dip of space.members) dips.add(dip);
  const demands = [...dips].map((dip) => ({ demand: demandOf(space, dip), least: guaranteed(space, dip) }));
  const fits = (level: number): boolean =>
    demands.reduce((sum, { demand, least }) => sum + Math.min(demand, Math.max(level, least)), 0) <= stock;
  let low = 0;
  let high = Math.max(0, ...demands.map(({ demand }) => demand));
  if (fits(high)) return Infinity;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (fits(middle)) low = middle;
    else high = middle;
  }
  return low;
}
