/**
 * The objects that operators write, and who refers to whom. Every object has two versions: `spec`, which Host Agents know
 * as soon as it is committed, and `active`, which MUXes use; `activate` makes them equal (DESIGN §2).
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
  type StoredPool,
  type StoredVip,
  type VipSpec,
  objectKey,
} from "./objects.js";
import { byText } from "./order.js";
import { FIRST_RANGE, type SnatProtocol, rangeOfPort } from "./port-ranges.js";

export type PoolObject = StoredPool & { readonly deleting: boolean };
export type VipObject = StoredVip & { readonly deleting: boolean };

export const isPool = (object: AnyStoredObject): object is PoolObject => object.ref.kind === "BackendPool";
export const isVip = (object: AnyStoredObject): object is VipObject => object.ref.kind === "Vip";

/** True between the two entries of a change. By value, not by index: one entry may activate a change and prepare the next. */
export const isPending = (object: AnyStoredObject): boolean => object.deleting || !isEqual(object.spec, object.active);

export const protocolNumber = (protocol: "tcp" | "udp"): SnatProtocol => (protocol === "tcp" ? 6 : 17);

export class VipMap {
  nextPoolId = 1;
  nextVipId = 1;
  private readonly byKey = new Map<string, AnyStoredObject>();
  // In order of id, because ids only grow and a changed object keeps its place.
  private readonly pools = new Map<PoolId, PoolObject>();
  private readonly vips = new Map<VipId, VipObject>();
  private readonly byAddress = new Map<IpAddress, VipObject>();
  /** VIPs that name the pool, in rules or outbound, spec or active. */
  private readonly users = new Map<PoolId, Set<VipId>>();
  private readonly pending = new Set<string>();
  private rules = 0;

  get(ref: ObjectRef): AnyStoredObject | null {
    return this.byKey.get(objectKey(ref)) ?? null;
  }

  pool(tenant: string, name: string): PoolObject | null {
    const object = this.byKey.get(objectKey({ kind: "BackendPool", tenant, name }));
    return object !== undefined && isPool(object) ? object : null;
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

  allPools(): Iterable<PoolObject> {
    return this.pools.values();
  }

  allVips(): Iterable<VipObject> {
    return this.vips.values();
  }

  /** In order of (tenant, name). */
  list(kind: ObjectKind, tenant: string | null): readonly AnyStoredObject[] {
    const all: AnyStoredObject[] = kind === "Vip" ? [...this.vips.values()] : [...this.pools.values()];
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

  /** Inserts the object or replaces the version that is stored. */
  put(object: AnyStoredObject): void {
    const key = objectKey(object.ref);
    const before = this.byKey.get(key);
    this.byKey.set(key, object);
    if (isPending(object)) this.pending.add(key);
    else this.pending.delete(key);
    if (isPool(object)) {
      this.pools.set(object.poolId, object);
      return;
    }
    assert(isVip(object), "an object is a pool or a VIP");
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
    if (isPool(object)) {
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

  /** Ranges that hold a port of one of the VIP's rules, in either version. */
  ruleRanges(address: IpAddress, protocol: SnatProtocol): ReadonlySet<number> {
    const ranges = new Set<number>();
    const vip = this.byAddress.get(address);
    if (vip === undefined) return ranges;
    for (const spec of versionsOf(vip)) {
      for (const rule of spec.rules) {
        const range = rangeOfPort(rule.port);
        if (protocolNumber(rule.protocol) === protocol && range >= FIRST_RANGE) ranges.add(range);
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
  return [...spec.rules.map((rule) => rule.pool), ...(spec.outbound?.pools ?? [])];
}

const rulesToHold = (vip: VipObject): number =>
  Math.max(vip.deleting ? 0 : vip.spec.rules.length, vip.active?.rules.length ?? 0);
