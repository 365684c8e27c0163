import { describe, expect, it } from "vitest";
import { hostItemKey } from "../../../dataplane/host-items.js";
import { hasReserve, startAgent, type AgentWorld } from "./agent-world.js";
import { FakeReplica } from "./fake-managers.js";

/** Beats come every 3 s, and the move within 5 s of one. */
const MOVED_MS = 8_500;

/** With a reserve, and with neither stream at the replica that leads. */
async function startAwayFromLeader(title: string): Promise<AgentWorld & { readonly leader: FakeReplica }> {
  const setup = await startAgent(title);
  await hasReserve(setup);
  const inUse = [setup.active(), setup.standby()];
  const leader = setup.replicas.find((replica) => !inUse.includes(replica))!; // three replicas
  return { ...setup, leader };
}

async function startAtLeader(title: string): Promise<AgentWorld & { readonly leader: FakeReplica }> {
  const setup = await startAwayFromLeader(title);
  setup.cluster.leader = { address: setup.leader.address, term: 7 };
  await setup.world.runUntil(
    () => setup.agent.status().standbyReplica === setup.leader.address,
    MOVED_MS,
    "the stream to the leader",
  );
  return setup;
}

/** All TCP ranges are gone from the host's tables, as if flows had taken their ports: it asks for more. */
function takePorts({ agent }: AgentWorld): void {
  const changes = [...agent.dataplane.tables.items()].flatMap((item) =>
    item.kind === "range" && item.protocol === 6 ? [{ op: "remove", key: hostItemKey(item) } as const] : [],
  );
  agent.dataplane.tables.apply({ kind: "changes", changes }, agent.dataplane.tables.index());
}

describe("an agent and the leader", () => {
  it("leads its standby to the leader, asks there, and follows whom it followed", async () => {
    const setup = await startAtLeader("to the leader");
    const { world, cluster, agent, leader } = setup;
    const active = setup.active();
    expect(agent.status().switches).toBe(0);
    const asked = cluster.requests.length;
    takePorts(setup);
    await world.runUntil(() => cluster.requests.length > asked, 1_000, "a request");
    await world.runUntil(() => agent.status().openRequests === 0, 1_000, "its answer");
    await world.advance(500);
    expect(new Set(cluster.requests.slice(asked).map(({ replica }) => replica))).toEqual(new Set([leader.address]));
    expect(setup.active()).toBe(active);
    expect(agent.status().inForce.index).toBe(cluster.index);
  });

  it("leaves its streams where they are when one of them leads there already", async () => {
    const setup = await startAwayFromLeader("there already");
    const { world, cluster, agent } = setup;
    const [active, standby] = [setup.active(), setup.standby()];
    const hellos = cluster.hellos.length;
    cluster.leader = { address: active.address, term: 7 };
    await world.advance(20_000);
    cluster.leader = { address: standby.address, term: 8 };
    await world.advance(20_000);
    expect([setup.active(), setup.standby()]).toEqual([active, standby]);
    expect(cluster.hellos).toHaveLength(hellos);
    expect(agent.status().switches).toBe(0);
  });

  it("does not believe in a leader of an older term", async () => {
    const setup = await startAtLeader("older term");
    const { world, cluster, leader } = setup;
    const other = setup.replicas.find((replica) => replica !== leader && replica !== setup.active())!; // three replicas
    cluster.leader = { address: other.address, term: 6 };
    await world.advance(20_000);
    expect(setup.standby()).toBe(leader);
  });

  // The new epoch's terms begin low, and each stream names the leader once, before the first view of that epoch is in force.
  it("believes in the leader of a restored cluster, which counts its terms anew", async () => {
    const setup = await startAtLeader("restored");
    const { world, cluster, agent } = setup;
    cluster.epoch = 2;
    cluster.leader = null;
    for (const replica of setup.replicas) replica.keepsViews = true;
    for (const replica of setup.replicas) replica.closeStreams();
    await world.advance(2_000);
    const inUse = (): readonly (string | null)[] => [agent.status().activeReplica, agent.status().standbyReplica];
    const other = setup.replicas.find(({ address }) => !inUse().includes(address))!; // three replicas
    cluster.leader = { address: other.address, term: 2 };
    await world.advance(3_500);
    for (const replica of setup.replicas) replica.releaseViews();
    await world.runUntil(() => inUse().includes(other.address), MOVED_MS, "a stream to the leader");
    await world.advance(1_000);
    expect(agent.status().inForce.clusterEpoch).toBe(2);
  });

  it("goes to a leader that it did not know when it was named, once it is told of it", async () => {
    const setup = await startAwayFromLeader("unknown leader");
    const { world, cluster, agent } = setup;
    const fourth = new FakeReplica(world.env("manager-4"), "manager-4:7000", cluster);
    await world.run(fourth.start());
    cluster.leader = { address: fourth.address, term: 7 };
    await world.advance(20_000);
    expect(agent.status().standbyReplica).not.toBe(fourth.address);
    const addresses = [...setup.replicas.map(({ address }) => address), fourth.address];
    setup.active().say({ beat: { appliedIndex: cluster.index, managers: { addresses, index: 5, clusterEpoch: 1 } } });
    const atFourth = (): boolean =>
      [agent.status().activeReplica, agent.status().standbyReplica].includes(fourth.address);
    await world.runUntil(atFourth, MOVED_MS, "a stream to the leader");
  });

  it("asks again on the stream that is left as soon as the leader has died", async () => {
    const setup = await startAtLeader("leader died");
    const { world, cluster, agent, leader } = setup;
    const active = setup.active();
    cluster.executes = false;
    const asked = cluster.requests.length;
    takePorts(setup);
    await world.runUntil(() => cluster.requests.length > asked, 1_000, "a request");
    const [open] = cluster.requests.slice(asked);
    expect(open?.replica).toBe(leader.address);
    cluster.executes = true;
    world.crash(leader.machine);
    const tookMs = await world.runUntil(() => agent.status().openRequests === 0, 1_000, "the answer");
    expect(tookMs).toBeLessThan(50);
    expect(cluster.requests.at(-1)?.replica).toBe(active.address);
    expect(cluster.requests.at(-1)?.request.origin).toEqual(open?.request.origin);
  });

  it("waits 300 ms for a paused leader, once: then it asks elsewhere", async () => {
    const setup = await startAtLeader("leader paused");
    const { world, cluster, agent, leader } = setup;
    const active = setup.active();
    leader.isSilent = true;
    const asked = cluster.requests.length;
    takePorts(setup);
    const firstMs = await world.runUntil(() => cluster.requests.length > asked, 2_000, "the copy");
    expect(firstMs).toBeGreaterThanOrEqual(295);
    await world.runUntil(() => agent.status().openRequests === 0, 1_000, "the answer");
    expect(agent.status().standbyReplica).not.toBe(leader.address);
    expect(setup.active()).toBe(active);
    await world.advance(1_500); // the view has been asked for once more, and is in force
    const later = cluster.requests.length;
    takePorts(setup);
    await world.runUntil(() => cluster.requests.length > later, 150, "the next request");
    expect(cluster.requests.at(-1)?.replica).toBe(active.address);
  });

  it("tries more and more seldom to reach a leader that it cannot reach, and keeps a standby in between", async () => {
    const setup = await startAwayFromLeader("unreachable leader");
    const { world, cluster, agent, leader } = setup;
    const active = setup.active();
    world.crash(leader.machine);
    cluster.leader = { address: leader.address, term: 7 };
    const hellos = cluster.hellos.length;
    let without = 0;
    for (let second = 0; second < 300; second++) {
      await world.advance(1_000);
      if (agent.status().standbyReplica === null) without++;
    }
    // After 5 s at most, then after at least 5, 10, 20, 40, 80, 80 s; each lasts 12 s and costs one hello to another replica.
    expect(cluster.hellos.length - hellos).toBeGreaterThanOrEqual(2);
    expect(cluster.hellos.length - hellos).toBeLessThanOrEqual(7);
    expect(without).toBeLessThanOrEqual(7 * 14);
    expect(setup.active()).toBe(active);
    expect(agent.status().switches).toBe(0);
  });
});
