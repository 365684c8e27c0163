/** What operators may and may not write, and how they are told. */
import { describe, expect, test } from "vitest";
import { LARGE, Site, pool, poolRef, smallSite, vip, vipRef } from "./fixture.js";

const applying = (...objects: readonly ReturnType<typeof pool>[]) => ({ kind: "apply-objects", objects }) as const;

describe("objects of one request", () => {
  test("may refer to each other in any order", () => {
    const site = new Site();
    const result = site.applyObjects(
      vip("web", "198.51.100.1", { rules: ["tcp/80 -> web"] }),
      pool("web", ["10.0.0.1"]),
    );
    expect(result).toMatchObject({
      ok: true,
      value: {
        objects: [
          { ref: vipRef("web"), change: "created", generation: 1 },
          { ref: poolRef("web"), change: "created", generation: 1 },
        ],
      },
    });
  });

  test("are stored all or none", () => {
    const site = new Site();
    const refusal = site.refused(
      applying(pool("good", ["10.0.0.1"]), vip("bad", "198.51.100.1", { rules: ["tcp/80 -> nowhere"] })),
    );
    expect(refusal.code).toBe("INVALID_ARGUMENT");
    expect(site.machine.objects("BackendPool", null)).toEqual([]);
    expect(site.machine.dip(1 as never)).toBeNull();
  });

  test("are told all their problems at once, each with its object and path", () => {
    const site = smallSite();
    const refusal = site.refused(
      applying(
        pool("api", ["10.0.0.1", "10.0.0.1"]),
        vip("two", "198.51.100.1", { rules: ["tcp/80 -> webb", "tcp/80 -> web"] }),
      ),
    );
    expect(refusal.code).toBe("INVALID_ARGUMENT");
    expect(refusal.facts["problemCount"]).toBe(5);
    const problems = JSON.parse(String(refusal.facts["problems"])) as {
      object: number;
      path: string;
      code: string;
      message: string;
    }[];
    expect(problems.map(({ object, path, code }) => [object, path, code])).toEqual([
      [0, "spec.members[1].dip", "INVALID_ARGUMENT"],
      [1, "spec.address", "ALREADY_EXISTS"],
      [1, "spec.rules[0].pool", "INVALID_ARGUMENT"],
      [1, "spec.rules[1].name", "INVALID_ARGUMENT"],
      [1, "spec.rules[1].port", "INVALID_ARGUMENT"],
    ]);
    expect(problems[2]?.message).toBe(
      'VIP default/two: rule "tcp-80" names pool "webb", which does not exist; tenant default has api, web',
    );
    for (const { message } of problems) expect(refusal.message).toContain(message);
  });

  test("may not name an object twice", () => {
    expect(new Site().refused(applying(pool("a", []), pool("a", []))).code).toBe("INVALID_ARGUMENT");
  });
});

describe("a generation", () => {
  test("counts changes of spec or labels, and identical input changes nothing", () => {
    const site = smallSite();
    const again = pool("web", ["10.0.0.1", "10.0.0.2"]);
    expect(site.applyObjects(again)).toMatchObject({ value: { objects: [{ change: "unchanged", generation: 1 }] } });
    const labelled = { ...again, labels: { team: "blue" } };
    expect(site.applyObjects(labelled)).toMatchObject({
      value: { objects: [{ change: "configured", generation: 2 }] },
    });
    expect(site.machine.pendingActivation()).toBeNull();
    expect(site.applyObjects(labelled)).toMatchObject({ value: { objects: [{ change: "unchanged", generation: 2 }] } });
  });

  test("that differs from the expected one is a conflict", () => {
    const site = smallSite();
    const change = (expectedGeneration: number) => applying(pool("web", ["10.0.0.1"], { expectedGeneration }));
    expect(site.refused(change(0)).code).toBe("GENERATION_CONFLICT");
    expect(site.refused(change(2)).code).toBe("GENERATION_CONFLICT");
    expect(site.refused(applying(pool("new", [], { expectedGeneration: 1 }))).code).toBe("GENERATION_CONFLICT");
    expect(site.apply(change(1))).toMatchObject({ ok: true });
    expect(site.applyObjects(pool("new", [], { expectedGeneration: 0 }))).toMatchObject({ ok: true });
  });

  test("is checked on deletion too", () => {
    const site = smallSite();
    const objects = [{ ref: vipRef("web"), expectedGeneration: 7 }];
    expect(site.refused({ kind: "delete-objects", objects }).code).toBe("GENERATION_CONFLICT");
  });
});

describe("a VIP is refused", () => {
  test.each([
    ["its address is another VIP's", vip("two", "198.51.100.1"), "ALREADY_EXISTS", /VIP default\/web/],
    ["its address is a DIP's", vip("two", "10.0.0.1"), "FAILED_PRECONDITION", /DIP default\/10\.0\.0\.1/],
    ["its address is a MUX's", vip("two", "192.0.2.1"), "FAILED_PRECONDITION", /mux-1/],
    ["its address changes", vip("web", "198.51.100.2"), "FAILED_PRECONDITION", /fixed at creation/],
    ["outbound names no known pool", vip("two", "198.51.100.2", { outbound: ["x"] }), "INVALID_ARGUMENT", /has web/],
    [
      "outbound names a pool twice",
      vip("two", "198.51.100.2", { outbound: ["web", "web"] }),
      "INVALID_ARGUMENT",
      /twice/,
    ],
    [
      "maxPorts is no multiple of 8",
      vip("two", "198.51.100.2", { outbound: ["web"], maxPorts: 12 }),
      "INVALID_ARGUMENT",
      /multiple/,
    ],
    [
      "its pool is of another address family",
      vip("two", "2001:db8::1", { rules: ["tcp/80 -> web"] }),
      "INVALID_ARGUMENT",
      /family/,
    ],
    [
      "its pool is another tenant's",
      vip("two", "198.51.100.2", { rules: ["tcp/80 -> web"], tenant: "blue" }),
      "INVALID_ARGUMENT",
      /no BackendPool/,
    ],
  ] as const)("when %s", (_, object, code, message) => {
    const refusal = smallSite().refused(applying(object));
    expect(refusal.code).toBe(code);
    expect(refusal.message).toMatch(message);
  });

  test("when the rules would not fit the smallest live MUX; removing rules is always allowed", () => {
    const site = smallSite();
    site.join("mux-2", "192.0.2.2", { ...LARGE, rules: 2 });
    const rules = (...ports: readonly number[]) => ports.map((port) => `tcp/${port} -> web`);
    expect(site.refused(applying(vip("two", "198.51.100.2", { rules: rules(1, 2) }))).message).toMatch(
      /3 rules.*holds 2/,
    );
    site.configure(vip("two", "198.51.100.2", { rules: rules(1) }));
    site.configure(vip("web", "198.51.100.1", { rules: [] }));
    // A rule that MUXes may still hold counts until the change is activated.
    site.applyObjects(vip("two", "198.51.100.2", { rules: [] }));
    expect(site.refused(applying(vip("web", "198.51.100.1", { rules: rules(5, 6) }))).code).toBe("FAILED_PRECONDITION");
    site.activate();
    expect(site.applyObjects(vip("web", "198.51.100.1", { rules: rules(5, 6) }))).toMatchObject({ ok: true });
  });
});

describe("a pool is refused", () => {
  test.each([
    [
      "it has more members than maxMembers",
      pool("api", ["10.0.0.3", "10.0.0.4"], { maxMembers: 1 }),
      "INVALID_ARGUMENT",
    ],
    ["maxMembers is beyond the largest Maglev table", pool("api", [], { maxMembers: 656 }), "INVALID_ARGUMENT"],
    ["maxMembers changes", pool("web", ["10.0.0.1"], { maxMembers: 30 }), "FAILED_PRECONDITION"],
    ["a weight is out of range", pool("api", ["10.0.0.3*1001"]), "INVALID_ARGUMENT"],
    ["a member is a VIP", pool("api", ["198.51.100.1"]), "FAILED_PRECONDITION"],
    ["a VIP that uses it is of another family", pool("web", ["2001:db8::5"]), "INVALID_ARGUMENT"],
  ] as const)("when %s", (_, object, code) => {
    expect(smallSite().refused(applying(object)).code).toBe(code);
  });

  test("when a VIP of the same request takes a member's address", () => {
    const refusal = new Site().refused(applying(vip("v", "10.0.0.7"), pool("p", ["10.0.0.7"])));
    expect(refusal.code).toBe("FAILED_PRECONDITION");
  });
});

describe("a deletion", () => {
  test("of a pool in use is refused and names the users", () => {
    const refusal = smallSite().refused({
      kind: "delete-objects",
      objects: [{ ref: poolRef("web"), expectedGeneration: null }],
    });
    expect(refusal.code).toBe("FAILED_PRECONDITION");
    expect(refusal.message).toBe("BackendPool default/web is in use by VIP default/web");
  });

  test("of a VIP and its pool together works, in either order", () => {
    for (const refs of [
      [vipRef("web"), poolRef("web")],
      [poolRef("web"), vipRef("web")],
    ]) {
      const site = smallSite();
      expect(site.delete(...refs)).toMatchObject({
        ok: true,
        value: { objects: [{ change: "deleted" }, { change: "deleted" }] },
      });
      site.activate();
      expect([site.machine.object(vipRef("web")), site.machine.object(poolRef("web"))]).toEqual([null, null]);
      expect([...site.muxKeys("vip"), ...site.muxKeys("rule"), ...site.muxKeys("pool")]).toEqual([]);
    }
  });

  test("of what does not exist is NOT_FOUND; of what is going already is fine", () => {
    const site = smallSite();
    expect(
      site.refused({ kind: "delete-objects", objects: [{ ref: vipRef("x"), expectedGeneration: null }] }).code,
    ).toBe("NOT_FOUND");
    site.delete(vipRef("web"));
    const { digest } = { digest: site.machine.object(vipRef("web")) };
    expect(site.delete(vipRef("web"))).toMatchObject({ ok: true });
    expect(site.machine.object(vipRef("web"))).toEqual(digest);
  });

  test("keeps name and address taken until MUXes have dropped the object", () => {
    const site = smallSite();
    site.delete(vipRef("web"));
    expect(site.refused(applying(vip("web", "198.51.100.1"))).code).toBe("FAILED_PRECONDITION");
    expect(site.refused(applying(vip("next", "198.51.100.1"))).message).toMatch(/deletion is under way/);
    site.activate();
    expect(site.applyObjects(vip("next", "198.51.100.1"))).toMatchObject({ ok: true });
    expect(site.machine.object(vipRef("next"))).toMatchObject({ vipId: 2 });
  });

  test("under way forbids new users of the pool", () => {
    const site = smallSite();
    site.configure(pool("old", ["10.0.0.1"]));
    site.delete(poolRef("old"));
    expect(site.refused(applying(vip("two", "198.51.100.2", { rules: ["tcp/80 -> old"] }))).message).toMatch(
      /deletion is under way/,
    );
  });
});

test("check tells what apply would refuse, and changes nothing", () => {
  const site = smallSite();
  const before = site.machine.digest();
  const bad = applying(vip("two", "198.51.100.2", { rules: ["tcp/80 -> nowhere"] }));
  expect(site.machine.check(bad)).toMatchObject({ ok: false, code: "INVALID_ARGUMENT", index: site.index });
  expect(site.machine.check(applying(vip("two", "198.51.100.2", { rules: ["tcp/80 -> web"] })))).toBeNull();
  expect(
    site.machine.check({ kind: "delete-objects", objects: [{ ref: poolRef("web"), expectedGeneration: null }] })?.code,
  ).toBe("FAILED_PRECONDITION");
  expect(site.machine.check({ kind: "tick" })).toBeNull();
  expect(site.machine.digest()).toBe(before);
});

test("listings are ordered by tenant and name", () => {
  const site = new Site();
  site.applyObjects(pool("b", []), pool("a", []), pool("a", [], { tenant: "blue" }));
  const names = (tenant: string | null) =>
    site.machine.objects("BackendPool", tenant).map(({ ref }) => `${ref.tenant}/${ref.name}`);
  expect(names(null)).toEqual(["blue/a", "default/a", "default/b"]);
  expect(names("default")).toEqual(["default/a", "default/b"]);
});
