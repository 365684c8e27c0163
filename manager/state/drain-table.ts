/**
 * Members that take no new flows any more and whose flows end at a time: the drain of a pool with `drainTimeoutSeconds`. A member
 * drains from the entry in which MUXes stopped choosing it: its weight has become 0, or it has left the pool.
 *
 *     no new flows --timeout--> over: MUXes and its host end the flows that are left
 *
 * One that has left is shown to MUXes and hosts as ended for a while, so that those that were away hear of it; then it is forgotten.
 */
import type { DipId, PoolId, Port } from "../../core/brands.js";
import { byNumber } from "./order.js";

/** A MUX or host that was away for longer has lost its flows, or they have been idle for as long. */
export const DRAIN_SHOWN_MS = 600_000;

export interface Drain {
  readonly poolId: PoolId;
  readonly dipId: DipId;
  /** Cluster time at which MUXes began to leave it out. */
  readonly sinceMs: number;
  /** Cluster time at which its flows end, or ended. */
  readonly endsMs: number;
  readonly isOver: boolean;
  /** Null: it is a member still, of weight 0. Else the port that it served on, 0 for the rule's. */
  readonly leftPort: Port | null;
}

export class DrainTable {
  private readonly byPool = new Map<PoolId, Map<DipId, Drain>>();
  /** Pools that the DIP has left, and drains of. */
  private readonly leftBy = new Map<DipId, Set<PoolId>>();
  private left = 0;
  /** Undefined: to be found out; null: nothing is due. */
  private nextMs: number | null | undefined = null;

  get(pool: PoolId, dip: DipId): Drain | null {
    return this.byPool.get(pool)?.get(dip) ?? null;
  }

  /** In order of DIP. */
  ofPool(pool: PoolId): readonly Drain[] {
    return [...(this.byPool.get(pool)?.values() ?? [])].sort((a, b) => a.dipId - b.dipId);
  }

  /** Of members that have left the pool. In order of DIP. */
  leftOf(pool: PoolId): readonly Drain[] {
    return this.byPool.has(pool) ? this.ofPool(pool).filter(({ leftPort }) => leftPort !== null) : [];
  }

  /** Pools that the DIP has left and drains of. */
  poolsLeftBy(dip: DipId): Iterable<PoolId> {
    return this.leftBy.get(dip) ?? [];
  }

  /** How many have left their pools and drain: MUXes hold them beside the members. */
  get leftCount(): number {
    return this.left;
  }

  put(drain: Drain): void {
    const { poolId, dipId } = drain;
    this.remove(poolId, dipId);
    const pool = this.byPool.get(poolId) ?? new Map<DipId, Drain>();
    this.byPool.set(poolId, pool);
    pool.set(dipId, drain);
    if (drain.leftPort !== null) {
      this.left += 1;
      this.leftBy.set(dipId, (this.leftBy.get(dipId) ?? new Set()).add(poolId));
    }
    this.nextMs = undefined;
  }

  remove(poolId: PoolId, dipId: DipId): boolean {
    const pool = this.byPool.get(poolId);
    const drain = pool?.get(dipId);
    if (pool === undefined || drain === undefined) return false;
    pool.delete(dipId);
    if (pool.size === 0) this.byPool.delete(poolId);
    if (drain.leftPort !== null) {
      this.left -= 1;
      const pools = this.leftBy.get(dipId);
      pools?.delete(poolId);
      if (pools?.size === 0) this.leftBy.delete(dipId);
    }
    this.nextMs = undefined;
    return true;
  }

  /** Those whose time has come, to end or to be forgotten; in order of pool and DIP. */
  due(nowMs: number): readonly Drain[] {
    const next = this.nextDueMs();
    return next === null || next > nowMs ? [] : this.all().filter((drain) => dueMs(drain) <= nowMs);
  }

  nextDueMs(): number | null {
    if (this.nextMs === undefined) {
      let next = Infinity;
      for (const pool of this.byPool.values()) for (const drain of pool.values()) next = Math.min(next, dueMs(drain));
      this.nextMs = next === Infinity ? null : next;
    }
    return this.nextMs;
  }

  /** In order of pool and DIP. */
  all(): readonly Drain[] {
    return [...this.byPool.keys()].sort(byNumber).flatMap((pool) => this.ofPool(pool));
  }
}

/** Of one that is over and a member still, nothing is due. */
const dueMs = ({ isOver, leftPort, endsMs }: Drain): number =>
  !isOver ? endsMs : leftPort === null ? Infinity : endsMs + DRAIN_SHOWN_MS;
