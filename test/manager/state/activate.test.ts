/**
 * The two entries of a change: agents learn of new rules and members before any MUX uses them, and keep the
 * old ones until no MUX does.
 */
import { expect, test } from "vitest";
import { Site, pool, poolRef, smallSite, vip, vipRef } from "./fixture.js";

test("a new VIP is known to its hosts when it is prepared, and to MUXes when it is activated", () => {
  const site = smallSite();
  site.applyObjects(
    pool("api", ["10.0.0.1:9000"]),
    vip("api", "198.51.100.2", { rules: ["tcp/443 -> api"], outbound: ["api"] }),
  );
  const prepared = site.index;
  expect(site.last?.muxChanges).toEqual([]);
  expect(site.hostKeys("host-1", "endpoint")).toContain("endpoint/2/6/443/1");
  expect(site.hostKeys("host-1", "outbound")).toContain("outbound/1/2");
  expect(site.machine.pendingActivation()).toEqual({ fromIndex: prepared, upToIndex: prepared, hosts: [1] });
  expect(site.machine.object(vipRef("api"))).toMatchObject({ active: null, updatedIndex: prepared, activeIndex: 0 });

  site.activate(prepared);
  expect(site.muxView.get("vip/2")).toEqual({ kind: "vip", vipId: 2, address: "198.51.100.2", announced: true });
  expect(site.muxView.get("rule/2/6/443")).toEqual({ kind: "rule", vipId: 2, protocol: 6, port: 443, poolId: 2 });
  expect(site.muxView.get("pool/2")).toMatchObject({ maxMembers: 20, members: [{ dipId: 1, weight: 100 }] });
  expect(site.last?.hostChanges.size).toBe(0);
  expect(site.machine.pendingActivation()).toBeNull();
});

test("a member that leaves stays in the host's view until MUXes no longer use it", () => {
  const site = smallSite();
  site.applyObjects(pool("web", ["10.0.0.2"]));
  expect(site.hostKeys("host-1", "endpoint")).toEqual(["endpoint/1/6/80/1", "endpoint/1/6/80/2"]);
  expect(site.muxView.get("pool/1")).toMatchObject({ members: [{ dipId: 1 }, { dipId: 2 }] });
  site.activate();
  expect(site.hostKeys("host-1", "endpoint")).toEqual(["endpoint/1/6/80/2"]);
  expect(site.muxView.get("pool/1")).toMatchObject({ members: [{ dipId: 2 }] });
});

test("hosts of old and new members are those that should know a change first", () => {
  const site = smallSite();
  site.register("host-2", ["10.0.0.3"]);
  site.register("host-3", ["10.0.0.4"]);
  site.applyObjects(pool("web", ["10.0.0.3"]));
  expect(site.machine.pendingActivation()).toEqual({ fromIndex: site.index, upToIndex: site.index, hosts: [1, 2] });
});

test("a changed backend port is used by the host from the activation on", () => {
  const site = smallSite();
  const endpoint = () => site.hostViews.get(1 as never)?.get("endpoint/1/6/80/1");
  site.applyObjects(vip("web", "198.51.100.1", { rules: ["tcp/80 -> web:8080"], outbound: ["web"] }));
  expect(endpoint()).toMatchObject({ dipPort: 80 });
  site.activate();
  expect(endpoint()).toMatchObject({ dipPort: 8080 });
});

test("changes that are pending at once are activated each by its own index", () => {
  const site = smallSite();
  site.applyObjects(pool("web", ["10.0.0.1"]));
  const first = site.index;
  site.applyObjects(vip("two", "198.51.100.2", { rules: ["tcp/80 -> web"] }));
  const second = site.index;
  expect(site.machine.pendingActivation()?.upToIndex).toBe(second);
  site.activate(first);
  expect(site.muxView.get("pool/1")).toMatchObject({ members: [{ dipId: 1 }] });
  expect(site.muxKeys("vip")).toEqual(["vip/1"]);
  expect(site.machine.pendingActivation()?.upToIndex).toBe(second);
  site.activate(second);
  expect(site.muxKeys("vip")).toEqual(["vip/1", "vip/2"]);
});

test("a change of a pending object waits for its own activation", () => {
  const site = smallSite();
  site.applyObjects(pool("web", ["10.0.0.1"]));
  const first = site.index;
  site.applyObjects(pool("web", ["10.0.0.2"]));
  site.activate(first);
  expect(site.muxView.get("pool/1")).toMatchObject({ members: [{ dipId: 1 }, { dipId: 2 }] });
  site.activate();
  expect(site.muxView.get("pool/1")).toMatchObject({ members: [{ dipId: 2 }] });
});

test("a VIP whose new pool was changed again waits for the pool: MUXes never see a rule without its pool", () => {
  const site = new Site();
  site.applyObjects(pool("p", []), vip("v", "198.51.100.1", { rules: ["tcp/80 -> p"] }));
  const first = site.index;
  site.applyObjects(pool("p", ["10.0.0.1"]));
  site.activate(first);
  expect(site.muxView.size).toBe(0);
  site.activate();
  expect([...site.muxView.keys()].sort()).toEqual(["pool/1", "rule/1/6/80", "vip/1"]);
});

test("a pool that is deleted stays while the active version of a VIP names it", () => {
  const site = smallSite();
  site.applyObjects(vip("web", "198.51.100.1"));
  site.delete(poolRef("web"));
  const deleted = site.index;
  site.applyObjects(vip("web", "198.51.100.1", { labels: { x: "y" } }), pool("other", []));
  site.applyObjects(vip("web", "198.51.100.1", { rules: ["udp/53 -> other"] }));
  site.activate(deleted);
  expect([...site.muxKeys("rule"), ...site.muxKeys("pool")]).toEqual(["rule/1/6/80", "pool/1"]);
  site.activate();
  expect([...site.muxKeys("rule"), ...site.muxKeys("pool")]).toEqual(["rule/1/17/53", "pool/2"]);
});

test("a VIP being deleted is no longer announced, and handled until its deletion is activated", () => {
  const site = smallSite();
  site.delete(vipRef("web"));
  expect(site.muxView.get("vip/1")).toMatchObject({ announced: false });
  expect(site.muxKeys("rule")).toEqual(["rule/1/6/80"]);
  expect(site.hostKeys("host-1", "endpoint")).toHaveLength(2);
  expect(site.refused(site.allocation("10.0.0.1", 8)).code).toBe("SNAT_NOT_CONFIGURED");
  site.activate();
  expect([...site.muxKeys("vip"), ...site.muxKeys("rule")]).toEqual([]);
  expect(site.hostKeys("host-1", "endpoint")).toEqual([]);
  expect(site.machine.object(vipRef("web"))).toBeNull();
});

test("activating and preparing again in one entry leaves the second change pending", () => {
  const site = smallSite();
  site.applyObjects(pool("web", ["10.0.0.1"]));
  site.applyAll([
    { kind: "activate", upToIndex: site.index as never },
    { kind: "apply-objects", objects: [pool("web", ["10.0.0.2"])] },
  ]);
  expect(site.muxView.get("pool/1")).toMatchObject({ members: [{ dipId: 1 }] });
  expect(site.machine.pendingActivation()?.upToIndex).toBe(site.index);
});
