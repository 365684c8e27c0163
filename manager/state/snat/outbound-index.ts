/**
 * Which VIPs a DIP may get SNAT ports from: those whose `outbound` names a pool that the DIP is a member of, by `spec`.
 * Every allocation asks, configuration changes seldom: answers are kept until the next change of a pool or of such a VIP.
 */
import type { DipId, IpAddress, VipId } from "../../../core/brands.js";
import type { DipRecord, DipTable } from "../dip-table.js";
import type { VipOutbound } from "../objects.js";
import { PORTS_PER_RANGE } from "./port-ranges.js";
import type { VipMap } from "../vip-map.js";

export interface OutboundVip {
  readonly vipId: VipId;
  readonly address: IpAddress;
  /** "default/web", for messages. */
  readonly name: string;
  /** Most ranges that the DIP may own here, per protocol. */
  readonly maxRanges: number;
  /** False before the VIP was first activated: MUXes do not know it yet. */
  readonly isActive: boolean;
  /** Ranges kept for each member, per protocol. */
  readonly minRanges: number;
  /** The DIP leaves as one VIP only, instead of as any of its VIPs. */
  readonly isPaired: boolean;
}

export interface VipLending {
  readonly tenant: string;
  readonly members: ReadonlySet<DipId>;
  /** Of each member and protocol, at least and at most. */
  readonly minRanges: number;
  readonly maxRanges: number;
}

/** Fields of `outbound` that the configuration may leave out. */
type OutboundExtras = VipOutbound & { readonly minPorts?: number; readonly selection?: string };

export class OutboundIndex {
  private readonly known = new Map<DipId, readonly OutboundVip[]>();
  /** VIPs that are in one of these answers. */
  private readonly inAnswers = new Set<VipId>();
  private readonly objects: VipMap;
  private readonly dips: DipTable;

  constructor(objects: VipMap, dips: DipTable) {
    this.objects = objects;
    this.dips = dips;
  }

  /** In order of VIP id. */
  vipsFor(dip: DipRecord): readonly OutboundVip[] {
    const known = this.known.get(dip.dipId);
    if (known !== undefined) return known;
    const found = this.find(dip);
    this.known.set(dip.dipId, found);
    for (const { vipId } of found) this.inAnswers.add(vipId);
    return found;
  }

  /** A pool has changed, or a VIP with `outbound`. */
  objectsChanged(): void {
    this.known.clear();
    this.inAnswers.clear();
  }

  /** A VIP has changed that has no `outbound` now: most have none, and answers that never told of it stay right. */
  plainVipChanged(vipId: VipId): void {
    if (this.inAnswers.has(vipId)) this.objectsChanged();
  }

  /** Who may own ports of the VIP, and how many each is to have. Null: nobody may. */
  lendingOf(address: IpAddress): VipLending | null {
    const vip = this.objects.vipAt(address);
    const outbound: OutboundExtras | null = vip === null || vip.deleting ? null : vip.spec.outbound;
    if (vip === null || outbound === null) return null;
    const { tenant } = vip.ref;
    const members = new Set<DipId>();
    for (const name of outbound.pools) {
      const pool = this.objects.pool(tenant, name);
      if (pool === null || pool.deleting) continue;
      for (const { dipId } of this.dips.mustAll(tenant, pool.spec.members)) members.add(dipId);
    }
    const minRanges = Math.floor((outbound.minPorts ?? 0) / PORTS_PER_RANGE);
    return { tenant, members, minRanges, maxRanges: Math.floor(outbound.maxPorts / PORTS_PER_RANGE) };
  }

  private find(dip: DipRecord): readonly OutboundVip[] {
    const found = new Map<VipId, OutboundVip>();
    for (const poolId of dip.pools) {
      const pool = this.objects.poolById(poolId);
      if (pool === null || pool.deleting || !pool.spec.members.some((member) => member.dip === dip.address)) continue;
      for (const vip of this.objects.usersOf(poolId)) {
        const { address } = vip.spec;
        const outbound: OutboundExtras | null = vip.spec.outbound;
        if (vip.deleting || outbound === null || !outbound.pools.includes(pool.ref.name)) continue;
        const name = `${vip.ref.tenant}/${vip.ref.name}`;
        const maxRanges = Math.floor(outbound.maxPorts / PORTS_PER_RANGE);
        found.set(vip.vipId, {
          vipId: vip.vipId,
          address,
          name,
          maxRanges,
          isActive: vip.active !== null,
          minRanges: Math.floor((outbound.minPorts ?? 0) / PORTS_PER_RANGE),
          isPaired: outbound.selection === "paired",
        });
      }
    }
    return [...found.values()].sort((a, b) => a.vipId - b.vipId);
  }
}
