/**
 * The one way in which stored objects change, so that everything that follows from them keeps up: who names which DIP,
 * which ranges rules hold, which DIPs may get SNAT ports, and whose views are to be recomputed.
 */
import type { DipId, HostId } from "../../core/brands.js";
import { forgetDrains } from "./apply/drains.js";
import type { AnyStoredObject } from "./objects.js";
import { isEqual } from "./equal.js";
import { assignNatPorts } from "./nat-ports.js";
import { byNumber } from "./order.js";
import type { State } from "./state.js";
import { type PoolObject, type VipObject, isGroup, isPool, isTenant, isVip, versionsOf } from "./vip-map.js";

/** Inserts or replaces an object. Pools are stored before the VIPs that name them. */
export function storeObject(state: State, object: AnyStoredObject): void {
  const before = state.objects.get(object.ref);
  /** Not activated alone, which changes nothing about who may get ports: a walk over all members of all pools of a VIP. */
  const isSpecNew = before?.spec !== object.spec || before.deleting !== object.deleting;
  if (isPool(object)) {
    const left = before !== null && isPool(before) ? memberIds(state, before) : new Set<DipId>();
    state.objects.put(object);
    const now = memberIds(state, object);
    for (const id of left) {
      if (now.has(id)) continue;
      state.dips.must(id).pools.delete(object.poolId);
      if (state.drains.get(object.poolId, id) === null) state.health.remove(object.poolId, id);
    }
    if (versionsOf(object).every(({ probe }) => probe === null))
      for (const id of now) state.health.remove(object.poolId, id);
    for (const id of now) state.dips.must(id).pools.add(object.poolId);
    poolChanged(state, object, [...left, ...now]);
    for (const vip of state.objects.usersOf(object.poolId)) {
      const natPorts = assignNatPorts(state.objects, vip);
      if (vip.spec.inboundNat.length + (vip.active?.inboundNat.length ?? 0) > 0) state.projection.vipChanged(vip.vipId);
      if (!isEqual(natPorts, vip.natPorts)) state.objects.put({ ...vip, natPorts });
      if (isSpecNew && vip.spec.outbound?.pools.includes(object.ref.name) === true)
        state.snat.lendingChanged(vip.spec.address);
    }
  } else if (isVip(object)) {
    if (before !== null && isVip(before)) vipChanged(state, before);
    state.objects.put({ ...object, natPorts: assignNatPorts(state.objects, object) });
    state.snat.rulesChanged(object.spec.address, state.time.nowMs);
    if (isSpecNew) state.snat.lendingChanged(object.spec.address);
    if (object.deleting || object.spec.outbound === null) state.snat.dropClaims(object.spec.address, state.time.nowMs);
    vipChanged(state, object);
  } else {
    state.objects.put(object);
    ruleOfTenantChanged(state, object);
  }
}

/** A tenant or a security group: whoever it holds for looks again. */
function ruleOfTenantChanged(state: State, object: AnyStoredObject): void {
  if (isTenant(object)) {
    state.snat.tenants.weightsChanged();
    for (const vip of state.objects.allVips())
      if (vip.ref.tenant === object.ref.name) state.projection.vipChanged(vip.vipId);
  } else if (!isGroup(object)) return;
  for (const dip of state.dips.all())
    if (dip.tenant === object.ref.tenant && dip.hostId !== null) state.projection.hostChanged(dip.hostId);
}

/** Forgets an object. VIPs go before the pools that they name. */
export function removeObject(state: State, object: AnyStoredObject): void {
  if (isPool(object)) {
    const members = memberIds(state, object);
    for (const id of members) {
      state.dips.must(id).pools.delete(object.poolId);
      state.health.remove(object.poolId, id);
    }
    forgetDrains(state, object.poolId);
    poolChanged(state, object, [...members]);
  } else if (isVip(object)) {
    vipChanged(state, object);
  }
  if (isVip(object)) {
    state.withdrawals.remove(object.vipId);
    state.backoffs.remove(object.vipId);
  }
  state.objects.remove(object);
  ruleOfTenantChanged(state, object);
  if (isVip(object)) {
    state.snat.rulesChanged(object.spec.address, state.time.nowMs);
    state.snat.lendingChanged(object.spec.address);
    state.snat.dropClaims(object.spec.address, state.time.nowMs);
    state.snat.closeIfEmpty(object.spec.address);
  }
}

/** Members of either version; DIPs are made here at first mention. */
function memberIds(state: State, pool: PoolObject): Set<DipId> {
  const ids = new Set<DipId>();
  for (const spec of versionsOf(pool)) {
    for (const { dipId } of state.dips.mentionAll(pool.ref.tenant, spec.members)) ids.add(dipId);
  }
  return ids;
}

function poolChanged(state: State, pool: PoolObject, members: readonly DipId[]): void {
  state.outbound.objectsChanged();
  state.projection.poolChanged(pool.poolId);
  for (const id of members) state.projection.memberChanged(id);
  for (const { dipId } of state.drains.leftOf(pool.poolId)) state.projection.memberChanged(dipId);
}

function vipChanged(state: State, vip: VipObject): void {
  if (versionsOf(vip).some(({ outbound }) => outbound !== null)) state.outbound.objectsChanged();
  else state.outbound.plainVipChanged(vip.vipId);
  state.projection.vipChanged(vip.vipId);
  for (const pool of state.objects.poolsNamedBy(vip)) {
    state.projection.poolChanged(pool.poolId); // hosts know their rules
    for (const id of memberIds(state, pool)) state.projection.memberChanged(id);
    for (const { dipId } of state.drains.leftOf(pool.poolId)) state.projection.memberChanged(dipId);
  }
}

/** Hosts that run members of the object, or of the pools that it names, in either version; in order of id. */
export function hostsOf(state: State, object: AnyStoredObject): readonly HostId[] {
  const hosts = new Set<HostId>();
  const pools = isPool(object) ? [object] : isVip(object) ? state.objects.poolsNamedBy(object) : [];
  for (const pool of pools) {
    for (const id of memberIds(state, pool)) {
      const { hostId } = state.dips.must(id);
      if (hostId !== null) hosts.add(hostId);
    }
  }
  return [...hosts].sort(byNumber);
}
