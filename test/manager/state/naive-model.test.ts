/**
 * The state machine against a site kept in plain Maps (`model/`): random commands of every kind, with mistakes, retries
 * and lagging clocks. After each entry every answer is the one that the model gives, and so is all that can be read:
 * owners, ranges at rest, objects, hosts, MUXes, health, withdrawals, sessions, time. A second replica applies the same
 * bytes; the first one is replaced by its own snapshot now and then.
 */
import { describe, expect, test } from "vitest";
import type { DipId, HostId, IpAddress, LogIndex, PoolId, VipId } from "../../../core/brands.js";
import { createRandom } from "../../../core/random.js";
import {
  type InspectableStateMachine,
  createStateMachine,
  decodeBatch,
  encodeBatch,
} from "../../../manager/state/index.js";
import { assertInvariants } from "../../../manager/state/invariants.js";
import type { StateMachine } from "../../../manager/state/state-machine.js";
import { testSeed } from "../../kit/virtual-world.js";
import { LogGenerator } from "./log-generator.js";
import { NaiveSite } from "./model/naive-site.js";
import { tableLimits } from "./model/naive-tenants.js";

const LOGS = 8;
const ENTRIES = 150;
/** The invariant checker walks over everything; `random-log` runs it after every entry. */
const CHECK_EVERY = 5;

/** Half of them always the same, so that what has to be met is met. */
const seeds = Array.from({ length: LOGS }, (_, at) => (at < LOGS / 2 ? at + 1 : testSeed(`naive model ${at}`)));

/** Of equal size and with the same values: sorting is for showing a difference. */
function same(found: ReadonlyMap<string, number>, expected: ReadonlyMap<string, number>, what: string): void {
  let isSame = found.size === expected.size;
  for (const [name, value] of expected) isSame &&= found.get(name) === value;
  if (!isSame) expect(sorted(found), what).toEqual(sorted(expected));
}

const sorted = <Value>(map: Iterable<readonly [string, Value]>): readonly (readonly [string, Value])[] =>
  [...map].sort(([a], [b]) => (a < b ? -1 : 1));

function compareRanges(machine: StateMachine, model: NaiveSite): void {
  const owned = new Map<string, number>();
  const resting = new Map<string, number>();
  for (const { vip, protocol, range, count, state, dip } of machine.snatBlocks({}))
    for (let at = range; at < range + count; at++)
      (state === "owned" ? owned : resting).set(`${vip}/${protocol}/${at}`, dip.dipId);
  same(owned, model.ports.owners, "owned");
  same(resting, new Map([...model.ports.resting].map(([range, { dip }]) => [range, dip])), "resting");

  // What MUXes and hosts hold of it: ranges of VIPs that MUXes use, at the host that runs the DIP.
  const vipIds = new Map(
    model.objects.vips().flatMap((vip) => (vip.active === null ? [] : [[vip.spec.address, vip.id]])),
  );
  const shown = new Map<string, number>();
  for (const [range, dip] of model.ports.owners) {
    const slash = range.indexOf("/");
    const vip = vipIds.get(range.slice(0, slash) as IpAddress);
    if (vip !== undefined) shown.set(`${vip}${range.slice(slash)}`, dip);
  }
  const inMuxes = new Map<string, number>();
  for (const item of machine.muxItems())
    if (item.kind === "snat") inMuxes.set(`${item.vipId}/${item.protocol}/${item.range}`, item.dipId);
  same(inMuxes, shown, "ranges in the MUXes");
  for (const { name, id } of model.hosts.values()) {
    const dips = new Set(model.dipsOf(name).map((dip) => dip.id));
    const inHost = new Map<string, number>();
    for (const item of machine.hostItems(id as HostId))
      if (item.kind === "range") inHost.set(`${item.vipId}/${item.protocol}/${item.range}`, item.dipId);
    same(inHost, new Map([...shown].filter(([, dip]) => dips.has(dip))), `ranges in host ${name}`);
  }
}

/** MUXes have a rule unless its port is lent out, and a range is recalled exactly when it is owned and a rule wants it. */
function compareRules(machine: StateMachine, model: NaiveSite): void {
  const shown = model.objects.vips().flatMap(({ id, active }) =>
    (active?.rules ?? []).flatMap(({ protocol, port }) => {
      const [number] = protocol === "tcp" ? [6] : [17];
      const isLent = model.ports.isTaken(`${active?.address ?? ""}/${number}/${Math.floor(port / 8)}`);
      return isLent ? [] : [`${id}/${number}/${port}`];
    }),
  );
  const inMuxes = [...machine.muxItems()].flatMap((item) =>
    item.kind === "rule" ? [`${item.vipId}/${item.protocol}/${item.port}`] : [],
  );
  expect(inMuxes.sort()).toEqual(shown.sort());
  const wanted = [...model.ports.owners.keys()].filter((name) => {
    const [vip = "", protocol, range] = name.split("/");
    return model.objects.ruleHolds(vip as IpAddress, Number(protocol), Number(range));
  });
  const recalled = machine
    .snatBlocks({})
    .filter(({ recalledSinceMs }) => recalledSinceMs !== null)
    .flatMap(({ vip, protocol, range, count }) =>
      Array.from({ length: count }, (_, at) => `${vip}/${protocol}/${range + at}`),
    );
  expect(recalled.sort()).toEqual(wanted.sort());
}

/** Who waits for how many ranges, and who is asked for them. */
function compareClaims(machine: InspectableStateMachine, model: NaiveSite): void {
  const { snat } = machine.inspect();
  const claims = snat
    .contested()
    .flatMap(({ vip, protocol, claims: made }) =>
      [...made.values()].map(
        (claim) => [`${vip}/${protocol}/${claim.dip}`, `${claim.wanted} ${claim.ranges} ${claim.sinceMs}`] as const,
      ),
    );
  const expected = [...model.ports.claims].flatMap(([at, made]) =>
    made.map((claim) => [`${at}${claim.dip}`, `${claim.wanted} ${claim.ranges} ${claim.sinceMs}`] as const),
  );
  expect(sorted(claims)).toEqual(sorted(expected));
  const asked = snat.recalls
    .allSurplus()
    .map(({ vip, protocol, dip, ranges }) => [`${vip}/${protocol}/${dip}`, ranges] as const);
  expect(sorted(asked)).toEqual(sorted(model.ports.surplus));
}

function compareObjects(machine: StateMachine, model: NaiveSite): void {
  for (const kind of ["Tenant", "SecurityGroup", "BackendPool", "Vip"] as const) {
    const stored = machine.objects(kind, null).map(({ ref, labels, spec, active, generation, deleting, ...object }) => {
      const id = "poolId" in object ? object.poolId : "vipId" in object ? object.vipId : 0;
      return [`${ref.tenant}/${ref.name}`, { id, labels, spec, active, generation, deleting }] as const;
    });
    const expected = [...model.objects.all.values()]
      .filter(({ ref }) => ref.kind === kind)
      .map(({ ref, id, labels, spec, active, generation, deleting }) => {
        return [`${ref.tenant}/${ref.name}`, { id, labels, spec, active, generation, deleting }] as const;
      });
    expect(sorted(stored)).toEqual(sorted(expected));
  }
  const pending = [...model.objects.all.values()].filter((object) => model.objects.isPending(object));
  const indexes = pending.map(({ updatedIndex }) => updatedIndex);
  expect(machine.pendingActivation()?.fromIndex ?? Infinity).toBe(Math.min(...indexes));
  expect(machine.pendingActivation()?.upToIndex ?? 0).toBe(Math.max(0, ...indexes));
  for (const { id } of model.objects.vips()) {
    expect(machine.withdrawal(id as VipId)?.untilMs).toBe(model.withdrawals.untilMs.get(id));
    const backoff = machine.overloadBackoff(id as VipId);
    const { times, seconds, calmMs } = model.withdrawals.backoffs.get(id) ?? {};
    expect([backoff?.times, backoff?.forSeconds, backoff?.calmSinceMs]).toEqual([times, seconds, calmMs]);
  }
}

function compareMachines(machine: StateMachine, model: NaiveSite): void {
  const dips = model.dips.map(({ id }) => machine.dipAt(model.dips[id - 1]!.tenant, model.dips[id - 1]!.address));
  const hostIds = new Map([...model.hosts.values()].map(({ name, id }) => [name, id]));
  expect(dips.map((dip) => [dip?.dipId, dip?.hostId ?? null, dip?.locator ?? null])).toEqual(
    model.dips.map(({ id, host, locator }) => [id, host === null ? null : hostIds.get(host), locator]),
  );
  expect(
    machine.hosts().map((host) => ({
      id: host.hostId,
      name: host.name,
      incarnation: host.incarnation,
      bootId: host.bootId,
      formerBoots: host.formerBootIds,
      isExpired: host.isExpired,
      isFenced: machine.fence(host.hostId) !== null,
    })),
  ).toEqual([...model.hosts.values()]);
  expect(
    machine.muxes().map((mux) => ({
      id: mux.muxId,
      name: mux.name,
      incarnation: mux.incarnation,
      bootId: mux.bootId,
      formerBoots: mux.formerBootIds,
      address: mux.address,
      addressIpv6: mux.addressIpv6,
      rules: mux.capacity.rules,
      snatRanges: mux.capacity.snatRanges,
      state: mux.state,
      drain: mux.drain,
    })),
  ).toEqual([...model.muxes.all.values()]);
  const down = model.objects.pools().flatMap(({ id }) =>
    model.dips.flatMap((dip) => {
      return machine.memberHealth(id as PoolId, dip.id as DipId) === null ? [] : [`${id}/${dip.id}`];
    }),
  );
  expect(down.sort()).toEqual([...model.verdicts.down].sort());
}

function compareDrains(machine: StateMachine, model: NaiveSite): void {
  const found = model.objects.pools().flatMap(({ id }) =>
    machine.drainsOf(id as PoolId).map(({ dipId, sinceMs, endsMs, isOver, leftPort }) => {
      if (isOver) ends.over++;
      return [`${id}/${machine.dip(dipId)!.address}`, { sinceMs, endsMs, isOver, hasLeft: leftPort !== null }] as const;
    }),
  );
  expect(new Map(found)).toEqual(model.drains.all);
  ends.seen += found.length;
}

function compareCluster(machine: StateMachine, model: NaiveSite): void {
  expect(machine.clusterTimeMs).toBe(model.nowMs);
  expect(machine.clusterEpoch).toBe(model.epoch);
  expect(machine.site?.hashKey ?? null).toBe(model.hashKey);
  expect(machine.replicas().map(({ nodeId, bootId, incarnation }) => [nodeId, { bootId, incarnation }])).toEqual(
    [...model.replicas].sort(([a], [b]) => a - b),
  );
  for (const id of [...model.sessions.live.keys(), ...model.sessions.expired.keys()])
    expect(machine.hasSession(id), `session ${id}`).toBe(model.sessions.live.has(id));
  const missing = machine.unsettledEpoch()?.missing.map((id) => machine.host(id)?.name) ?? null;
  expect(missing?.sort() ?? null).toEqual(model.unsettled === null ? null : [...model.unsettled.missing].sort());
}

const answers = new Map<string, number>();
const ends = { seen: 0, over: 0 };

describe("the state machine and a site in plain Maps", () => {
  test.each(seeds)("agree on every answer and on all that can be read, seed %i", (seed) => {
    const random = createRandom(seed);
    let machine = createStateMachine();
    const second = createStateMachine();
    const model = new NaiveSite();
    const generator = new LogGenerator(random.fork(), second);
    for (let at = 1; at <= ENTRIES; at++) {
      const index = at as LogIndex;
      const batch = generator.batch();
      const applied = machine.apply(batch, index);
      model.follow(batch, applied);
      compareRanges(machine, model);
      compareRules(machine, model);
      compareClaims(machine, model);
      compareObjects(machine, model);
      compareMachines(machine, model);
      compareDrains(machine, model);
      compareCluster(machine, model);
      if (at % CHECK_EVERY === 0) assertInvariants(machine.inspect());
      expect(second.apply(decodeBatch(encodeBatch(batch)), index).results).toEqual(applied.results);
      for (const [position, result] of applied.results.entries()) {
        const what = `${batch.commands[position]?.command.kind ?? ""}: ${result.ok ? "ok" : result.code}`;
        answers.set(what, (answers.get(what) ?? 0) + 1);
      }
      if (random.below(12) > 0) continue;
      const chunks = [...machine.snapshot()];
      machine = createStateMachine();
      machine.restore(chunks, index);
    }
    expect(second.digest()).toBe(machine.digest());
  });

  test("have met both sides of every command", () => {
    expect(ends.over, "drains that are over").toBeGreaterThan(0);
    expect(ends.seen, "drains that are not").toBeGreaterThan(ends.over);
    expect(tableLimits.count, "requests that the MUXes' table allows less than the VIP").toBeGreaterThan(0);
    const kinds =
      "activate allocate-snat apply-objects bootstrap delete-objects expire-hosts fence-host join-mux leave-mux lose-mux register-host release-snat renew-hosts report-health start-replica tick withdraw-vip";
    const refusals = [
      ...["INVALID_ARGUMENT", "FAILED_PRECONDITION", "GENERATION_CONFLICT"].map((code) => `apply-objects: ${code}`),
      ...["STALE_INCARNATION", "SNAT_NOT_CONFIGURED"].map((code) => `allocate-snat: ${code}`),
      ...["INVALID_ARGUMENT", "PERMISSION_DENIED"].map((code) => `release-snat: ${code}`),
      "join-mux: FAILED_PRECONDITION",
      "register-host: STALE_INCARNATION",
      "delete-objects: NOT_FOUND",
      "tick: SESSION_EXPIRED",
    ];
    for (const wanted of [...kinds.split(" ").map((kind) => `${kind}: ok`), ...refusals])
      expect(answers.get(wanted) ?? 0, `${wanted}, among ${JSON.stringify([...answers].sort())}`).toBeGreaterThan(0);
  });
});
