/**
 * A VIP under attack again and again (Ananta §3.6.2): each withdrawal lasts longer than the one before, whoever leads, and an hour
 * of calm ends that.
 */
import { describe, expect, test } from "vitest";
import type { LogIndex, VipId } from "../../../core/brands.js";
import { createStateMachine } from "../../../manager/state/index.js";
import { smallSite, vip, vipRef } from "./fixture.js";

const named = { tenant: "default", name: "web" } as const;
const overload = { kind: "withdraw-vip", ...named, reason: "overload: 9", forSeconds: 0, isOverload: true } as const;
const byHand = { ...overload, reason: "maintenance", isOverload: false } as const;
const WEB = 1 as VipId;
const HOUR_MS = 3_600_000;

type Site = ReturnType<typeof smallSite>;
const seconds = (site: Site): number => (site.machine.withdrawal(WEB)!.untilMs - site.nowMs) / 1_000;

/** Attacked so often, as soon as it is back: how long each withdrawal lasts. */
function attacks(site: Site, count: number): readonly number[] {
  return Array.from({ length: count }, () => {
    site.ok("none", overload);
    const forSeconds = seconds(site);
    site.elapse(forSeconds * 1_000);
    expect(site.machine.withdrawal(WEB)).toBeNull();
    return forSeconds;
  });
}

describe("a VIP that overloads MUXes again and again", () => {
  test("is withdrawn for twice as long each time, up to a day", () => {
    expect(attacks(smallSite(), 11)).toEqual([300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 76800, 86400, 86400]);
  });

  test("is never withdrawn for less than its spec says, also when that has grown since", () => {
    const site = smallSite();
    attacks(site, 1);
    const spec = { overload: { action: "blackhole", restoreAfterSeconds: 3_600 } } as const;
    site.configure(vip("web", "198.51.100.1", { spec }));
    expect(attacks(site, 2)).toEqual([3_600, 7_200]);
  });

  test("begins anew after an hour of calm, and not a millisecond before", () => {
    const site = smallSite();
    attacks(site, 3);
    site.elapse(HOUR_MS - 1);
    expect(attacks(site, 1)).toEqual([2400]);
    expect(site.machine.nextTickDueMs()).toBe(site.nowMs + HOUR_MS);
    site.elapse(HOUR_MS);
    expect(site.machine.overloadBackoff(WEB)).toBeNull();
    expect(site.machine.nextTickDueMs()).toBeNull();
    expect(attacks(site, 1)).toEqual([300]);
  });

  test("that an operator restores early is calm from then on", () => {
    const site = smallSite();
    site.ok("none", overload);
    site.elapse(1_000);
    site.ok("none", { kind: "restore-vip", ...named });
    expect(site.machine.overloadBackoff(WEB)).toMatchObject({ times: 1, calmSinceMs: 1_000 });
    site.elapse(HOUR_MS - 1);
    expect(attacks(site, 1)).toEqual([600]);
  });

  test("is not calm while an operator keeps it withdrawn for longer than an hour", () => {
    const site = smallSite();
    site.ok("none", overload);
    site.ok("none", { ...byHand, forSeconds: 7_200 });
    site.elapse(7_200_000);
    expect(attacks(site, 1)).toEqual([600]);
  });

  test("has its back-off in snapshots: a replica restored from one goes on alike", () => {
    const site = smallSite();
    attacks(site, 2);
    const restored = createStateMachine();
    restored.restore(site.machine.snapshot(), site.index as LogIndex);
    expect(restored.overloadBackoff(WEB)).toEqual({ vipId: WEB, times: 2, forSeconds: 600, calmSinceMs: site.nowMs });
    expect(restored.nextTickDueMs()).toBe(site.nowMs + HOUR_MS);
    expect(restored.digest()).toBe(site.machine.digest());
  });

  test("loses it when it is deleted: another VIP of that name is another VIP", () => {
    const site = smallSite();
    attacks(site, 2);
    site.delete(vipRef("web"));
    site.activate();
    expect(site.machine.overloadBackoff(WEB)).toBeNull();
  });
});

test("withdrawals by hand are not made longer, and make none longer", () => {
  const site = smallSite();
  attacks(site, 2);
  site.ok("none", byHand);
  expect(seconds(site)).toBe(300);
  site.elapse(300_000);
  expect(attacks(site, 1)).toEqual([1200]);
});

test("a VIP whose spec says otherwise meanwhile goes on from its last withdrawal", () => {
  const site = smallSite();
  attacks(site, 1);
  site.configure(vip("web", "198.51.100.1", { spec: { overload: { action: "blackhole", restoreAfterSeconds: 30 } } }));
  expect(attacks(site, 1)).toEqual([600]);
  site.elapse(HOUR_MS);
  expect(attacks(site, 1)).toEqual([30]);
});
