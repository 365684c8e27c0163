/** The driver with nothing real below it: storage in memory, messages through a hub. */
import { expect, test } from "vitest";
import { nodeId, type NodeId } from "../../core/brands.js";
import { createRaftNode, type RaftNode } from "../../manager/raft/index.js";
import { MemoryStorage } from "../../manager/raft/storage/memory-storage.js";
import { LoopbackHub } from "../../manager/raft/transport/loopback-transport.js";
import { VirtualWorld, testSeed } from "../kit/virtual-world.js";
import { bytes, TextList } from "./raft-cluster.js";

function threeNodes(salt: string) {
  const world = new VirtualWorld({ seed: testSeed(salt) });
  const ids = [1, 2, 3].map(nodeId);
  const voters = new Map<NodeId, string>(ids.map((id) => [id, `in-memory-${id}`]));
  const hub = new LoopbackHub({ clock: world.env("hub").clock, delayMs: 1 });
  const nodes = ids.map((id) => {
    const state = new TextList();
    const node = createRaftNode({
      env: world.env(`m${id}`),
      config: {
        id,
        voters,
        clusterId: "test",
        clusterEpoch: 1,
        dataFolder: "unused",
        bootstrap: true,
        tickMs: 10,
        heartbeatMs: 30,
        electionTimeoutMinMs: 150,
        electionTimeoutMaxMs: 250,
        snapshotEveryEntries: 1_000,
        trailingEntries: 100,
        uncommittedBytesMax: 1_000_000,
      },
      stateMachine: state,
      transport: hub.transportOf(id),
      storage: new MemoryStorage(),
    });
    return { id, node, state };
  });
  const leader = (): (typeof nodes)[number] | undefined => nodes.find(({ node }) => node.status().role === "leader");
  return { world, hub, nodes, leader };
}

const stop = async (world: VirtualWorld, nodes: readonly { readonly node: RaftNode }[]): Promise<void> => {
  for (const { node } of nodes) await world.run(node.stop());
};

test("three replicas without disk or network elect, commit, and agree", async () => {
  const { world, nodes, leader } = threeNodes("in memory");
  for (const { node } of nodes) await world.run(node.start());
  await world.runUntil(() => leader() !== undefined, 2_000, "a leader");
  const proposal = leader()?.node.propose(bytes("a"));
  await world.run(proposal?.applied ?? Promise.reject(new Error("no leader")));
  await world.runUntil(() => nodes.every(({ state }) => state.texts.length === 1), 1_000, "all have applied it");
  expect(nodes.map(({ state }) => state.texts)).toEqual([["a"], ["a"], ["a"]]);
  await stop(world, nodes);
});

test("a leader that can be heard but hears nobody falls silent, and the others elect", async () => {
  const { world, hub, nodes, leader } = threeNodes("deaf leader");
  for (const { node } of nodes) await world.run(node.start());
  await world.runUntil(() => leader() !== undefined, 2_000, "a leader");
  const deaf = leader();
  for (const { id } of nodes) if (deaf !== undefined && id !== deaf.id) hub.cut(id, deaf.id);
  await world.runUntil(
    () => nodes.some((one) => one !== deaf && one.node.status().role === "leader"),
    3_000,
    "another leader",
  );
  expect(deaf?.node.status().role).not.toBe("leader");
  hub.mend();
  await stop(world, nodes);
});

// A replica that was stopped for a minute has megabytes to apply, and heartbeats to answer meanwhile.
test("a replica that catches up applies its entries in turns of the event loop, 128 KiB in each run of its loop", async () => {
  const { world, hub, nodes, leader } = threeNodes("catching up");
  for (const { node } of nodes) await world.run(node.start());
  await world.runUntil(() => leader() !== undefined, 2_000, "a leader");
  const behind = nodes.find((one) => one !== leader());
  if (behind === undefined) throw new Error("two of three follow");
  const { clock } = world.env("turns");
  const bytesOfTurns = [0];
  const { state } = behind;
  const apply = state.apply.bind(state);
  state.apply = (entries) => {
    const bytesNow = entries.reduce((sum, { payload }) => sum + payload.length, 0);
    bytesOfTurns.push((bytesOfTurns.pop() ?? 0) + bytesNow);
    if (bytesOfTurns.at(-1) === bytesNow) clock.nextTurn(() => bytesOfTurns.push(0));
    return apply(entries);
  };
  for (const { id } of nodes) hub.cut(id, behind.id);
  const text = "x".repeat(4_000);
  for (let count = 0; count < 100; count++) {
    const proposal = leader()?.node.propose(bytes(text));
    await world.run(proposal?.applied ?? Promise.reject(new Error("no leader")));
  }
  expect(behind.state.texts).toHaveLength(0);
  hub.mend();
  await world.runUntil(() => behind.state.texts.length === 100, 5_000, "it has caught up");
  // A finished write asks for a run of its own, which may fall into the same turn.
  expect(Math.max(...bytesOfTurns)).toBeLessThanOrEqual(2 * 128 * 1024);
  expect(bytesOfTurns.filter((count) => count > 0).length).toBeGreaterThanOrEqual(2);
  await stop(world, nodes);
});
