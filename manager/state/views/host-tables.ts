/**
 * The rows about a pool's Maglev tables in the views of hosts: its rules, its sets of members, where their owners are. All
 * hosts that run an owner see the same rows, one or more per member, so they are kept once per pool, compared once and hashed once.
 *
 * Invariants
 *  (H1) A change of a pool costs its rows once, and a step per host that sees them; only a host that enters is told
 *       all rows, and one that leaves all keys.
 *  (H2) What is told of one pool begins with what hosts held when changes were last taken: several changes in between
 *       are told as one.
 */
import type { HostId, PoolId } from "../../../core/brands.js";
import { type Digest, EMPTY_DIGEST, xorDigests } from "../../../dataplane/digest.js";
import { type HostChange, type HostItem, hostItemKey } from "../../../dataplane/host-items.js";
import { View } from "./view.js";

interface PoolRows {
  readonly view: View<HostItem>;
  readonly hosts: ReadonlySet<HostId>;
}

export class HostTables {
  private readonly pools = new Map<PoolId, PoolRows>();
  private readonly poolsByHost = new Map<HostId, Set<PoolId>>();
  /** Not yet taken. The lists are shared between hosts. */
  private readonly told = new Map<HostId, (readonly HostChange[])[]>();

  /** Makes the pool's rows exactly `items`, seen by exactly `hosts`. Gives the hosts whose views that changes. */
  replace(pool: PoolId, items: readonly HostItem[], hosts: ReadonlySet<HostId>): Iterable<HostId> {
    const before = this.pools.get(pool);
    const view = before?.view ?? new View<HostItem>(hostItemKey, false);
    const left = [...(before?.hosts ?? [])].filter((host) => !hosts.has(host));
    const entered = [...hosts].filter((host) => before?.hosts.has(host) !== true);
    const removals = left.length === 0 ? [] : [...view.walk([])].map(removalOf);
    view.replaceGroup("tables", hosts.size === 0 ? [] : items);
    const changes = view.takeChanges();
    const upserts = entered.length === 0 ? [] : [...view.walk([])].map(upsertOf);
    for (const host of left) {
      this.poolsOf(host).delete(pool);
      this.tell(host, removals);
    }
    if (hosts.size === 0) {
      this.pools.delete(pool);
      return left;
    }
    this.pools.set(pool, { view, hosts });
    if (changes.length > 0) for (const host of hosts) if (before?.hosts.has(host) === true) this.tell(host, changes);
    for (const host of entered) {
      this.poolsOf(host).add(pool);
      this.tell(host, upserts);
    }
    return changes.length > 0 ? [...hosts, ...left] : [...entered, ...left];
  }

  /** What the host is to be told since the last call, in lists that others may hold too. */
  takeChanges(host: HostId): readonly (readonly HostChange[])[] {
    const told = this.told.get(host) ?? [];
    this.told.delete(host);
    return told;
  }

  *walk(host: HostId): Iterable<HostItem> {
    for (const pool of this.poolsByHost.get(host) ?? []) yield* this.rows(pool).walk([]);
  }

  /** Of the rows that the host sees. */
  digest(host: HostId): Digest {
    let sum = EMPTY_DIGEST;
    for (const pool of this.poolsByHost.get(host) ?? [])
      sum = xorDigests(
        sum,
        this.rows(pool).digest(() => []),
      );
    return sum;
  }

  private rows(pool: PoolId): View<HostItem> {
    return this.pools.get(pool)!.view; // a host lists pools that are here
  }

  private poolsOf(host: HostId): Set<PoolId> {
    const pools = this.poolsByHost.get(host) ?? new Set();
    this.poolsByHost.set(host, pools);
    return pools;
  }

  private tell(host: HostId, changes: readonly HostChange[]): void {
    const told = this.told.get(host);
    if (told === undefined) this.told.set(host, [changes]);
    else told.push(changes);
  }
}

const upsertOf = (item: HostItem): HostChange => ({ op: "upsert", item });
const removalOf = (item: HostItem): HostChange => ({ op: "remove", key: hostItemKey(item) });
