/** SNAT ports asked for, granted, refused and given back. */
import { describe, expect, test } from "vitest";
import type { DipId, HostId } from "../../../../core/brands.js";
import { LARGE, Site, block, ip, pool, smallSite, vip, vipRef } from "../fixture.js";

describe("a grant", () => {
  test("is one aligned block of the next power of two, and MUXes and the host learn of each of its ranges", () => {
    const site = smallSite();
    expect(site.allocate("10.0.0.1", 20)).toEqual(["198.51.100.1/6:1024-1055"]);
    expect(site.muxKeys("snat")).toEqual(["snat/1/6/128", "snat/1/6/129", "snat/1/6/130", "snat/1/6/131"]);
    expect(site.hostKeys("host-1", "range")).toEqual([
      "range/1/6/128",
      "range/1/6/129",
      "range/1/6/130",
      "range/1/6/131",
    ]);
  });

  test("is counted apart for TCP and UDP", () => {
    const site = smallSite();
    expect(site.allocate("10.0.0.1", 8, 6)).toEqual(["198.51.100.1/6:1024-1031"]);
    expect(site.allocate("10.0.0.2", 8, 17)).toEqual(["198.51.100.1/17:1024-1031"]);
    expect(site.machine.snatUsage().map((usage) => [usage.protocol, usage.owned, usage.free])).toEqual([
      [6, 1, 8063],
      [17, 1, 8063],
    ]);
  });

  test("comes from the VIP with most free ports", () => {
    const site = smallSite();
    site.configure(vip("second", "198.51.100.2", { outbound: ["web"] }));
    expect(site.allocate("10.0.0.1", 64)).toEqual(["198.51.100.1/6:1024-1087"]);
    expect(site.allocate("10.0.0.1", 8)).toEqual(["198.51.100.2/6:1024-1031"]);
    expect(site.allocate("10.0.0.1", 8)).toEqual(["198.51.100.2/6:1032-1039"]);
  });

  test("never holds a rule's port", () => {
    const site = smallSite();
    site.configure(vip("web", "198.51.100.1", { rules: ["tcp/80 -> web", "tcp/1030 -> web"], outbound: ["web"] }));
    expect(site.allocate("10.0.0.1", 8)).toEqual(["198.51.100.1/6:1032-1039"]);
    expect(site.machine.snatUsage()[0]).toMatchObject({ owned: 1, excluded: 1, free: 8062 });
  });

  test("stops at the VIP's maxPorts, in pieces where a power of two would exceed it", () => {
    const site = smallSite();
    site.configure(vip("web", "198.51.100.1", { outbound: ["web"], maxPorts: 24 }));
    expect(site.allocate("10.0.0.1", 64)).toEqual(["198.51.100.1/6:1024-1039", "198.51.100.1/6:1040-1047"]);
    const refusal = site.refused(site.allocation("10.0.0.1", 8));
    expect(refusal.code).toBe("SNAT_LIMIT_REACHED");
    expect(refusal.facts).toMatchObject({ dip: "10.0.0.1", vip: "198.51.100.1", maxPorts: 24, ownedPorts: 24 });
    expect(site.allocate("10.0.0.2", 8)).toEqual(["198.51.100.1/6:1048-1055"]);
  });

  test("stops at the SNAT table of the smallest live MUX", () => {
    const site = smallSite();
    site.join("mux-2", "192.0.2.2", { ...LARGE, snatRanges: 3 });
    expect(site.allocate("10.0.0.1", 64)).toHaveLength(2);
    expect(site.refused(site.allocation("10.0.0.2", 8))).toMatchObject({
      code: "SNAT_PORTS_EXHAUSTED",
      facts: { reason: "mux-table-full", snatRanges: 3 },
    });
  });
});

describe("a request for ports is refused", () => {
  test("when the host is not known, or has started anew since", () => {
    const site = smallSite();
    const request = site.allocation("10.0.0.1", 8);
    expect(site.refused({ ...request, hostId: 9 as HostId } as never).code).toBe("NOT_FOUND");
    site.register("host-1", ["10.0.0.1", "10.0.0.2"], [], "second start");
    expect(site.refused(request)).toMatchObject({ code: "STALE_INCARNATION", facts: { incarnation: 2 } });
  });

  test("when the DIP is another host's, or nobody's", () => {
    const site = smallSite();
    site.register("host-2", ["10.0.0.3"]);
    const request = site.allocation("10.0.0.1", 8);
    expect(site.refused({ ...request, dipId: site.dipId("10.0.0.3") } as never).code).toBe("PERMISSION_DENIED");
    expect(site.refused({ ...request, dipId: 99 as DipId } as never).code).toBe("PERMISSION_DENIED");
  });

  test("when no VIP's outbound names a pool of the DIP", () => {
    const site = smallSite();
    site.register("host-2", ["10.0.0.3"]);
    expect(site.refused(site.allocation("10.0.0.3", 8)).code).toBe("SNAT_NOT_CONFIGURED");
  });

  test("while the VIP is not activated, because MUXes do not know it yet", () => {
    const site = smallSite();
    site.register("host-2", ["10.0.0.3"]);
    site.applyObjects(pool("new", ["10.0.0.3"]), vip("new", "198.51.100.9", { outbound: ["new"] }));
    expect(site.refused(site.allocation("10.0.0.3", 8)).code).toBe("FAILED_PRECONDITION");
    site.activate();
    expect(site.allocate("10.0.0.3", 8)).toEqual(["198.51.100.9/6:1024-1031"]);
  });

  test("while no MUX is live", () => {
    const site = smallSite();
    site.ok("none", { kind: "leave-mux", muxId: 1 as never, incarnation: 1 });
    expect(site.refused(site.allocation("10.0.0.1", 8)).code).toBe("NO_LIVE_MUX");
  });

  test("when all ports are owned, and then, when some rest, with the time at which they are free", () => {
    const site = smallSite();
    site.allocate("10.0.0.1", 64_512);
    expect(site.allocate("10.0.0.2", 64_512), "the last sixteenth is not for the first who comes").not.toEqual([]);
    expect(site.refused(site.allocation("10.0.0.1", 8))).toMatchObject({
      code: "SNAT_PORTS_EXHAUSTED",
      facts: { reason: "all-owned", vip: "198.51.100.1", free: 0, owned: 8064 },
    });
    site.nowMs = 5_000;
    site.release("10.0.0.1", "198.51.100.1/6:2048-2063");
    site.nowMs = 15_000;
    expect(site.refused(site.allocation("10.0.0.1", 8))).toMatchObject({
      code: "SNAT_PORTS_EXHAUSTED",
      facts: { reason: "quarantine", quarantined: 2, freeAtMs: 125_000, retryAfterMs: 10_000 },
    });
  });
});

describe("a release", () => {
  test("takes the ranges out of all views at once, though no other DIP gets them yet", () => {
    const site = smallSite();
    site.allocate("10.0.0.1", 16);
    expect(site.release("10.0.0.1", "198.51.100.1/6:1024-1031")).toBe(1);
    expect(site.muxKeys("snat")).toEqual(["snat/1/6/129"]);
    expect(site.hostKeys("host-1", "range")).toEqual(["range/1/6/129"]);
    expect(site.machine.snatBlocks({}).map((owned) => [owned.range, owned.count, owned.state, owned.freeAtMs])).toEqual(
      [
        [128, 1, "quarantined", 120_000],
        [129, 1, "owned", null],
      ],
    );
  });

  test.each([
    ["ranges of another DIP", "198.51.100.1/6:1040-1047"],
    ["free ranges", "198.51.100.1/6:4096-4103"],
    ["ranges of an address that is no VIP", "198.51.100.77/6:1024-1031"],
  ])("of %s is refused as a whole", (_, foreign) => {
    const site = smallSite();
    site.allocate("10.0.0.1", 16);
    site.allocate("10.0.0.2", 16);
    const refusal = site.refused(site.releasing("10.0.0.1", "198.51.100.1/6:1024-1031", foreign));
    expect(refusal.code).toBe("INVALID_ARGUMENT");
    expect(site.machine.snatUsage()[0]?.owned).toBe(4);
  });

  test("that names a range twice is refused", () => {
    const site = smallSite();
    site.allocate("10.0.0.1", 32);
    const twice = site.releasing("10.0.0.1", "198.51.100.1/6:1024-1039", "198.51.100.1/6:1032-1047");
    expect(site.refused(twice).code).toBe("INVALID_ARGUMENT");
  });

  test("repeated with the same origin gets the answer of the first, though another DIP may own the range by then", () => {
    const site = smallSite();
    site.allocate("10.0.0.1", 8);
    const origin = { session: "ab".repeat(16), sequence: 1 };
    const release = site.releasing("10.0.0.1", "198.51.100.1/6:1024-1031");
    const first = site.apply(release, origin);
    expect(first).toMatchObject({ ok: true, value: { kind: "snat-released", ranges: 1 } });
    expect(site.apply(release, origin)).toEqual(first);
    expect(site.machine.snatUsage()[0]?.quarantined).toBe(1);
  });
});

describe("ownership outlives configuration", () => {
  test("a DIP that leaves the outbound pool keeps its ranges, in all views", () => {
    const site = smallSite();
    site.allocate("10.0.0.1", 16);
    site.configure(pool("web", ["10.0.0.2"]));
    expect(site.muxKeys("snat")).toHaveLength(2);
    expect(site.hostKeys("host-1", "range")).toHaveLength(2);
    expect(site.refused(site.allocation("10.0.0.1", 8)).code).toBe("SNAT_NOT_CONFIGURED");
    expect(site.release("10.0.0.1", "198.51.100.1/6:1024-1039")).toBe(2);
  });

  test("a VIP that is deleted takes its ranges out of the views, and brings them back under a new id", () => {
    const site = smallSite();
    site.allocate("10.0.0.1", 16);
    site.delete(vipRef("web"));
    expect(site.muxKeys("snat")).toHaveLength(2);
    site.activate();
    expect(site.muxKeys("snat")).toEqual([]);
    expect(site.hostKeys("host-1", "range")).toEqual([]);
    expect(site.machine.snatBlocks({})).toMatchObject([{ vipId: null, state: "owned", count: 2 }]);

    site.configure(vip("again", "198.51.100.1", { outbound: ["web"] }));
    expect(site.muxKeys("snat")).toEqual(["snat/2/6/128", "snat/2/6/129"]);
    expect(site.hostKeys("host-1", "range")).toEqual(["range/2/6/128", "range/2/6/129"]);
    expect(site.allocate("10.0.0.2", 8)).toEqual(["198.51.100.1/6:1040-1047"]);
  });
});

test("listings filter by VIP, DIP, host and protocol", () => {
  const site = smallSite();
  site.register("host-2", ["10.0.0.3"]);
  site.configure(pool("web", ["10.0.0.1", "10.0.0.2", "10.0.0.3"]));
  site.allocate("10.0.0.1", 8);
  site.allocate("10.0.0.3", 8);
  site.allocate("10.0.0.3", 8, 17);
  const { machine } = site;
  const hostId = machine.hostByName("host-2")?.hostId as HostId;
  expect(machine.snatBlocks({}).map((owned) => [owned.protocol, owned.range, owned.host])).toEqual([
    [6, 128, "host-1"],
    [6, 129, "host-2"],
    [17, 128, "host-2"],
  ]);
  expect(machine.snatBlocks({ host: hostId })).toHaveLength(2);
  expect(machine.snatBlocks({ host: hostId, protocol: 6 })).toHaveLength(1);
  expect(machine.snatBlocks({ dip: site.dipId("10.0.0.1") })).toMatchObject([block("198.51.100.1/6:1024-1031")]);
  expect(machine.snatBlocks({ vip: ip("198.51.100.200") })).toEqual([]);
});

test("without any configuration there is nothing to list", () => {
  const site = new Site();
  expect([site.machine.snatBlocks({}), site.machine.snatUsage()]).toEqual([[], []]);
});
