/**
 * Which items follow from the state: pure functions from stored objects to rows of the MUX view and of a host's view.
 * MUX rows come from `active` alone, host rows from `spec` and `active` together, so that agents know of everything that
 * MUXes may use now or after the next activation.
 */
import type { DipId, IpAddress, PoolId, Port, VipId } from "../../../core/brands.js";
import { hostPrefix } from "../../../core/prefix.js";
import { given } from "../../../core/present.js";
import { DISTRIBUTION_CLIENT, DISTRIBUTION_CLIENT_PROTOCOL } from "../../../dataplane/flow-hash.js";
import type { HostItem, HostRecallItem } from "../../../dataplane/host-items.js";
import {
  MEMBER_DOWN,
  MEMBER_DRAINING,
  MEMBER_ENDED,
  MEMBER_UP,
  type MuxItem,
  type MuxPoolItem,
  type MuxPoolMember,
} from "../../../dataplane/mux-items.js";
import type { DipRecord, DipTable } from "../dip-table.js";
import type { DrainTable } from "../drain-table.js";
import type { HealthTable } from "../health-table.js";
import type { HostTable } from "../host-table.js";
import type { BackendPoolSpec, VipOutbound, VipSpec } from "../objects.js";
import { byNumber } from "../order.js";
import { SNAT_PROTOCOLS, type SnatProtocol, rangeOfPort } from "../snat/port-ranges.js";
import type { SnatAllocator } from "../snat/allocator.js";
import type { Mux } from "../state-machine.js";
import { type PoolObject, type VipMap, type VipObject, protocolNumber, protocolsOf } from "../vip-map.js";
import type { Withdrawals } from "../withdrawals.js";

/** What the items follow from. */
export interface ItemSources {
  readonly objects: VipMap;
  readonly dips: DipTable;
  readonly hosts: HostTable;
  readonly health: HealthTable;
  readonly withdrawals: Withdrawals;
  readonly drains: DrainTable;
  readonly snat: SnatAllocator;
}

/** The agent's own when an item says nothing. */
const QUEUE_SECONDS_DEFAULT = 3;

/** Keys of the site as hex digits. */
export interface SiteKeys {
  readonly hashKey: string;
  readonly muxKey?: string;
}

export const keyBytes = (digits: string): Uint8Array =>
  Uint8Array.from({ length: digits.length / 2 }, (_, at) => parseInt(digits.slice(at * 2, at * 2 + 2), 16));

/**
 * A VIP, its rules and inbound NAT as MUXes use them; nothing before it was first activated. A rule takes precedence over port
 * ranges on a MUX, so one whose port lies in a range that is lent out waits: it would take the replies of flows that live.
 */
export function vipItems({ objects, dips, withdrawals, snat }: ItemSources, vip: VipObject): readonly MuxItem[] {
  const { active, vipId } = vip;
  if (active === null) return [];
  const announced = !vip.deleting && active.adminState === "up" && !withdrawals.has(vipId);
  const { weight } = objects.activeTenant(vip.ref.tenant);
  const items: MuxItem[] = [
    { kind: "vip", vipId, address: active.address, announced, ...(weight === 1 ? {} : { weight }) },
  ];
  for (const rule of active.rules) {
    const pool = objects.pool(vip.ref.tenant, rule.pool);
    if (pool === null) continue; // never: an active rule's pool is stored
    for (const protocol of protocolsOf(rule.protocol)) {
      if (isPortLent(snat, active.address, protocol, rule.port)) continue;
      items.push({
        kind: "rule",
        vipId,
        protocol,
        port: rule.port,
        poolId: pool.poolId,
        ...(rule.distribution === "fiveTuple" ? {} : { distribution: DISTRIBUTIONS[rule.distribution] }),
        ...(rule.idleSeconds === 0 ? {} : { idleTimeoutMs: rule.idleSeconds * 1_000 }),
        ...(rule.fastpath ? {} : { fastpath: false as const }),
      });
    }
  }
  for (const nat of active.inboundNat) {
    const members = objects.pool(vip.ref.tenant, nat.pool)?.active?.members ?? [];
    for (const { rule, dip, port } of vip.natPorts) {
      const record = dips.find(vip.ref.tenant, dip);
      if (rule !== nat.name || record === null || !members.some((member) => member.dip === dip)) continue;
      if (isPortLent(snat, active.address, protocolNumber(nat.protocol), port)) continue;
      items.push({ kind: "nat", vipId, protocol: protocolNumber(nat.protocol), port, dipId: record.dipId });
    }
  }
  return items;
}

/** Whether the port lies in a range that a DIP owns, or that rests. Protocol 0: of an all-port rule, which takes what is left. */
export const isPortLent = (snat: SnatAllocator, vip: IpAddress, protocol: 0 | SnatProtocol, port: number): boolean =>
  protocol !== 0 && snat.space(vip, protocol)?.isLent(rangeOfPort(port)) === true;

/** What the owners of a DIP's ranges are asked to give back, a row per VIP and protocol; of VIPs that hosts know. */
export function recallItems({ objects, snat }: ItemSources, dip: DipRecord): readonly HostItem[] {
  interface Row {
    readonly item: Pick<HostRecallItem, "vip" | "protocol" | "vipId">;
    readonly ranges: number[];
    surplus: number;
  }
  const rows = new Map<string, Row>();
  const rowOf = ({ vip, protocol }: Pick<HostRecallItem, "vip" | "protocol">): Row | null => {
    const object = objects.vipAt(vip);
    if (object === null) return null; // never: a VIP's rules want ranges, and DIPs wait for ports of a VIP that there is
    const key = `${vip}/${protocol}`;
    const row = rows.get(key) ?? { item: { vip, protocol, vipId: object.vipId }, ranges: [], surplus: 0 };
    rows.set(key, row);
    return row;
  };
  for (const recall of snat.recalls.ofDip(dip.dipId)) rowOf(recall)?.ranges.push(recall.range);
  for (const recall of snat.recalls.surplusOfDip(dip.dipId)) {
    const row = rowOf(recall);
    if (row !== null) row.surplus = recall.ranges;
  }
  return [...rows.values()].map(({ item, ranges, surplus }): HostItem => {
    return { kind: "recall", dipId: dip.dipId, ...item, ranges, ...(surplus === 0 ? {} : { surplus }) };
  });
}

export const DISTRIBUTIONS = {
  clientIpProtocol: DISTRIBUTION_CLIENT_PROTOCOL,
  clientIp: DISTRIBUTION_CLIENT,
} as const;

/** A pool as MUXes use it. */
export function poolItems(sources: ItemSources, pool: PoolObject): readonly MuxItem[] {
  return pool.active === null ? [] : [poolItem(sources, pool, pool.active)];
}

/**
 * One version of it. Members that no host runs are left out: nothing could be sent to them. Those that have left and drain are
 * there without weight; as backups, because they do not count as primaries that could be up.
 */
export function poolItem(
  { dips, hosts, health, drains }: ItemSources,
  { poolId, ref }: PoolObject,
  spec: BackendPoolSpec,
): MuxPoolItem {
  const members: MuxPoolMember[] = [];
  const records = dips.mustAll(ref.tenant, spec.members);
  for (const [at, member] of spec.members.entries()) {
    const { dipId, locator, hostId } = records[at]!; // as many as members
    if (locator === null || hostId === null) continue;
    const { isExpired } = hosts.must(hostId);
    const isDown =
      member.adminState === "down" ||
      (member.adminState === "none" && spec.probe !== null && health.isDown(poolId, dipId));
    const drain = member.weight === 0 ? drains.get(poolId, dipId) : null;
    const mayEnd = isExpired || drain !== null;
    const state = drain?.isOver === true ? MEMBER_ENDED : isDown ? MEMBER_DOWN : mayEnd ? MEMBER_DRAINING : MEMBER_UP;
    const plain = { dipId, weight: member.weight };
    if (state === MEMBER_UP && member.role !== "backup") members.push(plain);
    else
      members.push({
        ...plain,
        ...(state === MEMBER_UP ? {} : { state }),
        ...(member.role === "backup" ? { backup: true } : {}),
      });
  }
  const left = drains.leftOf(poolId);
  if (left.length > 0) {
    const stays = new Set<IpAddress>(spec.members.map(({ dip }) => dip));
    for (const { dipId, isOver } of left) {
      const { address, hostId } = dips.must(dipId);
      if (hostId === null || stays.has(address)) continue;
      const state = isOver ? MEMBER_ENDED : health.isDown(poolId, dipId) ? MEMBER_DOWN : MEMBER_DRAINING;
      members.push({ dipId, weight: 0, state, backup: true });
    }
  }
  members.sort((a, b) => a.dipId - b.dipId); // a Maglev table is a function of the set of members
  return {
    kind: "pool",
    poolId,
    maxMembers: spec.maxMembers,
    members,
    ...(spec.failoverPercent === 0 ? {} : { failoverPermille: spec.failoverPercent * 10 }),
    ...(spec.allDown === "failOpen" ? { failOpen: true } : {}),
    ...(spec.tcpOnDown === "reset" ? { resetOnProbeDown: true } : {}),
  };
}

export function dipItems(dip: DipRecord): readonly MuxItem[] {
  const { dipId, hostId, locator } = dip;
  return hostId === null || locator === null ? [] : [{ kind: "dip", dipId, locator, hostId }];
}

export function muxItems(muxes: readonly Mux[]): readonly MuxItem[] {
  return muxes
    .filter((mux) => mux.state === "live")
    .map(({ muxId, name, incarnation, bootId, address, joinedIndex, drain }) => {
      const drained = drain === undefined ? undefined : (true as const);
      return { kind: "mux", muxId, name, incarnation, bootId, address, joinedIndex, ...given({ drained }) };
    });
}

/** The MUXes as every host sees them: whose encapsulated packets it accepts. */
export function hostMuxItems(muxes: readonly Mux[]): readonly HostItem[] {
  return muxes
    .filter((mux) => mux.state === "live")
    .map(({ muxId, address, addressIpv6 }) => ({ kind: "mux", muxId, address, ...given({ addressIpv6 }) }));
}

/** Addresses of internal VIPs, the same for every host: what reaches them keeps its source. */
export function internalVipItems(objects: VipMap): readonly HostItem[] {
  const items: HostItem[] = [];
  for (const { spec, active } of objects.allVips())
    if (spec.scope === "internal" || active?.scope === "internal")
      items.push({ kind: "internal", prefix: hostPrefix(spec.address) });
  return items;
}

/** What concerns one DIP of a host alone: itself, its endpoints, the VIPs that it may leave as. Port ranges are not among these. */
export function hostDipItems(
  { objects, drains }: ItemSources,
  dip: DipRecord,
  fastpathKey: Uint8Array | null,
): readonly HostItem[] {
  if (dip.locator === null) return [];
  const { dipId, address, locator, tenant } = dip;
  const items: HostItem[] = [];
  const guards = new Set<string>();
  for (const poolId of poolsServed(dip, drains)) {
    const pool = objects.poolById(poolId);
    if (pool === null) continue; // never: a pool that names a DIP is stored
    const { name } = pool.ref;
    const drain = drains.get(poolId, dipId);
    for (const group of pool.spec.securityGroups) guards.add(group);
    // Active versions first: where two give one key, packets go on as MUXes send them until the change is activated.
    const members = bothVersions(pool).flatMap((spec) => spec.members.find((member) => member.dip === address) ?? []);
    const isMember = members.length > 0;
    // A member that is to serve again must be known to, before MUXes choose it.
    const isOver = drain?.isOver === true && members.every(({ weight }) => weight === 0);
    const ports = drain === null || drain.leftPort === null ? members : [...members, { port: drain.leftPort }];
    items.push(...probeItem(objects, pool, dip));
    for (const vip of objects.usersOf(poolId)) {
      for (const spec of bothVersions(vip)) {
        for (const { port } of ports) addEndpoints(items, { vip, spec, pool: name, dip, port, isOver });
        if (isMember) items.push(...natEndpoints(vip, spec, name, dip));
        if (isMember && spec.outbound?.pools.includes(name) === true)
          items.push(outboundItem(spec.outbound, { dipId, vipId: vip.vipId, vip: spec.address }));
      }
    }
  }
  const groups = [...guards].sort().map((group) => `${tenant}/${group}`);
  return [
    {
      kind: "dip",
      dipId,
      address,
      locator,
      tenant,
      ...(groups.length === 0 ? {} : { groups }),
      ...(fastpathKey === null ? {} : { fastpathKey }),
    },
    ...items,
  ];
}

/** Pools that it is a member of, and such as it has left and drains of. */
function poolsServed({ dipId, pools }: DipRecord, drains: DrainTable): readonly PoolId[] {
  return [...new Set([...pools, ...drains.poolsLeftBy(dipId)])].sort(byNumber);
}

/** What several DIPs of a host may need: security groups, and the address spaces of their tenants. */
export function hostSharedItems({ objects, drains }: ItemSources, dips: readonly DipRecord[]): readonly HostItem[] {
  const named = new Map<string, Set<string>>();
  const pools = new Set<PoolId>();
  for (const dip of dips) {
    if (dip.locator === null) continue;
    if (!named.has(dip.tenant)) named.set(dip.tenant, new Set());
    for (const poolId of poolsServed(dip, drains)) pools.add(poolId);
  }
  for (const poolId of pools) {
    const pool = objects.poolById(poolId);
    const groups = named.get(pool?.ref.tenant ?? "");
    if (pool === null || groups === undefined) continue; // never: pools name DIPs of their own tenant
    for (const group of pool.spec.securityGroups) groups.add(group);
    for (const vip of objects.usersOf(poolId))
      for (const spec of bothVersions(vip)) for (const group of spec.securityGroups) groups.add(group);
  }
  return [...named.keys()]
    .sort()
    .flatMap((tenant) => [
      ...objects.tenantSpec(tenant).addressSpaces.map((prefix): HostItem => ({ kind: "internal", prefix, tenant })),
      ...[...(named.get(tenant) ?? [])].sort().flatMap((group) => groupItem(objects, tenant, group)),
    ]);
}

/** The active one first; one of them where they are the same. */
const bothVersions = <Spec>({
  spec,
  active,
}: {
  readonly spec: Spec;
  readonly active: Spec | null;
}): readonly Spec[] => (active === null || active === spec ? [spec] : [active, spec]);

function groupItem(objects: VipMap, tenant: string, name: string): readonly HostItem[] {
  const group = objects.group(tenant, name);
  if (group === null) return []; // never: a group that is named is stored
  const rules = group.spec.rules.map((rule) => {
    return { ...rule, peer: rule.peer.startsWith("sg:") ? `sg:${tenant}/${rule.peer.slice("sg:".length)}` : rule.peer };
  });
  return [{ kind: "group", group: `${tenant}/${name}`, rules }];
}

/** A probe of "the port that the member serves on" needs a rule that says which; without one there is nothing to probe. */
function probeItem(objects: VipMap, pool: PoolObject, { dipId, address }: DipRecord): readonly HostItem[] {
  const { probe, members } = pool.spec;
  const member = members.find(({ dip }) => dip === address);
  if (probe === null || pool.deleting || member === undefined) return [];
  const served = objects
    .usersOf(pool.poolId)
    .flatMap(({ spec }) => spec.rules.filter((rule) => rule.pool === pool.ref.name && rule.backendPort > 0));
  const port = probe.port || member.port || served[0]?.backendPort || 0;
  if (port === 0) return [];
  const { protocol, intervalSeconds, timeoutSeconds, healthyThreshold, unhealthyThreshold } = probe;
  const isHttp = protocol === "http" || protocol === "https";
  return [
    {
      kind: "probe",
      poolId: pool.poolId,
      dipId,
      protocol,
      port,
      intervalSeconds,
      timeoutSeconds,
      healthyThreshold,
      unhealthyThreshold,
      ...(isHttp ? { path: probe.path, expectedStatus: probe.expectedStatus } : {}),
      ...(isHttp && probe.host !== "" ? { host: probe.host } : {}),
      ...(protocol === "udp" ? { send: probe.send } : {}),
      ...(protocol === "udp" && probe.expect !== "" ? { expect: probe.expect } : {}),
    },
  ];
}

const outboundItem = (
  outbound: VipOutbound,
  key: { readonly dipId: DipId; readonly vipId: VipId; readonly vip: IpAddress },
): HostItem => ({
  kind: "outbound",
  ...key,
  ...(outbound.selection === "paired" ? { selection: "paired" as const } : {}),
  ...(outbound.udpMapping === "endpointIndependent" ? { udpMapping: "endpointIndependent" as const } : {}),
  ...(outbound.tcpIdleSeconds === 0 ? {} : { tcpIdleSeconds: outbound.tcpIdleSeconds }),
  ...(outbound.udpIdleSeconds === 0 ? {} : { udpIdleSeconds: outbound.udpIdleSeconds }),
  ...(outbound.idleReset ? {} : { idleReset: false as const }),
  ...(outbound.onExhaustion === "drop" ? { onExhaustion: "drop" as const } : {}),
  ...(outbound.queueSeconds === QUEUE_SECONDS_DEFAULT ? {} : { queueSeconds: outbound.queueSeconds }),
});

/** By the million in a large site: most have nothing beyond the first seven fields. */
function addEndpoints(
  items: HostItem[],
  of: {
    readonly vip: VipObject;
    readonly spec: VipSpec;
    readonly pool: string;
    readonly dip: DipRecord;
    /** The member's own; 0: the rule's backend port. */
    readonly port: Port;
    /** Its drain is over: its flows end. */
    readonly isOver: boolean;
  },
): void {
  const { vip, spec, pool, port, isOver } = of;
  const { vipId } = vip;
  const { dipId } = of.dip;
  const extras = ofVip(vip, spec);
  for (const rule of spec.rules) {
    if (rule.pool !== pool) continue;
    // An all-port rule keeps the port of every packet.
    const protocols = rule.protocol === "all" ? SNAT_PROTOCOLS : protocolsOf(rule.protocol);
    const dipPort = rule.protocol === "all" ? 0 : rule.floatingIp ? rule.port : port || rule.backendPort;
    const isPlain =
      !isOver && !rule.floatingIp && rule.idleSeconds === 0 && rule.idleReset && rule.fastpath && extras === null;
    for (const protocol of protocols) {
      if (protocol === 0) continue; // never: an all-port rule stands for both protocols here
      const plain = { kind: "endpoint", vipId, vip: spec.address, protocol, port: rule.port, dipId, dipPort } as const;
      if (isPlain) {
        items.push(plain);
        continue;
      }
      items.push({
        ...plain,
        ...(rule.floatingIp ? { floating: true as const } : {}),
        ...(rule.idleSeconds === 0 ? {} : { idleSeconds: rule.idleSeconds }),
        ...(rule.idleReset ? {} : { idleReset: false as const }),
        ...(rule.fastpath ? {} : { fastpath: false as const }),
        ...(isOver ? { ended: true as const } : {}),
        ...extras,
      });
    }
  }
}

function natEndpoints(vip: VipObject, spec: VipSpec, pool: string, dip: DipRecord): readonly HostItem[] {
  return spec.inboundNat
    .filter((nat) => nat.pool === pool)
    .flatMap((nat) =>
      vip.natPorts
        .filter((assigned) => assigned.rule === nat.name && assigned.dip === dip.address)
        .map(({ port }): HostItem => {
          const protocol = protocolNumber(nat.protocol);
          const { vipId } = vip;
          return {
            kind: "endpoint",
            vipId,
            vip: spec.address,
            protocol,
            port,
            dipId: dip.dipId,
            dipPort: nat.backendPort,
            ...ofVip(vip, spec),
          };
        }),
    );
}

/** What holds for every endpoint of a VIP; null: nothing beyond the usual. */
function ofVip(
  vip: VipObject,
  spec: VipSpec,
): { readonly hairpin?: "drop"; readonly groups?: readonly string[] } | null {
  if (spec.hairpin !== "drop" && spec.securityGroups.length === 0) return null;
  const groups = [...spec.securityGroups].sort().map((group) => `${vip.ref.tenant}/${group}`);
  return {
    ...(spec.hairpin === "drop" ? { hairpin: "drop" as const } : {}),
    ...(groups.length === 0 ? {} : { groups }),
  };
}
