import { describe, expect, it } from "vitest";
import type { LogIndex } from "../../../core/brands.js";
import { Lease } from "../../../mux/control/lease.js";
import { announces, SITE, startMux, VIP } from "./mux-world.js";

const beat = (confirmedRenewal: number, quorumAgeMs = 10, leaderInOfficeMs = 60_000) => ({
  confirmedRenewal,
  quorumAgeMs,
  leaderInOfficeMs,
});

describe("the lease, by itself", () => {
  it("runs from the moment the confirmed renewal was sent, not from its confirmation", () => {
    const lease = new Lease(2_000);
    expect(lease.renew(1_000)).toBe(1);
    expect(lease.renew(1_200)).toBe(2);
    expect(lease.state(1_300)).toBe("none");
    lease.beat(beat(1), 2_500);
    expect(lease.state(2_999)).toBe("held");
    expect(lease.state(3_000)).not.toBe("held");
    lease.beat(beat(2), 2_600);
    expect(lease.leftMs(3_000)).toBe(200);
  });

  it("is lost only when a quorum worked after it had run out", () => {
    const lease = new Lease(2_000);
    lease.renew(0);
    lease.beat(beat(1), 100);
    lease.beat(beat(1, 500), 2_400); // worked at 1900
    expect(lease.state(5_000)).toBe("over");
    lease.beat(beat(1, 500), 2_600); // worked at 2100
    expect(lease.state(5_000)).toBe("lost");
  });

  it("is not lost while the leader is too young to have declared anybody lost: an outage of the Managers must not become one of all MUXes", () => {
    const lease = new Lease(2_000);
    lease.renew(0);
    lease.beat(beat(1), 100);
    lease.beat(beat(1, 5, 50), 5_000); // a new leader, 50 ms after its election
    expect(lease.state(5_000)).toBe("over");
    lease.renew(5_001);
    lease.beat(beat(2, 5, 100), 5_050);
    expect(lease.state(5_050)).toBe("held");
    lease.beat(beat(2, 5, 2_500), 7_500);
    expect(lease.state(7_500)).toBe("lost");
  });

  it("ignores confirmations of renewals that were never sent, and older ones", () => {
    const lease = new Lease(2_000);
    lease.renew(0);
    lease.beat(beat(7), 10);
    expect(lease.state(10)).toBe("none");
    lease.renew(1_000);
    lease.beat(beat(2), 1_010);
    lease.beat(beat(1), 1_020);
    expect(lease.leftMs(1_020)).toBe(1_980);
  });

  it("is not renewed by a MUX that has lagged for longer than a lease", () => {
    const lease = new Lease(2_000);
    const at = (index: number) => index as LogIndex;
    lease.compare(at(5), at(9), 0);
    lease.compare(at(8), at(20), 1_500);
    expect(lease.mayRenew(2_000)).toBe(true);
    expect(lease.mayRenew(2_001)).toBe(false);
    lease.compare(at(9), at(21), 2_500);
    expect(lease.mayRenew(2_500)).toBe(true); // what it lagged behind is in force; it lags by something newer
  });
});

describe("a MUX whose lease runs out", () => {
  // The Managers have lost power, or nobody reaches a quorum: nothing new can have been granted.
  it("keeps forwarding while nothing proves that a quorum worked since", async () => {
    const setup = await startMux("lease without proof");
    const { world, cluster, routes, mux, replicas } = setup;
    await announces(setup);
    cluster.confirms = false;
    const stoppedMs = world.nowMs;
    for (let passed = 0; passed < 10_000; passed += 50) {
      for (const replica of replicas) replica.quorumAgeMs = world.nowMs - stoppedMs + 200;
      await world.advance(50);
    }
    expect(mux.status().lease).toBe("over");
    expect(routes.announced).toEqual([VIP]);
    for (const replica of replicas) world.crash(replica.machine);
    await world.advance(10_000);
    expect(routes.announced).toEqual([VIP]);
  });

  // The MUX is cut off from the leader only: grants go on without it, so it must not deliver packets by old tables.
  it("withdraws when a beat proves that a quorum worked since, leaves, and joins as a new incarnation", async () => {
    const setup = await startMux("lease with proof");
    const { world, cluster, routes, mux } = setup;
    await announces(setup);
    const confirmedMs = world.nowMs;
    cluster.confirms = false;
    await world.runUntil(() => routes.announced.length === 0, 3_000, "the withdrawal");
    expect(world.nowMs - confirmedMs).toBeGreaterThan(1_500);
    expect(world.nowMs - confirmedMs).toBeLessThan(2_200);
    expect(cluster.items.has("mux/1")).toBe(true);
    cluster.confirms = true;
    const leftMs = await world.runUntil(() => !cluster.items.has("mux/1"), 2_000, "the leave");
    expect(leftMs).toBeGreaterThanOrEqual(900); // routers have let go by then
    await announces(setup);
    expect(mux.status().incarnation).toBe(2);
  });

  // Whoever is ahead of it, its tables are old: a VIP's ports may belong to somebody else by now.
  it("withdraws when it has lagged for two leases, and comes back once it has caught up", async () => {
    const setup = await startMux("lagging");
    const { world, cluster, routes, mux, replicas } = setup;
    await announces(setup);
    for (const replica of replicas) replica.holdsBack = true;
    cluster.commit({ op: "upsert", item: SITE[2]! });
    const stalledMs = world.nowMs;
    await world.advance(1_900);
    expect(routes.announced, "a moment's lag is none").toEqual([VIP]);
    await world.runUntil(() => routes.announced.length === 0, 2_500, "the withdrawal");
    expect(world.nowMs - stalledMs).toBeLessThan(4_300);
    for (const replica of replicas) replica.holdsBack = false;
    for (const replica of replicas) replica.pump();
    await announces(setup);
    expect(mux.status().incarnation).toBe(2);
  });

  it("does not announce before a renewal was confirmed", async () => {
    const setup = await startMux("no lease yet");
    setup.cluster.confirms = false;
    await setup.world.advance(5_000);
    expect(setup.mux.status().membership).toBe("joined");
    expect(setup.routes.changes).toEqual([]);
    setup.cluster.confirms = true;
    await announces(setup);
  });
});
