/** What hosts see of a pool's Maglev tables, present and former: pure functions from stored objects to rows of host views. */
import type { DipId } from "../../../core/brands.js";
import type { HostItem, HostRuleItem } from "../../../dataplane/host-items.js";
import { servingMembers } from "../../../dataplane/serving-members.js";
import { DISTRIBUTIONS, type ItemSources, poolItem } from "./item-sources.js";
import type { MemberSet, TableReadings } from "../table-history.js";
import { byNumber } from "../order.js";
import type { BackendPoolSpec } from "../objects.js";
import { type PoolObject, type VipObject } from "../vip-map.js";

/** What MUXes will use after the next activation, and what they use now: agents are to know both before MUXes do. */
export function servingSets(sources: ItemSources, pool: PoolObject): readonly MemberSet[] {
  const setOf = (spec: BackendPoolSpec): MemberSet =>
    servingMembers(poolItem(sources, pool, spec)).map(({ dipId, weight }) => ({ dipId, weight }));
  const next = pool.deleting || pool.spec === pool.active ? [] : [setOf(pool.spec)];
  return pool.active === null ? next : [...next, setOf(pool.active)];
}

/** The same for each host that runs an owner. Empty while no rule for TCP leads to the pool: nothing is passed on then. */
export function tableItems(
  sources: ItemSources & { readonly tables: TableReadings },
  pool: PoolObject,
): readonly HostItem[] {
  const { objects, dips, tables } = sources;
  const { poolId } = pool;
  const rules = objects.usersOf(poolId).flatMap((vip) => ruleItems(vip, pool));
  if (rules.length === 0) return [];
  const items: HostItem[] = [...rules];
  for (const { revision, members } of tables.tablesOf(poolId))
    items.push({ kind: "table", poolId, revision, maxMembers: pool.spec.maxMembers, members });
  for (const dipId of inOrder(tables.owners(poolId))) {
    const { locator } = dips.must(dipId);
    if (locator !== null) items.push({ kind: "owner", poolId, dipId, locator });
  }
  return items;
}

/** The VIP's rules for TCP that lead to the pool. Where versions of the VIP differ, the one that MUXes use counts. */
function ruleItems({ vipId, active, spec, deleting }: VipObject, { poolId, ref }: PoolObject): readonly HostItem[] {
  const ports = new Map<number, HostItem | null>();
  for (const version of [active, deleting ? null : spec]) {
    for (const { port, protocol, pool, distribution } of version?.rules ?? []) {
      if (protocol === "udp" || ports.has(port)) continue;
      const item: HostRuleItem = {
        kind: "rule",
        poolId,
        vipId,
        vip: spec.address,
        port,
        ...(distribution === "fiveTuple" ? {} : { distribution: DISTRIBUTIONS[distribution] }),
      };
      ports.set(port, pool === ref.name ? item : null);
    }
  }
  return [...ports.values()].filter((item) => item !== null);
}

const inOrder = (dips: Iterable<DipId>): readonly DipId[] => [...dips].sort(byNumber);
