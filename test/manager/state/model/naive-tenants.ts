/**
 * Weighted max-min of the MUXes' table between tenants, found by halving: the level at which what all hold, each no less than it has and no
 * more than it could ever own, fills the table.
 */
import { isDeepStrictEqual } from "node:util";
import type { ApplyObject } from "../../../../manager/state/commands/commands.js";
import type { BackendPoolSpec, ObjectRef, VipSpec } from "../../../../manager/state/objects.js";
import type { NaiveDip } from "./naive-machines.js";
import { type NaiveObjects, type NaiveVip, keyOf } from "./naive-objects.js";
import type { NaivePorts } from "./naive-ports.js";

export interface NaiveTenant {
  readonly tenant: string;
  readonly weight: number;
  readonly owned: number;
  readonly reserved: number;
  readonly most: number;
}

/** Requests that the table allowed less than the VIP: for a test that must have met some. */
export const tableLimits = { count: 0 };

const held = ({ owned, reserved }: NaiveTenant): number => owned + reserved;
const top = (tenant: NaiveTenant): number => Math.max(held(tenant), tenant.most);

export function naiveShare(tenants: readonly NaiveTenant[], name: string, capacity: number): number {
  const own = tenants.find(({ tenant }) => tenant === name) ?? {
    tenant: name,
    weight: 1,
    owned: 0,
    reserved: 0,
    most: 0,
  };
  const filled = (level: number): number =>
    tenants.reduce((sum, one) => sum + Math.max(held(one), Math.min(top(one), one.weight * level)), 0);
  if (filled(Infinity) < capacity) return top(own);
  let low = 0;
  let high = capacity;
  for (let step = 0; step < 200; step++) {
    const middle = (low + high) / 2;
    if (filled(middle) < capacity) low = middle;
    else high = middle;
  }
  // What is a whole number but for the halving is that number.
  return Math.max(held(own), Math.min(own.most, Math.max(1, Math.floor(own.weight * high + 1e-6))));
}

/** What the tenant may get beyond what is promised. */
export function naiveTableRoom(tenants: readonly NaiveTenant[], name: string, capacity: number): number {
  const left = capacity - tenants.reduce((sum, tenant) => sum + held(tenant), 0);
  if (left <= 0) return 0;
  const plenty = left - Math.max(1, Math.floor(capacity / 16));
  const own = tenants.find(({ tenant }) => tenant === name);
  const fair = naiveShare(tenants, name, capacity) - (own === undefined ? 0 : held(own));
  return Math.max(0, plenty, Math.min(left, fair));
}

/** What of the site tenants' shares follow from. */
interface Parts {
  readonly objects: NaiveObjects;
  readonly dips: readonly NaiveDip[];
  readonly ports: NaivePorts;
}

type PoolSpecs = (name: string) => BackendPoolSpec | null;

const poolsOf =
  ({ objects }: Parts, tenant: string): PoolSpecs =>
  (name) =>
    objects.pool(tenant, name)?.spec ?? null;

const membersOf = ({ outbound }: VipSpec, pool: PoolSpecs): ReadonlySet<string> =>
  new Set(outbound?.pools.flatMap((name) => pool(name)?.members.map(({ dip }) => dip) ?? []));

/** Ranges of one protocol that a member lacks up to the VIP's minimum. */
function lack({ dips, ports }: Parts, tenant: string, spec: VipSpec, protocol: number, member: string): number {
  const id = dips.find((dip) => dip.tenant === tenant && dip.address === member)?.id ?? 0;
  return Math.max(0, (spec.outbound?.minPorts ?? 0) / 8 - ports.ownedAt(spec.address, protocol, id));
}

export function lackAt(site: Parts, { ref, spec }: NaiveVip, protocol: number, { address }: NaiveDip): number {
  const isMember = membersOf(spec, poolsOf(site, ref.tenant)).has(address);
  return isMember ? lack(site, ref.tenant, spec, protocol, address) : 0;
}

/** Of all members, both protocols. */
function lackOf(site: Parts, { tenant }: ObjectRef, spec: VipSpec, pool: PoolSpecs): number {
  let sum = 0;
  for (const member of membersOf(spec, pool))
    for (const protocol of [6, 17]) sum += lack(site, tenant, spec, protocol, member);
  return sum;
}

/** What each tenant owns, is promised besides, and could ever own. */
export function tenantsOf(site: Parts): readonly NaiveTenant[] {
  const { objects, dips, ports } = site;
  const named = [...dips, ...objects.vips().map(({ ref }) => ref)].map(({ tenant }) => tenant);
  return [...new Set(named)].map((tenant) => {
    const own = dips.filter((dip) => dip.tenant === tenant);
    const owned = own.reduce((sum, { id }) => sum + ports.rangesOf(id).length, 0);
    let reserved = 0;
    let most = 0;
    for (const { ref, spec, deleting } of objects.vips()) {
      if (ref.tenant !== tenant || deleting || spec.outbound === null) continue;
      const pools = poolsOf(site, tenant);
      most += 2 * Math.min(8_064, (membersOf(spec, pools).size * spec.outbound.maxPorts) / 8);
      reserved += lackOf(site, ref, spec, pools);
    }
    return { tenant, owned, reserved, most, weight: objects.tenantWeight(tenant) };
  });
}

/** The request promises more than the MUXes' tables have left. */
export function reservesTooMuch(site: Parts, objects: readonly ApplyObject[], capacity: number): boolean {
  const wanted = new Map<string, ApplyObject>();
  for (const object of objects) if (!wanted.has(keyOf(object.ref))) wanted.set(keyOf(object.ref), object);
  const after = new Map<string, { readonly ref: ObjectRef; readonly spec: VipSpec }>();
  for (const vip of site.objects.vips()) if (!vip.deleting) after.set(keyOf(vip.ref), vip);
  for (const [key, { ref, object }] of wanted) {
    const isSame = isDeepStrictEqual(site.objects.all.get(key)?.spec, object.spec);
    if (object.kind === "Vip" && !isSame) after.set(key, { ref, spec: object.spec });
  }
  let added = 0;
  let grows = false;
  for (const [key, { ref, spec }] of after) {
    const stored = site.objects.all.get(key) as NaiveVip | undefined;
    const now = poolsOf(site, ref.tenant);
    const then: PoolSpecs = (name) =>
      (wanted.get(`BackendPool/${ref.tenant}/${name}`)?.object.spec as BackendPoolSpec | undefined) ?? now(name);
    const before = stored === undefined || stored.deleting ? 0 : lackOf(site, ref, stored.spec, now);
    const more = lackOf(site, ref, spec, then) - before;
    added += more;
    if (more > 0) grows = true;
  }
  const taken = tenantsOf(site).reduce((sum, { owned, reserved }) => sum + owned + reserved, 0);
  return grows && added > Math.max(0, capacity - taken);
}
