/**
 * A released range rests until 120 s of cluster time have passed *and* every live MUX has acknowledged its removal. A MUX
 * that is slow would otherwise deliver the new owner's replies to the old one.
 */
import { expect, test } from "vitest";
import { smallSite, vipRef } from "../fixture.js";
import { outboundSpec, vipSpec } from "../specs.js";

/** Everything owned by two DIPs, and one range given back: nothing but that range can be granted next. */
function exhausted(): ReturnType<typeof smallSite> {
  const site = smallSite();
  const owned = (): number => site.machine.snatBlocks({}).reduce((sum, { count }) => sum + count * 8, 0);
  site.allocate("10.0.0.1", 64_512);
  while (owned() < 64_512) site.allocate("10.0.0.2", 64_512 - owned()); // the last sixteenth, which is not for who owns most
  site.release("10.0.0.1", "198.51.100.1/6:2048-2055");
  return site;
}

/** A refusal changes something: ports are recalled from who has more than its share. */
function asked(site: ReturnType<typeof smallSite>, dip: string): string {
  const result = site.apply(site.allocation(dip, 8));
  return result.ok ? "granted" : result.code;
}

test("neither 120 s alone nor the MUXes' acknowledgement alone ends it; both together do", () => {
  const site = exhausted();
  const released = site.index;
  site.muxSafeIndex = released;
  site.elapse(119_999);
  expect(asked(site, "10.0.0.2")).toBe("SNAT_PORTS_EXHAUSTED");

  site.muxSafeIndex = released - 1;
  site.elapse(600_000);
  expect(asked(site, "10.0.0.2")).toBe("SNAT_PORTS_EXHAUSTED");

  site.muxSafeIndex = released;
  expect(site.allocate("10.0.0.2", 8)).toEqual(["198.51.100.1/6:2048-2055"]);
});

test("ends with the entry whose time has come, before that entry's own commands", () => {
  const site = exhausted();
  site.muxSafeIndex = site.index;
  site.nowMs = 120_000;
  expect(site.allocate("10.0.0.2", 8)).toEqual(["198.51.100.1/6:2048-2055"]);
});

test("a clock that lags behind does not turn cluster time back", () => {
  const site = exhausted();
  site.muxSafeIndex = site.index;
  site.elapse(100_000);
  site.nowMs = 0;
  site.elapse(19_999);
  expect(site.machine.clusterTimeMs).toBe(100_000);
  expect(asked(site, "10.0.0.2")).toBe("SNAT_PORTS_EXHAUSTED");
});

test("the last owner too waits until its range has rested", () => {
  const site = exhausted();
  expect(site.refused(site.allocation("10.0.0.1", 8)).code).toBe("SNAT_PORTS_EXHAUSTED");
});

test("a tick is due when a rest may end, unless the MUXes are behind", () => {
  const site = exhausted();
  const released = site.index;
  expect(site.machine.nextTickDueMs()).toBe(120_000);
  expect(site.machine.nextTickDueMs((released - 1) as never)).toBeNull();
  expect(site.machine.nextTickDueMs(released as never)).toBe(120_000);
});

test("survives deleting and re-creating the VIP", () => {
  const site = smallSite();
  site.allocate("10.0.0.1", 8);
  site.release("10.0.0.1", "198.51.100.1/6:1024-1031");
  site.delete(vipRef("web"));
  site.activate();
  site.configure({ ref: vipRef("next"), labels: {}, expectedGeneration: null, object: nextVip() });
  expect(site.machine.snatUsage()[0]).toMatchObject({ quarantined: 1 });
  site.muxSafeIndex = site.index;
  site.elapse(120_000);
  expect(site.machine.snatUsage()[0]).toMatchObject({ quarantined: 0, free: 8064 });
});

function nextVip() {
  return {
    kind: "Vip" as const,
    spec: vipSpec({
      address: "198.51.100.1" as never,
      rules: [],
      outbound: outboundSpec({ pools: ["web"], maxPorts: 64_512 }),
    }),
  };
}
