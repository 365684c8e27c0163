/** MUXes join, leave and are lost. */
import { expect, test } from "vitest";
import type { MuxId } from "../../../core/brands.js";
import { LARGE, registerHost, Site, ip, smallSite } from "./fixture.js";

const joining = (name: string, address: string, bootId = `${name}-boot`, capacity = LARGE) =>
  ({ kind: "join-mux", name, bootId, address: ip(address), capacity }) as const;

test("a MUX that joins is seen by MUXes and hosts, with the index from which it may announce", () => {
  const site = smallSite();
  expect(site.muxView.get("mux/1")).toEqual({
    kind: "mux",
    muxId: 1,
    name: "mux-1",
    incarnation: 1,
    bootId: "mux-1-boot",
    address: "192.0.2.1",
    joinedIndex: 2,
  });
  expect(site.hostViews.get(1 as never)?.get("mux/1")).toEqual({ kind: "mux", muxId: 1, address: "192.0.2.1" });
});

test("the same process joining again gets the same answer; a new one replaces it under the same id", () => {
  const site = new Site();
  site.join("mux-1", "192.0.2.1");
  expect(site.ok("mux-joined", joining("mux-1", "192.0.2.1"))).toMatchObject({ muxId: 1, incarnation: 1 });
  expect(site.ok("mux-joined", joining("mux-1", "192.0.2.5", "next"))).toMatchObject({ muxId: 1, incarnation: 2 });
  expect(site.muxView.get("mux/1")).toMatchObject({ incarnation: 2, address: "192.0.2.5", joinedIndex: 3 });
});

test("a MUX that was declared lost joins as a new incarnation, even if its process is the same", () => {
  const site = new Site();
  site.join("mux-1", "192.0.2.1");
  site.join("mux-2", "192.0.2.2");
  site.ok("none", { kind: "lose-mux", muxId: 1 as MuxId, incarnation: 1 });
  expect(site.muxKeys("mux")).toEqual(["mux/2"]);
  expect(site.ok("mux-joined", joining("mux-1", "192.0.2.1"))).toMatchObject({ muxId: 1, incarnation: 2 });
});

test("the last live MUX is never declared lost, but it may leave", () => {
  const site = new Site();
  site.join("mux-1", "192.0.2.1");
  expect(site.refused({ kind: "lose-mux", muxId: 1 as MuxId, incarnation: 1 }).code).toBe("FAILED_PRECONDITION");
  site.ok("none", { kind: "leave-mux", muxId: 1 as MuxId, incarnation: 1 });
  expect(site.machine.muxes()).toMatchObject([{ state: "left" }]);
});

test("what is said of an earlier incarnation is ignored", () => {
  const site = new Site();
  site.join("mux-1", "192.0.2.1");
  site.join("mux-2", "192.0.2.2");
  site.join("mux-1", "192.0.2.1", LARGE, "next");
  site.ok("none", { kind: "lose-mux", muxId: 1 as MuxId, incarnation: 1 });
  site.ok("none", { kind: "leave-mux", muxId: 1 as MuxId, incarnation: 1 });
  expect(site.machine.muxes()).toMatchObject([{ state: "live", incarnation: 2 }, { state: "live" }]);
  expect(site.refused({ kind: "leave-mux", muxId: 9 as MuxId, incarnation: 1 }).code).toBe("NOT_FOUND");
});

test("live MUXes have outer addresses of their own", () => {
  const site = smallSite();
  expect(site.refused(joining("mux-2", "192.0.2.1"))).toMatchObject({
    code: "FAILED_PRECONDITION",
    facts: { mux: "mux-1" },
  });
  expect(site.refused(joining("mux-2", "198.51.100.1")).code).toBe("FAILED_PRECONDITION");
  site.ok("none", { kind: "leave-mux", muxId: 1 as MuxId, incarnation: 1 });
  site.join("mux-2", "192.0.2.1");
});

test("a MUX whose tables are too small for what is in use may not join", () => {
  const site = smallSite();
  site.allocate("10.0.0.1", 64);
  expect(site.refused(joining("mux-2", "192.0.2.2", "b", { rules: 0, snatRanges: 100 })).code).toBe(
    "FAILED_PRECONDITION",
  );
  const refusal = site.refused(joining("mux-2", "192.0.2.2", "b", { rules: 1, snatRanges: 7 }));
  expect(refusal).toMatchObject({ code: "FAILED_PRECONDITION", facts: { rules: 1, snatRanges: 8 } });
  site.join("mux-2", "192.0.2.2", { rules: 1, snatRanges: 8 });
});

test("the join of a dead process does not replace its successor; a MUX that left may join again", () => {
  const site = smallSite();
  site.join("mux-2", "192.0.2.2", undefined, "first");
  const muxId = site.join("mux-2", "192.0.2.2", undefined, "second");
  const late = site.apply({
    kind: "join-mux",
    name: "mux-2",
    bootId: "first",
    address: ip("192.0.2.2"),
    capacity: LARGE,
  });
  expect(late).toMatchObject({ ok: false, code: "STALE_INCARNATION" });
  site.apply({ kind: "leave-mux", muxId, incarnation: 2 });
  expect(site.join("mux-2", "192.0.2.2", undefined, "second")).toBe(muxId);
});

test("hosts are told both addresses of a MUX, and take what it sends from either", () => {
  const site = new Site();
  site.ok("mux-joined", { ...joining("mux-1", "192.0.2.1"), addressIpv6: ip("2001:db8:255::1") });
  site.register("host-1", ["10.0.0.1@2001:db8:1::1"]);
  const item = { kind: "mux", muxId: 1, address: "192.0.2.1", addressIpv6: "2001:db8:255::1" };
  expect(site.hostViews.get(1 as never)?.get("mux/1")).toEqual(item);
  // A later start without the address: hosts forget it.
  site.register("host-1", ["10.0.0.1"], [], "host-1-2");
  site.ok("mux-joined", joining("mux-1", "192.0.2.1", "next"));
  expect(site.hostViews.get(1 as never)?.get("mux/1")).toEqual({ kind: "mux", muxId: 1, address: "192.0.2.1" });
});

test("an IPv6 locator needs an IPv6 address on every live MUX, whichever comes first", () => {
  const site = new Site();
  const modern = (n: number) =>
    ({ ...joining(`mux-${n}`, `192.0.2.${n}`), addressIpv6: ip(`2001:db8:255::${n}`) }) as const;
  site.ok("mux-joined", modern(1));
  site.join("mux-2", "192.0.2.2");
  const locator = "10.0.0.1@2001:db8:1::1";
  const refusal = site.refused(registerHost("host-1", [locator]));
  expect(refusal).toMatchObject({ code: "FAILED_PRECONDITION", facts: { mux: "mux-2" } });
  expect(refusal.message).toContain("live MUX mux-2 has none");
  site.ok("none", { kind: "leave-mux", muxId: 2 as MuxId, incarnation: 1 });
  site.register("host-1", [locator]);
  const late = site.refused(joining("mux-2", "192.0.2.2", "next"));
  expect(late).toMatchObject({ code: "FAILED_PRECONDITION", facts: { mux: "mux-2" } });
  expect(late.message).toContain('give the MUX an "addressIpv6"');
  expect(site.ok("mux-joined", { ...modern(2), bootId: "next" })).toMatchObject({ incarnation: 2 });
});

test("an IPv6 outer address is of one MUX and of nothing else", () => {
  const site = smallSite();
  site.ok("none", { kind: "leave-mux", muxId: 1 as MuxId, incarnation: 1 });
  site.ok("mux-joined", { ...joining("mux-1", "192.0.2.1", "next"), addressIpv6: ip("2001:db8:255::1") });
  const taken = { ...joining("mux-2", "192.0.2.2"), addressIpv6: ip("2001:db8:255::1") } as const;
  expect(site.refused(taken)).toMatchObject({ code: "FAILED_PRECONDITION", facts: { mux: "mux-1" } });
  expect(site.refused(registerHost("host-9", ["10.0.9.1@2001:db8:255::1"])).message).toContain(
    "outer address of MUX mux-1",
  );
  site.register("host-9", ["10.0.9.1@2001:db8:1::9"]);
  expect(site.refused({ ...taken, addressIpv6: ip("2001:db8:1::9") }).message).toContain(
    "locator of DIP default/10.0.9.1",
  );
});
