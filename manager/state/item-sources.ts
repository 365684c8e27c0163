/**
 * Which items follow from the state: pure functions from stored objects to rows of the MUX view and of a host's view.
 * MUX rows come from `active` alone, host rows from `spec` and `active` together, so that agents know of everything that
 * MUXes may use now or after the next activation (DESIGN §2).
 */
import type { Port } from "../../core/brands.js";
import type { HostItem, HostSiteItem } from "../../dataplane/host-items.js";
import type { MuxItem, MuxSiteItem } from "../../dataplane/mux-items.js";
import type { DipRecord, DipTable } from "./dip-table.js";
import type { PoolMember, VipSpec } from "./objects.js";
import { byNumber } from "./order.js";
import type { Mux } from "./state-machine.js";
import { type PoolObject, type VipMap, type VipObject, protocolNumber } from "./vip-map.js";

/** The same for MUXes and hosts. `hashKey` is 16 hex digits. */
export function siteItem(hashKey: string): HostSiteItem & MuxSiteItem {
  const bytes = Uint8Array.from({ length: 8 }, (_, at) => parseInt(hashKey.slice(at * 2, at * 2 + 2), 16));
  return { kind: "site", hashKey: bytes };
}

/** A VIP and its rules as MUXes use them; nothing before it was first activated. */
export function vipItems(objects: VipMap, vip: VipObject): readonly MuxItem[] {
  if (vip.active === null) return [];
  const { vipId } = vip;
  const items: MuxItem[] = [{ kind: "vip", vipId, address: vip.active.address, announced: !vip.deleting }];
  for (const rule of vip.active.rules) {
    const pool = objects.pool(vip.ref.tenant, rule.pool);
    if (pool === null) continue; // never: an active rule's pool is stored
    items.push({ kind: "rule", vipId, protocol: protocolNumber(rule.protocol), port: rule.port, poolId: pool.poolId });
  }
  return items;
}

/** A pool as MUXes use it. Members that no host runs are left out: nothing could be sent to them. */
export function poolItems(dips: DipTable, pool: PoolObject): readonly MuxItem[] {
  if (pool.active === null) return [];
  const members = pool.active.members.flatMap((member) => {
    const dip = dips.find(pool.ref.tenant, member.dip);
    return dip === null || dip.locator === null ? [] : [{ dipId: dip.dipId, weight: member.weight }];
  });
  members.sort((a, b) => a.dipId - b.dipId); // a Maglev table is a function of the set of members
  return [{ kind: "pool", poolId: pool.poolId, maxMembers: pool.active.maxMembers, members }];
}

export function dipItems(dip: DipRecord): readonly MuxItem[] {
  return dip.locator === null ? [] : [{ kind: "dip", dipId: dip.dipId, locator: dip.locator }];
}

export function muxItems(muxes: readonly Mux[]): readonly MuxItem[] {
  return muxes
    .filter((mux) => mux.state === "live")
    .map(({ muxId, name, incarnation, bootId, address, joinedIndex }) => {
      return { kind: "mux", muxId, name, incarnation, bootId, address, joinedIndex };
    });
}

/** The MUXes as every host sees them: whose encapsulated packets it accepts. */
export function hostMuxItems(muxes: readonly Mux[]): readonly HostItem[] {
  return muxes.filter((mux) => mux.state === "live").map(({ muxId, address }) => ({ kind: "mux", muxId, address }));
}

/** What concerns one DIP of a host: itself, its endpoints, the VIPs that it may leave as. Port ranges are not among these. */
export function hostDipItems(objects: VipMap, dip: DipRecord): readonly HostItem[] {
  if (dip.locator === null) return [];
  const { dipId, address, locator, tenant } = dip;
  const items: HostItem[] = [{ kind: "dip", dipId, address, locator, tenant }];
  for (const poolId of [...dip.pools].sort(byNumber)) {
    const pool = objects.poolById(poolId);
    if (pool === null) continue; // never: a pool that names a DIP is stored
    const { name } = pool.ref;
    // Active versions first: where two give one key, packets go on as MUXes send them until the change is activated.
    const members = [pool.active, pool.spec].flatMap(
      (spec) => spec?.members.find((member) => member.dip === address) ?? [],
    );
    for (const vip of objects.usersOf(poolId)) {
      for (const spec of [vip.active, vip.spec]) {
        if (spec === null) continue;
        for (const member of members) items.push(...endpoints(vip, spec, name, dip, member));
        if (spec.outbound?.pools.includes(name) === true)
          items.push({ kind: "outbound", dipId, vipId: vip.vipId, vip: spec.address });
      }
    }
  }
  return items;
}

function endpoints(
  vip: VipObject,
  spec: VipSpec,
  pool: string,
  dip: DipRecord,
  member: PoolMember,
): readonly HostItem[] {
  return spec.rules
    .filter((rule) => rule.pool === pool)
    .map((rule): HostItem => {
      const dipPort: Port = member.port === 0 ? rule.backendPort : member.port;
      const protocol = protocolNumber(rule.protocol);
      return {
        kind: "endpoint",
        vipId: vip.vipId,
        vip: spec.address,
        protocol,
        port: rule.port,
        dipId: dip.dipId,
        dipPort,
      };
    });
}
