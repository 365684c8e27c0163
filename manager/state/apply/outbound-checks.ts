/** What a VIP and its pools promise together: minimum SNAT ports, and a port of inbound NAT for each member; see `object-checks`. */
import { type BackendPoolSpec, type ObjectRef, type VipSpec, objectKey } from "../objects.js";
import { PORTS_PER_RANGE, SNAT_PROTOCOLS } from "../snat/port-ranges.js";
import { portsIn } from "../snat/port-text.js";
import { snatArithmetic } from "../snat/arithmetic.js";
import { isPool, isVip } from "../vip-map.js";
import type { CheckedObject, ObjectRequest } from "./object-request.js";

/** After all objects of a request were looked at one by one: VIPs of the request, and stored ones whose pools it changes. */
export function checkPromises(request: ObjectRequest): void {
  const seen = new Set<string>();
  for (const object of request.requested.values()) {
    const { ref, object: wanted } = object.request;
    if (!object.isChanged) continue;
    if (wanted.kind === "Vip") check(request, object, ref.tenant, wanted.spec, null, seen, objectKey(ref));
    if (wanted.kind !== "BackendPool" || object.before === null || !isPool(object.before)) continue;
    for (const vip of request.state.objects.usersOf(object.before.poolId)) {
      const key = objectKey(vip.ref);
      if (vip.deleting || request.requested.get(key)?.isChanged === true) continue;
      check(request, object, ref.tenant, vip.spec, `VIP ${ref.tenant}/${vip.ref.name}`, seen, key);
    }
  }
}

/**
 * Minimums are reserved in the MUXes' tables, too, where all tenants meet: a request that reserves more than is left there is refused. One
 * that reserves less than before never is.
 */
export function checkReserved(request: ObjectRequest): void {
  const { state } = request;
  const { snatRanges } = state.muxes.smallestCapacity;
  if (snatRanges === Infinity) return;
  let added = 0;
  let last: CheckedObject | null = null;
  const seen = new Set<string>();
  const look = (object: CheckedObject, { tenant, name }: ObjectRef, vip: VipSpec): void => {
    const key = objectKey({ kind: "Vip", tenant, name });
    if (seen.has(key)) return;
    seen.add(key);
    const stored = state.objects.get({ kind: "Vip", tenant, name });
    const isKnown = stored !== null && isVip(stored) && stored.spec.address === vip.address;
    const before = isKnown ? state.snat.tenants.reservedFor(vip.address) : 0;
    const more = reservedAfter(request, tenant, vip) - before;
    added += more;
    if (more > 0) last = object;
  };
  for (const object of request.requested.values()) {
    const { ref, object: wanted } = object.request;
    if (!object.isChanged) continue;
    if (wanted.kind === "Vip") look(object, ref, wanted.spec);
    if (wanted.kind !== "BackendPool" || object.before === null || !isPool(object.before)) continue;
    for (const vip of state.objects.usersOf(object.before.poolId)) {
      if (!vip.deleting && request.requested.get(objectKey(vip.ref))?.isChanged !== true)
        look(object, vip.ref, vip.spec);
    }
  }
  const { ownedTotal, reservedTotal } = state.snat.tenants;
  const left = Math.max(0, snatRanges - ownedTotal - reservedTotal);
  if (last === null || added <= left) return;
  const ofVip = (last as CheckedObject).request.object.kind === "Vip";
  const what =
    `minPorts would reserve ${added} more SNAT ranges of 8 ports, TCP and UDP, and ${left} are left: the smallest live MUX holds` +
    ` ${snatRanges} for all tenants, of which ${ownedTotal} are owned and ${reservedTotal} reserved`;
  request.add(last, "FAILED_PRECONDITION", ofVip ? "spec.outbound.minPorts" : "spec.members", what);
}

/** Ranges that members would lack up to the VIP's minimum. O(members) where there is one. */
function reservedAfter(request: ObjectRequest, tenant: string, { address, outbound }: VipSpec): number {
  const minRanges = Math.floor((outbound?.minPorts ?? 0) / PORTS_PER_RANGE);
  if (outbound === null || minRanges === 0) return 0;
  const { state } = request;
  const dips = new Set(
    outbound.pools.flatMap((name) => specOf(request, tenant, name)?.members.map(({ dip }) => dip) ?? []),
  );
  let reserved = 0;
  for (const protocol of SNAT_PROTOCOLS) {
    const space = state.snat.space(address, protocol);
    for (const dip of dips) {
      const known = space === null ? null : state.dips.find(tenant, dip);
      const owned = known === null ? 0 : (space?.ownedBy(known.dipId) ?? 0);
      reserved += Math.max(0, minRanges - owned);
    }
  }
  return reserved;
}

/** The pool as it will be after the request. */
function specOf(request: ObjectRequest, tenant: string, name: string): BackendPoolSpec | null {
  const wanted = request.requested.get(objectKey({ kind: "BackendPool", tenant, name }))?.request.object;
  if (wanted?.kind === "BackendPool") return wanted.spec;
  return request.state.objects.pool(tenant, name)?.spec ?? null;
}

/** `user` names the stored VIP when the problem is a pool's. */
function check(
  request: ObjectRequest,
  object: CheckedObject,
  tenant: string,
  vip: VipSpec,
  user: string | null,
  seen: Set<string>,
  key: string,
): void {
  if (seen.has(key)) return;
  seen.add(key);
  const pool = (name: string): BackendPoolSpec | null => specOf(request, tenant, name);
  const prefix = user === null ? "" : `${user}: `;
  vip.inboundNat.forEach((nat, at) => {
    const members = pool(nat.pool)?.members.length ?? 0;
    const { count } = portsIn(nat.ports);
    if (members <= count) return;
    const what = `${prefix}inbound NAT "${nat.name}" has ${count} ports for the ${members} members of pool "${nat.pool}"; it needs ${members}`;
    request.add(object, "FAILED_PRECONDITION", user === null ? `spec.inboundNat[${at}].ports` : "spec.members", what);
  });
  if (vip.outbound === null || vip.outbound.minPorts === 0) return;
  const pools = [...new Set(vip.outbound.pools)].flatMap((name) => pool(name) ?? []);
  const { vipsNeeded, dipsMax, promisedPorts, stockPorts } = snatArithmetic(vip, pools);
  if (vipsNeeded <= 1) return;
  const need = vipsNeeded === Infinity ? "no number of VIPs has" : `${vipsNeeded} VIPs have`;
  const what =
    `${prefix}minPorts ${vip.outbound.minPorts} for up to ${dipsMax} members are ${promisedPorts} ports, more than 75 % of` +
    ` the ${stockPorts} of one VIP; ${need} that many`;
  const path = user === null ? "spec.outbound.minPorts" : "spec.maxMembers";
  request.add(object, "FAILED_PRECONDITION", path, what);
}
