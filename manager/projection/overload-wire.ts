/** A MUX's word on its load: from the wire, where every field is checked, and on to the leader. */
import type { VipId } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import type { ananta } from "../../proto/gen/wire.js";
import { TALKERS_MAX, type OverloadReport } from "../stages/isolation.js";

export function overloadFromWire(
  mux: { readonly name: string; readonly bootId: string },
  overload: ananta.v1.MuxOverload.$Properties,
): OverloadReport {
  const talkers = overload.topTalkers ?? [];
  if (talkers.length > TALKERS_MAX)
    throw new AnantaError("INVALID_ARGUMENT", `top_talkers: ${talkers.length} given; use at most ${TALKERS_MAX}`);
  return {
    mux: mux.name,
    bootId: mux.bootId,
    isOverloaded: overload.isOverloaded === true,
    packetsPerSecond: overload.packetsPerSecond ?? 0,
    capacity: overload.capacity ?? 0,
    topTalkers: talkers.map(({ vipId, packetsPerSecond, share }) => ({
      vipId: (vipId ?? 0) as VipId,
      packetsPerSecond: packetsPerSecond ?? 0,
      share: share ?? 0,
    })),
  };
}

export const overloadToWire = ({
  isOverloaded,
  packetsPerSecond,
  capacity,
  topTalkers,
}: OverloadReport): ananta.v1.MuxOverload.$Properties => ({
  isOverloaded,
  packetsPerSecond,
  capacity,
  topTalkers: [...topTalkers],
});
