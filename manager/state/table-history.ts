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

/** For reading alone. */
export type TableReadings = Pick<TableHistory, "tablesOf" | "poolsOf" | "owners">;

export class TableHistory {
  private readonly pools = new Map<PoolId, PoolTables>();
  /** In how many of the pool's sets each of its owners is. */
  private readonly ownersByPool = new Map<PoolId, Map<DipId, number>>();
  private readonly poolsByDip = new Map<DipId, Set<PoolId>>();

  /** Newest first. */
  tablesOf(pool: PoolId): readonly NotedTable[] {
    return this.pools.get(pool)?.tables ?? [];
  }

  /** Pools of which the DIP owns slots, or did. */
  poolsOf(dip: DipId): Iterable<PoolId> {
    return this.poolsByDip.get(dip) ?? [];
  }

  /** DIPs in any of the pool's sets. */
  owners(pool: PoolId): Iterable<DipId> {
    return this.ownersByPool.get(pool)?.keys() ?? [];
  }

  /** In order of pool. */
  all(): readonly PoolTables[] {
    return [...this.pools.values()].sort((a, b) => a.poolId - b.poolId);
  }

  /** Brings the sets to the front, in their order (T1, T2). */
  note(poolId: PoolId, sets: readonly MemberSet[]): void {
    const wanted = sets.filter((set, at) => set.length > 0 && !sets.slice(0, at).some((other) => isSame(other, set)));
    const before = this.tablesOf(poolId);
    if (wanted.every((set, at) => before[at] !== undefined && isSame(set, before[at].members))) return;
    let nextRevision = this.pools.get(poolId)?.nextRevision ?? 1;
    let newest = before[0]?.members ?? [];
    const front = [...wanted].reverse().map((set): NotedTable => {
      newest = before.find(({ members }) => isSame(set, members))?.members ?? sharing(set, newest);
      return { revision: nextRevision++, members: newest };
    });
    const rest = before.filter(({ members }) => !wanted.some((set) => isSame(set, members)));
    this.replace({ poolId, nextRevision, tables: [...front.reverse(), ...rest].slice(0, TABLES_MAX) });
  }

  /** The pool's sets, in place of those that were there. */
  put(pool: PoolTables): void {
    let older: MemberSet = [];
    const tables = [...pool.tables].reverse().map(({ revision, members }): NotedTable => {
      older = sharing(members, older);
      return { revision, members: older };
    });
    this.replace({ ...pool, tables: tables.reverse() });
  }

  remove(poolId: PoolId): void {
    this.replace({ poolId, nextRevision: 1, tables: [] });
    this.pools.delete(poolId);
    this.ownersByPool.delete(poolId);
  }

  /** Who owns what follows from the sets that come and go: those that stay cost nothing. */
  private replace(pool: PoolTables): void {
    const { poolId } = pool;
    const left = new Set(this.tablesOf(poolId).map(({ members }) => members));
    const owners = this.ownersByPool.get(poolId) ?? new Map<DipId, number>();
    this.ownersByPool.set(poolId, owners);
    this.pools.set(poolId, pool);
    for (const { members } of pool.tables) if (!left.delete(members)) this.count(poolId, owners, members);
    for (const members of left) this.discount(poolId, owners, members);
  }

  private count(poolId: PoolId, owners: Map<DipId, number>, set: MemberSet): void {
    for (const { dipId } of set) {
      const sets = owners.get(dipId) ?? 0;
      owners.set(dipId, sets + 1);
      if (sets > 0) continue;
      const pools = this.poolsByDip.get(dipId);
      if (pools === undefined) this.poolsByDip.set(dipId, new Set([poolId]));
      else pools.add(poolId);
    }
  }

  private discount(poolId: PoolId, owners: Map<DipId, number>, set: MemberSet): void {
    for (const { dipId } of set) {
      const sets = owners.get(dipId) ?? 0;
      if (sets > 1) {
        owners.set(dipId, sets - 1);
        continue;
      }
      owners.delete(dipId);
      const pools = this.poolsByDip.get(dipId);
      pools?.delete(poolId);
      if (pools?.size === 0) this.poolsByDip.delete(dipId);
    }
  }
}

const isSameMember = (a: TableMember, b: TableMember | undefined): boolean =>
  a === b || (a.dipId === b?.dipId && a.weight === b.weight);

const isSame = (a: MemberSet, b: MemberSet): boolean =>
  a.length === b.length && a.every((member, at) => isSameMember(member, b[at]));

/** The set, made of the other's members where they say the same: a pool's sets mostly differ in one member. */
function sharing(set: MemberSet, other: MemberSet): MemberSet {
  let at = 0;
  return set.map((member) => {
    while (at < other.length && other[at]!.dipId < member.dipId) at++; // both are in order of dipId
    const same = other[at];
    return isSameMember(member, same) && same !== undefined ? same : member;
  });
}
