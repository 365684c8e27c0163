/**
 * Inbound NAT gives each member of a pool a port of its own on the VIP. A port is assigned when the member is first seen,
 * the lowest that is free, and stays that member's for as long as it is one, in the spec or in what MUXes use; so nobody
 * who wrote a port down reaches another machine by it.
 */
import type { IpAddress, Port } from "../../core/brands.js";
import type { NatPort } from "./objects.js";
import { portsIn } from "./snat/port-text.js";
import { type VipMap, type VipObject, versionsOf } from "./vip-map.js";

/** The assignments after a change of the VIP or of a pool that it names. A member without a free port has none yet. */
export function assignNatPorts(objects: VipMap, vip: VipObject): readonly NatPort[] {
  const assigned: NatPort[] = [];
  for (const nat of vip.spec.inboundNat.concat(vip.active?.inboundNat ?? [])) {
    if (assigned.some(({ rule }) => rule === nat.name)) continue;
    const pool = objects.pool(vip.ref.tenant, nat.pool);
    const members: IpAddress[] =
      pool === null ? [] : versionsOf(pool).flatMap((spec) => spec.members.map(({ dip }) => dip));
    const { first, last } = portsIn(nat.ports);
    const kept = vip.natPorts.filter(
      ({ rule, dip, port }) => rule === nat.name && members.includes(dip) && port >= first && port <= last,
    );
    const taken = new Set<number>(kept.map(({ port }) => port));
    const has = new Set(kept.map(({ dip }) => dip));
    let next = first;
    for (const dip of new Set(members)) {
      if (has.has(dip)) continue;
      while (next <= last && taken.has(next)) next++;
      if (next > last) break;
      taken.add(next);
      kept.push({ rule: nat.name, dip, port: next as Port });
    }
    assigned.push(...kept.sort((a, b) => a.port - b.port));
  }
  return assigned;
}
