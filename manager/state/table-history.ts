/**
 * Which members took a pool's new flows, and when: the sets that its Maglev tables followed from, newest first. With them a host
 * that gets a segment without state knows who owned the flow's slot before (second chance). They are replicated, because
 * a host that has just come to a pool must know what was before it.
 *
 * Invariants
 *  (T1) The first sets are those that MUXes use or will use after the next activation: noting them again changes nothing.
 *  (T2) A set is listed once: one that comes back, say with a member that flaps, moves to the front. The order in which a slot's
 *       owners owned it last stays the same.
 */
import type { DipId, PoolId } from "../../core/brands.js";
import type { TableMember } from "../../dataplane/host-items.js";
import { isEqual } from "./equal.js";

/**
 * Sets that a pool remembers. A flow whose owner is in none of them ends if it also loses its MUX. Twice as many: twice the
 * memory at the hosts, 2 bytes per slot and set.
 */
export const TABLES_MAX = 32;

/** In order of dipId, every weight above 0, never empty. */
export type MemberSet = readonly TableMember[];

export interface NotedTable {
  readonly revision: number;
  readonly members: MemberSet;
}

export interface PoolTables {
  readonly poolId: PoolId;
  readonly nextRevision: number;
  /** Newest first. */
  readonly tables: readonly NotedTable[];
}

export class TableHistory {
  private readonly pools = new Map<PoolId, PoolTables>();
  private readonly poolsByDip = new Map<DipId, Set<PoolId>>();

  /** Newest first. */
  tablesOf(pool: PoolId): readonly NotedTable[] {
    return this.pools.get(pool)?.tables ?? [];
  }

  /** Pools of which the DIP owns slots, or did. */
  poolsOf(dip: DipId): Iterable<PoolId> {
    return this.poolsByDip.get(dip) ?? [];
  }

  /** Brings the sets to the front, in their order (T1, T2). */
  note(poolId: PoolId, sets: readonly MemberSet[]): void {
    const wanted = sets.filter((set, at) => set.length > 0 && !sets.slice(0, at).some((other) => isEqual(other, set)));
    const before = this.tablesOf(poolId);
    if (wanted.every((set, at) => isEqual(set, before[at]?.members))) return;
    let nextRevision = this.pools.get(poolId)?.nextRevision ?? 1;
    const front = [...wanted].reverse().map((members) => ({ revision: nextRevision++, members }));
    const rest = before.filter(({ members }) => !wanted.some((set) => isEqual(set, members)));
    this.put({ poolId, nextRevision, tables: [...front.reverse(), ...rest].slice(0, TABLES_MAX) });
  }

  /** The pool's sets, in place of those that were there. */
  put(pool: PoolTables): void {
    const { poolId } = pool;
    const left = this.owners(poolId);
    this.pools.set(poolId, pool);
    for (const dip of this.owners(poolId)) {
      left.delete(dip);
      const pools = this.poolsByDip.get(dip);
      if (pools === undefined) this.poolsByDip.set(dip, new Set([poolId]));
      else pools.add(poolId);
    }
    this.forget(left, poolId);
  }

  remove(poolId: PoolId): void {
    const left = this.owners(poolId);
    this.pools.delete(poolId);
    this.forget(left, poolId);
  }

  /** In order of pool. */
  all(): readonly PoolTables[] {
    return [...this.pools.values()].sort((a, b) => a.poolId - b.poolId);
  }

  /** DIPs in any of the pool's sets. */
  owners(poolId: PoolId): Set<DipId> {
    return new Set(this.tablesOf(poolId).flatMap(({ members }) => members.map(({ dipId }) => dipId)));
  }

  private forget(dips: Iterable<DipId>, poolId: PoolId): void {
    for (const dip of dips) {
      const pools = this.poolsByDip.get(dip);
      pools?.delete(poolId);
      if (pools?.size === 0) this.poolsByDip.delete(dip);
    }
  }
}
