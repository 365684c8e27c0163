/** After a restore from a snapshot file the state is older than the site; and hosts that operators declare dead. */
import { describe, expect, test } from "vitest";
import type { LogIndex } from "../../../core/brands.js";
import { beginEpoch } from "../../../manager/state/commands/commands.js";
import { createStateMachine } from "../../../manager/state/index.js";
import { Site, blockText, held, pool, registerHost, smallSite, vip } from "./fixture.js";

/** Two hosts, of one DIP each, that share a VIP; each owns ports. */
function twoHosts(): Site {
  const site = new Site();
  site.bootstrap();
  site.join("mux-1", "192.0.2.1");
  site.register("host-1", ["10.0.0.1"]);
  site.register("host-2", ["10.0.0.2"]);
  site.configure(vip("web", "198.51.100.1", { outbound: ["web"] }), pool("web", ["10.0.0.1", "10.0.0.2"]));
  site.allocate("10.0.0.1", 8); // 1024-1031
  site.allocate("10.0.0.2", 8); // 1032-1039
  return site;
}

const restore = (site: Site, clusterEpoch = 2): void => {
  site.muxSafeIndex = site.index;
  site.ok("epoch-begun", beginEpoch(clusterEpoch));
};

describe("a new epoch", () => {
  test("grants nothing until every known host has spoken and ports have rested, and says what is missing", () => {
    const site = twoHosts();
    restore(site);
    expect(site.machine.clusterEpoch).toBe(2);
    const refused = site.refused(site.allocation("10.0.0.1", 8));
    expect(refused.code).toBe("UNAVAILABLE");
    expect(refused.message).toBe(
      "epoch 2 began with a restore: hosts have yet to declare their ports or be fenced: host-1, host-2; ports that may have been in use rest for another 120 s",
    );
    site.register("host-1", ["10.0.0.1"], [held("10.0.0.1", "198.51.100.1/6:1024-1031")]);
    site.elapse(120_000);
    expect(site.refused(site.allocation("10.0.0.1", 8)).message).toBe(
      "epoch 2 began with a restore: hosts have yet to declare their ports or be fenced: host-2",
    );
    expect(site.machine.unsettledEpoch()?.missing).toEqual([2]);
    site.register("host-2", ["10.0.0.2"]);
    expect(site.allocate("10.0.0.1", 8)).toHaveLength(1);
    expect(site.machine.unsettledEpoch()).toBeNull();
  });

  test("takes over what a running agent holds and the restored state does not know, and orphans what it no longer holds", () => {
    const site = twoHosts();
    restore(site);
    const { refusedRanges } = site.register(
      "host-1",
      ["10.0.0.1"],
      [held("10.0.0.1", "198.51.100.1/6:2048-2063"), held("10.0.0.1", "198.51.100.1/6:1032-1039")],
    );
    expect(refusedRanges).toEqual([]);
    expect(site.machine.snatBlocks({}).map((owned) => [blockText(owned), owned.dip.address, owned.state])).toEqual([
      ["198.51.100.1/6:1024-1031", "10.0.0.1", "quarantined"],
      ["198.51.100.1/6:1032-1039", "10.0.0.1", "owned"], // host-2 had given it back after the snapshot
      ["198.51.100.1/6:2048-2063", "10.0.0.1", "owned"],
    ]);
    expect(site.hostKeys("host-2", "range")).toEqual([]);
    // Who comes second with the same range is wrong: it must stop using it.
    const second = site.register("host-2", ["10.0.0.2"], [held("10.0.0.2", "198.51.100.1/6:1032-1039")]);
    expect(second.refusedRanges.map(blockText)).toEqual(["198.51.100.1/6:1032-1039"]);
  });

  test("takes a resting range over too, in the middle of its block", () => {
    const site = twoHosts();
    const [granted = ""] = site.allocate("10.0.0.1", 32);
    site.release("10.0.0.1", granted);
    restore(site);
    site.register("host-2", ["10.0.0.2"], [held("10.0.0.2", "198.51.100.1/6:1064-1071")]);
    expect(site.machine.snatUsage()[0]).toMatchObject({ owned: 2, quarantined: 4 });
    site.muxSafeIndex = site.index;
    site.elapse(120_000);
    expect(site.machine.snatBlocks({}).map((owned) => [blockText(owned), owned.state])).toEqual([
      ["198.51.100.1/6:1024-1031", "owned"],
      ["198.51.100.1/6:1064-1071", "owned"],
    ]);
  });

  test("hears hosts that it does not know, but believes nothing of ports of rules or of addresses without a VIP", () => {
    const site = twoHosts();
    site.configure(vip("web", "198.51.100.1", { rules: ["tcp/3000 -> web"], outbound: ["web"] }));
    restore(site);
    site.configure(pool("web", ["10.0.0.1", "10.0.0.2", "10.0.0.3"]));
    const { refusedRanges } = site.register(
      "host-3",
      ["10.0.0.3"],
      [
        held("10.0.0.3", "198.51.100.1/6:2992-3015"),
        held("10.0.0.3", "203.0.113.9/6:1024-1031"),
        held("10.0.0.3", "198.51.100.1/17:5000-5007"),
      ],
    );
    expect(refusedRanges.map(blockText)).toEqual(["198.51.100.1/6:3000-3007", "203.0.113.9/6:1024-1031"]);
    expect(site.machine.snatUsage().map(({ protocol, owned }) => [protocol, owned])).toEqual([
      [6, 4],
      [17, 1],
    ]);
  });

  test("ends all sessions: whether a request was executed after the snapshot is not known", () => {
    const site = twoHosts();
    const origin = { session: "a".repeat(32), sequence: 1 };
    site.apply({ kind: "tick" }, origin);
    restore(site);
    expect(site.apply({ kind: "tick" }, { ...origin, sequence: 2 })).toMatchObject({ code: "SESSION_EXPIRED" });
  });

  test("is begun once, and never an older one", () => {
    const site = twoHosts();
    restore(site, 3);
    expect(site.apply(beginEpoch(3))).toMatchObject({ ok: true, value: { kind: "none" } });
    expect(site.refused(beginEpoch(2))).toMatchObject({ code: "WRONG_CLUSTER" });
    expect(new Site().refused(beginEpoch(2))).toMatchObject({ code: "FAILED_PRECONDITION" });
  });

  test("survives a snapshot while it is not settled", () => {
    const site = twoHosts();
    restore(site);
    site.ok("host-fenced", { kind: "fence-host", name: "host-2", reason: "burnt down" });
    const machine = createStateMachine();
    machine.restore(site.machine.snapshot(), site.index as LogIndex);
    expect(machine.unsettledEpoch()).toEqual(site.machine.unsettledEpoch());
    expect(machine.fence(2 as never)?.reason).toBe("burnt down");
    expect(machine.digest()).toBe(site.machine.digest());
  });
});

describe("ananta host fence", () => {
  test("makes the host's ports rest, frees its DIPs, and refuses its present process", () => {
    const site = twoHosts();
    const before = site.allocation("10.0.0.2", 8);
    expect(site.ok("host-fenced", { kind: "fence-host", name: "host-2", reason: "no power" })).toEqual({
      kind: "host-fenced",
      hostId: 2,
      ranges: 1,
    });
    expect(site.machine.snatBlocks({})[1]).toMatchObject({ state: "quarantined", host: null });
    expect(site.refused(before)).toMatchObject({ code: "STALE_INCARNATION" });
    expect(site.refused(registerHost("host-2", ["10.0.0.2"])).message).toBe(
      "host host-2 was fenced (no power); restart its agent, which then starts without ports",
    );
    expect(site.register("host-1", ["10.0.0.1", "10.0.0.2"]).dips).toHaveLength(2);
  });

  test("ends with the next start of its agent; what that declares is not its own any more", () => {
    const site = twoHosts();
    site.ok("host-fenced", { kind: "fence-host", name: "host-2", reason: "no power" });
    expect(site.ok("host-fenced", { kind: "fence-host", name: "host-2", reason: "again" }).ranges).toBe(0);
    const { refusedRanges } = site.register(
      "host-2",
      ["10.0.0.2"],
      [held("10.0.0.2", "198.51.100.1/6:1032-1039")],
      "next",
    );
    expect(refusedRanges.map(blockText)).toEqual(["198.51.100.1/6:1032-1039"]);
    expect(site.machine.fence(2 as never)).toBeNull();
    expect(site.allocate("10.0.0.2", 8)).toHaveLength(1);
  });

  test("counts as having declared, in an epoch that waits for the host", () => {
    const site = twoHosts();
    restore(site);
    site.register("host-1", ["10.0.0.1"]);
    site.ok("host-fenced", { kind: "fence-host", name: "host-2", reason: "lost with the row" });
    site.elapse(120_000);
    expect(site.allocate("10.0.0.1", 8)).toHaveLength(1);
  });

  test("names hosts that exist", () => {
    const site = smallSite();
    expect(site.refused({ kind: "fence-host", name: "host-9", reason: "?" }).message).toBe("no host is named host-9");
  });
});
