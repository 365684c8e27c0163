/**
 * Random faults on five replicas: crashes with and without power loss, silent machines, pauses, partitions, one-way cuts,
 * slow disks. After everything is mended a leader must come back, everything acknowledged must be there once, in an order
 * all replicas share. RAFT_CHAOS_SEEDS raises the number of worlds.
 */
import { describe, expect, test } from "vitest";
import { createRandom } from "../../core/random.js";
import { testSeed } from "../kit/virtual-world.js";
import { bytes, RaftCluster } from "./raft-cluster.js";

const WORLDS = Number(process.env["RAFT_CHAOS_SEEDS"] ?? 6);
const FAULTS = 25;

async function runWorld(seed: number): Promise<void> {
  const random = createRandom(seed);
  const cluster = await new RaftCluster(
    { seed, disk: { unsyncedWrites: random.below(2) === 0 ? "lost" : "by-chance" }, logLevel: "info" },
    { config: random.below(2) === 0 ? { snapshotEveryEntries: 40, trailingEntries: 10 } : {} },
  ).start();
  const { world } = cluster;
  const acknowledged = new Set<string>();
  let serial = 0;
  const down = new Set<number>();
  const paused = new Set<number>();
  const propose = (): void => {
    for (const replica of cluster.live) {
      if (replica.node.status().role !== "leader") continue;
      const text = `${replica.id}.${serial++}`;
      try {
        replica.node.propose(bytes(text)).applied.then(
          () => acknowledged.add(text),
          () => {},
        );
      } catch {
        // refused: nothing was done
      }
    }
  };
  for (let step = 0; step < FAULTS; step++) {
    const id = 1 + random.below(5);
    switch (random.below(7)) {
      case 0:
        if (down.has(id) || down.size >= 3) break;
        cluster.crash(id, {
          disk: random.below(2) === 0 ? "process" : "power-loss",
          sockets: random.below(3) === 0 ? "silent" : "close",
        });
        down.add(id);
        paused.delete(id);
        break;
      case 1: {
        const back = [...down][0];
        if (back === undefined) break;
        down.delete(back);
        await cluster.restart(back);
        break;
      }
      case 2:
        if (down.has(id)) break;
        world.pause(`m${id}`);
        paused.add(id);
        break;
      case 3:
        for (const one of paused) world.resume(`m${one}`);
        paused.clear();
        break;
      case 4: {
        const side = Array.from({ length: 5 }, () => random.below(2));
        world.partition(
          [1, 2, 3, 4, 5].filter((one) => side[one - 1] === 0).map((one) => `m${one}`),
          [1, 2, 3, 4, 5].filter((one) => side[one - 1] === 1).map((one) => `m${one}`),
        );
        break;
      }
      case 5:
        world.cut(`m${id}`, `m${1 + (id % 5)}`, random.below(2) === 0 ? "both" : "one-way");
        break;
      default:
        world.heal();
    }
    for (let burst = random.below(8); burst >= 0; burst--) {
      propose();
      await world.advance(random.below(120));
    }
    cluster.assertAgreement();
  }
  world.heal();
  for (const one of paused) world.resume(`m${one}`);
  for (const one of down) await cluster.restart(one);
  await cluster.converge(20_000);
  await cluster.write("the end");
  await cluster.converge();
  for (const replica of cluster.live) {
    expect(replica.failures).toEqual([]);
    const texts = replica.state.texts;
    expect(new Set(texts).size).toBe(texts.length);
    for (const text of acknowledged) expect(texts).toContain(text);
  }
  await cluster.stop();
}

describe("whatever breaks and is mended, acknowledged entries stay and a leader returns", () => {
  for (let world = 0; world < WORLDS; world++) {
    const seed = testSeed(`chaos ${world}`);
    test(`world of seed ${seed}`, { timeout: 120_000 }, () => runWorld(seed));
  }
});
