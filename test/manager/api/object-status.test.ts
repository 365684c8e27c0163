/** How objects stand: conditions with reasons, and what an operator is warned of at apply. */
import { describe, expect, test } from "vitest";
import { warningsOf, wireObject } from "../../../manager/api/objects/status.js";
import type { ObjectRef } from "../../../manager/state/objects.js";
import { pool, poolRef, Site, smallSite, vip, vipRef } from "../state/fixture.js";

/** "Serving: no MembersDown" for what does not hold, "Serving" for what does. */
function conditions(site: Site, ref: ObjectRef): readonly string[] {
  const object = site.machine.object(ref);
  if (object === null) throw new Error("it does not exist");
  return (wireObject(object, site.machine, site.index).status?.conditions ?? []).map(
    ({ type, status, reason, message }) =>
      status === true ? (type ?? "") : `${type ?? ""}: ${reason ?? ""}: ${message ?? ""}`,
  );
}

describe("conditions", () => {
  test("all hold where hosts run the members", () => {
    const site = smallSite();
    expect(conditions(site, poolRef("web"))).toEqual(["Ready", "Serving"]);
    expect(conditions(site, vipRef("web"))).toEqual(["Ready", "Announced", "Serving"]);
  });

  // The finding: a pool whose machines nobody runs was Ready, and nothing said that it gets no traffic.
  test("say that no host runs a member, and that a VIP's rule reaches nobody", () => {
    const site = smallSite();
    site.configure(pool("far", ["10.9.0.1", "10.9.0.2"]), vip("far", "198.51.100.7", { rules: ["tcp/80 -> far"] }));
    expect(conditions(site, poolRef("far"))).toEqual([
      "Ready",
      "Serving: MembersWithoutHost: no host runs 10.9.0.1, 10.9.0.2: they get no traffic",
    ]);
    expect(conditions(site, vipRef("far"))).toEqual([
      "Ready",
      "Announced",
      "Serving: NoMemberTakesFlows: no member of far takes new flows",
    ]);
    site.register("host-9", ["10.9.0.1", "10.9.0.2"]);
    expect(conditions(site, poolRef("far"))).toEqual(["Ready", "Serving"]);
    expect(conditions(site, vipRef("far"))).toEqual(["Ready", "Announced", "Serving"]);
  });

  test("say that a VIP is withdrawn, why and for how long", () => {
    const site = smallSite();
    site.ok("none", {
      kind: "withdraw-vip",
      tenant: "default",
      name: "web",
      reason: "flood",
      forSeconds: 60,
      isOverload: false,
    });
    expect(conditions(site, vipRef("web"))).toContain("Announced: Withdrawn: flood; announced again in 60 s");
    site.elapse(60_000);
    expect(conditions(site, vipRef("web"))).toContain("Announced");
  });
});

test("a VIP's conditions say how often overload took it lately, while it is withdrawn and for an hour after", () => {
  const site = smallSite();
  const flood = { kind: "withdraw-vip", tenant: "default", name: "web", reason: "flood", forSeconds: 0 } as const;
  const announced = (): string => {
    const { status } = wireObject(site.machine.object(vipRef("web"))!, site.machine, site.muxSafeIndex);
    const { reason = "", message = "" } = status?.conditions?.find(({ type }) => type === "Announced") ?? {};
    return `${reason}: ${message}`;
  };
  site.ok("none", { ...flood, isOverload: true });
  site.elapse(300_000);
  expect(announced()).toBe(
    "WithdrawnLately: withdrawn for overload once lately, the last time for 300 s; forgotten in 3600 s",
  );
  site.ok("none", { ...flood, isOverload: true });
  expect(announced()).toBe(
    "Withdrawn: flood; announced again in 600 s; withdrawn for overload 2 times lately, the last time for 600 s",
  );
  site.elapse(600_000 + 3_600_000);
  expect(announced()).toBe(": ");
});

describe("warnings at apply", () => {
  test("name members that no host runs, five at most, and are none where all have one", () => {
    const site = smallSite();
    expect(warningsOf([pool("web", ["10.0.0.1", "10.0.0.2"])], site.machine)).toEqual([]);
    const dips = [1, 2, 3, 4, 5, 6, 7].map((at) => `10.9.0.${at}`);
    expect(warningsOf([pool("far", ["10.0.0.1", ...dips])], site.machine)).toEqual([
      "BackendPool default/far: no host runs 10.9.0.1, 10.9.0.2, 10.9.0.3, 10.9.0.4, 10.9.0.5 and 2 more: no traffic until one registers with it",
    ]);
  });

  test("are at most twenty, and tell that there are more", () => {
    const site = smallSite();
    const many = Array.from({ length: 30 }, (_, at) => pool(`p${at}`, [`10.9.0.${at + 1}`]));
    const warnings = warningsOf(many, site.machine);
    expect(warnings).toHaveLength(21);
    expect(warnings.at(-1)).toBe("and 10 more warnings");
  });

  test("tell that no MUX is live", () => {
    const site = new Site();
    site.bootstrap();
    expect(warningsOf([], site.machine)).toEqual(["no MUX is live: nothing is in force until one joins"]);
  });
});
