/** Claims to a VIP's ports, as requests make, serve and forget them (see `snat-claims`). */
import type { DipId } from "../../../core/brands.js";
import type { Claim, PortSpace } from "../snat/port-space.js";
import { type ClaimContext, lapseClaims, makeClaim, serveClaim } from "../snat/claims.js";
import type { State } from "../state.js";

const contextOf = (state: State, nowMs: number): ClaimContext => ({
  recalls: state.snat.recalls,
  nowMs,
  canGive: (dip) => state.dips.must(dip).hostId !== null,
});

/** Null: the DIP has its fair share. */
export function claimRanges(
  state: State,
  { space, dip, wanted }: { readonly space: PortSpace; readonly dip: DipId; readonly wanted: number },
  nowMs: number,
): Claim | null {
  const claim = makeClaim(space, dip, wanted, contextOf(state, nowMs));
  state.snat.claimsChanged(space);
  return claim;
}

export function rangesGranted(state: State, space: PortSpace, dip: DipId, granted: number, nowMs: number): void {
  if (space.claims.size === 0) return; // nearly always
  serveClaim(space, dip, granted, contextOf(state, nowMs));
  state.snat.claimsChanged(space);
}

/** Once per entry: claims that nobody has repeated. */
export function endClaims(state: State, nowMs: number): void {
  for (const space of state.snat.contested()) {
    lapseClaims(space, contextOf(state, nowMs));
    state.snat.claimsChanged(space);
  }
}
