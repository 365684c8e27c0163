import { describe, expect, it } from "vitest";
import type { IpAddress } from "../../../core/brands.js";
import { HeldRanges } from "../../../agent/control/held-ranges.js";
import type { HeldRange } from "../../../agent/control/held-range.js";
import { silentLog } from "../../kit/silent-log.js";
import { testSeed, VirtualWorld } from "../../kit/virtual-world.js";
import { hasReserve, makeAgent, managers, startAgent } from "./agent-world.js";
import { VIP } from "./fake-managers.js";

const FOLDER = "/data/held-ranges";
const range = (at: number, dip = "10.1.1.1", protocol: 6 | 17 = 6): HeldRange => ({
  vip: VIP,
  protocol,
  range: at,
  tenant: "default",
  dip: dip as IpAddress,
});

describe("the record of held ranges", () => {
  it("joins neighbours of one DIP, and keeps owners, protocols and gaps apart", async () => {
    const world = new VirtualWorld({ seed: testSeed("blocks") });
    const held = await world.run(HeldRanges.open(world.env("host").disk, "/data", silentLog));
    await world.run(
      held.add([range(130), range(128), range(129), range(132), range(131, "10.1.1.2"), range(128, "10.1.1.1", 17)]),
    );
    expect(held.blocks().map(({ dip, protocol, range: at, count }) => [dip, protocol, at, count])).toEqual([
      ["10.1.1.1", 17, 128, 1],
      ["10.1.1.1", 6, 128, 3],
      ["10.1.1.1", 6, 132, 1],
      ["10.1.1.2", 6, 131, 1],
    ]);
  });

  it("has after a loss of power what was added and not what was removed", async () => {
    const world = new VirtualWorld({ seed: testSeed("power loss") });
    const held = await world.run(HeldRanges.open(world.env("host").disk, "/data", silentLog));
    await world.run(held.add([range(128), range(129)]));
    await world.run(held.remove([range(128)]));
    const again = await world.run(
      HeldRanges.open(world.restart("host", { disk: "power-loss" }).disk, "/data", silentLog),
    );
    expect([...again.ranges()]).toEqual([range(129)]);
  });

  it("drops a damaged record: a range that is not declared rests, and nobody uses it", async () => {
    const world = new VirtualWorld({ seed: testSeed("damaged") });
    const held = await world.run(HeldRanges.open(world.env("host").disk, "/data", silentLog));
    await world.run(held.add([range(128), range(129)]));
    const [first] = world.disk("host").storeEntries(FOLDER);
    world
      .disk("host")
      .tamperStore(FOLDER, [{ key: first!.key, value: first!.value.map((byte, at) => (at === 9 ? byte ^ 1 : byte)) }]);
    const env = world.restart("host");
    const again = await world.run(HeldRanges.open(env.disk, "/data", env.log));
    expect([...again.ranges()]).toEqual([range(129)]);
    expect(world.log.find(/^damaged records/, "host")).toHaveLength(1);
    expect(world.disk("host").storeEntries(FOLDER)).toHaveLength(1);
  });
});

describe("an agent and its durable record", () => {
  it("uses a granted range only once it is on disk", async () => {
    const { world } = await managers("disk first");
    const { agent } = makeAgent(world.env("host-1"), "host-1");
    await world.run(agent.start());
    world.disk("host-1").slowSync(50);
    let sawWrite = false;
    await world.runUntil(() => {
      const used = [...agent.dataplane.tables.items()].filter((item) => item.kind === "range").length;
      const written = world.disk("host-1").storeEntries(FOLDER).length;
      sawWrite ||= written > 0 && used === 0;
      if (used > written) throw new Error(`${used} ranges in use, ${written} on disk`);
      return used >= 8;
    }, 5_000);
  });

  it("does not use, and does not acknowledge, ranges that cannot be written; the process is told to end", async () => {
    const setup = await startAgent("failing disk");
    const { world, agent, failures } = setup;
    await world.runUntil(() => agent.status().inForce.index > 0, 2_000);
    world.disk("host-1").failNextSync(1_000);
    await world.advance(500);
    const { index } = agent.status().inForce;
    await world.advance(2_000);
    expect(failures.map(({ code }) => code)).toEqual(["STORAGE_FAILED"]);
    expect(agent.status().rangesInForce).toBe(0);
    expect(agent.status().inForce.index).toBe(index);
    expect(setup.active().acks.every((ack) => (ack.index ?? 0) <= index)).toBe(true);
  });

  it("declares after a crash, in its first hello, all that it may have used", async () => {
    const setup = await startAgent("declare");
    const { world, cluster } = setup;
    await hasReserve(setup);
    const owned = new Set(cluster.owners.keys());
    const env = world.restart("host-1", { disk: "power-loss" });
    const again = makeAgent(env, "host-1");
    const hellos = cluster.hellos.length;
    await world.run(again.agent.start());
    await world.runUntil(() => again.agent.status().rangesInForce === owned.size, 5_000, "the former ranges in use");
    const hello = cluster.hellos[hellos];
    const declared = (hello?.heldRanges ?? []).flatMap(({ block }) =>
      Array.from({ length: block?.count ?? 0 }, (_, n) => `range/1/${block?.protocol ?? 0}/${(block?.range ?? 0) + n}`),
    );
    expect(new Set(declared)).toEqual(owned);
    expect(hello?.heldRanges?.every(({ tenant, dip }) => tenant === "default" && dip === "10.1.1.1")).toBe(true);
    expect(cluster.executed.size).toBe(2); // nothing more was needed
  });

  // The power fails between the answer and the end of its write: the grant is committed, the host never used it.
  it("declares only what it had written when it crashed between a grant and its write", async () => {
    const setup = await startAgent("crash between");
    const { world, cluster, agent } = setup;
    await world.runUntil(() => agent.status().inForce.index > 0, 2_000);
    world.disk("host-1").slowSync(100);
    await world.runUntil(() => cluster.owners.size >= 8, 2_000, "the grants");
    await world.advance(20);
    expect(agent.status().rangesInForce).toBe(0);
    const env = world.restart("host-1", { disk: "power-loss" });
    world.disk("host-1").slowSync(0);
    const again = makeAgent(env, "host-1");
    const hellos = cluster.hellos.length;
    await world.run(again.agent.start());
    await hasReserve({ world, agent: again.agent });
    expect(cluster.hellos[hellos]?.heldRanges ?? []).toEqual([]);
    const items = [...again.agent.dataplane.tables.items()].flatMap((item) =>
      item.kind === "range" ? [item.range] : [],
    );
    expect(Math.min(...items)).toBeGreaterThan(128); // orphaned ones are not used again
  });

  it("stops ranges that a welcome refuses at once, and takes them off the disk", async () => {
    const setup = await startAgent("refused ranges");
    const { world, cluster, agent } = setup;
    await hasReserve(setup);
    const host = cluster.host("host-1");
    const ranges = [...host.items.values()].filter((item) => item.kind === "range" && item.protocol === 6);
    // An operator has fenced the host while it was away: the ranges are nobody's now.
    cluster.refusedRanges = [
      { block: { vip: VIP, protocol: 6, range: (ranges[0] as { range: number }).range, count: 4 } },
    ];
    for (const replica of cluster.replicas) replica.projectsTo = cluster.index;
    cluster.commit(
      host,
      ...ranges.map((item) => ({ op: "remove", key: `range/1/6/${(item as { range: number }).range}` }) as const),
    );
    cluster.executes = false;
    setup.standby().closeStreams();
    await world.runUntil(() => agent.status().rangesInForce === 4, 2_000, "the stop");
    await world.advance(10);
    expect(world.disk("host-1").storeEntries(FOLDER)).toHaveLength(4);
    expect(agent.status().heldRanges).toBe(4);
  });

  // A VIP is deleted: the view shows nothing of it, but the DIP still owns its ranges, and has them again with the VIP.
  it("stops ranges that are gone from the projection, and declares them until a welcome says that they are not ours", async () => {
    const setup = await startAgent("gone");
    const { world, cluster, agent } = setup;
    await hasReserve(setup);
    cluster.executes = false;
    const host = cluster.host("host-1");
    const hellos = cluster.hellos.length;
    cluster.commit(host, { op: "remove", key: "range/1/6/128" });
    await world.runUntil(() => agent.status().rangesInForce === 7, 100, "the stop");
    await world.advance(50);
    expect(agent.status().heldRanges).toBe(8);
    setup.active().closeStreams(); // the other replica sends a whole view, or what is missing
    await world.advance(500);
    expect(agent.status()).toMatchObject({ heldRanges: 8, rangesInForce: 7 });
    const tcp = cluster.hellos[hellos]?.heldRanges?.filter(({ block }) => block?.protocol === 6);
    expect(tcp?.map(({ block }) => [block?.range, block?.count])).toEqual([[128, 4]]);
    cluster.refusedRanges = [{ block: { vip: VIP, protocol: 6, range: 128, count: 1 } }];
    setup.standby().closeStreams();
    await world.runUntil(() => agent.status().heldRanges === 7, 1_000, "the removal");
  });
});
