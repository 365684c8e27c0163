import { describe, expect, it } from "vitest";
import { finishesCleanly } from "../../kit/finishes-cleanly.js";
import { hasReserve, makeAgent, managers, startAgent } from "./agent-world.js";

const originOf = ({
  request,
}: {
  request: { origin?: { session?: string | null; sequence?: number | null } | null };
}): string => `${request.origin?.session ?? ""}/${request.origin?.sequence ?? 0}`;

describe("an agent's requests", () => {
  it("are also sent on the second stream after 300 ms, with the same origin, and are executed once", async () => {
    const setup = await startAgent("second stream");
    const { world, cluster, agent } = setup;
    cluster.answers = false;
    await world.runUntil(() => cluster.requests.length >= 2, 2_000);
    const firstMs = cluster.requests[0]!.atMs;
    await world.runUntil(() => cluster.requests.length >= 4, 1_000, "the copies");
    expect(cluster.requests[2]!.atMs - firstMs).toBeGreaterThanOrEqual(295);
    expect(cluster.requests[2]!.atMs - firstMs).toBeLessThanOrEqual(340);
    expect(new Set(cluster.requests.map(originOf)).size).toBe(2);
    expect(new Set(cluster.requests.map(({ replica }) => replica)).size).toBe(2);
    expect(cluster.executed.size).toBe(2);
    // Their effect shows in the projection even while no answer comes.
    await world.runUntil(() => agent.status().rangesInForce >= 8, 1_000, "the ranges");
  });

  it("that were sent to two replicas are not given up when one of them is overloaded: the other may have done them", async () => {
    const setup = await startAgent("overloaded copy");
    const { world, cluster, agent } = setup;
    cluster.answers = false;
    cluster.executes = false; // on their way
    await world.runUntil(() => cluster.requests.length >= 2, 2_000);
    cluster.answers = true;
    cluster.executes = true;
    cluster.refusal = { code: "STAGE_OVERLOADED", reason: "2048 of tenant default wait already", retryAfterMs: 400 };
    await world.runUntil(() => cluster.requests.length >= 4, 1_000, "the copies");
    await world.advance(50);
    expect(agent.status().refusals).toBe(0);
    cluster.refusal = null;
    cluster.executed.clear(); // a refusal from before the log is remembered by nobody
    await world.runUntil(() => agent.status().rangesInForce >= 8, 3_000, "the ranges");
    expect(new Set(cluster.requests.map(originOf)).size).toBe(2);
  });

  it("are sent again on the other replica when the active one dies, with the same origins", async () => {
    const setup = await startAgent("died with requests");
    const { world, cluster } = setup;
    cluster.executes = false;
    await world.runUntil(() => cluster.requests.length >= 2, 2_000);
    const first = setup.active();
    cluster.executes = true;
    world.crash(first.machine);
    const tookMs = await hasReserve(setup);
    expect(tookMs).toBeLessThan(50);
    expect(new Set(cluster.requests.map(originOf)).size).toBe(2);
    expect(cluster.executed.size).toBe(2);
  });

  // The active replica is paused: its connections stand, and nothing comes.
  it("find a paused replica long before its silence does: who answers becomes active", async () => {
    const setup = await startAgent("paused replica");
    const { world, agent } = setup;
    await world.runUntil(() => agent.status().standbyReplica !== null && agent.status().activeReplica !== null, 1_000);
    const [first, second] = [setup.active(), setup.standby()];
    await hasReserve(setup);
    first.isSilent = true;
    const executed = setup.cluster.executed.size;
    setup.cluster.commit(
      setup.cluster.host("host-1"),
      { op: "remove", key: "range/1/6/128" },
      { op: "remove", key: "range/1/6/129" },
      { op: "remove", key: "range/1/6/130" },
    );
    // The agent does not know of the removal; it needs more because flows come. Here: the ranges are taken from its tables.
    const keys = [128, 129, 130].map((range) => `range/1/6/${range}`);
    agent.dataplane.tables.apply(
      { kind: "changes", changes: keys.map((key) => ({ op: "remove", key }) as const) },
      agent.dataplane.tables.index(),
    );
    const tookMs = await world.runUntil(() => agent.status().activeReplica === second.address, 3_000, "the switch");
    expect(tookMs).toBeLessThanOrEqual(600);
    expect(setup.cluster.executed.size).toBeGreaterThan(executed);
  });

  it("wait as long as a refusal says, and are new requests then", async () => {
    const setup = await startAgent("refused");
    const { world, cluster, agent } = setup;
    cluster.refusal = { code: "SNAT_PORTS_EXHAUSTED", reason: "all rest in quarantine", retryAfterMs: 3_000 };
    await world.runUntil(() => agent.status().refusals === 2, 2_000);
    await world.advance(2_800);
    expect(cluster.requests).toHaveLength(2);
    cluster.refusal = null;
    await hasReserve(setup);
    expect(new Set(cluster.requests.map(originOf)).size).toBe(4);
  });

  it("keep their origin when a replica could not do them", async () => {
    const setup = await startAgent("unavailable");
    const { world, cluster } = setup;
    cluster.refusal = { code: "UNAVAILABLE", reason: "no leader", retryAfterMs: 0 };
    await world.runUntil(() => cluster.requests.length >= 2, 2_000);
    await world.advance(60);
    cluster.refusal = null;
    cluster.executed.clear();
    await hasReserve(setup);
    expect(new Set(cluster.requests.map(originOf)).size).toBe(2);
  });

  it("are not repeated after SESSION_EXPIRED: what the projection shows is taken, the rest asked for anew", async () => {
    const setup = await startAgent("session expired");
    const { world, cluster, agent } = setup;
    cluster.answers = false;
    await world.runUntil(() => cluster.executed.size === 2, 2_000);
    const sequence = [...cluster.executed.values()][0]!.sequence ?? 0;
    setup
      .active()
      .say({ answers: { answers: [{ sequence, code: "SESSION_EXPIRED", reason: "10 minutes", index: 0 }] } });
    cluster.answers = true;
    await world.runUntil(() => agent.status().rangesInForce >= 8 && agent.status().openRequests === 0, 3_000);
    await world.advance(2_000);
    const sessions = new Set(cluster.requests.map(({ request }) => request.origin?.session));
    expect(cluster.executed.size).toBe(2); // the projection had brought what was asked for
    expect(sessions.size).toBe(1);
    expect(agent.status().rangesInForce).toBe(8);
  });

  it("give ranges that are idle back, beyond the base, stopped and off the disk first", async () => {
    const setup = await startAgent("idle release", { timings: { idleReleaseMs: 5_000 } });
    const { world, cluster, agent } = setup;
    await hasReserve(setup);
    cluster.grant(cluster.host("host-1"), cluster.dips(cluster.host("host-1"))[0]!, 6, 500, 8);
    await world.runUntil(() => agent.status().rangesInForce === 16, 1_000);
    cluster.executes = false;
    await world.runUntil(() => cluster.requests.some(({ request }) => request.release), 10_000, "the release");
    const released = cluster.requests.findLast(({ request }) => request.release)!.request.release?.blocks ?? [];
    expect(released.reduce((sum, block) => sum + (block.count ?? 0), 0)).toBe(8);
    expect(agent.status().heldRanges).toBe(8);
    expect(agent.dataplane.stoppedRanges()).toHaveLength(8);
    cluster.executes = true;
    await world.runUntil(() => agent.status().rangesInForce === 8, 2_000, "the end of the release");
    await world.runUntil(() => agent.status().openRequests === 0, 100, "its answer");
  });

  it("use a range again whose release was refused", async () => {
    const setup = await startAgent("release refused", { timings: { idleReleaseMs: 5_000 } });
    const { world, cluster, agent } = setup;
    await hasReserve(setup);
    cluster.grant(cluster.host("host-1"), cluster.dips(cluster.host("host-1"))[0]!, 6, 500, 8);
    await world.runUntil(() => agent.status().rangesInForce === 16, 1_000);
    cluster.refusal = { code: "INVALID_ARGUMENT", reason: "not yours", retryAfterMs: 60_000 };
    await world.runUntil(() => agent.status().refusals === 1, 10_000, "the refusal");
    await world.advance(50);
    expect(agent.dataplane.stoppedRanges()).toHaveLength(0);
    expect(agent.status().heldRanges).toBe(16);
  });

  it("put a grant to use whose answer overtakes the projection, and keep digests in step", async () => {
    const setup = await startAgent("early grant");
    const { world, cluster, agent, replicas } = setup;
    await world.runUntil(() => agent.status().inForce.index > 0, 2_000);
    for (const replica of replicas) replica.projectsTo = cluster.index;
    await hasReserve(setup);
    expect(agent.status().inForce.index).toBeLessThan(cluster.index);
    for (const replica of replicas) {
      replica.projectsTo = Infinity;
      replica.pump();
    }
    await world.runUntil(() => agent.status().inForce.index === cluster.index, 1_000);
    expect(agent.status().resyncs).toBe(0);
    expect(agent.status().rangesInForce).toBe(8);
    expect(cluster.executed.size).toBe(2);
  });

  it("are not disturbed by a resync: a view is asked for once, though deltas were under way behind the wrong one", async () => {
    const setup = await startAgent("resync once");
    const { world, cluster, agent } = setup;
    await hasReserve(setup);
    const { index } = agent.status().inForce;
    const wrong = { clusterEpoch: 1, snapshot: false, last: true, hostItems: [] };
    cluster.index = index + 3; // entries that the test's log does not show
    const digest = cluster.digest(cluster.host("host-1"));
    setup.active().say({ projection: { ...wrong, index: index + 1, removedKeys: ["mux/1"], digest } });
    await world.runUntil(() => agent.status().resyncs === 1, 100);
    setup.active().say({ projection: { ...wrong, index: index + 2 } });
    await world.runUntil(() => agent.status().inForce.index === index + 3, 100, "the view");
    await world.advance(3_000);
    expect(agent.status().resyncs).toBe(1);
  });

  it("run for two agents in one process without anything shared", async () => {
    const { world, cluster } = await managers("two agents");
    const first = makeAgent(world.env("host-1"), "host-1", { dip: "10.1.1.1" });
    const second = makeAgent(world.env("host-2"), "host-2", { dip: "10.1.2.1" });
    await world.run(first.agent.start());
    await world.run(second.agent.start());
    await hasReserve({ world, agent: first.agent });
    await hasReserve({ world, agent: second.agent });
    const ranges = (agent: typeof first.agent): string[] =>
      [...agent.dataplane.tables.items()].flatMap((item) =>
        item.kind === "range" ? [`${item.protocol}/${item.range}`] : [],
      );
    expect(new Set([...ranges(first.agent), ...ranges(second.agent)]).size).toBe(16);
    expect(cluster.hosts.size).toBe(2);
    await world.run(first.agent.stop());
    await world.run(second.agent.stop());
    await finishesCleanly(world, ["host-1", "host-2"]);
  });
});
