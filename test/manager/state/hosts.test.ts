/** Agents start, start again, and say which ranges they hold. */
import { describe, expect, test } from "vitest";
import { Site, blockText, held, ip, pool, registerHost, smallSite, vip } from "./fixture.js";

test("the first hello of a host gives ids to the host and to its DIPs", () => {
  const site = new Site();
  expect(site.register("host-1", ["10.0.0.1", "10.0.0.2"])).toEqual({
    kind: "host-registered",
    hostId: 1,
    incarnation: 1,
    dips: [
      { tenant: "default", address: "10.0.0.1", dipId: 1 },
      { tenant: "default", address: "10.0.0.2", dipId: 2 },
    ],
    refusedRanges: [],
  });
  expect(site.machine.host(1 as never)).toMatchObject({
    name: "host-1",
    bootId: "host-1-1",
    dips: [1, 2],
    registeredIndex: 1,
  });
});

test("a DIP named by a pool first keeps its id when a host runs it, and becomes a member for the MUXes then", () => {
  const site = smallSite();
  site.configure(pool("api", ["10.0.0.9"]));
  const dipId = site.dipId("10.0.0.9");
  expect(site.muxView.get("pool/2")).toMatchObject({ members: [] });
  expect(site.register("host-9", ["10.0.0.9@192.0.2.9"]).dips).toEqual([
    { tenant: "default", address: "10.0.0.9", dipId },
  ]);
  expect(site.muxView.get("pool/2")).toMatchObject({ members: [{ dipId, weight: 100 }] });
  expect(site.muxView.get(`dip/${dipId}`)).toMatchObject({ locator: "192.0.2.9" });
});

test("the view of a new host starts with everything that concerns it", () => {
  const site = smallSite();
  const { hostId } = site.register("host-2", []);
  expect([...(site.hostViews.get(hostId)?.keys() ?? [])]).toEqual(["mux/1", "site"]);
  expect([...(site.hostViews.get(1 as never)?.keys() ?? [])].sort()).toEqual(
    [
      "site",
      "mux/1",
      "dip/1",
      "dip/2",
      "endpoint/1/6/80/1",
      "endpoint/1/6/80/2",
      "outbound/1/1",
      "outbound/2/1",
      "rule/1/1/80",
      "table/1/1",
      "owner/1/1",
      "owner/1/2",
    ].sort(),
  );
});

// After a power failure hundreds of hosts come at once, twenty of them with members in the same pools.
test("hosts that register in one entry change their pools once: one new table, and everybody sees it", () => {
  const site = smallSite();
  const dips = ["10.0.0.11", "10.0.0.12", "10.0.0.13"];
  site.configure(pool("web", ["10.0.0.1", "10.0.0.2", ...dips]));
  const [before] = site.machine.inspect().tables.tablesOf(1 as never);
  const { muxChanges, results } = site.applyAll(dips.map((dip, at) => registerHost(`host-${at + 5}`, [dip])));
  expect(results.map(({ ok }) => ok)).toEqual([true, true, true]);
  const changedPools = muxChanges.filter((change) => change.op === "upsert" && change.item.kind === "pool");
  expect(changedPools).toHaveLength(1);
  const [newest, second] = site.machine.inspect().tables.tablesOf(1 as never);
  expect(newest?.members).toHaveLength(5);
  expect(second).toEqual(before);
  for (const host of ["host-1", "host-5", "host-7"])
    expect(site.hostKeys(host, "table")).toContain(`table/1/${newest?.revision ?? 0}`);
});

describe("the same boot id again", () => {
  test("gets the same answer, keeps what the host owns, and changes nothing", () => {
    const site = smallSite();
    site.allocate("10.0.0.1", 16);
    const again = site.register("host-1", ["10.0.0.1", "10.0.0.2"]);
    expect(again).toMatchObject({ hostId: 1, incarnation: 1, refusedRanges: [] });
    expect([site.last?.muxChanges, site.last?.hostChanges.size]).toEqual([[], 0]);
    expect(site.machine.snatUsage()[0]).toMatchObject({ owned: 2, quarantined: 0 });
  });

  test("may add DIPs, and never takes any away", () => {
    const site = smallSite();
    const dips = site.register("host-1", ["10.0.0.3"]).dips.map((dip) => dip.address);
    expect(dips).toEqual(["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    expect(site.hostKeys("host-1", "dip")).toHaveLength(3);
  });
});

describe("a new boot id", () => {
  test("is a new incarnation; owned ranges that it does not declare are orphaned and rest", () => {
    const site = smallSite();
    site.allocate("10.0.0.1", 32);
    site.nowMs = 7_000;
    const answer = site.register(
      "host-1",
      ["10.0.0.1", "10.0.0.2"],
      [held("10.0.0.1", "198.51.100.1/6:1032-1039")],
      "next",
    );
    expect(answer).toMatchObject({ incarnation: 2, refusedRanges: [] });
    expect(site.machine.snatBlocks({}).map((owned) => [owned.range, owned.count, owned.state, owned.freeAtMs])).toEqual(
      [
        [128, 1, "quarantined", 127_000],
        [129, 1, "owned", null],
        [130, 2, "quarantined", 127_000],
      ],
    );
    expect(site.muxKeys("snat")).toEqual(["snat/1/6/129"]);
    expect(site.hostKeys("host-1", "range")).toEqual(["range/1/6/129"]);
  });

  test("is told which declared ranges it must stop using: another's, free ones, and resting ones", () => {
    const site = smallSite();
    site.allocate("10.0.0.1", 16);
    site.release("10.0.0.1", "198.51.100.1/6:1024-1031");
    const declared = [held("10.0.0.1", "198.51.100.1/6:1024-1055"), held("10.0.0.7", "198.51.100.1/6:1032-1039")];
    const { refusedRanges } = site.register("host-1", ["10.0.0.1", "10.0.0.2"], declared, "next");
    expect(refusedRanges.map(blockText)).toEqual([
      "198.51.100.1/6:1024-1031",
      "198.51.100.1/6:1040-1055",
      "198.51.100.1/6:1032-1039",
    ]);
    expect(site.machine.snatUsage()[0]).toMatchObject({ owned: 1, quarantined: 1 });
  });

  test("that no longer lists a DIP takes the host from it; its ranges are orphaned", () => {
    const site = smallSite();
    site.allocate("10.0.0.2", 16);
    expect(site.register("host-1", ["10.0.0.1"], [], "next").dips).toHaveLength(1);
    expect(site.muxView.get("pool/1")).toMatchObject({ members: [{ dipId: 1 }] });
    expect(site.muxKeys("dip")).toEqual(["dip/1"]);
    expect(site.machine.snatUsage()[0]).toMatchObject({ owned: 0, quarantined: 2 });
    expect(site.register("host-2", ["10.0.0.2"]).refusedRanges).toEqual([]);
  });

  test("may declare ranges of a DIP that it gives up: they stay owned until the next host speaks for the DIP", () => {
    const site = smallSite();
    site.allocate("10.0.0.2", 16);
    site.register("host-1", ["10.0.0.1"], [held("10.0.0.2", "198.51.100.1/6:1024-1039")], "next");
    expect(site.machine.snatBlocks({})).toMatchObject([{ state: "owned", count: 2, host: null }]);
    expect(site.hostKeys("host-1", "range")).toEqual([]);
    site.register("host-2", ["10.0.0.2"], [held("10.0.0.2", "198.51.100.1/6:1024-1031")]);
    expect(site.hostKeys("host-2", "range")).toEqual(["range/1/6/128"]);
    expect(site.machine.snatUsage()[0]).toMatchObject({ owned: 1, quarantined: 1 });
  });

  test("may exchange the locators of its DIPs", () => {
    const site = smallSite();
    site.register("host-1", ["10.0.0.1@10.0.0.2", "10.0.0.2@10.0.0.1"], [], "next");
    expect(site.muxView.get("dip/1")).toMatchObject({ locator: "10.0.0.2" });
    expect(site.muxView.get("dip/2")).toMatchObject({ locator: "10.0.0.1" });
  });
});

describe("a hello is refused", () => {
  test.each([
    ["a DIP is registered by another host, which is named", ["10.0.0.1"], "FAILED_PRECONDITION", /host-1/],
    ["a locator reaches another host's DIP", ["10.0.0.5@10.0.0.1"], "FAILED_PRECONDITION", /host-1/],
    ["a DIP is the address of a VIP", ["198.51.100.1"], "FAILED_PRECONDITION", /default\/web/],
    ["a locator is the address of a VIP", ["10.0.0.5@198.51.100.1"], "FAILED_PRECONDITION", /default\/web/],
    ["a DIP is listed twice", ["10.0.0.5", "10.0.0.5@10.9.9.9"], "INVALID_ARGUMENT", /twice/],
    ["two DIPs share a locator", ["10.0.0.5@10.9.9.9", "10.0.0.6@10.9.9.9"], "INVALID_ARGUMENT", /10\.9\.9\.9/],
  ])("when %s", (_, dips, code, message) => {
    const site = smallSite();
    const refusal = site.refused(registerHost("host-2", dips));
    expect(refusal.code).toBe(code);
    expect(refusal.message).toMatch(message);
    expect(site.machine.hostByName("host-2")).toBeNull();
    expect(site.machine.inspect().dips.find("default", ip("10.0.0.5"))).toBeNull();
  });
});

test("two tenants may use one DIP address, with locators of their own", () => {
  const site = smallSite();
  const dips = [{ tenant: "blue", address: ip("10.0.0.1"), locator: ip("192.0.2.77") }];
  site.ok("host-registered", { kind: "register-host", name: "host-2", bootId: "b", dips, heldRanges: [] });
  site.configure(
    pool("web", ["10.0.0.1"], { tenant: "blue" }),
    vip("web", "198.51.100.2", { rules: ["tcp/80 -> web"], tenant: "blue" }),
  );
  expect(site.hostKeys("host-2", "endpoint")).toEqual(["endpoint/2/6/80/3"]);
  expect(site.hostKeys("host-1", "endpoint")).toHaveLength(2);
});

/** A hello that waited for a leader while its agent was killed and started again. */
test("the hello of a dead process does not take its successor's place, nor its ranges", () => {
  const site = smallSite();
  site.register("host-1", ["10.0.0.1", "10.0.0.2"], [], "boot-b");
  const [granted = ""] = site.allocate("10.0.0.1", 8);
  const late = site.apply(registerHost("host-1", ["10.0.0.1", "10.0.0.2"], [], "host-1-1"));
  expect(late).toMatchObject({ ok: false, code: "STALE_INCARNATION" });
  expect(site.machine.hostByName("host-1")?.bootId).toBe("boot-b");
  expect(site.machine.snatBlocks({}).map((owned) => `${blockText(owned)} ${owned.state}`)).toEqual([
    `${granted} owned`,
  ]);
});
