/**
 * A rule is added on a port that SNAT has lent out. The range is asked back, never taken: its flows may live for hours. Until it
 * has come back and rested, MUXes do not know the rule, since on a MUX a rule goes before port ranges.
 */
import { describe, expect, test } from "vitest";
import type { HostItem } from "../../../../dataplane/host-items.js";
import { createStateMachine } from "../../../../manager/state/index.js";
import { type Site, ip, pool, registerHost, smallSite, vip, vipRef } from "../fixture.js";
import { outboundSpec, ruleSpec, vipSpec } from "../specs.js";

const WEB = "198.51.100.1";

const withRules = (...rules: readonly string[]) => vip("web", WEB, { rules, outbound: ["web"] });

/** DIP 10.0.0.2 owns ports 1024 to 1039, and a rule for 1030 is applied and activated 5 s later. */
function recalled(): Site {
  const site = smallSite();
  expect(site.allocate("10.0.0.2", 16)).toEqual([`${WEB}/6:1024-1039`]);
  site.nowMs = 5_000;
  site.configure(withRules("tcp/80 -> web", "tcp/1030 -> web"));
  return site;
}

const recallsOf = (site: Site, host = "host-1"): readonly HostItem[] => {
  const id = site.machine.hostByName(host)?.hostId;
  return [...((id === undefined ? undefined : site.hostViews.get(id))?.values() ?? [])].filter(
    ({ kind }) => kind === "recall",
  );
};

const states = (site: Site): readonly string[] =>
  site.machine
    .snatBlocks({ protocol: 6 })
    .map(({ range, count, state, recalledSinceMs }) => `${range}+${count} ${state} ${recalledSinceMs ?? "-"}`);

const lent = (site: Site) =>
  site.machine.lentPorts((withRules("tcp/80 -> web", "tcp/1030 -> web").object as never)["spec"], 100).first;

describe("a rule whose port is lent out", () => {
  test("is stored, its range is recalled from its owner, and MUXes do not know the rule", () => {
    const site = recalled();
    expect(recallsOf(site)).toMatchObject([{ dipId: site.dipId("10.0.0.2"), vip: WEB, protocol: 6, ranges: [128] }]);
    expect(states(site)).toEqual(["128+1 owned 5000", "129+1 owned -"]);
    expect(site.muxKeys("rule")).toEqual(["rule/1/6/80"]);
    expect(site.muxKeys("snat")).toHaveLength(2);
    expect(lent(site)).toMatchObject([
      { rule: 'rule "tcp-1030"', port: 1_030, range: 128, host: "host-1", recalledSinceMs: 5_000, freeAtMs: null },
    ]);
  });

  test("takes force when the range came back, rested for 120 s, and every MUX knows", () => {
    const site = recalled();
    site.release("10.0.0.2", `${WEB}/6:1024-1031`);
    expect(recallsOf(site)).toEqual([]);
    expect(lent(site)).toMatchObject([{ recalledSinceMs: null, freeAtMs: 125_000 }]);
    site.elapse(119_999);
    site.muxSafeIndex = site.index;
    expect(site.muxKeys("rule")).toEqual(["rule/1/6/80"]);
    site.elapse(1);
    expect(site.muxKeys("rule")).toEqual(["rule/1/6/80", "rule/1/6/1030"]);
    expect(lent(site)).toEqual([]);
    // And nobody is lent the port again.
    site.muxSafeIndex = site.index;
    expect(site.allocate("10.0.0.2", 8)).not.toContain(`${WEB}/6:1024-1031`);
    expect(site.machine.snatUsageOf(ip(WEB))[0]).toMatchObject({ excluded: 1, quarantined: 0 });
  });

  test("waits for ever when its owner keeps the range: nothing that lives is revoked", () => {
    const site = recalled();
    site.elapse(7 * 24 * 3_600_000);
    expect(states(site)[0]).toBe("128+1 owned 5000");
    expect(site.muxKeys("rule")).toEqual(["rule/1/6/80"]);
  });

  test("that is withdrawn ends the recall, and the range is lent out as before", () => {
    const site = recalled();
    site.configure(withRules("tcp/80 -> web"));
    expect(recallsOf(site)).toEqual([]);
    expect(states(site)).toEqual(["128+2 owned -"]);
  });

  test("waits for a range that rests, too; the range is the rule's when it is over", () => {
    const site = smallSite();
    site.allocate("10.0.0.2", 8);
    site.release("10.0.0.2", `${WEB}/6:1024-1031`);
    site.configure(withRules("tcp/80 -> web", "tcp/1030 -> web"));
    expect(site.muxKeys("rule")).toEqual(["rule/1/6/80"]);
    site.muxSafeIndex = site.index;
    site.elapse(120_000);
    expect(site.muxKeys("rule")).toEqual(["rule/1/6/80", "rule/1/6/1030"]);
  });

  test("gets it at once from a host that is fenced, after the rest", () => {
    const site = recalled();
    site.ok("host-fenced", { kind: "fence-host", name: "host-1", reason: "burnt" });
    site.muxSafeIndex = site.index;
    site.elapse(120_000);
    expect(site.muxKeys("rule")).toEqual(["rule/1/6/80", "rule/1/6/1030"]);
  });

  test("recalls from wherever the DIP has moved to", () => {
    const site = recalled();
    site.register(
      "host-1",
      ["10.0.0.1"],
      [{ tenant: "default", dip: ip("10.0.0.2"), vip: ip(WEB), protocol: 6, range: 128, count: 2 }],
      "b2",
    );
    expect(recallsOf(site)).toEqual([]);
    site.apply(
      registerHost(
        "host-2",
        ["10.0.0.2"],
        [{ tenant: "default", dip: ip("10.0.0.2"), vip: ip(WEB), protocol: 6, range: 128, count: 2 }],
      ),
    );
    expect(recallsOf(site, "host-2")).toMatchObject([{ ranges: [128] }]);
  });

  test("of a VIP that was deleted and made again, too: ownership outlives the VIP", () => {
    const site = smallSite();
    site.allocate("10.0.0.2", 8);
    site.delete(vipRef("web"));
    site.activate();
    site.configure(vip("again", WEB, { rules: ["tcp/1024 -> web"] }));
    expect(recallsOf(site)).toMatchObject([{ ranges: [128] }]);
    expect(site.muxKeys("rule")).toEqual([]);
  });

  test("may be one of hundreds: all are counted, and only as many described as are wanted", () => {
    const site = smallSite();
    site.allocate("10.0.0.2", 32_768);
    site.release("10.0.0.2", `${WEB}/6:32768-40959`);
    const inboundNat = [
      { name: "ssh", protocol: "tcp" as const, ports: "32768-34200", pool: "web", backendPort: 22 as never },
    ];
    const spec = vipSpec({
      address: ip(WEB),
      rules: [],
      inboundNat,
      outbound: outboundSpec({ pools: ["web"], maxPorts: 64_512 }),
    });
    site.configure(vip("web", WEB, { spec }));
    const { count, first } = site.machine.lentPorts(spec, 3);
    expect(count).toBe(180); // ranges 4,096 to 4,275
    expect(first.map(({ port, freeAtMs }) => [port, freeAtMs])).toEqual([
      [32_768, 120_000],
      [32_776, 120_000],
      [32_784, 120_000],
    ]);
  });

  test("inbound NAT waits port by port, and for the rest not at all", () => {
    const site = smallSite();
    site.allocate("10.0.0.2", 8);
    const inboundNat = [
      { name: "ssh", protocol: "tcp" as const, ports: "1031-1032", pool: "web", backendPort: 22 as never },
    ];
    const rules = [
      ruleSpec({ name: "http", protocol: "tcp", port: 80 as never, pool: "web", backendPort: 80 as never }),
    ];
    const spec = vipSpec({
      address: ip(WEB),
      rules,
      inboundNat,
      outbound: outboundSpec({ pools: ["web"], maxPorts: 64_512 }),
    });
    site.configure(vip("web", WEB, { spec }));
    expect(site.muxKeys("nat")).toEqual(["nat/1/6/1032"]);
    site.release("10.0.0.2", `${WEB}/6:1024-1031`);
    site.muxSafeIndex = site.index;
    site.elapse(120_000);
    expect([...site.muxKeys("nat")].sort()).toEqual(["nat/1/6/1031", "nat/1/6/1032"]);
  });
});

test("a snapshot keeps since when a range is recalled, and what waits", () => {
  const site = recalled();
  site.allocate("10.0.0.1", 8);
  site.release("10.0.0.2", `${WEB}/6:1032-1039`);
  site.applyObjects(
    withRules("tcp/80 -> web", "tcp/1030 -> web", "tcp/1033 -> web", "tcp/1040 -> web"),
    pool("web", ["10.0.0.1", "10.0.0.2"]),
  );
  const restored = createStateMachine();
  restored.restore([...site.machine.snapshot()], site.machine.appliedIndex);
  expect(restored.digest()).toBe(site.machine.digest());
  expect(restored.snatBlocks({})).toEqual(site.machine.snatBlocks({}));
  expect(restored.muxDigest()).toBe(site.machine.muxDigest());
});
