/**
 * A killed leader is noticed at once, by the rule of docs/consensus.md: all its streams are closed, and connecting is refused.
 * A leader that merely lost its connections still listens, and nobody asks for its place.
 */
import { describe, expect, test } from "vitest";
import { testSeed } from "../kit/virtual-world.js";
import { RaftCluster, type Replica } from "./raft-cluster.js";

const breakAll = (cluster: RaftCluster, of: Replica): void => {
  for (const { machine } of cluster.live)
    if (machine !== of.machine) cluster.world.breakConnections(machine, of.machine);
};

const heardOf = (cluster: RaftCluster, event: string): number =>
  cluster.world.log.lines.filter((line) => line.event === event).length;

describe("a leader", () => {
  test("whose connections all break at once, again and again, keeps leading, and writes go on", async () => {
    const cluster = await new RaftCluster({ seed: testSeed("dropped streams"), logLevel: "info" }).start();
    const leader = await cluster.awaitLeader();
    await cluster.world.advance(300);
    const { term } = leader.node.status();
    for (let round = 0; round < 30; round++) {
      breakAll(cluster, leader);
      if (round % 3 === 0) await cluster.write(`write ${round}`);
      await cluster.world.advance(7 * (round % 11));
    }
    await cluster.world.advance(500);
    expect(heardOf(cluster, "leader is gone")).toBe(0);
    expect(leader.node.status()).toMatchObject({ role: "leader", term });
    await cluster.converge();
    expect(leader.state.texts).toHaveLength(10);
    await cluster.stop();
  });

  test("that was killed is replaced long before an election timeout", async () => {
    for (let round = 0; round < 10; round++) {
      const cluster = await new RaftCluster({ seed: testSeed(`killed ${round}`), logLevel: "info" }).start();
      const leader = await cluster.awaitLeader();
      await cluster.write("before");
      await cluster.world.advance(200);
      cluster.crash(leader.id, { disk: "process" });
      const tookMs = await cluster.world.runUntil(() => cluster.leader !== null, 1_000, "another leader");
      expect(heardOf(cluster, "leader is gone")).toBeGreaterThan(1);
      expect(tookMs).toBeLessThan(100);
      await cluster.write("after");
      await cluster.stop();
    }
  });
});

describe("after a broken connection", () => {
  test("messages flow again well within an election timeout, however long the peer was away", async () => {
    for (const awayMs of [0, 30, 500, 5_000, 60_000]) {
      const cluster = await new RaftCluster({ seed: testSeed(`away ${awayMs}`) }).start();
      const leader = await cluster.awaitLeader();
      const away = cluster.live.find((replica) => replica !== leader)!;
      await cluster.world.advance(300);
      cluster.crash(away.id, { disk: "process" });
      await cluster.world.advance(awayMs);
      const back = await cluster.restart(away.id);
      const tookMs = await cluster.world.runUntil(
        () => back.node.status().leader === leader.id,
        2_000,
        "the leader heard",
      );
      expect(tookMs, `away for ${awayMs} ms`).toBeLessThanOrEqual(100);
      expect(leader.node.status().role).toBe("leader");
      await cluster.stop();
    }
  });
});
