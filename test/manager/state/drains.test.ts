/**
 * The drain of members with `drainTimeoutSeconds`: no new flows at once, the end of the others when the time has come; on the MUXes,
 * on the hosts, in cluster time, and the same after a snapshot.
 */
import { describe, expect, test } from "vitest";
import type { LogIndex, PoolId, Port } from "../../../core/brands.js";
import {
  MEMBER_DOWN,
  MEMBER_DRAINING,
  MEMBER_ENDED,
  type MuxPoolItem,
  type MuxPoolMember,
} from "../../../dataplane/mux-items.js";
import { servingMembers } from "../../../dataplane/serving-members.js";
import { createStateMachine } from "../../../manager/state/index.js";
import type { BackendPoolSpec } from "../../../manager/state/objects.js";
import { Site, member, pool, poolRef, vip, vipRef } from "./fixture.js";
import { probeSpec } from "./specs.js";

const SHOWN_MS = 600_000;
const web = (members: readonly string[], drainTimeoutSeconds = 300, spec: Partial<BackendPoolSpec> = {}) =>
  pool("web", members, { spec: { drainTimeoutSeconds, ...spec } });

function siteOf(...members: readonly string[]): Site {
  const site = new Site();
  site.bootstrap();
  site.join("mux-1", "192.0.2.1");
  site.register("host-1", ["10.0.0.1", "10.0.0.2"]);
  site.register("host-2", ["10.0.0.3"]);
  site.configure(vip("web", "198.51.100.1", { rules: ["tcp/80 -> web"] }), web(members));
  return site;
}

const item = (site: Site): MuxPoolItem => site.muxView.get("pool/1") as MuxPoolItem;
const shown = (site: Site, dip: string): MuxPoolMember | undefined =>
  item(site).members.find(({ dipId }) => dipId === site.dipId(dip));
const serving = (site: Site): readonly number[] => servingMembers(item(site)).map(({ dipId }) => dipId);

/** Of the DIP's endpoint at its host: "ended", "there" or "gone". */
function endpoint(site: Site, host: string, dip: string): string {
  const view = site.hostViews.get(site.machine.hostByName(host)!.hostId);
  const found = view?.get(`endpoint/1/6/80/${site.dipId(dip)}`);
  return found === undefined ? "gone" : "ended" in found ? "ended" : "there";
}

/** Its host's probe says so, of its pool with id 1. */
function reportDown(site: Site, dip: string): void {
  const dipId = site.dipId(dip);
  const { hostId, incarnation } = site.machine.hosts().find(({ dips }) => dips.includes(dipId))!; // some host runs it
  const transitions = [{ poolId: 1 as PoolId, dipId, healthy: false, reason: "connection refused" }];
  site.ok("none", { kind: "report-health", hostId, incarnation, transitions });
}

describe("a member that leaves its pool", () => {
  test("drains from the moment MUXes leave it out, ends after the timeout, and is forgotten later", () => {
    const site = siteOf("10.0.0.1", "10.0.0.3");
    site.applyObjects(web(["10.0.0.1"]));
    expect(shown(site, "10.0.0.3"), "hosts know, MUXes go on").toMatchObject({ weight: 100 });
    expect(site.machine.drainsOf(1 as never)).toEqual([]);
    site.activate();
    expect(shown(site, "10.0.0.3")).toEqual({
      dipId: site.dipId("10.0.0.3"),
      weight: 0,
      state: MEMBER_DRAINING,
      backup: true,
    });
    expect(serving(site)).toEqual([site.dipId("10.0.0.1")]);
    expect(endpoint(site, "host-2", "10.0.0.3"), "its flows go on").toBe("there");
    expect(site.machine.nextTickDueMs()).toBe(300_000);

    site.elapse(299_999);
    expect(shown(site, "10.0.0.3")).toMatchObject({ state: MEMBER_DRAINING });
    site.elapse(1);
    expect(shown(site, "10.0.0.3")).toMatchObject({ state: MEMBER_ENDED });
    expect(endpoint(site, "host-2", "10.0.0.3")).toBe("ended");
    expect(endpoint(site, "host-1", "10.0.0.1")).toBe("there");
    expect(site.machine.nextTickDueMs()).toBe(300_000 + SHOWN_MS);
    site.elapse(SHOWN_MS);
    expect(shown(site, "10.0.0.3")).toBeUndefined();
    expect(endpoint(site, "host-2", "10.0.0.3")).toBe("gone");
    expect(site.machine.nextTickDueMs()).toBeNull();
  });

  test("does not drain without a timeout: it is gone at once, and its flows end by themselves", () => {
    const site = siteOf("10.0.0.1", "10.0.0.3");
    site.configure(web(["10.0.0.1", "10.0.0.3"], 0));
    site.configure(web(["10.0.0.1"], 0));
    expect(shown(site, "10.0.0.3")).toBeUndefined();
    expect(endpoint(site, "host-2", "10.0.0.3")).toBe("gone");
    expect(site.machine.nextTickDueMs()).toBeNull();
  });

  test("and comes back serves again, whether its drain was over or not", () => {
    for (const waited of [10_000, 400_000]) {
      const site = siteOf("10.0.0.1", "10.0.0.3");
      site.configure(web(["10.0.0.1"]));
      site.elapse(waited);
      site.applyObjects(web(["10.0.0.1", "10.0.0.3"]));
      expect(endpoint(site, "host-2", "10.0.0.3"), "its host is ready first").toBe("there");
      expect(serving(site)).toHaveLength(1);
      site.activate();
      expect(shown(site, "10.0.0.3")).toEqual({ dipId: site.dipId("10.0.0.3"), weight: 100 });
      site.elapse(1_000_000);
      expect(shown(site, "10.0.0.3")).not.toHaveProperty("state");
    }
  });

  test("keeps its endpoints in step with the VIP's rules, and its pool's firewall, until it is forgotten", () => {
    const site = siteOf("10.0.0.1", "10.0.0.3");
    site.configure(web(["10.0.0.1"]));
    site.configure(vip("web", "198.51.100.1", { rules: ["tcp/80 -> web", "tcp/443 -> web"] }));
    expect(site.hostKeys("host-2", "endpoint")).toHaveLength(2);
    site.configure(
      {
        ref: { kind: "SecurityGroup", tenant: "default", name: "g" },
        labels: {},
        object: { kind: "SecurityGroup", spec: { rules: [] } },
        expectedGeneration: null,
      },
      web(["10.0.0.1"], 300, { securityGroups: ["g"] }),
    );
    expect(site.hostKeys("host-2", "group")).toEqual(["group/default/g"]);
    site.elapse(300_000);
    site.elapse(SHOWN_MS);
    expect(site.hostKeys("host-2", "group")).toEqual([]);
    expect(site.hostKeys("host-2", "endpoint")).toEqual([]);
  });

  test("does not count as a primary that is missing", () => {
    const site = siteOf("10.0.0.1", "10.0.0.3");
    site.configure(web(["10.0.0.1"], 300, { failoverPercent: 100 }));
    expect(serving(site), "one of one primaries is up").toEqual([site.dipId("10.0.0.1")]);
  });

  // Nobody probes it any more, and MUXes that start anew must not take it for one that lives.
  test("while it is down stays down while it drains, and starts up once that is forgotten", () => {
    const probed = { probe: probeSpec({ protocol: "tcp", port: 80 as Port }) };
    const site = siteOf("10.0.0.1", "10.0.0.3");
    site.configure(web(["10.0.0.1", "10.0.0.3"], 300, probed));
    reportDown(site, "10.0.0.3");
    site.configure(web(["10.0.0.1"], 300, probed));
    expect(shown(site, "10.0.0.3")).toMatchObject({ weight: 0, state: MEMBER_DOWN });
    site.configure(web(["10.0.0.1", "10.0.0.3"], 300, probed));
    expect(shown(site, "10.0.0.3"), "nobody has found it well").toMatchObject({ weight: 100, state: MEMBER_DOWN });
    site.configure(web(["10.0.0.1"], 300, probed));
    site.elapse(300_000);
    expect(shown(site, "10.0.0.3")).toMatchObject({ state: MEMBER_ENDED });
    site.elapse(SHOWN_MS);
    site.configure(web(["10.0.0.1", "10.0.0.3"], 300, probed));
    expect(shown(site, "10.0.0.3")).toEqual({ dipId: site.dipId("10.0.0.3"), weight: 100 });
  });

  test("is down or not by its adminState, where that has overruled the probe", () => {
    const members = (adminState: "up" | "down"): Partial<BackendPoolSpec> => ({
      probe: probeSpec({ protocol: "tcp", port: 80 as Port }),
      members: [member("10.0.0.1"), { ...member("10.0.0.3"), adminState }],
    });
    const site = siteOf("10.0.0.1", "10.0.0.3");
    site.configure(web([], 300, members("up")));
    reportDown(site, "10.0.0.3");
    site.configure(web(["10.0.0.1"]));
    expect(shown(site, "10.0.0.3"), "the operator knew better").toMatchObject({ state: MEMBER_DRAINING });
    site.configure(web([], 300, members("down")));
    site.configure(web(["10.0.0.1"]));
    expect(shown(site, "10.0.0.3")).toMatchObject({ state: MEMBER_DOWN });
  });

  test("is forgotten with its pool", () => {
    const site = siteOf("10.0.0.1", "10.0.0.3");
    site.configure(web(["10.0.0.1"]));
    site.delete(vipRef("web"), poolRef("web"));
    site.activate();
    expect(site.machine.nextTickDueMs()).toBeNull();
    expect(endpoint(site, "host-2", "10.0.0.3")).toBe("gone");
  });
});

describe("a member of weight 0", () => {
  test("drains, and its flows end after the timeout; it stays a member, and what is over stays over", () => {
    const site = siteOf("10.0.0.1", "10.0.0.3");
    site.configure(web(["10.0.0.1", "10.0.0.3*0"]));
    expect(shown(site, "10.0.0.3")).toMatchObject({ weight: 0, state: MEMBER_DRAINING });
    site.elapse(300_000);
    expect(shown(site, "10.0.0.3")).toMatchObject({ state: MEMBER_ENDED });
    expect(endpoint(site, "host-2", "10.0.0.3")).toBe("ended");
    site.elapse(10 * SHOWN_MS);
    site.configure(web(["10.0.0.1", "10.0.0.3*0"], 3_600));
    expect(shown(site, "10.0.0.3")).toMatchObject({ state: MEMBER_ENDED });
    site.configure(web(["10.0.0.1", "10.0.0.3*7"]));
    expect(shown(site, "10.0.0.3")).toEqual({ dipId: site.dipId("10.0.0.3"), weight: 7 });
  });

  test("a timeout that changes counts from when the drain began; one that is taken away lets its flows be", () => {
    const site = siteOf("10.0.0.1", "10.0.0.3");
    site.configure(web(["10.0.0.1", "10.0.0.3*0"], 300));
    site.elapse(60_000);
    site.configure(web(["10.0.0.1", "10.0.0.3*0"], 90));
    expect(site.machine.nextTickDueMs()).toBe(90_000);
    site.configure(web(["10.0.0.1", "10.0.0.3*0"], 0));
    expect(site.machine.nextTickDueMs()).toBeNull();
    expect(shown(site, "10.0.0.3")).not.toHaveProperty("state");
    site.elapse(60_000);
    site.configure(web(["10.0.0.1", "10.0.0.3*0"], 30));
    expect(site.machine.nextTickDueMs(), "from now on").toBe(150_000);
    site.elapse(20_000);
    site.configure(web(["10.0.0.1", "10.0.0.3*0"], 10));
    expect(shown(site, "10.0.0.3"), "its time has passed").toMatchObject({ state: MEMBER_ENDED });
  });
});

test("a drain goes on after a snapshot was restored, to the same end", () => {
  const site = siteOf("10.0.0.1", "10.0.0.2", "10.0.0.3");
  site.configure(web(["10.0.0.1", "10.0.0.2*0"]));
  site.elapse(100_000);
  const restored = createStateMachine();
  restored.restore([...site.machine.snapshot()], site.index as LogIndex);
  expect(restored.digest()).toBe(site.machine.digest());
  expect(restored.drainsOf(1 as never)).toEqual(site.machine.drainsOf(1 as never));
  expect(restored.drainsOf(1 as never)).toHaveLength(2);
  expect(restored.nextTickDueMs()).toBe(300_000);
  expect(restored.muxDigest()).toBe(site.machine.muxDigest());
  const { hostId } = site.machine.hostByName("host-2")!;
  expect(restored.hostDigest(hostId)).toBe(site.machine.hostDigest(hostId));
});

test("members that left count as members that MUXes hold, and so many drain at a time", () => {
  const site = new Site();
  site.bootstrap();
  const dips = (from: number, count: number): readonly string[] =>
    Array.from({ length: count }, (_, at) => `10.1.${(from + at) >> 8}.${(from + at) & 255}`);
  const large = (from: number, count: number) =>
    pool("web", dips(from, count), { maxMembers: 655, spec: { drainTimeoutSeconds: 300 } });
  site.configure(large(0, 600));
  site.configure(large(600, 600));
  const { objects, drains } = site.machine.inspect();
  expect([objects.memberCount, drains.leftCount]).toEqual([600, 600]);
  expect(site.refused({ kind: "apply-objects", objects: [large(1_200, 600)] }).message).toContain(
    "1200 former members would drain at a time, more than 655",
  );
  site.elapse(300_000);
  site.elapse(SHOWN_MS);
  site.configure(large(1_200, 600));
});
