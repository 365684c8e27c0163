/** Changes of the membership with driver, storage and transport, on virtual time, while writes go on. */
import { expect, test } from "vitest";
import { nodeId } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import { finishesCleanly } from "../kit/finishes-cleanly.js";
import { testSeed } from "../kit/virtual-world.js";
import { RaftCluster } from "./raft-cluster.js";

const member = (id: number) => ({ id: nodeId(id), address: `m${id}:7001`, service: `m${id}:7002` });

/** As an operator's tool does: again while the answer is "not yet". */
async function promote(cluster: RaftCluster, id: number): Promise<void> {
  const change = { kind: "promote", id: nodeId(id), replacing: null } as const;
  await cluster.world.run(
    (async () => {
      for (;;) {
        try {
          await (await cluster.awaitLeader()).node.changeMembership(change);
          return;
        } catch (error) {
          if (!(error instanceof AnantaError) || error.facts["retry"] !== true) throw error;
          await new Promise<void>((resolve) => cluster.world.env("operator").clock.setTimer(50, resolve));
        }
      }
    })(),
  );
}

test("a sixth joins as a learner, is promoted, the leader is removed, another dies, and no write is lost", async () => {
  const cluster = await new RaftCluster({ seed: testSeed("membership story") }).start();
  const writes: string[] = [];
  const write = async (text: string): Promise<void> => {
    await cluster.write(text);
    writes.push(text);
  };
  const first = await cluster.awaitLeader();
  await write("before");

  const joining = await cluster.boot(nodeId(6), { join: true, bootstrap: false, address: "m6:7001" });
  await cluster.world.advance(300);
  expect(joining.node.status()).toMatchObject({ role: "follower", leader: null });
  await cluster.world.run(first.node.changeMembership({ kind: "add-learner", member: member(6) }));
  await write("as learner");
  await cluster.world.runUntil(() => joining.state.texts.length === 2, 2_000, "the learner having caught up");
  expect(first.node.status().members.find(({ id }) => id === 6)?.role).toBe("learner");

  await promote(cluster, 6);
  expect(first.node.status().voters).toEqual([1, 2, 3, 4, 5, 6].map(nodeId));
  await write("as voter");

  await cluster.world.run(first.node.changeMembership({ kind: "remove", id: first.id }));
  const gapMs = await cluster.world.runUntil(
    () => cluster.leader !== null && cluster.leader.id !== first.id,
    2_000,
    "a leader after the removed one",
  );
  expect(gapMs).toBeLessThan(100); // it was told to take over: nobody waited for a timeout
  await write("after removal");
  expect(first.node.status()).toMatchObject({ role: "follower" });
  cluster.crash(first.id);

  const second = await cluster.awaitLeader();
  cluster.crash(second.id);
  await write("after a death");
  await cluster.restart(second.id);
  await cluster.converge();
  for (const replica of cluster.live) expect(replica.state.texts).toEqual(writes);
  await cluster.stop();
  await finishesCleanly(cluster.world);
});

test("a joined replica whose disk was wiped does not vote under its old id, and says why", async () => {
  const cluster = await new RaftCluster({ seed: testSeed("wiped joiner") }, { size: 3 }).start();
  const leader = await cluster.awaitLeader();
  await cluster.boot(nodeId(4), { join: true, bootstrap: false, address: "m4:7001" });
  await cluster.world.run(leader.node.changeMembership({ kind: "add-learner", member: member(4) }));
  await cluster.world.advance(300);
  await promote(cluster, 4);
  cluster.crash(4);
  await cluster.world.advance(100);
  const again = await cluster.restart(4, {
    join: true,
    bootstrap: false,
    address: "m4:7001",
    dataFolder: "/new-disk",
  });
  await cluster.world.advance(500);
  expect(again.node.status().notVoting).toContain("belongs to another data folder");
  await cluster.stop();
  await finishesCleanly(cluster.world);
});

test("a restarted replica goes by the membership in its log, not by the one it was configured with", async () => {
  const cluster = await new RaftCluster({ seed: testSeed("log wins") }).start();
  const leader = await cluster.awaitLeader();
  const gone = cluster.live.find(({ id }) => id !== leader.id)!;
  const other = cluster.live.find(({ id }) => id !== leader.id && id !== gone.id)!;
  await cluster.world.run(leader.node.changeMembership({ kind: "remove", id: gone.id }));
  await cluster.converge();
  cluster.crash(other.id);
  const again = await cluster.restart(other.id);
  expect(again.node.status().voters).not.toContain(gone.id);
  expect(again.node.status().voters).toHaveLength(4);
  await cluster.world.advance(300);
  await cluster.stop();
  await finishesCleanly(cluster.world);
});

test("a removed replica that comes back is told that it was removed, and disturbs nobody", async () => {
  const cluster = await new RaftCluster({ seed: testSeed("removed returns"), logLevel: "info" }).start();
  const leader = await cluster.awaitLeader();
  const gone = cluster.live.find(({ id }) => id !== leader.id)!;
  cluster.crash(gone.id);
  await cluster.world.advance(300);
  await cluster.world.run(leader.node.changeMembership({ kind: "remove", id: gone.id }));
  await cluster.world.advance(2_000);
  const { term } = leader.node.status();
  const back = await cluster.restart(gone.id);
  const { length } = cluster.world.log.lines;
  await cluster.world.advance(30_000);
  expect(leader.node.status()).toMatchObject({ role: "leader", term });
  expect(back.node.status()).toMatchObject({ leader: null });
  expect(back.node.status().notVoting).toMatch(/^removed from the cluster, as node \d says$/);
  const warnings = cluster.world.log.lines.slice(length).filter(({ level }) => level === "warn");
  const told = warnings.filter(({ event }) => event === "a replica refuses this one");
  // Each of the four says it once, and is told once that somebody knocks.
  expect(told.map(({ fields }) => fields["peer"]).sort()).toEqual([1, 2, 3, 4, 5].filter((id) => id !== gone.id));
  for (const { fields } of told) expect(fields["reason"]).toBe(`Node ${gone.id} was removed from this cluster.`);
  expect(warnings.filter(({ event }) => event === "refused a raft stream")).toHaveLength(4);
  await expect(
    cluster.world.run(leader.node.changeMembership({ kind: "add-learner", member: member(gone.id) })),
  ).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
  await cluster.stop();
  await finishesCleanly(cluster.world);
});
