/** Drain of pool members, with the pool's `drainTimeoutSeconds`: see `drain-table`. */
import type { DipId, LogIndex, PoolId } from "../../../core/brands.js";
import type { Drain } from "../drain-table.js";
import type { BackendPoolSpec, PoolMember } from "../objects.js";
import type { State } from "../state.js";
import type { PoolObject } from "../vip-map.js";

/**
 * The pool takes its spec in this entry: who gets no new flows from now on drains, who gets some again does not. Where no timeout is
 * set, flows end by themselves; a timeout that is changed counts from when the drain began. What is over stays over.
 */
export function settleDrains(state: State, { poolId, ref, spec, active }: PoolObject, index: LogIndex): void {
  const { drains, dips, time } = state;
  const timeoutMs = spec.drainTimeoutSeconds * 1_000;
  const idOf = (dip: string): DipId => dips.mention(ref.tenant, dip as never).dipId;
  const wanted = new Map<DipId, Drain["leftPort"]>();
  for (const { dipId, leftPort } of drains.ofPool(poolId)) if (leftPort !== null) wanted.set(dipId, leftPort);
  for (const { dip, port } of active?.members ?? []) wanted.set(idOf(dip), port);
  for (const { dip, weight } of spec.members) {
    if (weight === 0) wanted.set(idOf(dip), null);
    else wanted.delete(idOf(dip));
  }
  for (const { dipId } of drains.ofPool(poolId)) if (!wanted.has(dipId)) forget(state, poolId, dipId);
  for (const [dipId, leftPort] of wanted) {
    const before = drains.get(poolId, dipId);
    if (before?.isOver === true) {
      // It came back with weight 0, or left when its drain was over already.
      if (before.leftPort !== leftPort) drains.put({ ...before, endsMs: time.nowMs, leftPort });
    } else if (timeoutMs === 0) forget(state, poolId, dipId);
    else {
      const sinceMs = before?.sinceMs ?? time.nowMs;
      const drain = { poolId, dipId, sinceMs, endsMs: sinceMs + timeoutMs, isOver: false, leftPort };
      drains.put(drain.endsMs > time.nowMs ? drain : ended(drain, time.nowMs));
    }
    state.projection.memberChanged(dipId);
  }
  for (const member of active?.members ?? []) {
    const drain = drains.get(poolId, idOf(member.dip));
    if (drain !== null && drain.leftPort !== null) keepVerdict(state, drain, member, index);
  }
}

/** Who leaves while it is down stays down while it drains: nobody probes it any more, and its spec, which may overrule the probe, is gone. */
function keepVerdict(
  { health, time }: State,
  { poolId, dipId }: Drain,
  { adminState }: PoolMember,
  index: LogIndex,
): void {
  if (adminState === "up") health.remove(poolId, dipId);
  if (adminState === "down" && !health.isDown(poolId, dipId))
    health.put({ poolId, dipId, reason: "adminState is down", sinceMs: time.nowMs, index });
}

/** What was said of it goes with its drain, unless it is a member (again). */
function forget(state: State, poolId: PoolId, dipId: DipId): void {
  state.drains.remove(poolId, dipId);
  if (!state.dips.must(dipId).pools.has(poolId)) state.health.remove(poolId, dipId);
}

/** The pool is gone. */
export function forgetDrains(state: State, poolId: PoolId): void {
  for (const { dipId } of state.drains.ofPool(poolId)) {
    forget(state, poolId, dipId);
    state.projection.memberChanged(dipId);
  }
}

/** Ends the drains whose time has come, and forgets those that were shown long enough. */
export function endDrains(state: State, nowMs: number): void {
  for (const drain of state.drains.due(nowMs)) {
    const { poolId, dipId, isOver } = drain;
    if (isOver) forget(state, poolId, dipId);
    else state.drains.put(ended(drain, nowMs));
    state.projection.poolChanged(poolId);
    state.projection.memberChanged(dipId);
  }
}

/** Time may come in large steps: it is shown as ended from now on. */
const ended = (drain: Drain, nowMs: number): Drain => ({ ...drain, endsMs: nowMs, isOver: true });

/** Members that would drain beside those of the spec, if it took effect now. */
export function leavingCount(state: State, pool: PoolObject, spec: BackendPoolSpec): number {
  const stays = new Set<string>(spec.members.map(({ dip }) => dip));
  const address = ({ dipId }: Drain): string => state.dips.must(dipId).address;
  const leaving = new Set(state.drains.leftOf(pool.poolId).map(address));
  if (spec.drainTimeoutSeconds > 0) for (const { dip } of pool.active?.members ?? []) leaving.add(dip);
  return [...leaving].filter((dip) => !stays.has(dip)).length;
}
