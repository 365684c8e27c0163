import { expect, test } from "vitest";
import { finishesCleanly } from "../kit/finishes-cleanly.js";
import { testSeed } from "../kit/virtual-world.js";
import { bytes, RaftCluster } from "./raft-cluster.js";

test("five replicas elect one leader, which commits a proposal, and all apply it", async () => {
  const cluster = await new RaftCluster({ seed: testSeed("elect") }).start();
  const leader = await cluster.awaitLeader();
  const proposal = leader.node.propose(bytes("a"));
  expect(proposal.term).toBe(leader.node.status().term);
  await cluster.world.run(proposal.applied);
  await cluster.converge();
  for (const replica of cluster.live) {
    expect(replica.state.texts).toEqual(["a"]);
    expect(replica.node.status().leader).toBe(leader.id);
  }
  await cluster.stop();
  await finishesCleanly(cluster.world);
});
