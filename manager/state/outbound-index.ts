/**
 * Which VIPs a DIP may get SNAT ports from: those whose `outbound` names a pool that the DIP is a member of, by `spec`.
 * Every allocation asks, configuration changes seldom: answers are kept until the next change of any object.
 */
import type { DipId, IpAddress, VipId } from "../../core/brands.js";
import type { DipRecord } from "./dip-table.js";
import { PORTS_PER_RANGE } from "./port-ranges.js";
import type { VipMap } from "./vip-map.js";

export interface OutboundVip {
  readonly vipId: VipId;
  readonly address: IpAddress;
  /** "default/web", for messages. */
  readonly name: string;
  /** Most ranges that the DIP may own here, per protocol. */
  readonly maxRanges: number;
  /** False before the VIP was first activated: MUXes do not know it yet. */
  readonly isActive: boolean;
}

export class OutboundIndex {
  private readonly known = new Map<DipId, readonly OutboundVip[]>();
  private readonly objects: VipMap;

  constructor(objects: VipMap) {
    this.objects = objects;
  }

  /** In order of VIP id. */
  vipsFor(dip: DipRecord): readonly OutboundVip[] {
    const known = this.known.get(dip.dipId);
    if (known !== undefined) return known;
    const found = this.find(dip);
    this.known.set(dip.dipId, found);
    return found;
  }

  objectsChanged(): void {
    this.known.clear();
  }

  private find(dip: DipRecord): readonly OutboundVip[] {
    const found = new Map<VipId, OutboundVip>();
    for (const poolId of dip.pools) {
      const pool = this.objects.poolById(poolId);
      if (pool === null || pool.deleting || !pool.spec.members.some((member) => member.dip === dip.address)) continue;
      for (const vip of this.objects.usersOf(poolId)) {
        const { outbound, address } = vip.spec;
        if (vip.deleting || outbound === null || !outbound.pools.includes(pool.ref.name)) continue;
        const name = `${vip.ref.tenant}/${vip.ref.name}`;
        const maxRanges = Math.floor(outbound.maxPorts / PORTS_PER_RANGE);
        found.set(vip.vipId, { vipId: vip.vipId, address, name, maxRanges, isActive: vip.active !== null });
      }
    }
    return [...found.values()].sort((a, b) => a.vipId - b.vipId);
  }
}
