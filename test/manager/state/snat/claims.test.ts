/**
 * A VIP's ports have run short: one DIP owns most of them, most of them idle, and another one finds none. The rich one is asked
 * to give back what it owns above its fair share, of its host's choice; nothing is taken, and nothing swings back.
 */
import { describe, expect, test } from "vitest";
import type { HostItem } from "../../../../dataplane/host-items.js";
import type { DipId, IpAddress, LogIndex } from "../../../../core/brands.js";
import { createRandom } from "../../../../core/random.js";
import { createStateMachine } from "../../../../manager/state/index.js";
import { RANGES_PER_SPACE } from "../../../../manager/state/snat/port-ranges.js";
import { PortSpace } from "../../../../manager/state/snat/port-space.js";
import { Recalls } from "../../../../manager/state/snat/recalls.js";
import { claimsInOrder, fairLevel, lapseClaims, makeClaim, serveClaim } from "../../../../manager/state/snat/claims.js";
import { grantable, SCARCE_BELOW } from "../../../../manager/state/snat/share.js";
import { testSeed } from "../../../kit/virtual-world.js";
import { Site, ip, pool, vip, vipRef } from "../fixture.js";

const WEB = "198.51.100.1";
const DIPS = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];

/** One host per DIP. */
function site(dips: readonly string[] = DIPS): Site {
  const made = new Site();
  made.bootstrap();
  made.join("mux-1", "192.0.2.1");
  dips.forEach((dip, at) => made.register(`host-${at + 1}`, [dip]));
  made.configure(vip("web", WEB, { outbound: ["web"] }), pool("web", dips));
  return made;
}

const rangesOf = (of: Site, dip: string): number =>
  of.machine.inspect().snat.space(ip(WEB), 6)?.ownedBy(of.dipId(dip)) ?? 0;

/** Until it is refused; the refusal. */
function takeAll(of: Site, dip: string, upTo = RANGES_PER_SPACE) {
  for (;;) {
    const left = upTo - rangesOf(of, dip);
    if (left <= 0) return null;
    const result = of.apply(of.allocation(dip, left * 8));
    if (!result.ok) return result;
  }
}

/** In powers of two, of which no more is granted than asked for. */
function takeExactly(of: Site, dip: string, ranges: number): void {
  for (let bit = 1; bit <= ranges; bit *= 2) if ((ranges & bit) > 0) of.allocate(dip, bit * 8);
}

/** DIP 1 has all but the last sixteenth, DIP 2 some of that; DIP 3 asks for 2,000 ranges, again and again. */
function contested() {
  const of = site();
  takeAll(of, "10.0.0.1");
  takeExactly(of, "10.0.0.2", 200);
  const refusal = takeAll(of, "10.0.0.3", 2_000);
  return { of, refusal };
}

const askedOf = (of: Site, host: string): readonly HostItem[] =>
  [...(of.hostViews.get(of.machine.hostByName(host)!.hostId)?.values() ?? [])].filter(({ kind }) => kind === "recall");

/** Gives back so many ranges of the DIP, the first that it owns. */
function giveBack(of: Site, dip: string, ranges: number): void {
  let left = ranges;
  for (const { vip: at, protocol, range, count, state, dip: owner } of of.machine.snatBlocks({})) {
    if (left === 0) return;
    if (owner.address !== dip || state !== "owned") continue;
    const part = Math.min(left, count);
    of.release(dip, `${at}/${protocol}:${range * 8}-${(range + part) * 8 - 1}`);
    left -= part;
  }
}

describe("a DIP that lacks its fair share", () => {
  test("is told for what it waits and who was asked; the richest one is asked for its surplus, the poorer one is not", () => {
    const { of, refusal } = contested();
    expect(refusal).toMatchObject({
      code: "SNAT_PORTS_EXHAUSTED",
      facts: { reason: "recalling", retryAfterMs: 10_000 },
    });
    expect(refusal?.ok === false && refusal.message).toMatch(
      /^DIP default\/10\.0\.0\.3 waits for [0-9]+ ports of VIP default\/web: others are asked for what they own above their fair share, [0-9]+ of the 60480 of default\/10\.0\.0\.1, for 0 s; ports come back when their flows are over, and rest for 120 s$/,
    );
    const wanted = 2_000 - rangesOf(of, "10.0.0.3");
    // What DIP 3 lacks, and the sixteenth for newcomers.
    const surplus = wanted + SCARCE_BELOW - of.machine.snatUsageOf(ip(WEB))[0]!.free;
    expect(askedOf(of, "host-1")).toEqual([
      { kind: "recall", dipId: of.dipId("10.0.0.1"), vipId: 1, vip: WEB, protocol: 6, ranges: [], surplus },
    ]);
    expect(askedOf(of, "host-2")).toEqual([]);
  });

  test("gets what came back, before anybody else, when it has rested; then nobody is asked any more", () => {
    const { of } = contested();
    const asked = askedOf(of, "host-1")[0]!;
    const surplus = asked.kind === "recall" ? (asked.surplus ?? 0) : 0;
    giveBack(of, "10.0.0.1", surplus);
    expect(askedOf(of, "host-1")).toEqual([]);
    of.muxSafeIndex = of.index;
    for (let seconds = 0; seconds < 120; seconds += 10) {
      of.elapse(10_000);
      if (seconds < 110) expect(takeAll(of, "10.0.0.3", 2_000)?.ok).toBe(false);
    }
    const before = rangesOf(of, "10.0.0.1");
    expect(takeAll(of, "10.0.0.1")?.ok, "who had most is not the first").toBe(false);
    expect(rangesOf(of, "10.0.0.1")).toBe(before);
    expect(takeAll(of, "10.0.0.3", 2_000)).toBeNull();
    expect(takeAll(of, "10.0.0.1")?.ok).toBe(false);
    expect(rangesOf(of, "10.0.0.1"), "and does not get it back by asking").toBe(before);
    expect(askedOf(of, "host-1")).toEqual([]);
    expect(of.machine.inspect().snat.contested()).toEqual([]);
  });

  test("waits for ever where nothing is given back: nothing that lives is revoked", () => {
    const { of } = contested();
    const owned = rangesOf(of, "10.0.0.1");
    for (let minute = 0; minute < 5; minute++) {
      of.elapse(50_000);
      takeAll(of, "10.0.0.3", 2_000);
    }
    expect(rangesOf(of, "10.0.0.1")).toBe(owned);
    expect(askedOf(of, "host-1")).toHaveLength(1);
  });

  test("that asks no more is forgotten after a minute, and so is what was asked for", () => {
    const { of } = contested();
    of.elapse(59_999);
    expect(askedOf(of, "host-1")).toHaveLength(1);
    expect(of.machine.nextTickDueMs(of.index as LogIndex)).toBe(60_000);
    of.elapse(1);
    expect(askedOf(of, "host-1")).toEqual([]);
    expect(of.machine.inspect().snat.contested()).toEqual([]);
  });

  test("gets nobody into trouble who owns hardly more than its share, nor who is guaranteed what it owns", () => {
    const of = site();
    takeExactly(of, "10.0.0.1", 2_700);
    takeExactly(of, "10.0.0.2", 2_700);
    expect(takeAll(of, "10.0.0.3")).toMatchObject({ ok: false });
    expect([1, 2, 3].flatMap((host) => askedOf(of, `host-${host}`))).toEqual([]);
  });

  test("asks no host for what no host runs", () => {
    const of = site();
    takeAll(of, "10.0.0.1");
    takeAll(of, "10.0.0.2");
    // A new process of the host without the DIP declares that it holds its ranges.
    const held = of.machine
      .snatBlocks({})
      .flatMap(({ vip: at, protocol, range, count, dip }) =>
        dip.address === "10.0.0.1" ? [{ tenant: "default", dip: dip.address, vip: at, protocol, range, count }] : [],
      );
    of.register("host-1", [], held, "host-1-2");
    expect(takeAll(of, "10.0.0.3", 2_000)).toMatchObject({ ok: false });
    expect([1, 2, 3].flatMap((host) => askedOf(of, `host-${host}`))).toEqual([]);
  });

  test("is no reason any more once the VIP grants nothing, or is gone", () => {
    for (const end of ["outbound", "vip"] as const) {
      const { of } = contested();
      if (end === "outbound") of.configure(vip("web", WEB, { rules: ["tcp/80 -> web"] }));
      else {
        of.delete(vipRef("web"));
        of.activate();
      }
      expect(of.machine.inspect().snat.recalls.allSurplus()).toEqual([]);
      expect(askedOf(of, "host-1")).toEqual([]);
      const restored = createStateMachine();
      restored.restore([...of.machine.snapshot()], of.machine.appliedIndex);
      const host = of.machine.hostByName("host-1")!.hostId;
      expect(restored.hostDigest(host)).toBe(of.machine.hostDigest(host));
    }
  });

  test("is in a snapshot with all that was asked, and goes on from there", () => {
    const { of } = contested();
    const restored = createStateMachine();
    restored.restore([...of.machine.snapshot()], of.machine.appliedIndex);
    expect(restored.digest()).toBe(of.machine.digest());
    const host = of.machine.hostByName("host-1")!.hostId;
    expect(restored.hostDigest(host)).toBe(of.machine.hostDigest(host));
    expect(restored.nextTickDueMs()).toBe(of.machine.nextTickDueMs());
  });
});

function give(to: PortSpace, owner: DipId, ranges: number): void {
  for (let left = ranges; left > 0; left--) {
    const first = to.findBlock(1);
    to.grant(first, 1, owner, 1 as LogIndex);
    to.moveCursor(first + 1);
  }
}

test("at most 64 DIPs are asked at a time, those that own most; together for no more than is missing", () => {
  const space = new PortSpace(WEB as IpAddress, 6);
  for (let id = 1; id <= 80; id++) give(space, id as DipId, id <= 10 ? 80 : 100);
  const recalls = new Recalls();
  const context = { recalls, nowMs: 0, canGive: () => true };
  for (let id = 81; id <= 120; id++) makeClaim(space, id as DipId, 400, context);
  const asked = recalls.surplusIn(space);
  expect(asked).toHaveLength(64);
  expect(asked.map(({ dip }) => dip)).toEqual(Array.from({ length: 64 }, (_, at) => at + 11));
  expect(new Set(asked.map(({ dip, ranges }) => space.ownedBy(dip) - ranges))).toEqual(new Set([fairLevel(space)]));
  // One that wants little: the richest alone is asked, for that and what stays free for newcomers.
  for (let id = 81; id <= 120; id++) serveClaim(space, id as DipId, 400, context);
  expect(recalls.allSurplus()).toEqual([]);
  give(space, 121 as DipId, 264);
  give(space, 122 as DipId, 0);
  makeClaim(space, 122 as DipId, 8, context);
  expect(recalls.surplusIn(space)[0]).toMatchObject({ dip: 121 });
  const missing = SCARCE_BELOW + 8 - space.freeCount;
  expect(recalls.surplusIn(space).reduce((sum, { ranges }) => sum + ranges, 0)).toBeLessThanOrEqual(missing);
});

// --- against a naive model -------------------------------------------------------------------------------------------

/** Raised range by range. */
function naiveLevel(demands: readonly { readonly demand: number; readonly least: number }[], stock: number): number {
  const used = (level: number): number =>
    demands.reduce((sum, { demand, least }) => sum + Math.min(demand, Math.max(level, least)), 0);
  if (used(RANGES_PER_SPACE) <= stock) return Infinity;
  let level = 0;
  while (used(level + 1) <= stock) level++;
  return level;
}

test("whatever is asked for and given back, fair shares are max-min, guarantees stand, and nobody is asked for too much", () => {
  const seed = testSeed("claims");
  const random = createRandom(seed);
  let askedOnce = 0;
  for (let round = 0; round < 12; round++) {
    const members = random.below(20) + 2;
    const minRanges = random.below(2) * random.below(Math.floor((RANGES_PER_SPACE * 0.75) / members));
    const space = new PortSpace(WEB as IpAddress, 6);
    space.setMembers(new Set(Array.from({ length: members }, (_, at) => (at + 1) as DipId)), minRanges);
    const recalls = new Recalls();
    let nowMs = 0;
    const owned = new Map<DipId, number[]>();
    for (let step = 0; step < 250; step++) {
      nowMs += random.below(5_000);
      const context = { recalls, nowMs, canGive: (id: DipId) => id !== members };
      lapseClaims(space, context);
      const id = (random.below(members) + 1) as DipId;
      const held = owned.get(id) ?? [];
      owned.set(id, held);
      const surplus = recalls.surplusOf(space, id);
      if (surplus !== null && random.nextFloat() < 0.5) {
        for (const range of held.splice(0, random.below(surplus.ranges) + 1)) {
          recalls.disowned(space, range, 1, id);
          space.quarantine(range, 1, id);
          space.endQuarantine(range, 1);
        }
      } else {
        const need = random.below(step < 60 ? 1_500 : 100) + 1;
        const ahead = claimsInOrder(space);
        const most = Math.min(need, grantable(space, id));
        const before = claimsInOrder(space).find(({ dip }) => dip === id);
        for (let left = most; left > 0; left--) {
          const first = space.findBlock(1);
          space.grant(first, 1, id, 1 as LogIndex);
          held.push(first);
        }
        if (most > 0) serveClaim(space, id, most, context);
        else makeClaim(space, id, need, context);
        // What is kept for claims that were first is not given to others.
        const kept = ahead
          .filter(({ dip, sinceMs }) => dip !== id && (before === undefined || sinceMs < before.sinceMs))
          .reduce((sum, { dip, ranges }) => sum + ranges - space.lackOf(dip), 0);
        if (most > space.lackOf(id) && before === undefined)
          expect(space.freeCount, `seed ${seed}`).toBeGreaterThanOrEqual(Math.min(kept, space.freeCount + most - kept));
      }
      if (space.claims.size === 0) {
        expect(recalls.allSurplus(), `seed ${seed}`).toEqual([]);
        continue;
      }
      const stock = space.ownedCount + space.freeCount - SCARCE_BELOW;
      const ids = Array.from({ length: members }, (_, at) => (at + 1) as DipId);
      const demands = ids.map((dip) => ({
        demand: Math.max(space.ownedBy(dip) + (space.claims.get(dip)?.wanted ?? 0), minRanges),
        least: minRanges,
      }));
      const level = naiveLevel(demands, stock);
      expect(fairLevel(space), `seed ${seed}`).toBe(level);
      for (const { dip, ranges, wanted } of claimsInOrder(space)) {
        expect(ranges).toBeGreaterThan(0);
        expect(ranges).toBeLessThanOrEqual(Math.max(wanted, space.lackOf(dip)));
      }
      for (const { dip, ranges } of recalls.surplusIn(space)) {
        askedOnce++;
        expect(dip, `seed ${seed}: nobody runs it`).not.toBe(members);
        expect(space.ownedBy(dip) - ranges, `seed ${seed}: DIP ${dip} keeps its guarantee`).toBeGreaterThanOrEqual(
          minRanges,
        );
      }
    }
  }
  expect(askedOnce).toBeGreaterThan(100);
});
