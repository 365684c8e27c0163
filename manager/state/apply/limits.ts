/**
 * How much a site may hold: what the tables of MUXes and Host Agents hold (dataplane/layouts; a test compares). Told before it
 * is stored: a full table would keep its receiver from everything that comes after. Rules have a limit of their own, which
 * MUXes declare (`object-checks`).
 */
import type { BackendPoolSpec } from "../objects.js";
import type { State } from "../state.js";
import { isPool, isVip, membersToHold } from "../vip-map.js";
import type { CheckedObject, ObjectRequest } from "./object-request.js";

export const DIPS_MAX = 131_072;
export const VIPS_MAX = 32_768;
export const POOLS_MAX = 32_768;
/** Of all pools together: a DIP counts in each of its pools. */
export const MEMBERS_MAX = 131_072;
/** Every agent knows all internal VIPs, in one table of 256 prefixes with the address spaces of its own tenants. */
export const INTERNAL_VIPS_MAX = 128;

/** DIPs that a pool names or a host runs. O(DIPs ever known). */
export function dipsInUse(state: State): number {
  let count = 0;
  for (const dip of state.dips.all()) if (dip.hostId !== null || dip.pools.size > 0) count++;
  return count;
}

export function checkLimits(request: ObjectRequest): void {
  checkCounts(request);
  checkDips(request);
  checkMembers(request);
  checkInternal(request);
}

function checkCounts(request: ObjectRequest): void {
  let { vipCount, poolCount } = request.state.objects;
  for (const object of request.requested.values()) {
    if (object.before !== null) continue;
    const { kind } = object.request.object;
    if (kind === "Vip" && ++vipCount > VIPS_MAX)
      request.add(object, "FAILED_PRECONDITION", "metadata.name", `a site holds at most ${VIPS_MAX} VIPs`);
    if (kind === "BackendPool" && ++poolCount > POOLS_MAX)
      request.add(object, "FAILED_PRECONDITION", "metadata.name", `a site holds at most ${POOLS_MAX} BackendPools`);
  }
}

function checkDips(request: ObjectRequest): void {
  const { state } = request;
  const newDips = new Set<string>();
  let last: CheckedObject | null = null;
  for (const { object, spec } of changedPools(request)) {
    const { tenant } = object.request.ref;
    for (const { dip } of spec.members) {
      const known = state.dips.find(tenant, dip);
      if (known !== null && (known.hostId !== null || known.pools.size > 0)) continue;
      newDips.add(`${tenant}/${dip}`);
      last = object;
    }
  }
  if (last === null) return;
  const dips = dipsInUse(state) + newDips.size;
  if (dips <= DIPS_MAX) return;
  const what = `there would be ${dips} DIPs; a site holds at most ${DIPS_MAX}`;
  request.add(last, "FAILED_PRECONDITION", "spec.members", what);
}

/** Only a request that adds members is refused for their number. */
function checkMembers(request: ObjectRequest): void {
  let members = request.state.objects.memberCount + request.state.drains.leftCount;
  let last: CheckedObject | null = null;
  for (const { object, spec } of changedPools(request)) {
    const { before } = object;
    const stored = before !== null && isPool(before) ? before : null;
    const held = stored === null ? 0 : membersToHold(stored);
    const added = membersToHold({ spec, active: stored?.active ?? null }) - held;
    members += added;
    if (added > 0) last = object;
  }
  if (last === null || members <= MEMBERS_MAX) return;
  const what = `there would be ${members} members in all pools; a site holds at most ${MEMBERS_MAX}`;
  request.add(last, "FAILED_PRECONDITION", "spec.members", what);
}

function* changedPools(request: ObjectRequest): Iterable<{ object: CheckedObject; spec: BackendPoolSpec }> {
  for (const object of request.requested.values()) {
    const wanted = object.request.object;
    if (wanted.kind === "BackendPool" && object.isChanged) yield { object, spec: wanted.spec };
  }
}

function checkInternal(request: ObjectRequest): void {
  let last: CheckedObject | null = null;
  let added = 0;
  for (const object of request.requested.values()) {
    const { before, request: wanted } = object;
    if (wanted.object.kind !== "Vip" || wanted.object.spec.scope !== "internal" || !object.isChanged) continue;
    if (before !== null && isVip(before) && isInternal(before)) continue;
    added++;
    last = object;
  }
  if (last === null) return;
  let internal = added;
  for (const vip of request.state.objects.allVips()) if (isInternal(vip)) internal++;
  if (internal <= INTERNAL_VIPS_MAX) return;
  const what = `there would be ${internal} internal VIPs; a site holds at most ${INTERNAL_VIPS_MAX}`;
  request.add(last, "FAILED_PRECONDITION", "spec.scope", what);
}

type Versions = { readonly spec: { readonly scope: string }; readonly active: { readonly scope: string } | null };
const isInternal = ({ spec, active }: Versions): boolean => spec.scope === "internal" || active?.scope === "internal";
