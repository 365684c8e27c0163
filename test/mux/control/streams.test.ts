import { describe, expect, it } from "vitest";
import type { LogIndex } from "../../../core/brands.js";
import type { MuxItem } from "../../../dataplane/mux-items.js";
import { finishesCleanly } from "../../kit/finishes-cleanly.js";
import { announces, dipItem, makeMux, managers, SITE, snatItem, startMux, VIP } from "./mux-world.js";

const put = (item: MuxItem) => ({ op: "upsert", item }) as const;

describe("a MUX and its two replicas", () => {
  it("makes the other replica active within 400 ms of the active one's silence, and takes deltas from where it is", async () => {
    const setup = await startMux("silence");
    const { world, cluster, mux } = setup;
    await announces(setup);
    const [first, second] = [setup.active(), setup.standby()];
    first.isSilent = true;
    const tookMs = await world.runUntil(() => mux.status().activeReplica === second.address, 1_000, "the switch");
    expect(tookMs).toBeLessThanOrEqual(400);
    await world.advance(5);
    const activate = second.received.findLast((message) => message.activate)?.activate;
    expect(activate).toMatchObject({ clusterEpoch: 1, index: cluster.index });
    const index = cluster.commit(put(dipItem(2, "10.1.1.2")));
    await world.runUntil(() => mux.status().inForce.index === index, 50);
  });

  it("makes the other replica active in the same moment when the stream closes, and turns to a third", async () => {
    const setup = await startMux("closed");
    const { world, mux, replicas } = setup;
    await announces(setup);
    const [first, second] = [setup.active(), setup.standby()];
    world.crash(first.machine);
    const tookMs = await world.runUntil(() => mux.status().activeReplica === second.address, 100, "the switch");
    expect(tookMs).toBeLessThanOrEqual(5);
    await world.runUntil(() => mux.status().standbyReplica !== null, 5_000, "another standby");
    expect(replicas.filter((replica) => replica !== first).map(({ address }) => address)).toContain(
      mux.status().standbyReplica,
    );
    expect(mux.status().standbyReplica).not.toBe(second.address);
  });

  it("keeps its routes and its tables through every switch", async () => {
    const setup = await startMux("routes through switches");
    const { world, routes, mux } = setup;
    await announces(setup);
    for (let n = 0; n < 6; n++) {
      setup.active().closeStreams();
      await world.advance(700);
    }
    expect(mux.status().switches).toBeGreaterThanOrEqual(5);
    expect(routes.changes.map(({ vips }) => vips)).toEqual([[VIP]]);
  });

  it("leaves a replica that beats but is cut off from the quorum and behind", async () => {
    const setup = await startMux("cut off");
    const { world, cluster, mux } = setup;
    await announces(setup);
    const first = setup.active();
    first.appliedMax = cluster.index;
    const cutMs = world.nowMs;
    cluster.commit(put(dipItem(2, "10.1.1.2")));
    const took = world.runUntil(() => {
      first.quorumAgeMs = world.nowMs - cutMs;
      return mux.status().inForce.index === cluster.index;
    }, 2_000);
    expect(await took).toBeLessThanOrEqual(1_000);
    expect(setup.active()).not.toBe(first);
  });

  // A slow replica has updates under way for the old activate. Were its stream active a second time, they would come before
  // those of the new activate, and be applied over a hole.
  it("gives up the stream that it switches away from: nothing asked of it before can follow a later activate", async () => {
    const setup = await startMux("switch back");
    const { world, cluster, mux } = setup;
    await announces(setup);
    const first = setup.active();
    expect(first.activeCount).toBe(1);
    first.appliedMax = cluster.index;
    const cutMs = world.nowMs;
    cluster.commit(put(dipItem(2, "10.1.1.2")));
    await world.runUntil(() => {
      first.quorumAgeMs = world.nowMs - cutMs;
      return mux.status().activeReplica !== first.address;
    }, 2_000);
    await world.advance(5);
    expect(first.activeCount).toBe(0);
    await world.runUntil(() => mux.status().standbyReplica !== null, 1_000, "a new second stream");
    setup.active().closeStreams();
    await world.runUntil(() => mux.status().inForce.index === cluster.index, 1_000);
    expect(mux.status().resyncs).toBe(0);
  });

  it("never applies an index older than what is in force", async () => {
    const setup = await startMux("older");
    const { world, cluster, mux } = setup;
    await announces(setup);
    cluster.commit(put(snatItem(1, 200, 1)));
    await world.advance(20);
    const { index } = mux.status().inForce;
    const stale = {
      clusterEpoch: 1,
      snapshot: false,
      last: true,
      muxItems: [],
      removedKeys: ["snat/1/6/200"],
      digest: "",
    };
    setup.active().say({ projection: { ...stale, index } });
    setup.active().say({ projection: { ...stale, index: index - 1 } });
    setup.active().say({ projection: { ...stale, index: index - 1, snapshot: true } });
    setup.active().say({ projection: { ...stale, clusterEpoch: 0, index: index + 100, snapshot: true } });
    await world.advance(50);
    expect(mux.status().inForce.index).toBe(index);
    expect(mux.dataplane.telemetry.gauges().entries["snat-ranges"]).toBe(1);
    expect(world.log.find(/^older/, "mux-1")).toHaveLength(4);
  });

  it("does not apply what the standby sends", async () => {
    const setup = await startMux("standby talks");
    const { world, mux } = setup;
    await announces(setup);
    setup.standby().say({ projection: { clusterEpoch: 1, index: 99, snapshot: true, last: true, muxItems: [] } });
    await world.advance(50);
    expect(mux.status().inForce.index).toBeLessThan(99);
  });

  it("swaps a whole view in at its last part, and drops the parts of a stream that broke off", async () => {
    const setup = await startMux("parts");
    const { world, mux, cluster } = setup;
    await announces(setup);
    const { index } = mux.status().inForce;
    setup
      .active()
      .say({ projection: { clusterEpoch: 1, index: index + 1, snapshot: true, last: false, muxItems: [] } });
    await world.advance(10);
    expect(mux.status().inForce.index).toBe(index);
    expect(mux.dataplane.telemetry.gauges().entries["vips"]).toBe(1);
    setup.active().closeStreams();
    cluster.commit(put(dipItem(2, "10.1.1.2")));
    await world.advance(100);
    expect(mux.status().inForce.index).toBe(cluster.index);
    expect(mux.dataplane.telemetry.gauges().entries["dips"]).toBe(2);
  });

  // A restore from a snapshot file: the index goes back, the epoch is raised.
  it("follows a new epoch although its index is lower, and no replica of the old one after that", async () => {
    const setup = await startMux("epoch");
    const { world, cluster, mux, replicas, routes } = setup;
    await announces(setup);
    for (let n = 0; n < 20; n++) cluster.commit(put(snatItem(1, 300 + n, 1)));
    await world.advance(50);
    cluster.restore([...SITE, dipItem(5, "10.1.1.5")], 3);
    for (const replica of replicas) replica.closeStreams();
    await world.runUntil(() => mux.status().inForce.clusterEpoch === 2, 1_000, "the new epoch");
    expect(mux.dataplane.telemetry.gauges().entries["dips"]).toBe(2);
    await world.runUntil(
      () => routes.announced.length > 0 && mux.status().incarnation === 2,
      5_000,
      "joining in the new epoch",
    );
    setup.active().say({ projection: { clusterEpoch: 1, index: 1_000, snapshot: true, last: true, muxItems: [] } });
    await world.advance(50);
    expect(mux.status().inForce.clusterEpoch).toBe(2);
    cluster.epoch = 1;
    for (const replica of replicas) replica.closeStreams();
    await world.advance(3_000);
    expect(mux.status().activeReplica).toBeNull();
    expect(
      world.log
        .find("stream to a replica was refused", "mux-1")
        .some(({ fields }) => String(fields["reason"]).includes("WRONG_CLUSTER")),
    ).toBe(true);
  });

  it("asks for the whole view when the digests differ, and acknowledges nothing until it has it", async () => {
    const setup = await startMux("digest");
    const { world, mux } = setup;
    await announces(setup);
    const replica = setup.active();
    const { index } = mux.status().inForce;
    replica.cluster.index = index + 1; // an entry that this replica knows and the test's log does not show
    const acks = replica.acks().length;
    replica.say({
      projection: {
        clusterEpoch: 1,
        index: index + 1,
        snapshot: false,
        last: true,
        removedKeys: ["rule/1/6/80"],
        digest: replica.cluster.digest(),
      },
    });
    replica.isSilent = true; // the view that is asked for does not come
    await world.advance(250);
    expect(mux.status().resyncs).toBe(1);
    expect(replica.acks().length).toBe(acks);
    await world.advance(500); // the other replica has taken over
    expect(mux.dataplane.telemetry.gauges().entries["rules"]).toBe(1);
    expect(setup.active()).not.toBe(replica);
    expect(setup.active().acks().at(-1)?.index).toBe(index + 1);
  });

  // The replica goes on with deltas until it has read the question: they are answered by the same view.
  it("asks for the whole view once, though deltas were under way behind the wrong one", async () => {
    const setup = await startMux("resync once");
    const { world, cluster, mux } = setup;
    await announces(setup);
    const replica = setup.active();
    const { index } = mux.status().inForce;
    const wrong = { clusterEpoch: 1, snapshot: false, last: true, muxItems: [] };
    cluster.index = index + 3; // entries that the test's log does not show
    replica.say({ projection: { ...wrong, index: index + 1, removedKeys: ["rule/1/6/80"], digest: cluster.digest() } });
    await world.runUntil(() => mux.status().resyncs === 1, 100);
    replica.say({ projection: { ...wrong, index: index + 2 } });
    await world.runUntil(() => mux.status().inForce.index === index + 3, 100, "the view");
    await world.advance(3_000);
    expect(mux.status().resyncs).toBe(1);
  });

  it("acknowledges an index only once its tables are in force, and each of many updates at the latest in the next turn", async () => {
    const setup = await startMux("acks");
    const { world, cluster, mux } = setup;
    await announces(setup);
    const replica = setup.active();
    const before = replica.acks().length;
    for (let n = 0; n < 50; n++) {
      const index = cluster.commit(put(snatItem(1, 400 + n, 1)));
      await world.runUntil(() => replica.acks().at(-1)?.index === index, 20, "the acknowledgement");
      expect(mux.status().inForce.index).toBe(index as LogIndex);
    }
    expect(replica.acks().length - before).toBeGreaterThanOrEqual(50);
    const renewals = replica.acks().map((ack) => ack.renewal ?? 0);
    expect(renewals).toEqual([...renewals].sort((a, b) => a - b));
    expect(new Set(renewals).size).toBe(renewals.length);
  });

  it("does not acknowledge what its tables cannot take, and says so", async () => {
    const setup = await startMux("full tables");
    const { world, cluster, mux } = setup;
    await announces(setup);
    const { index } = mux.status().inForce;
    cluster.commit(...Array.from({ length: 1_001 }, (_, n) => put(snatItem(1, 200 + n, 1))));
    await world.advance(500);
    expect(mux.status().inForce.index).toBe(index);
    expect(
      setup
        .active()
        .acks()
        .every((ack) => (ack.index ?? 0) <= index),
    ).toBe(true);
    expect(world.log.find("the tables cannot take an update; what was in force stays", "mux-1").length).toBeGreaterThan(
      0,
    );
  });

  it("keeps one stream when it knows one replica only", async () => {
    const { world } = await managers("one replica", 1);
    const { mux } = makeMux(world, "mux-1", { managers: ["manager-1:7000"] });
    await world.run(mux.start());
    await world.advance(500);
    expect(mux.status().activeReplica).toBe("manager-1:7000");
    expect(mux.status().standbyReplica).toBeNull();
  });

  it("turns away from replicas of another cluster, and says so", async () => {
    const { world, replicas } = await managers("stranger");
    for (const replica of replicas) replica.clusterId = "d".repeat(32);
    const { mux, routes } = makeMux(world, "mux-1");
    await world.run(mux.start());
    await world.advance(3_000);
    expect(mux.status().activeReplica).toBeNull();
    expect(routes.changes).toEqual([]);
    const [line] = world.log.find("stream to a replica was refused", "mux-1");
    expect(line?.fields["reason"]).toContain("WRONG_CLUSTER");
  });

  it("answers what it would do with a flow, and reports its counters every second", async () => {
    const setup = await startMux("flow question");
    const { world } = setup;
    await announces(setup);
    const replica = setup.active();
    replica.say({
      flowQuestion: {
        id: 7,
        flow: { protocol: 6, source: "198.51.100.7", sourcePort: 40_000, destination: VIP, destinationPort: 80 },
      },
    });
    await world.advance(1_100);
    const answer = replica.received.find((message) => message.flowAnswer)?.flowAnswer;
    expect(answer).toMatchObject({ id: 7, inFlowTable: false, dip: "10.1.1.1" });
    expect(replica.received.some((message) => message.counters?.vipsAnnounced === 1)).toBe(true);
  });

  it("runs twice in one process without sharing anything", async () => {
    const { world, cluster } = await managers("two muxes");
    const first = makeMux(world, "mux-1");
    const second = makeMux(world, "mux-2");
    await world.run(first.mux.start());
    await world.run(second.mux.start());
    await world.runUntil(() => first.routes.announced.length > 0 && second.routes.announced.length > 0, 5_000);
    expect([...cluster.items.keys()].filter((key) => key.startsWith("mux/"))).toHaveLength(2);
    await world.run(first.mux.stop());
    expect(second.routes.announced).toEqual([VIP]);
    await world.run(second.mux.stop());
    await finishesCleanly(world, ["mux-1", "mux-2"]);
  });

  it("does not take its own standstill for the silence of its replicas", async () => {
    const setup = await startMux("own pause");
    const { world, mux } = setup;
    await announces(setup);
    const before = mux.status().switches;
    world.pause("mux-1");
    await world.advance(900);
    world.resume("mux-1");
    await world.advance(500);
    expect(mux.status().switches).toBe(before);
    expect(setup.routes.announced).toEqual([VIP]);
  });
});
