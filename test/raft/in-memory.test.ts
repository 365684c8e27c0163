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
