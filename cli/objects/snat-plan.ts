/**
 * SNAT arithmetic of a change: for each VIP with outbound that the change touches, itself or through a pool, how many ports
 * a DIP gets before and after it, and how many VIPs the promised minimum needs. Pure.
 */
import type { ApplyObject } from "../../manager/state/commands/commands.js";
import type { BackendPoolSpec, VipSpec } from "../../manager/state/objects.js";
import { type SnatArithmetic, snatArithmetic } from "../../manager/state/snat/arithmetic.js";

export interface SnatPlan {
  readonly tenant: string;
  readonly vip: string;
  readonly address: string;
  readonly minPorts: number;
  readonly maxPorts: number;
  readonly after: SnatArithmetic;
  /** Ports per DIP, of each protocol, when all want as many as they may have; null: no SNAT there before. */
  readonly portsPerDipBefore: number | null;
  readonly portsPerDipAfter: number;
}

/** `stored`: all VIPs and pools of the tenants concerned. Those without outbound after the change are left out. */
export function snatPlans(stored: readonly ApplyObject[], wanted: readonly ApplyObject[]): readonly SnatPlan[] {
  const before = new Site(stored);
  const after = new Site([...stored, ...wanted]);
  const touchedPools = new Set(wanted.flatMap(({ ref }) => (ref.kind === "BackendPool" ? [keyOf(ref)] : [])));
  const touchedVips = new Set(wanted.flatMap(({ ref }) => (ref.kind === "Vip" ? [keyOf(ref)] : [])));
  return [...after.vips].flatMap(([key, { ref, spec }]): SnatPlan[] => {
    const { outbound } = spec;
    if (outbound === null) return [];
    const isTouched =
      touchedVips.has(key) || outbound.pools.some((name) => touchedPools.has(keyOf({ tenant: ref.tenant, name })));
    if (!isTouched) return [];
    const sum = after.arithmetic(ref.tenant, spec);
    const was = before.vips.get(key);
    return [
      {
        tenant: ref.tenant,
        vip: ref.name,
        address: spec.address,
        minPorts: outbound.minPorts,
        maxPorts: outbound.maxPorts,
        after: sum,
        portsPerDipBefore:
          was === undefined || was.spec.outbound === null
            ? null
            : Math.min(was.spec.outbound.maxPorts, before.arithmetic(ref.tenant, was.spec).portsPerDip),
        portsPerDipAfter: Math.min(outbound.maxPorts, sum.portsPerDip),
      },
    ];
  });
}

const keyOf = ({ tenant, name }: { readonly tenant: string; readonly name: string }): string => `${tenant}/${name}`;

/** The last of several objects with one name counts. */
class Site {
  readonly vips = new Map<string, { readonly ref: ApplyObject["ref"]; readonly spec: VipSpec }>();
  readonly #pools = new Map<string, BackendPoolSpec>();

  constructor(objects: readonly ApplyObject[]) {
    for (const { ref, object } of objects) {
      if (object.kind === "Vip") this.vips.set(keyOf(ref), { ref, spec: object.spec });
      else if (object.kind === "BackendPool") this.#pools.set(keyOf(ref), object.spec);
    }
  }

  arithmetic(tenant: string, vip: VipSpec): SnatArithmetic {
    const names = [...new Set(vip.outbound?.pools ?? [])];
    return snatArithmetic(
      vip,
      names.flatMap((name) => this.#pools.get(keyOf({ tenant, name })) ?? []),
    );
  }
}
