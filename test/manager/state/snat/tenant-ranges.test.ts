/**
 * The MUXes' SNAT table, which all tenants share: weighted max-min when it becomes scarce, guarantees before all, against a naive
 * model from a printed seed; and what it means to DIPs of several tenants.
 */
import { describe, expect, test } from "vitest";
import type { IpAddress } from "../../../../core/brands.js";
import { createRandom } from "../../../../core/random.js";
import type { Command } from "../../../../manager/state/commands/commands.js";
import { createStateMachine } from "../../../../manager/state/index.js";
import { TenantRanges } from "../../../../manager/state/snat/tenant-ranges.js";
import { testSeed } from "../../../kit/virtual-world.js";
import { LARGE, Site, blockText, ip, pool, vip } from "../fixture.js";
import { type NaiveTenant, naiveShare, naiveTableRoom } from "../model/naive-tenants.js";
import { outboundSpec } from "../specs.js";

const vipOf = (tenant: string): IpAddress => ip(`198.51.100.${tenant.slice(1)}`);

/** Tenants that could own all of the table, and own nothing yet. */
function table(weights: readonly number[], most = 1_000_000): TenantRanges {
  const tenants = new TenantRanges((tenant) => weights[Number(tenant.slice(1)) - 1] ?? 1);
  weights.forEach((_, at) => {
    const tenant = `t${at + 1}`;
    tenants.promised(vipOf(tenant), { tenant, reserved: 0, most });
  });
  return tenants;
}

const own = (tenants: TenantRanges, tenant: string, owned: number): void =>
  tenants.changed(tenant, vipOf(tenant), { owned, reserved: 0 });

describe("the table that tenants share", () => {
  test("is anybody's up to the last sixteenth", () => {
    const tenants = table([1, 1]);
    expect(tenants.grantable("t1", 16_000, Infinity)).toBe(15_000);
    own(tenants, "t1", 15_000);
    expect(tenants.grantable("t1", 16_000, Infinity)).toBe(0);
    expect(tenants.grantable("t2", 16_000, Infinity)).toBe(1_000);
  });

  test("is then shared by weight: those are lifted first that have least for theirs", () => {
    const tenants = table([1, 1, 3]);
    own(tenants, "t1", 15_200);
    expect(["t1", "t2", "t3"].map((tenant) => tenants.grantable(tenant, 16_000, Infinity))).toEqual([0, 200, 600]);
    own(tenants, "t2", 150);
    expect(["t2", "t3"].map((tenant) => tenants.grantable(tenant, 16_000, Infinity))).toEqual([50, 600]);
  });

  test("a tenant that could not own its share leaves the rest of it to others", () => {
    const tenants = table([1, 1, 1]);
    tenants.promised(vipOf("t2"), { tenant: "t2", reserved: 0, most: 100 });
    own(tenants, "t1", 15_200);
    expect(["t1", "t2", "t3"].map((tenant) => tenants.grantable(tenant, 16_000, Infinity))).toEqual([0, 100, 700]);
    tenants.promised(vipOf("t3"), { tenant: "t3", reserved: 0, most: 200 });
    expect(["t1", "t2", "t3"].map((tenant) => tenants.grantable(tenant, 16_000, Infinity))).toEqual([500, 100, 200]);
  });

  test("what is reserved is nobody else's, and counts as had by its tenant", () => {
    const tenants = table([1, 1]);
    tenants.promised(vipOf("t2"), { tenant: "t2", reserved: 600, most: 1_000_000 });
    own(tenants, "t1", 15_000);
    expect(["t1", "t2"].map((tenant) => tenants.grantable(tenant, 16_000, Infinity))).toEqual([0, 400]);
    tenants.changed("t2", vipOf("t2"), { owned: 600, reserved: -600 });
    expect(["t1", "t2"].map((tenant) => tenants.grantable(tenant, 16_000, Infinity))).toEqual([0, 400]);
  });

  test("whoever has nothing finds something, however many they are", () => {
    const tenants = table(Array.from({ length: 200 }, () => 1));
    own(tenants, "t1", 1_500);
    expect(tenants.grantable("t150", 1_600, Infinity)).toBe(1);
  });
});

test("whatever tenants take and give back, their shares are those of a naive model, and nobody takes what is reserved", () => {
  const seed = testSeed("tenant ranges");
  const random = createRandom(seed);
  let scarce = 0;
  for (let round = 0; round < 60; round++) {
    const capacity = random.below(3_000) + 16;
    const weights = Array.from({ length: random.below(8) + 1 }, () => [1, 1, 2, 10, 1_000][random.below(5)]!); // in range
    const tenants = table(weights);
    const model = weights.map((weight, at) => ({
      tenant: `t${at + 1}`,
      weight,
      owned: 0,
      reserved: 0,
      most: 1_000_000,
    }));
    for (let step = 0; step < 200; step++) {
      const one = model[random.below(model.length)]!; // in range
      const at = vipOf(one.tenant);
      const roll = random.nextFloat();
      const why = `seed ${seed}, round ${round}, step ${step}: ${JSON.stringify(model)} of ${capacity}`;
      if (roll < 0.1) {
        const left = capacity - model.reduce((sum, { owned, reserved }) => sum + owned + reserved, 0);
        one.reserved = Math.min(one.reserved + left, random.below(40));
        one.most = random.below(capacity * 2);
        tenants.promised(at, { tenant: one.tenant, reserved: one.reserved, most: one.most });
      } else if (roll < 0.3) {
        const owned = Math.min(one.owned, random.below(300));
        const reserved = Math.min(owned, random.below(3));
        one.owned -= owned;
        one.reserved += reserved;
        tenants.changed(one.tenant, at, { owned: -owned, reserved });
      } else {
        const room = tenants.grantable(one.tenant, capacity, Infinity);
        expect(Math.max(0, room), why).toBe(naiveTableRoom(model, one.tenant, capacity));
        const own = Math.min(one.reserved, random.below(4));
        const more = Math.min(Math.max(0, room), random.below(200));
        one.owned += own + more;
        one.reserved -= own;
        tenants.changed(one.tenant, at, { owned: own + more, reserved: -own });
      }
      const taken = model.reduce((sum, { owned, reserved }) => sum + owned + reserved, 0);
      expect(taken, why).toBeLessThanOrEqual(capacity);
      if (capacity - taken < capacity / 16) scarce++;
      for (const { tenant } of model) {
        const share = tenants.shareOf(tenant, capacity);
        expect(share, why).toBe(naiveShare(model, tenant, capacity));
        expect(share, why).toBeGreaterThanOrEqual(held(model, tenant));
      }
    }
  }
  expect(scarce, "steps with a scarce table").toBeGreaterThan(1_000);
});

const held = (model: readonly NaiveTenant[], name: string): number => {
  const { owned, reserved } = model.find(({ tenant }) => tenant === name)!; // it is one of them
  return owned + reserved;
};

const TABLE = 1_600;

interface Shop {
  readonly tenant: string;
  readonly weight?: number;
  readonly dips: readonly string[];
  readonly minPorts?: number;
}

/** Each tenant with a VIP and a host of its own, behind one MUX with a table of 1,600 ranges. */
function shops(...all: readonly Shop[]): Site {
  const site = new Site();
  site.bootstrap();
  site.join("mux-1", "192.0.2.1", { ...LARGE, snatRanges: TABLE });
  all.forEach((shop, at) => open(site, shop, `198.51.100.${at + 1}`));
  return site;
}

function open(site: Site, shop: Shop, address: string): void {
  const { tenant, weight = 1, dips, minPorts = 0 } = shop;
  const locators = dips.map((dip) => ({ tenant, address: ip(dip), locator: ip(dip) }));
  site.ok("host-registered", { kind: "register-host", name: tenant, bootId: tenant, dips: locators, heldRanges: [] });
  const spec = { weight, addressSpaces: [], maxVips: 0, maxRulesPerVip: 1_500 };
  const ref = { kind: "Tenant" as const, tenant, name: tenant };
  site.configure(
    { ref, labels: {}, object: { kind: "Tenant", spec }, expectedGeneration: null },
    pool("machines", dips, { tenant, maxMembers: 10 }),
    vip("out", address, {
      tenant,
      spec: { outbound: outboundSpec({ pools: ["machines"], maxPorts: 64_512, minPorts }) },
    }),
  );
}

function asking(site: Site, tenant: string, dip: string, ports: number): Command {
  const host = site.machine.hostByName(tenant)!; // registered by `open`
  const dipId = site.dipId(dip, tenant);
  return { kind: "allocate-snat", hostId: host.hostId, incarnation: host.incarnation, dipId, protocol: 6, ports };
}

const ranges = (site: Site, command: Command): number =>
  site.ok("snat-allocated", command).blocks.reduce((sum, { count }) => sum + count, 0);

describe("DIPs of several tenants", () => {
  const red = { tenant: "red", dips: ["10.1.0.1"] };
  const blue = { tenant: "blue", weight: 3, dips: ["10.2.0.1", "10.2.0.2"] };

  test("the one that has taken most waits; one below its share is served, by weight", () => {
    const site = shops(red, blue, { tenant: "green", dips: ["10.3.0.1"] });
    expect(ranges(site, asking(site, "red", "10.1.0.1", 64_512))).toBe(1_500);
    const refused = site.refused(asking(site, "red", "10.1.0.1", 8));
    expect(refused).toMatchObject({
      code: "SNAT_PORTS_EXHAUSTED",
      facts: {
        reason: "mux-table-share",
        snatRanges: TABLE,
        ownedRanges: 1_500,
        shareRanges: 1_500,
        retryAfterMs: 10_000,
      },
    });
    expect(refused.message).toBe(
      "the SNAT table of the smallest live MUX holds 1600 ranges: the last 100 are left to tenants below their share; tenant red, of" +
        " weight 1, owns 1500; its share is 1500; most for their weight own red (1500, weight 1), blue (0, weight 3), green (0, weight 1);" +
        " ranges come back when hosts have not used them for 120 s: ask again in 10 s",
    );
    expect(ranges(site, asking(site, "blue", "10.2.0.1", 64_512)), "three quarters of the last hundred").toBe(75);
    expect(ranges(site, asking(site, "green", "10.3.0.1", 64_512))).toBe(25);
    const full = site.refused(asking(site, "green", "10.3.0.1", 8));
    expect(full.facts).toMatchObject({ reason: "mux-table-full", free: 0, retryAfterMs: 1_000 });
  });

  test("what one gives back is for those below their share", () => {
    const site = shops(red, blue);
    const { blocks } = site.ok("snat-allocated", asking(site, "red", "10.1.0.1", 64_512));
    expect(ranges(site, asking(site, "blue", "10.2.0.1", 64_512))).toBe(100);
    const { hostId, incarnation } = site.machine.hostByName("red")!; // registered
    const back = blocks.find(({ count }) => count === 64)!; // 1,500 in blocks of powers of two: one has 64
    const dipId = site.dipId("10.1.0.1", "red");
    site.ok("snat-released", { kind: "release-snat", hostId, incarnation, dipId, blocks: [back] });
    expect(site.refused(asking(site, "red", "10.1.0.1", 8)).facts).toMatchObject({ reason: "mux-table-share" });
    expect(ranges(site, asking(site, "blue", "10.2.0.2", 64_512)), blockText(back)).toBe(64);
  });

  test("a guaranteed minimum is there when its DIP asks, whatever other tenants have taken", () => {
    const site = shops(red, { ...blue, minPorts: 400 });
    expect(ranges(site, asking(site, "red", "10.1.0.1", 64_512)), "2 DIPs x 2 protocols x 50 are not for it").toBe(
      1_300,
    );
    expect(ranges(site, asking(site, "blue", "10.2.0.1", 64_512)), "its 50, and the last 100").toBe(150);
    expect(site.refused(asking(site, "blue", "10.2.0.1", 8)).facts).toMatchObject({
      reason: "mux-table-full",
      free: 0,
    });
    expect(ranges(site, asking(site, "blue", "10.2.0.2", 400))).toBe(50);
  });

  test("minimums that the table cannot keep are refused when they are written, and a MUX that cannot keep them when it joins", () => {
    const site = shops({ ...red, minPorts: 3_200 });
    ranges(site, asking(site, "red", "10.1.0.1", 4_000));
    const members = Array.from({ length: 10 }, (_, at) => `10.2.0.${at + 1}`);
    const machines = (count: number): ReturnType<typeof pool> =>
      pool("machines", members.slice(0, count), { tenant: "blue", maxMembers: 10 });
    const outbound = outboundSpec({ pools: ["machines"], maxPorts: 64_512, minPorts: 800 });
    const objects = [machines(10), vip("out", "198.51.100.2", { tenant: "blue", spec: { outbound } })];
    const refused = site.refused({ kind: "apply-objects", objects });
    expect(refused.message).toBe(
      "VIP blue/out: minPorts would reserve 2000 more SNAT ranges of 8 ports, TCP and UDP, and 688 are left: the smallest live MUX holds" +
        " 1600 for all tenants, of which 512 are owned and 400 reserved",
    );
    expect(refused.code).toBe("FAILED_PRECONDITION");
    site.configure(machines(3), objects[1]!); // the VIP
    const grown = site.refused({ kind: "apply-objects", objects: [machines(10)] });
    expect(grown.message).toContain("BackendPool blue/machines: minPorts would reserve 1400 more SNAT ranges");
    site.configure(machines(1));
    const small = site.refused({
      kind: "join-mux",
      name: "mux-2",
      bootId: "small",
      address: ip("192.0.2.2"),
      capacity: { ...LARGE, snatRanges: 1_111 },
    });
    expect(small.message).toBe(
      "the tables of MUX mux-2 hold 10000 rules and 1111 SNAT ranges; in use are 0 and 512, and 600 more ranges are reserved by minPorts",
    );
    site.join("mux-2", "192.0.2.2", { ...LARGE, snatRanges: 1_112 });
  });

  test("what was promised beyond all tables while no MUX was live keeps no MUX out", () => {
    const site = shops(red, blue);
    const [only] = site.machine.muxes();
    site.ok("none", { kind: "leave-mux", muxId: only!.muxId, incarnation: only!.incarnation }); // of `shops`
    const outbound = outboundSpec({ pools: ["machines"], maxPorts: 64_512, minPorts: 1_600 });
    site.configure(vip("more", "198.51.100.3", { tenant: "blue", spec: { outbound } }));
    site.join("mux-2", "192.0.2.2", { ...LARGE, snatRanges: 300 });
    site.join("mux-3", "192.0.2.3", { ...LARGE, snatRanges: 300 });
  });

  test("a replica restored from a snapshot answers alike, also where the level was found before", () => {
    const site = shops(red, blue, { tenant: "green", dips: ["10.3.0.1"] });
    ranges(site, asking(site, "red", "10.1.0.1", 64_512));
    site.refused(asking(site, "red", "10.1.0.1", 8));
    ranges(site, asking(site, "blue", "10.2.0.1", 80));
    const restored = createStateMachine();
    restored.restore(site.machine.snapshot(), site.machine.appliedIndex);
    const shares = (machine: typeof restored): unknown => machine.inspect().snat.tenants.shares(TABLE);
    expect(shares(restored)).toEqual(shares(site.machine));
    expect(restored.digest()).toBe(site.machine.digest());
  });
});
