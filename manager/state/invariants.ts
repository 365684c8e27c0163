/**
 * What must hold after every entry, checked over the whole state: for tests and the simulator. Each check recomputes
 * from the stored facts what the state keeps incrementally. Costs a walk over everything; throws `InvariantError`.
 */
import { InvariantError, assert } from "../../core/assert.js";
import type { DipId, IpAddress, PoolId, VipId } from "../../core/brands.js";
import { hostItemKey } from "../../dataplane/host-items.js";
import { muxItemKey } from "../../dataplane/mux-items.js";
import { isEqual } from "./equal.js";
import { assignNatPorts } from "./nat-ports.js";
import { objectKey } from "./objects.js";
import { byNumber } from "./order.js";
import { forgottenAtMs } from "./overload-backoff.js";
import { END_RANGE, FIRST_RANGE, PORTS_PER_RANGE, RANGES_PER_SPACE, SNAT_PROTOCOLS } from "./snat/port-ranges.js";
import type { PortSpace } from "./snat/port-space.js";
import { RANGE_EXCLUDED, RANGE_FREE, RANGE_OWNED, RANGE_QUARANTINED } from "./snat/range-records.js";
import { Projection } from "./views/projection.js";
import { SESSION_WINDOW } from "./sessions.js";
import type { State } from "./state.js";
import { TenantRanges } from "./snat/tenant-ranges.js";
import { DRAIN_SHOWN_MS } from "./drain-table.js";
import { TABLES_MAX } from "./table-history.js";
import { servingSets } from "./views/table-items.js";
import { membersToHold, type VipObject, isPending, poolNames, ruleRows, versionsOf } from "./vip-map.js";

/** `assert` whose message is made only when it is needed: most of these run once per port range. */
function holds(condition: boolean, message: () => string): void {
  if (!condition) throw new InvariantError(message());
}

export function assertInvariants(state: State): void {
  assertPortRanges(state);
  assertTenantRanges(state);
  assertQuarantines(state);
  assertObjects(state);
  assertDipsAndHosts(state);
  assertMuxes(state);
  assertSessions(state);
  assertWithdrawals(state);
  assertTables(state);
  assertDrains(state);
  assertProjection(state);
}

/** One owner per range, no rule's port in an owned range, and all counts agree with the ranges (I1, I3, I4). */
export function assertPortRanges(state: State): void {
  let total = 0;
  for (const space of state.snat.spaces()) {
    const at = `${space.vip}/${space.protocol}`;
    const counts = [0, 0, 0, 0];
    const byDip = new Map<DipId, number>();
    const held = state.objects.ruleRanges(space.vip, space.protocol);
    for (let range = FIRST_RANGE; range < END_RANGE; range++) {
      const kind = space.stateOf(range);
      counts[kind]! += 1;
      const owner = space.ownerOf(range);
      holds(
        space.isFree(range) === (kind === RANGE_FREE),
        () => `${at}: the bitmap of free ranges is exact at ${range}`,
      );
      holds(
        kind === RANGE_EXCLUDED ? held.has(range) : kind !== RANGE_FREE || !held.has(range),
        () => `${at}: range ${range} is excluded only when a rule wants it, and not free then`,
      );
      const isRecalled = state.snat.recalls.get(space, range) !== null;
      holds(
        isRecalled === (kind === RANGE_OWNED && held.has(range)),
        () => `${at}: range ${range} is recalled rightly`,
      );
      const hasOwner = kind === RANGE_OWNED || kind === RANGE_QUARANTINED;
      holds(hasOwner === (owner !== 0), () => `${at}: range ${range} names a DIP exactly when it has or had an owner`);
      if (hasOwner) holds(state.dips.get(owner) !== null, () => `${at}: the owner of range ${range} is a known DIP`);
      if (kind === RANGE_OWNED) byDip.set(owner, (byDip.get(owner) ?? 0) + 1);
    }
    holds(counts[RANGE_FREE] === space.freeCount, () => `${at}: the count of free ranges is exact`);
    holds(counts[RANGE_OWNED] === space.ownedCount, () => `${at}: the count of owned ranges is exact`);
    holds(counts[RANGE_QUARANTINED] === space.quarantinedCount, () => `${at}: the count of resting ranges is exact`);
    holds(counts[RANGE_EXCLUDED] === space.excludedCount, () => `${at}: the count of excluded ranges is exact`);
    holds(byDip.size === space.ownedByDip.size, () => `${at}: exactly the owners have a count`);
    for (const [dip, count] of byDip) {
      holds(space.ownedBy(dip) === count, () => `${at}: the count of ranges of DIP ${dip} is exact`);
      holds(state.snat.spacesOf(dip).includes(space), () => `${at}: DIP ${dip} is known to own ranges here`);
    }
    total += space.ownedCount;
  }
  const recalled = state.snat.recalls.all();
  for (const { vip, protocol, range, dip } of recalled)
    holds(
      state.snat.space(vip, protocol)?.isOwnedBy(range, dip) === true,
      () => `${vip}: ${range} is recalled from its owner`,
    );
  for (const { vip, protocol, dip, ranges } of state.snat.recalls.allSurplus()) {
    const space = state.snat.space(vip, protocol);
    const isContested = space !== null && state.snat.contested().includes(space);
    holds(isContested, () => `${vip}: DIP ${dip} is asked for surplus where others wait`);
    holds(
      ranges > 0 && ranges <= (space?.ownedBy(dip) ?? 0),
      () => `${vip}: DIP ${dip} is asked for no more than it owns`,
    );
  }
  for (const { vip, claims } of state.snat.contested())
    for (const { dip, ranges } of claims.values())
      holds(ranges > 0, () => `${vip}: DIP ${dip} lacks what it waits for`);
  assert(total === state.snat.ownedTotal, "the count of all owned ranges is exact");
  for (const dip of state.dips.all()) {
    for (const space of state.snat.spacesOf(dip.dipId))
      holds(space.ownedBy(dip.dipId) > 0, () => `DIP ${dip.dipId} owns ranges where it is said to`);
  }
}

/** What tenants own and have reserved of the MUXes' tables is exact, and so are their shares, however they came about (T4). */
export function assertTenantRanges(state: State): void {
  const { tenants } = state.snat;
  const fresh = new TenantRanges((tenant) => state.objects.tenantSpec(tenant).weight);
  for (const { ref, spec, deleting } of state.objects.allVips()) {
    if (deleting || spec.outbound === null) continue;
    const { pools, minPorts, maxPorts } = spec.outbound;
    const named = pools.map((name) => state.objects.pool(ref.tenant, name));
    const members = new Set(
      named.flatMap((pool) => (pool === null || pool.deleting ? [] : pool.spec.members.map(({ dip }) => dip))),
    );
    let reserved = 0;
    for (const protocol of SNAT_PROTOCOLS)
      for (const dip of members) {
        const record = state.dips.find(ref.tenant, dip);
        const owned = record === null ? 0 : (state.snat.space(spec.address, protocol)?.ownedBy(record.dipId) ?? 0);
        reserved += Math.max(0, Math.floor(minPorts / PORTS_PER_RANGE) - owned);
      }
    const most = Math.min(RANGES_PER_SPACE, members.size * Math.floor(maxPorts / PORTS_PER_RANGE));
    fresh.promised(spec.address, { tenant: ref.tenant, reserved, most: most * SNAT_PROTOCOLS.length });
  }
  for (const { vip, ownedByDip } of state.snat.spaces())
    for (const [dip, owned] of ownedByDip) fresh.changed(state.dips.must(dip).tenant, vip, { owned, reserved: 0 });
  assert(tenants.reservedTotal === fresh.reservedTotal, "the count of reserved ranges is exact");
  const { snatRanges } = state.muxes.smallestCapacity;
  if (snatRanges === Infinity) return;
  const found = tenants.shares(snatRanges);
  holds(
    isEqual(found, fresh.shares(snatRanges)),
    () => "what tenants own, have reserved and may own follows from the state",
  );
}

/** Every resting range is in exactly one quarantine; quarantines are in order of time and index. */
export function assertQuarantines(state: State): void {
  const resting = new Map<PortSpace, Set<number>>();
  let lastMs = 0;
  let lastIndex = 0;
  for (const quarantine of state.snat.quarantines) {
    const { space, range, count, dip, releasedAtMs, releaseIndex } = quarantine;
    assert(releasedAtMs >= lastMs && releaseIndex >= lastIndex, "quarantines are in order of release");
    assert(releasedAtMs <= state.time.nowMs, "no range was released in the future");
    lastMs = releasedAtMs;
    lastIndex = releaseIndex;
    const ranges = resting.get(space) ?? new Set();
    resting.set(space, ranges);
    for (let at = range; at < range + count; at++) {
      assert(!ranges.has(at), "a range rests once");
      ranges.add(at);
      assert(
        space.stateOf(at) === RANGE_QUARANTINED && space.ownerOf(at) === dip,
        "a range in a quarantine rests after that DIP",
      );
    }
  }
  for (const space of state.snat.spaces()) {
    assert((resting.get(space)?.size ?? 0) === space.quarantinedCount, "every resting range is in a quarantine");
    let listed = 0;
    for (let next = space.firstQuarantine; next !== null; next = next.nextInSpace) listed += next.count;
    assert(listed === space.quarantinedCount, "a space lists its own quarantines");
  }
}

/** Ids are unique, references lead somewhere, an address has one VIP (R1, R2, R4). */
export function assertObjects(state: State): void {
  const { objects, dips } = state;
  const vipIds = new Set<VipId>();
  const poolIds = new Set<PoolId>();
  const addresses = new Set<IpAddress>();
  const pending = new Set(objects.pendingObjects().map((object) => objectKey(object.ref)));
  let rules = 0;
  for (const pool of objects.allPools()) {
    const name = objectKey(pool.ref);
    holds(!poolIds.has(pool.poolId) && pool.poolId < objects.nextPoolId, () => `${name}: its id is its own`);
    poolIds.add(pool.poolId);
    holds(pending.has(name) === isPending(pool), () => `${name}: pending exactly between its two entries`);
    for (const spec of versionsOf(pool)) {
      holds(spec.members.length <= spec.maxMembers, () => `${name}: it has at most maxMembers members`);
      for (const member of spec.members) {
        const dip = dips.find(pool.ref.tenant, member.dip);
        assert(
          dip !== null && dip.pools.has(pool.poolId),
          `${name}: member ${member.dip} is a DIP that knows the pool`,
        );
      }
    }
  }
  for (const vip of objects.allVips()) {
    const name = objectKey(vip.ref);
    holds(!vipIds.has(vip.vipId) && vip.vipId < objects.nextVipId, () => `${name}: its id is its own`);
    vipIds.add(vip.vipId);
    holds(
      !addresses.has(vip.spec.address) && objects.vipAt(vip.spec.address) === vip,
      () => `${name}: its address is its own`,
    );
    addresses.add(vip.spec.address);
    holds(pending.has(name) === isPending(vip), () => `${name}: pending exactly between its two entries`);
    rules += Math.max(vip.deleting ? 0 : ruleRows(vip.spec), vip.active === null ? 0 : ruleRows(vip.active));
    holds(isEqual(vip.natPorts, assignNatPorts(objects, vip)), () => `${name}: ports of inbound NAT are settled`);
    assertReferences(state, vip);
    for (const dip of dips.withAddress(vip.spec.address)) {
      const inUse = dip.hostId !== null || dip.pools.size > 0 || state.snat.ownsRanges(dip.dipId);
      holds(!inUse, () => `${name}: its address is not that of a DIP`);
    }
  }
  assert(rules === objects.ruleCount, "the count of rules is exact");
  const members = [...objects.allPools()].reduce((sum, pool) => sum + membersToHold(pool), 0);
  assert(members === objects.memberCount, "the count of members is exact");
  assert(rules <= state.muxes.smallestCapacity.rules, "the rules fit the smallest live MUX");
  for (const dip of dips.all()) {
    for (const id of dip.pools) {
      const pool = objects.poolById(id);
      const isMember =
        pool !== null && versionsOf(pool).some((spec) => spec.members.some((member) => member.dip === dip.address));
      holds(
        isMember && pool.ref.tenant === dip.tenant,
        () => `DIP ${dip.dipId} is a member of the pools that it knows`,
      );
    }
  }
}

/** A withdrawal and a back-off are of a VIP that exists, and count what may be. */
function assertWithdrawals({ objects, withdrawals, backoffs, time }: State): void {
  for (const { vipId, untilMs } of withdrawals.all()) {
    holds(objects.vipById(vipId) !== null, () => `the withdrawn VIP ${vipId} exists`);
    holds(untilMs > time.nowMs, () => `the withdrawal of VIP ${vipId} ends in the future`);
  }
  for (const backoff of backoffs.all()) {
    const { vipId, times, forSeconds } = backoff;
    const withdrawal = withdrawals.get(vipId);
    holds(objects.vipById(vipId) !== null, () => `VIP ${vipId} with a back-off exists`);
    holds(
      times >= 1 && forSeconds >= 30 && forSeconds <= 86_400,
      () => `the back-off of VIP ${vipId} is in its bounds`,
    );
    holds(forgottenAtMs(backoff) > time.nowMs, () => `the back-off of VIP ${vipId} is not over`);
    holds(
      withdrawal === null ? backoff.calmSinceMs <= time.nowMs : backoff.calmSinceMs === withdrawal.untilMs,
      () => `VIP ${vipId} is calm from the end of its withdrawal on`,
    );
  }
}

function assertReferences({ objects }: State, vip: VipObject): void {
  const name = objectKey(vip.ref);
  const keys = vip.spec.rules.map((rule) => `${rule.protocol}/${rule.port}`);
  holds(new Set(keys).size === keys.length, () => `${name}: one rule per protocol and port`);
  for (const poolName of poolNames(vip.spec)) {
    const pool = objects.pool(vip.ref.tenant, poolName);
    assert(pool !== null && (vip.deleting || !pool.deleting), `${name}: pool ${poolName} exists and stays`);
    holds(objects.usersOf(pool.poolId).includes(vip), () => `${name}: pool ${poolName} knows its user`);
  }
  if (vip.active === null) return;
  for (const poolName of poolNames(vip.active)) {
    const pool = objects.pool(vip.ref.tenant, poolName);
    assert(pool !== null && pool.active !== null, `${name}: pool ${poolName} of an active VIP is active`);
    holds(objects.usersOf(pool.poolId).includes(vip), () => `${name}: pool ${poolName} knows its user`);
  }
}

/** A DIP has one host, which lists it; a locator reaches one DIP. */
export function assertDipsAndHosts({ dips, hosts }: State): void {
  const locators = new Set<IpAddress>();
  dips.all().forEach((dip, at) => {
    assert(dip.dipId === at + 1, "DIP ids are dense");
    holds(
      (dip.hostId === null) === (dip.locator === null),
      () => `DIP ${dip.dipId} has a locator exactly when it has a host`,
    );
    if (dip.hostId === null || dip.locator === null) return;
    holds(hosts.must(dip.hostId).dips.includes(dip.dipId), () => `the host of DIP ${dip.dipId} lists it`);
    holds(
      !locators.has(dip.locator) && dips.atLocator(dip.locator) === dip,
      () => `the locator of DIP ${dip.dipId} reaches it alone`,
    );
    locators.add(dip.locator);
  });
  const names = new Set<string>();
  hosts.all().forEach((host, at) => {
    assert(host.hostId === at + 1, "host ids are dense");
    holds(!names.has(host.name), () => `host name ${host.name} is used once`);
    names.add(host.name);
    holds(new Set(host.dips).size === host.dips.length, () => `host ${host.name} lists a DIP once`);
    for (const id of host.dips)
      holds(dips.must(id).hostId === host.hostId, () => `host ${host.name} runs what it lists`);
  });
}

export function assertMuxes({ muxes, snat, dips }: State): void {
  const live = muxes.all().filter((mux) => mux.state === "live");
  assert(live.length === muxes.liveCount, "the count of live MUXes is exact");
  assert(new Set(live.map((mux) => mux.address)).size === live.length, "live MUXes have addresses of their own");
  const modern = live.flatMap(({ addressIpv6 }) => (addressIpv6 === undefined ? [] : [addressIpv6]));
  assert(new Set(modern).size === modern.length, "live MUXes have IPv6 addresses of their own");
  const reach = dips.anyAtIpv6() === null || modern.length === live.length;
  assert(reach, "every live MUX reaches IPv6 locators where there are any");
  for (const mux of live)
    holds(snat.ownedTotal <= mux.capacity.snatRanges, () => `the owned ranges fit MUX ${mux.name}`);
}

export function assertSessions({ sessions, time }: State): void {
  let lastMs = 0;
  for (const { id, lastUsedMs, newestSequence, answers } of sessions.records()) {
    assert(lastUsedMs >= lastMs && lastUsedMs <= time.nowMs, "sessions are in order of last use");
    lastMs = lastUsedMs;
    holds(answers.length <= SESSION_WINDOW, () => `session ${id} remembers at most its window`);
    for (const { sequence } of answers) {
      holds(
        sequence <= newestSequence && sequence > newestSequence - SESSION_WINDOW,
        () => `session ${id} remembers its newest answers`,
      );
    }
  }
}

/** A pool's sets: those that serve in front, each once, at most so many (T1, T2); who owns slots of what is exact. */
export function assertTables({ objects, dips, hosts, health, withdrawals, drains, snat, tables }: State): void {
  const sources = { objects, dips, hosts, health, withdrawals, drains, snat };
  const poolsByDip = new Map<DipId, Set<PoolId>>();
  for (const { poolId, nextRevision, tables: noted } of tables.all()) {
    const pool = objects.poolById(poolId);
    holds(pool !== null, () => `the tables of pool ${poolId} are of a pool that is stored`);
    const owners = new Set<DipId>();
    let above = nextRevision;
    for (const { revision, members } of noted) {
      holds(revision < above, () => `table ${revision} of pool ${poolId} is older than the one before it`);
      above = revision;
      holds(members.length > 0, () => `table ${revision} of pool ${poolId} has members`);
      members.forEach(({ dipId, weight }, at) => {
        const isInOrder = weight > 0 && (at === 0 || members[at - 1]!.dipId < dipId);
        holds(isInOrder, () => `members of table ${revision} of pool ${poolId} take flows and are in order`);
        owners.add(dipId);
      });
    }
    for (const dipId of owners) poolsByDip.set(dipId, (poolsByDip.get(dipId) ?? new Set()).add(poolId));
    holds(isEqual(sorted(owners), sorted(tables.owners(poolId))), () => `the owners of pool ${poolId} are exact`);
    const texts = noted.map(({ members }) => JSON.stringify(members));
    holds(texts.length <= TABLES_MAX, () => `pool ${poolId} remembers at most so many tables`);
    holds(new Set(texts).size === texts.length, () => `pool ${poolId} lists a set once`);
  }
  for (const pool of objects.allPools()) {
    const serving = servingSets(sources, pool).filter((set) => set.length > 0);
    const front = [...new Set(serving.map((set) => JSON.stringify(set)))];
    const noted = tables.tablesOf(pool.poolId).map(({ members }) => JSON.stringify(members));
    holds(
      isEqual(noted.slice(0, front.length), front),
      () => `${objectKey(pool.ref)}: the sets that serve are in front`,
    );
  }
  for (const { dipId } of dips.all())
    holds(
      isEqual(sorted(tables.poolsOf(dipId)), sorted(poolsByDip.get(dipId) ?? [])),
      () => `the pools of which DIP ${dipId} owns slots are exact`,
    );
}

/** Who drains gets no new flows, of a pool that is there; nothing is past its time. */
function assertDrains({ objects, dips, drains, time }: State): void {
  let left = 0;
  for (const { poolId, dipId, sinceMs, endsMs, isOver, leftPort } of drains.all()) {
    const pool = objects.poolById(poolId);
    const { address, tenant } = dips.must(dipId);
    const at = `drain of DIP ${dipId} from pool ${poolId}`;
    assert(pool !== null && pool.active !== null && pool.ref.tenant === tenant, `${at}: MUXes use the pool`);
    const member = pool.active.members.find(({ dip }) => dip === address);
    holds(leftPort === null ? member?.weight === 0 : member === undefined, () => `${at}: it gets no new flows`);
    holds(isOver || (sinceMs <= time.nowMs && endsMs > time.nowMs), () => `${at}: it is over when its time has come`);
    if (leftPort === null) continue;
    left += 1;
    holds([...drains.poolsLeftBy(dipId)].includes(poolId), () => `${at}: the DIP knows which pool it left`);
    holds(!isOver || endsMs + DRAIN_SHOWN_MS > time.nowMs, () => `${at}: it is forgotten in time`);
  }
  assert(left === drains.leftCount, "the count of members that have left and drain is exact");
}

const sorted = <Id extends number>(ids: Iterable<Id>): readonly Id[] => [...ids].sort(byNumber);

/** The views that were kept from changes are those that the state gives when computed from scratch. */
export function assertProjection(state: State): void {
  const fresh = new Projection(state);
  const steps = fresh.rebuild(state.site);
  while (steps.next().done !== true) continue;
  const mux = new Map([...fresh.muxItems()].map((item) => [muxItemKey(item), item]));
  let muxItems = 0;
  for (const item of state.projection.muxItems()) {
    muxItems += 1;
    holds(isEqual(mux.get(muxItemKey(item)), item), () => `MUX item ${muxItemKey(item)} follows from the state`);
  }
  assert(muxItems === mux.size, "the MUX view is complete");
  assert(state.projection.muxDigest() === fresh.muxDigest(), "the digest of the MUX view is exact");
  for (const { hostId, name } of state.hosts.all()) {
    const host = new Map([...fresh.hostItems(hostId)].map((item) => [hostItemKey(item), item]));
    let hostItems = 0;
    for (const item of state.projection.hostItems(hostId)) {
      hostItems += 1;
      holds(
        isEqual(host.get(hostItemKey(item)), item),
        () => `item ${hostItemKey(item)} of host ${name} follows from the state`,
      );
    }
    holds(hostItems === host.size, () => `the view of host ${name} is complete`);
    holds(
      state.projection.hostDigest(hostId) === fresh.hostDigest(hostId),
      () => `the digest of the view of host ${name} is exact`,
    );
  }
}
