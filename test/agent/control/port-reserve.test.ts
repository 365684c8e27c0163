import { describe, expect, it } from "vitest";
import { PortReserve, RESERVE_POLICY, type IdleRange, type PortDemand } from "../../../agent/control/port-reserve.js";
import { OpenRequests } from "../../../agent/control/open-requests.js";
import type { DipId } from "../../../core/brands.js";
import { createRandom } from "../../../core/random.js";

const dip = 1 as DipId;
const reserve = () => new PortReserve({ ...RESERVE_POLICY, aheadMs: 4_000 }, createRandom(1));
const demand = (portsFree: number, newFlowsPerSecond = 0, waiting = 0, used = 0): PortDemand => ({
  dipId: dip,
  protocol: 6,
  portsOwned: portsFree + used,
  portsFree,
  newFlowsPerSecond,
  waiting,
});
const idle = (count: number): IdleRange[] =>
  Array.from({ length: count }, (_, n) => ({ vip: "203.0.113.10", protocol: 6, range: 200 + n, dipId: dip }));

describe("the reserve of one DIP", () => {
  it.each([
    { given: demand(0), asks: 32, why: "a DIP without any port asks for twice the base of 16" },
    { given: demand(15), asks: 24, why: "one port short of the base: enough to have 32" },
    { given: demand(16), asks: null, why: "the base is met" },
    { given: demand(399, 100), asks: 408, why: "100 flows/s use 400 ports in 4 s: below that it asks" },
    { given: demand(400, 100), asks: null, why: "what 4 s use is there" },
    { given: demand(49, 0, 0, 100), asks: 56, why: "half of the 100 in use are kept free for a burst" },
    { given: demand(50, 0, 0, 100), asks: null, why: "they are" },
    { given: demand(128, 0, 0, 5_000), asks: null, why: "128 are kept for a burst at most" },
    { given: demand(0, 0, 10), asks: 56, why: "flows that wait count on top" },
    { given: demand(0, 10_000), asks: 4_096, why: "one request is bounded" },
  ])("asks for $asks ports: $why", ({ given, asks }) => {
    const [action] = reserve().step([given], [], 0);
    expect(action?.kind === "allocate" ? action.ports : null).toBe(asks);
  });

  it("has one request under way at a time, and asks again only when it is settled", () => {
    const policy = reserve();
    expect(policy.step([demand(0)], [], 0)).toHaveLength(1);
    expect(policy.step([demand(0, 1_000)], [], 100)).toEqual([]);
    policy.granted(dip, 6, "allocate");
    expect(policy.step([demand(0)], [], 200)).toHaveLength(1);
    policy.abandoned(dip, 6);
    expect(policy.step([demand(0)], [], 300)).toHaveLength(1);
  });

  it("returns what is recalled first, however low the reserve is, also of a DIP that may leave no more", () => {
    const policy = reserve();
    const own = { vip: "203.0.113.10", protocol: 6 as const, range: 1_290, dipId: dip };
    const stranger = { ...own, range: 1_291, dipId: (dip + 1) as DipId };
    const actions = policy.step([demand(0)], [], 0, [own, stranger]);
    expect(actions).toEqual([
      { kind: "release", dipId: dip, protocol: 6, ranges: [own] },
      { kind: "release", dipId: stranger.dipId, protocol: 6, ranges: [stranger] },
    ]);
    policy.granted(dip, 6, "release");
    expect(policy.step([demand(0)], [], 25)).toMatchObject([{ kind: "allocate" }]);
  });

  it("keeps protocols and DIPs apart", () => {
    const policy = reserve();
    const others: PortDemand[] = [demand(0), { ...demand(0), protocol: 17 }, { ...demand(0), dipId: 2 as DipId }];
    expect(policy.step(others, [], 0)).toHaveLength(3);
    expect(policy.openCount).toBe(3);
  });

  it("asks again after a refusal when the hint says, and without a hint ever more rarely, up to 30 s", () => {
    const policy = reserve();
    policy.step([demand(0)], [], 0);
    policy.refused(dip, 6, "allocate", { retryAfterMs: 5_000, nowMs: 0 });
    expect(policy.step([demand(0)], [], 4_999)).toEqual([]);
    expect(policy.step([demand(0)], [], 6_250)).toHaveLength(1);
    let nowMs = 6_250;
    let longest = 0;
    for (let refusal = 0; refusal < 12; refusal++) {
      policy.refused(dip, 6, "allocate", { retryAfterMs: 0, nowMs });
      const sinceMs = nowMs;
      while (policy.step([demand(0)], [], nowMs).length === 0) nowMs += 10;
      longest = Math.max(longest, nowMs - sinceMs);
    }
    expect(longest).toBeGreaterThan(15_000);
    expect(longest).toBeLessThanOrEqual(30_000);
    policy.granted(dip, 6, "allocate");
    policy.step([demand(0)], [], nowMs);
    policy.refused(dip, 6, "allocate", { retryAfterMs: 0, nowMs });
    expect(policy.step([demand(0)], [], nowMs + 400)).toHaveLength(1); // a grant has made the pauses short again
  });

  it("who was refused together does not come back together, and nobody before the hint", () => {
    const policy = reserve();
    const demands = Array.from({ length: 100 }, (_, at) => ({ ...demand(0), dipId: (at + 1) as DipId }));
    policy.step(demands, [], 0);
    for (const { dipId } of demands) policy.refused(dipId, 6, "allocate", { retryAfterMs: 1_000, nowMs: 0 });
    expect(policy.step(demands, [], 999)).toEqual([]);
    const back = [1_063, 1_125, 1_188, 1_250].map((nowMs) => policy.step(demands, [], nowMs).length);
    expect(back.reduce((sum, one) => sum + one, 0)).toBe(100);
    for (const count of back) expect(count).toBeGreaterThan(10);
  });

  it("gives idle ranges back only while twice its need stays free", () => {
    const released = (given: PortDemand, ranges: number): number => {
      const [action] = reserve().step([given], idle(ranges), 0);
      return action?.kind === "release" ? action.ranges.length : 0;
    };
    expect(released(demand(32), 4)).toBe(0);
    expect(released(demand(39), 4)).toBe(0);
    expect(released(demand(40), 4)).toBe(1);
    expect(released(demand(96), 4)).toBe(4);
    expect(released(demand(96), 20)).toBe(8);
    expect(released(demand(96, 12), 20)).toBe(0); // it uses 48 in 4 s
  });

  it("asks for ports although a release was refused, and tries that again ever more rarely, whatever the hint", () => {
    const policy = reserve();
    expect(policy.step([demand(96)], idle(4), 0)).toMatchObject([{ kind: "release" }]);
    policy.refused(dip, 6, "release", { retryAfterMs: 60_000, nowMs: 0 });
    expect(policy.step([demand(0)], [], 1)).toMatchObject([{ kind: "allocate" }]);
    policy.granted(dip, 6, "allocate");
    expect(policy.step([demand(96)], idle(4), 59_999)).toEqual([]);
    let nowMs = 60_000;
    let attempts = 0;
    for (; nowMs < 360_000; nowMs += 1_000) {
      if (policy.step([demand(96)], idle(4), nowMs).length === 0) continue;
      attempts++;
      policy.refused(dip, 6, "release", { retryAfterMs: 50, nowMs });
    }
    expect(attempts).toBeGreaterThan(10);
    expect(attempts).toBeLessThan(30);
  });

  it("gives ranges back although asking was refused", () => {
    const policy = reserve();
    policy.step([demand(0)], [], 0);
    policy.refused(dip, 6, "allocate", { retryAfterMs: 60_000, nowMs: 0 });
    expect(policy.step([demand(96)], idle(4), 1)).toMatchObject([{ kind: "release" }]);
  });

  it("gives back what was idle longest", () => {
    const [action] = reserve().step([demand(48)], idle(5), 0);
    expect(action?.kind === "release" ? action.ranges.map(({ range }) => range) : []).toEqual([200, 201]);
  });
});

const STANDBY = {};

describe("open requests", () => {
  const requests = () => {
    let sessions = 0;
    return new OpenRequests(300, () => `session-${++sessions}`);
  };
  const ask = (open: OpenRequests): void => open.add({ dipId: dip, protocol: 6, body: { kind: "allocate", ports: 8 } });

  it("use sequences that span less than the 64 that Managers remember", () => {
    const open = requests();
    for (let n = 0; n < 200; n++) ask(open);
    expect(open.due(0, STANDBY).onFirst).toHaveLength(64);
    open.settle(2);
    open.settle(3);
    expect(open.due(1, STANDBY).onFirst).toEqual([]); // 1 is still open: 65 would push it out of the window
    open.settle(1);
    expect(open.due(2, STANDBY).onFirst.map(({ sequence }) => sequence)).toEqual([65, 66, 67]);
  });

  it("are copied to the other stream once, and all sent again after a switch", () => {
    const open = requests();
    ask(open);
    expect(open.due(0, STANDBY).onFirst).toHaveLength(1);
    expect(open.due(299, STANDBY)).toEqual({ onFirst: [], onSecond: [] });
    expect(open.due(300, STANDBY).onSecond).toHaveLength(1);
    expect(open.due(301, STANDBY)).toEqual({ onFirst: [], onSecond: [] });
    open.firstChanged();
    const [again] = open.due(400, STANDBY).onFirst;
    expect(again).toMatchObject({ session: "session-1", sequence: 1 });
  });

  // The second stream is away for a moment, and comes back as a stream to a third replica.
  it("are copied when a second stream is ready, and again to another one in its place", () => {
    const open = requests();
    ask(open);
    open.due(0, null);
    expect(open.due(300, null).onSecond).toEqual([]);
    expect(open.longestOpenMs(4_000)).toBe(0);
    expect(open.due(4_000, STANDBY).onSecond).toHaveLength(1);
    expect(open.due(5_000, null).onSecond).toEqual([]);
    expect(open.due(5_500, STANDBY).onSecond).toEqual([]); // the same stream still has them
    const third = {};
    expect(open.due(6_000, third).onSecond).toHaveLength(1);
    expect(open.longestOpenMs(6_500)).toBe(500);
  });

  it("begin another session after a rest of five minutes, before a Manager forgets the first", () => {
    const open = requests();
    ask(open);
    open.due(0, STANDBY);
    open.settle(1);
    ask(open);
    expect(open.due(299_999, STANDBY).onFirst[0]).toMatchObject({ session: "session-1", sequence: 2 });
    open.settle(2);
    ask(open);
    expect(open.due(599_999, STANDBY).onFirst[0]).toMatchObject({ session: "session-2", sequence: 1 });
  });

  it("are all of unknown outcome when their session has expired", () => {
    const open = requests();
    ask(open);
    ask(open);
    open.due(0, STANDBY);
    expect(open.expire()).toHaveLength(2);
    expect(open.size).toBe(0);
    ask(open);
    expect(open.due(1, STANDBY).onFirst[0]).toMatchObject({ session: "session-2", sequence: 1 });
  });
});
