/** What a VIP and its pools promise together: minimum SNAT ports, and a port of inbound NAT for each member; see `object-checks`. */
import { type BackendPoolSpec, type VipSpec, objectKey } from "../objects.js";
import { portsIn } from "../port-text.js";
import { snatArithmetic } from "../snat-arithmetic.js";
import { isPool } from "../vip-map.js";
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
  const pool = (name: string): BackendPoolSpec | null => {
    const wanted = request.requested.get(objectKey({ kind: "BackendPool", tenant, name }))?.request.object;
    if (wanted?.kind === "BackendPool") return wanted.spec;
    return request.state.objects.pool(tenant, name)?.spec ?? null;
  };
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
