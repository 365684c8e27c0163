import { describe, expect, it } from "vitest";
import type { MuxPeerItem } from "../../../dataplane/mux-items.js";
import { finishesCleanly } from "../../kit/finishes-cleanly.js";
import { announces, makeMux, managers, startMux, VIP, vipItem } from "./mux-world.js";

describe("a MUX becomes a live member", () => {
  it("announces only after it has caught up, joined, and has the index of its joining in force", async () => {
    const setup = await startMux("join before announce");
    const { world, cluster, mux, routes } = setup;
    cluster.commitsRequests = false;
    await world.advance(2_000);
    expect(mux.status().inForce.index).toBe(1);
    expect(mux.status().membership).toBe("joining");
    expect(routes.changes).toEqual([]);
    cluster.commitsRequests = true;
    await announces(setup);
    const joined = [...cluster.items.values()].find((item) => item.kind === "mux");
    expect(mux.status().inForce.index).toBeGreaterThanOrEqual(joined?.joinedIndex ?? Infinity);
    expect(routes.announced).toEqual([VIP]);
    await world.run(mux.stop());
    await finishesCleanly(world, ["mux-1"]);
  });

  it("repeats a join that shows no effect with the same origin, also on another stream", async () => {
    const setup = await startMux("same origin");
    const { world, cluster } = setup;
    cluster.commitsRequests = false;
    await world.advance(1_200);
    setup.active().closeStreams();
    await world.advance(1_000);
    expect(cluster.requests.length).toBeGreaterThanOrEqual(4);
    expect(new Set(cluster.requests.map(({ session, sequence }) => `${session}/${sequence}`)).size).toBe(1);
    expect(new Set(cluster.requests.map(({ replica }) => replica)).size).toBeGreaterThan(1);
  });

  it("asks anew, as a new request, after a refusal for good", async () => {
    const setup = await startMux("refused join");
    const { world, cluster } = setup;
    cluster.refusal = { code: "FAILED_PRECONDITION", reason: "its tables are too small" };
    await world.advance(1_000);
    cluster.refusal = null;
    await announces(setup);
    expect(new Set(cluster.requests.map(({ session }) => session)).size).toBe(2);
    expect(world.log.find("refused by the Managers", "mux-1")).toHaveLength(1);
  });

  it("withdraws when the projection shows it lost, and joins again as a new incarnation", async () => {
    const setup = await startMux("lost and back");
    const { world, cluster, routes, mux } = setup;
    await announces(setup);
    expect(mux.status().incarnation).toBe(1);
    cluster.commit({ op: "remove", key: "mux/1" });
    await world.runUntil(() => routes.announced.length === 0, 50, "the withdrawal");
    await announces(setup);
    expect(mux.status().incarnation).toBe(2);
  });

  it("drained, withdraws its routes and goes on as a member; undrained, announces them again", async () => {
    const setup = await startMux("drained");
    const { world, cluster, routes, mux } = setup;
    await announces(setup);
    const self = (): MuxPeerItem => cluster.items.get("mux/1") as MuxPeerItem;
    const { drained: _, ...undrained } = self();
    cluster.commit({ op: "upsert", item: { ...undrained, drained: true } });
    await world.runUntil(() => routes.announced.length === 0, 50, "the withdrawal");
    expect(mux.status()).toMatchObject({ membership: "drained", incarnation: 1 });
    // Configuration goes on, and so does the lease: it leaves nobody waiting.
    const index = cluster.commit({ op: "upsert", item: vipItem(2, "203.0.113.11") });
    await world.advance(10_000);
    expect(mux.status()).toMatchObject({ membership: "drained", lease: "held", incarnation: 1, inForce: { index } });
    expect(routes.announced).toEqual([]);
    cluster.commit({ op: "upsert", item: undrained });
    await announces(setup);
    expect(mux.status()).toMatchObject({ membership: "announcing", incarnation: 1 });
    expect(routes.announced).toEqual([VIP, "203.0.113.11"]);
  });

  it("drained, still withdraws, leaves and joins anew when its lease is lost, and stops in order", async () => {
    const setup = await startMux("drained and lost");
    const { world, cluster, mux } = setup;
    await announces(setup);
    const self = cluster.items.get("mux/1") as MuxPeerItem;
    cluster.commit({ op: "upsert", item: { ...self, drained: true } });
    await world.runUntil(() => mux.status().membership === "drained", 50, "the drain");
    cluster.commit({ op: "remove", key: "mux/1" });
    await world.runUntil(() => mux.status().incarnation === 2, 5_000, "another life");
    await world.run(mux.stop());
    expect(cluster.items.has("mux/1")).toBe(false);
    await finishesCleanly(world, ["mux-1"]);
  });

  // Two machines with one name: an operator's mistake, or a MUX that was thought dead.
  it("withdraws for good when another process has joined under its name", async () => {
    const { world, cluster } = await managers("replaced");
    const first = makeMux(world, "mux-a", { name: "mux-1" });
    await world.run(first.mux.start());
    await world.runUntil(() => first.routes.announced.length > 0, 5_000);
    const second = makeMux(world, "mux-b", { name: "mux-1" });
    await world.run(second.mux.start());
    await world.runUntil(() => second.routes.announced.length > 0, 5_000);
    expect(first.routes.announced).toEqual([]);
    const requests = cluster.requests.length;
    await world.advance(10_000);
    expect(cluster.requests).toHaveLength(requests);
    expect(first.mux.status().membership).toBe("replaced");
    expect(second.routes.announced).toEqual([VIP]);
  });

  it("lets go of its streams when it was replaced, and renews nothing for the other process", async () => {
    const { world, replicas } = await managers("replaced and silent");
    const first = makeMux(world, "mux-a", { name: "mux-1" });
    await world.run(first.mux.start());
    await world.runUntil(() => first.routes.announced.length > 0, 5_000);
    const second = makeMux(world, "mux-b", { name: "mux-1" });
    await world.run(second.mux.start());
    await world.runUntil(() => first.mux.status().membership === "replaced", 5_000);
    await world.run(second.mux.stop());
    await world.advance(500); // what was on its way has come
    const acks = (): number => replicas.reduce((sum, replica) => sum + replica.acks().length, 0);
    const before = acks();
    await world.advance(10_000);
    expect(acks()).toBe(before);
    expect(first.mux.status()).toMatchObject({ membership: "replaced", activeReplica: null, standbyReplica: null });
    expect(first.routes.announced).toEqual([]);
    await world.run(first.mux.stop());
    await finishesCleanly(world, ["mux-a", "mux-b"]);
  });

  it("announces and withdraws single VIPs as the projection says", async () => {
    const setup = await startMux("single vips");
    const { world, cluster, routes } = setup;
    await announces(setup);
    cluster.commit({ op: "upsert", item: vipItem(2, "203.0.113.20") });
    await world.runUntil(() => routes.announced.length === 2, 50);
    cluster.commit({ op: "upsert", item: vipItem(1, VIP, false) });
    await world.runUntil(() => routes.announced.length === 1, 50);
    expect(routes.announced).toEqual(["203.0.113.20"]);
    cluster.commit({ op: "remove", key: "vip/2" });
    await world.runUntil(() => routes.announced.length === 0, 50);
  });

  it("withdraws first and leaves then, when it is stopped", async () => {
    const setup = await startMux("orderly stop");
    const { world, cluster, routes, mux } = setup;
    await announces(setup);
    const stopped = mux.stop();
    await world.settle();
    expect(routes.announced).toEqual([]);
    expect(cluster.requests.filter(({ kind }) => kind === "leave")).toEqual([]);
    await world.run(stopped);
    expect(cluster.items.has("mux/1")).toBe(false);
    await finishesCleanly(world, ["mux-1"]);
  });

  it("stops within its limit when no Manager answers", async () => {
    const setup = await startMux("stop alone");
    const { world, mux, replicas } = setup;
    await announces(setup);
    for (const replica of replicas) world.crash(replica.machine, { sockets: "silent" });
    const startMs = world.nowMs;
    await world.run(mux.stop());
    expect(world.nowMs - startMs).toBeLessThanOrEqual(1_150);
    await finishesCleanly(world, ["mux-1"]);
  });
});
