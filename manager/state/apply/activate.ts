/**
 * The second entry of a change: MUXes use from now on what agents were told of before. Order within one entry:
 *
 *   1. tenants, security groups and pools take their spec; members that get no new flows any more begin to drain;
 *   2. VIPs take theirs, but one that names a pool never activated waits for it;
 *   3. VIPs being deleted go, then pools being deleted, but one that an active VIP still names waits for that VIP; groups
 *      and tenants that nobody names any more go last.
 *
 * Whoever waits stays pending, so activating up to the newest prepared entry always leaves nothing behind.
 */
import type { LogIndex } from "../../../core/brands.js";
import type { ActivateCommand } from "../commands/commands.js";
import { removeObject, storeObject } from "../configuration.js";
import { settleDrains } from "./drains.js";
import type { CommandResult } from "../commands/results.js";
import type { State } from "../state.js";
import { type PoolObject, type VipObject, isGroup, isPool, isTenant, isVip } from "../vip-map.js";
import { type ApplyContext, nothing } from "./outcome.js";

export function activate(context: ApplyContext, command: ActivateCommand): CommandResult {
  const { state, index } = context;
  const prepared = state.objects.pendingObjects().filter((object) => object.updatedIndex <= command.upToIndex);
  const pools = prepared.filter(isPool).sort((a, b) => a.poolId - b.poolId);
  const vips = prepared.filter(isVip).sort((a, b) => a.vipId - b.vipId);
  for (const object of prepared) {
    if (object.deleting) continue;
    if (isTenant(object)) storeObject(state, { ...object, active: object.spec, activeIndex: index });
    else if (isGroup(object)) storeObject(state, { ...object, active: object.spec, activeIndex: index });
  }
  for (const pool of pools) if (!pool.deleting) activatePool(state, pool, index);
  for (const vip of vips) if (!vip.deleting && poolsAreActive(state, vip)) activateVip(state, vip, index);
  for (const vip of vips) if (vip.deleting) removeObject(state, vip);
  for (const pool of pools)
    if (pool.deleting && state.objects.usersOf(pool.poolId).length === 0) removeObject(state, pool);
  for (const group of prepared.filter(isGroup)) if (group.deleting) removeObject(state, group);
  for (const tenant of prepared.filter(isTenant)) if (tenant.deleting) removeObject(state, tenant);
  return nothing(context);
}

function activatePool(state: State, pool: PoolObject, index: LogIndex): void {
  settleDrains(state, pool, index);
  storeObject(state, { ...pool, active: pool.spec, activeIndex: index });
}

function activateVip(state: State, vip: VipObject, index: LogIndex): void {
  storeObject(state, { ...vip, active: vip.spec, activeIndex: index });
}

/** Pools of both versions count; those of the active one are active already. */
const poolsAreActive = (state: State, vip: VipObject): boolean =>
  state.objects.poolsNamedBy(vip).every((pool) => pool.active !== null);
