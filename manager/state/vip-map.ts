/**
 * The objects that operators write, and who refers to whom. Every object has two versions: `spec`, which Host Agents know
 * as soon as it is committed, and `active`, which MUXes use; `activate` makes them equal.
 *
 * This file stores and indexes. What is allowed is decided by `apply/object-checks`, before anything is stored.
 */
import { assert } from "../../core/assert.js";
import type { IpAddress, PoolId, VipId } from "../../core/brands.js";
import { isEqual } from "./equal.js";
import {
  type AnyStoredObject,
  type ObjectKind,
  type ObjectRef,
  type StoredGroup,
  type StoredPool,
  type StoredTenant,
  type StoredVip,
  TENANT_DEFAULTS,
  type TenantSpec,
  type VipRule,
  type VipSpec,
  objectKey,
} from "./objects.js";
import { byText } from "./order.js";
import { portsIn } from "./snat/port-text.js";
import { FIRST_RANGE, type SnatProtocol, rangeOfPort } from "./snat/port-ranges.js";

export type PoolObject = StoredPool & { readonly deleting: boolean };
export type VipObject = StoredVip & { readonly deleting: boolean };
export type GroupObject = StoredGroup & { readonly deleting: boolean };
export type TenantObject = StoredTenant & { readonly deleting: boolean };

export const isPool = (object: AnyStoredObject): object is PoolObject => object.ref.kind === "BackendPool";
export const isVip = (object: AnyStoredObject): object is VipObject => object.ref.kind === "Vip";
export const isGroup = (object: AnyStoredObject): object is GroupObject => object.ref.kind === "SecurityGroup";
export const isTenant = (object: AnyStoredObject): object is TenantObject => object.ref.kind === "Tenant";

/** True between the two entries of a change. By value, not by index: one entry may activate a change and prepare the next. */
export const isPending = (object: AnyStoredObject): boolean => object.deleting || !isEqual(object.spec, object.active);

/** IANA numbers; 0 stands for every protocol. */
export function protocolsOf(protocol: VipRule["protocol"]): readonly (0 | SnatProtocol)[] {
  switch (protocol) {
    case "tcp":
      return [6];
    case "udp":
      return [17];
    case "tcp_udp":
      return [6, 17];
    case "all":
      return [0];
  }
}

export const protocolNumber = (protocol: "tcp" | "udp"): SnatProtocol => (protocol === "tcp" ? 6 : 17);

export class VipMap {
  nextPoolId = 1;
  nextVipId = 1;
  private readonly byKey = new Map<string, AnyStoredObject>();
  // In order of id, because ids only grow and a changed object keeps its place.
  private readonly pools = new Map<PoolId, PoolObject>();
  private readonly vips = new Map<VipId, VipObject>();
  private readonly tenants = new Map<string, TenantObject>();
  private readonly groups = new Map<string, GroupObject>();
  private readonly byAddress = new Map<IpAddress, VipObject>();
  /** VIPs that name the pool, in rules or outbound, spec or active. */
  private readonly users = new Map<PoolId, Set<VipId>>();
  private readonly pending = new Set<string>();
  private rules = 0;
  private members = 0;

  get(ref: ObjectRef): AnyStoredObject | null {
    return this.byKey.get(objectKey(ref)) ?? null;
  }

  pool(tenant: string, name: string): PoolObject | null {
    const object = this.byKey.get(objectKey({ kind: "BackendPool", tenant, name }));
    return object !== undefined && isPool(object) ? object : null;
  }

  group(tenant: string, name: string): GroupObject | null {
    return this.groups.get(`${tenant}/${name}`) ?? null;
  }

  /** What holds for the tenant, written or not. */
  tenantSpec(tenant: string): TenantSpec {
    return this.tenants.get(tenant)?.spec ?? TENANT_DEFAULTS;
  }

  /** What MUXes know of the tenant. */
  activeTenant(tenant: string): TenantSpec {
    return this.tenants.get(tenant)?.active ?? TENANT_DEFAULTS;
  }

  poolById(id: PoolId): PoolObject | null {
    return this.pools.get(id) ?? null;
  }

  vipById(id: VipId): VipObject | null {
    return this.vips.get(id) ?? null;
  }

  vipAt(address: IpAddress): VipObject | null {
    return this.byAddress.get(address) ?? null;
  }

  allTenants(): Iterable<TenantObject> {
    return this.tenants.values();
  }

  allGroups(): Iterable<GroupObject> {
    return this.groups.values();
  }

  get vipCount(): number {
    return this.vips.size;
  }

  get poolCount(): number {
    return this.pools.size;
  }

  allPools(): Iterable<PoolObject> {
    return this.pools.values();
  }

  allVips(): Iterable<VipObject> {
    return this.vips.values();
  }

  /** In order of (tenant, name). */
  list(kind: ObjectKind, tenant: string | null): readonly AnyStoredObject[] {
    const tables = { Tenant: this.tenants, SecurityGroup: this.groups, BackendPool: this.pools, Vip: this.vips };
    const all: AnyStoredObject[] = [...tables[kind].values()];
    return all
      .filter((object) => tenant === null || object.ref.tenant === tenant)
      .sort((a, b) => byText(a.ref.tenant, b.ref.tenant) || byText(a.ref.name, b.ref.name));
  }

  /** VIPs that name the pool in either version, in order of id. */
  usersOf(pool: PoolId): readonly VipObject[] {
    const users = this.users.get(pool);
    if (users === undefined) return [];
    return [...users].sort((a, b) => a - b).map((id) => this.mustVip(id));
  }

  /** Objects between the two entries of a change. */
  pendingObjects(): readonly AnyStoredObject[] {
    return [...this.pending].sort(byText).map((key) => {
      const object = this.byKey.get(key);
      assert(object !== undefined, "a pending object is stored");
      return object;
    });
  }

  /** Rules that MUX tables may have to hold: of each VIP, the more of its two versions. */
  get ruleCount(): number {
    return this.rules;
  }

  /** Pool members that MUX tables may have to hold: of each pool, the more of its two versions. */
  get memberCount(): number {
    return this.members;
  }

  /** Inserts the object or replaces the version that is stored. */
  put(object: AnyStoredObject): void {
    const key = objectKey(object.ref);
    const before = this.byKey.get(key);
    this.byKey.set(key, object);
    if (isPending(object)) this.pending.add(key);
    else this.pending.delete(key);
    if (isPool(object)) {
      if (before !== undefined && isPool(before)) this.members -= membersToHold(before);
      this.members += membersToHold(object);
      this.pools.set(object.poolId, object);
      return;
    }
    if (isTenant(object)) {
      this.tenants.set(object.ref.name, object);
      return;
    }
    if (isGroup(object)) {
      this.groups.set(`${object.ref.tenant}/${object.ref.name}`, object);
      return;
    }
    assert(isVip(object), "an object is a tenant, a group, a pool or a VIP");
    if (before !== undefined && isVip(before)) this.unlinkVip(before);
    this.vips.set(object.vipId, object);
    this.byAddress.set(object.spec.address, object);
    this.rules += rulesToHold(object);
    for (const pool of this.poolsNamedBy(object)) {
      let users = this.users.get(pool.poolId);
      if (users === undefined) {
        users = new Set();
        this.users.set(pool.poolId, users);
      }
      users.add(object.vipId);
    }
  }

  /** Nothing may name a pool that is removed. */
  remove(object: AnyStoredObject): void {
    const key = objectKey(object.ref);
    this.byKey.delete(key);
    this.pending.delete(key);
    if (isTenant(object)) this.tenants.delete(object.ref.name);
    else if (isGroup(object)) this.groups.delete(`${object.ref.tenant}/${object.ref.name}`);
    else if (isPool(object)) {
      this.members -= membersToHold(object);
      assert((this.users.get(object.poolId)?.size ?? 0) === 0, "a pool that is removed has no users");
      this.pools.delete(object.poolId);
      this.users.delete(object.poolId);
    } else if (isVip(object)) {
      this.unlinkVip(object);
      this.vips.delete(object.vipId);
    }
  }

  /** The pools that either version of the VIP names, each once. A pool is stored before a VIP that names it. */
  poolsNamedBy(vip: VipObject): readonly PoolObject[] {
    const names = new Set<string>();
    for (const spec of versionsOf(vip)) for (const name of poolNames(spec)) names.add(name);
    return [...names].map((name) => {
      const pool = this.pool(vip.ref.tenant, name);
      assert(pool !== null, "a pool that a VIP names is stored");
      return pool;
    });
  }

  /** Ranges that hold a port of one of the VIP's rules or of its inbound NAT, in either version. */
  ruleRanges(address: IpAddress, protocol: SnatProtocol): ReadonlySet<number> {
    const ranges = new Set<number>();
    const vip = this.byAddress.get(address);
    if (vip === undefined) return ranges;
    for (const spec of versionsOf(vip)) {
      for (const rule of spec.rules) {
        const range = rangeOfPort(rule.port);
        if (protocolsOf(rule.protocol).includes(protocol) && range >= FIRST_RANGE) ranges.add(range);
      }
      for (const nat of spec.inboundNat) {
        if (protocolNumber(nat.protocol) !== protocol) continue;
        const { first, last } = portsIn(nat.ports);
        for (let range = Math.max(FIRST_RANGE, rangeOfPort(first)); range <= rangeOfPort(last); range++)
          ranges.add(range);
      }
    }
    return ranges;
  }

  private unlinkVip(vip: VipObject): void {
    this.byAddress.delete(vip.spec.address);
    this.rules -= rulesToHold(vip);
    for (const pool of this.poolsNamedBy(vip)) this.users.get(pool.poolId)?.delete(vip.vipId);
  }

  private mustVip(id: VipId): VipObject {
    const vip = this.vips.get(id);
    assert(vip !== undefined, "a VIP that uses a pool is stored");
    return vip;
  }
}

/** Spec first, then active where there is one. */
export const versionsOf = <Spec>(object: { readonly spec: Spec; readonly active: Spec | null }): readonly Spec[] =>
  object.active === null ? [object.spec] : [object.spec, object.active];

/** Names of the pools a VIP's spec refers to, with repetitions. */
export function poolNames(spec: VipSpec): readonly string[] {
  const { rules, inboundNat, outbound } = spec;
  return [...rules.map((rule) => rule.pool), ...inboundNat.map((nat) => nat.pool), ...(outbound?.pools ?? [])];
}

/** Rows that the spec needs in a MUX's tables. */
export function ruleRows(spec: VipSpec): number {
  const nat = spec.inboundNat.reduce((sum, { ports }) => sum + portsIn(ports).count, 0);
  return spec.rules.reduce((sum, rule) => sum + protocolsOf(rule.protocol).length, nat);
}

/** Where members drain, those that leave are there beside those that come. */
export function membersToHold({ spec, active }: Pick<PoolObject, "spec" | "active">): number {
  if (active === null || active === spec) return spec.members.length;
  if (spec.drainTimeoutSeconds === 0) return Math.max(spec.members.length, active.members.length);
  return new Set([...spec.members, ...active.members].map(({ dip }) => dip)).size;
}

const rulesToHold = (vip: VipObject): number =>
  Math.max(vip.deleting ? 0 : ruleRows(vip.spec), vip.active === null ? 0 : ruleRows(vip.active));
