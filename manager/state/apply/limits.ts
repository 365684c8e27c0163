/** How much a site may hold: what the tables of a MUX hold (dataplane/layouts). Told before it is stored, not by a full table. */
import type { State } from "../state.js";
import type { CheckedObject, ObjectRequest } from "./object-request.js";

export const DIPS_MAX = 65_536;
export const VIPS_MAX = 32_768;
export const POOLS_MAX = 32_768;

/** DIPs that a pool names or a host runs. O(DIPs ever known). */
export function dipsInUse(state: State): number {
  let count = 0;
  for (const dip of state.dips.all()) if (dip.hostId !== null || dip.pools.size > 0) count++;
  return count;
}

export function checkLimits(request: ObjectRequest): void {
  const { state } = request;
  let vips = state.objects.vipCount;
  let pools = state.objects.poolCount;
  const newDips = new Set<string>();
  let last: CheckedObject | null = null;
  for (const object of request.requested.values()) {
    const { before, request: wanted } = object;
    if (wanted.object.kind === "Vip" && before === null && ++vips > VIPS_MAX)
      request.add(object, "FAILED_PRECONDITION", "metadata.name", `a site holds at most ${VIPS_MAX} VIPs`);
    if (wanted.object.kind !== "BackendPool") continue;
    if (before === null && ++pools > POOLS_MAX)
      request.add(object, "FAILED_PRECONDITION", "metadata.name", `a site holds at most ${POOLS_MAX} BackendPools`);
    if (!object.isChanged) continue;
    for (const { dip } of wanted.object.spec.members) {
      const known = state.dips.find(wanted.ref.tenant, dip);
      if (known !== null && (known.hostId !== null || known.pools.size > 0)) continue;
      newDips.add(`${wanted.ref.tenant}/${dip}`);
      last = object;
    }
  }
  if (last === null) return;
  const dips = dipsInUse(state) + newDips.size;
  if (dips <= DIPS_MAX) return;
  const what = `there would be ${dips} DIPs; a site holds at most ${DIPS_MAX}`;
  request.add(last, "FAILED_PRECONDITION", "spec.members", what);
}
