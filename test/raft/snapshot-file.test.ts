import { describe, expect, test } from "vitest";
import { nodeId, type LogIndex, type NodeId, type Term } from "../../core/brands.js";
import { readSnapshotFile, restoreDataFolder, saveSnapshotFile, snapshotFileParts } from "../../manager/raft/index.js";
import { writeSnapshotFile, type SnapshotFileFacts } from "../../manager/raft/index.js";
import { simpleMembership } from "../../manager/raft/core/membership.js";
import { VirtualWorld, testSeed } from "../kit/virtual-world.js";
import { finishesCleanly } from "../kit/finishes-cleanly.js";
import { RaftCluster, type Replica } from "./raft-cluster.js";
import { stored } from "./storage-contract.js";

const PATH = "/backup/cluster.snapshot";
const CHUNKS = ["the ", "whole ", "", "state"];
const member = (id: number): { id: NodeId; address: string; service: string } => ({
  id: nodeId(id),
  address: `m${id}:7001`,
  service: `m${id}:7000`,
});
const meta = {
  index: 70 as LogIndex,
  term: 4 as Term,
  membership: {
    ...simpleMembership(
      [1, 2, 3].map(nodeId),
      [nodeId(7)],
      [1, 2, 3, 7].map((id) => ({ ...member(id), folder: "" })),
    ),
    removed: [nodeId(4)],
  },
};
const FACTS: SnapshotFileFacts = { clusterId: "test", clusterEpoch: 1, snapshot: stored(meta, CHUNKS) };
const chunks = CHUNKS.map((text) => Buffer.from(text));

async function saved(salt: string): Promise<VirtualWorld> {
  const world = new VirtualWorld({ seed: testSeed(salt), disk: { unsyncedWrites: "by-chance" } });
  await world.run(saveSnapshotFile(world.env("m1").disk, PATH, FACTS, chunks));
  return world;
}

async function contentOf(world: VirtualWorld): Promise<string> {
  const file = await world.run(readSnapshotFile(world.env("m1").disk, PATH));
  const read: string[] = [];
  const all = (async () => {
    for await (const chunk of file.chunks()) read.push(Buffer.from(chunk).toString());
  })();
  await world.run(all);
  await world.run(file.close());
  expect(file.facts).toEqual(FACTS);
  return read.join("|");
}

describe("a snapshot file", () => {
  test("is read back as it was written", async () => {
    const world = await saved("round trip");
    expect(await contentOf(world)).toBe("the |whole ||state");
    await finishesCleanly(world);
  });

  test("can be carried in pieces of any size", async () => {
    const whole: Uint8Array[] = [];
    for await (const part of snapshotFileParts(FACTS, chunks)) whole.push(part);
    const bytes = Buffer.concat(whole);
    for (const size of [1, 3, 7, 8, 9, 64, 10_000]) {
      const world = new VirtualWorld({ seed: testSeed(`pieces ${size}`) });
      const pieces: Uint8Array[] = [];
      for (let at = 0; at < bytes.length; at += size) pieces.push(bytes.subarray(at, at + size));
      await world.run(writeSnapshotFile(world.env("m1").disk, PATH, pieces));
      expect(await contentOf(world)).toBe("the |whole ||state");
    }
  });

  test("with a single flipped bit, anywhere, is refused", async () => {
    const world = await saved("flips");
    const { disk } = world.env("m1");
    const content = world.disk("m1").fileContent(PATH);
    for (let bit = 0; bit < content.length * 8; bit++) {
      world.disk("m1").tamperFile(PATH, () => {
        const damaged = content.slice();
        damaged[bit >> 3]! ^= 1 << (bit & 7);
        return damaged;
      });
      const expected = bit < 64 ? "INVALID_ARGUMENT" : "STORAGE_DAMAGED";
      await expect(world.run(readSnapshotFile(disk, PATH)), `bit ${bit}`).rejects.toMatchObject({ code: expected });
    }
  });

  test("that was cut off, or goes on behind its end, is refused", async () => {
    const world = await saved("cut off");
    const { disk } = world.env("m1");
    const content = world.disk("m1").fileContent(PATH);
    for (let length = 0; length <= content.length + 1; length++) {
      if (length === content.length) continue;
      world.disk("m1").tamperFile(PATH, () => Buffer.concat([content, Buffer.from("x")]).subarray(0, length));
      await expect(world.run(readSnapshotFile(disk, PATH)), `${length} bytes`).rejects.toMatchObject({
        code: expect.stringMatching(/INVALID_ARGUMENT|STORAGE_DAMAGED/) as string,
      });
    }
  });

  test("whose writing was interrupted by a power loss at any moment is no snapshot, or a whole one", async () => {
    let refused = 0;
    for (let ms = 0.02; ms < 3; ms += 0.02) {
      const world = new VirtualWorld({ seed: testSeed(`interrupted ${ms}`), disk: { unsyncedWrites: "by-chance" } });
      let done = false;
      void saveSnapshotFile(world.env("m1").disk, PATH, FACTS, chunks).then(() => (done = true));
      await world.advance(ms);
      const wasDone = done;
      world.crash("m1", { disk: "power-loss" });
      const { disk } = world.restart("m1");
      const read = await world.run(
        readSnapshotFile(disk, PATH).then(
          ({ facts }) => facts,
          (error: unknown) => (error as { code: string }).code,
        ),
      );
      if (wasDone) expect(read).toEqual(FACTS);
      else if (read !== "NOT_FOUND" && read !== "INVALID_ARGUMENT") expect(read).toEqual(FACTS);
      if (typeof read === "string") refused++;
    }
    expect(refused).toBeGreaterThan(10);
  });

  test("is never written over another file, and a failed one leaves nothing behind", async () => {
    const world = await saved("over");
    const { disk } = world.env("m1");
    await expect(world.run(saveSnapshotFile(disk, PATH, FACTS, chunks))).rejects.toMatchObject({
      code: "ALREADY_EXISTS",
    });
    expect(await contentOf(world)).toBe("the |whole ||state");
    const other = "/backup/other.snapshot";
    await expect(world.run(saveSnapshotFile(disk, other, FACTS, chunks.slice(1)))).rejects.toMatchObject({
      code: "STORAGE_DAMAGED",
    });
    world.disk("m1").setFreeBytes(30);
    await expect(world.run(saveSnapshotFile(disk, other, FACTS, chunks))).rejects.toMatchObject({
      code: "STORAGE_FAILED",
    });
    expect(await world.run(disk.list("/backup"))).toEqual(["cluster.snapshot"]);
    await expect(world.run(readSnapshotFile(disk, other))).rejects.toMatchObject({ code: "NOT_FOUND" });
  });
});

describe("a data folder restored from it", () => {
  const owner = { clusterId: "test", clusterEpoch: 2, nodeId: 1 };

  test("is refused for an epoch beyond what a replicated command can carry, and the message says so", async () => {
    for (const clusterEpoch of [2 ** 32, Number.MAX_SAFE_INTEGER, 1.5, Number.NaN]) {
      const world = await saved(`epoch ${clusterEpoch}`);
      const { disk } = world.env("m1");
      const file = await world.run(readSnapshotFile(disk, PATH));
      const voters = [1, 2, 3].map(member);
      const restoring = restoreDataFolder({ disk, folder: "/raft", owner: { ...owner, clusterEpoch }, voters, file });
      await expect(world.run(restoring)).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        message: `Nothing was restored: a cluster epoch is an integer from 1 to 4294967295, not ${clusterEpoch}.`,
      });
      expect(await world.run(disk.list("/raft"))).toEqual([]);
    }
  });

  test.each<[string, Partial<typeof owner>, readonly number[], string]>([
    ["an epoch that is not greater", { clusterEpoch: 1 }, [1, 2, 3], "INVALID_ARGUMENT"],
    ["another cluster", { clusterId: "other" }, [1, 2, 3], "WRONG_CLUSTER"],
    ["a node that is not among the voters", { nodeId: 5 }, [1, 2, 3], "INVALID_ARGUMENT"],
    ["no voters", {}, [], "INVALID_ARGUMENT"],
    ["a voter twice", {}, [1, 2, 2], "INVALID_ARGUMENT"],
    ["an id that was removed", {}, [1, 2, 4], "INVALID_ARGUMENT"],
  ])("is refused for %s", async (_what, changes, voters, code) => {
    const world = await saved("refused");
    const { disk } = world.env("m1");
    const file = await world.run(readSnapshotFile(disk, PATH));
    const restoring = restoreDataFolder({
      disk,
      folder: "/raft",
      owner: { ...owner, ...changes },
      voters: voters.map(member),
      file,
    });
    await expect(world.run(restoring)).rejects.toMatchObject({ code });
    expect(await world.run(disk.list("/raft"))).toEqual([]);
  });

  /** Five replicas that have written something, and a file of it. */
  async function clusterWithFile(salt: string): Promise<RaftCluster> {
    const cluster = await new RaftCluster({ seed: testSeed(salt), disk: { unsyncedWrites: "by-chance" } }).start();
    const leader = await cluster.awaitLeader();
    for (let at = 0; at < 30; at++) await cluster.write(`old ${at}`);
    await cluster.world.run(leader.node.readIndex(1_000));
    const { snapshot, chunks: exported } = await cluster.world.run(leader.node.exportSnapshot());
    const facts = { clusterId: "test", clusterEpoch: 1, snapshot };
    for (const id of [1, 2, 3])
      await cluster.world.run(saveSnapshotFile(cluster.world.env(`m${id}`).disk, PATH, facts, exported));
    await cluster.write("after the snapshot");
    return cluster;
  }

  async function restore(cluster: RaftCluster, id: number): Promise<void> {
    const { disk } = cluster.world.env(`m${id}`);
    const file = await cluster.world.run(readSnapshotFile(disk, PATH));
    await cluster.world.run(
      restoreDataFolder({
        disk,
        folder: "/restored",
        owner: { ...owner, nodeId: id },
        voters: [1, 2, 3].map(member),
        file,
      }),
    );
    await cluster.world.run(file.close());
  }

  const changes = { dataFolder: "/restored", clusterEpoch: 2, bootstrap: false };

  test("begins a cluster of three that has the state, takes writes, and hears nothing of the old one", async () => {
    const cluster = await clusterWithFile("restored");
    for (const id of [1, 2, 3]) cluster.crash(id);
    for (const id of [1, 2, 3]) {
      cluster.world.restart(`m${id}`);
      await restore(cluster, id);
    }
    // 4 and 5, of the old epoch and a minority of it, still run.
    for (const id of [1, 2, 3]) await cluster.boot(nodeId(id), changes);
    const restored = [1, 2, 3].map((id) => cluster.replica(id));
    const leading = (): Replica | undefined => restored.find(({ established }) => established.length > 0);
    await cluster.world.runUntil(() => leading() !== undefined, 2_000, "a leader of the new epoch");
    const leader = leading()!;
    await cluster.world.run(leader.node.propose(new TextEncoder().encode("new")).applied);
    await cluster.world.advance(500);
    for (const { node, state } of restored) {
      expect(state.texts).toEqual([...Array.from({ length: 30 }, (_, at) => `old ${at}`), "new"]);
      expect(node.status().voters).toEqual([1, 2, 3]);
      expect(node.status().notVoting).toBeNull();
    }
    for (const id of [4, 5]) expect(cluster.replica(id).state.texts).not.toContain("new");
    await cluster.stop();
    await finishesCleanly(cluster.world);
  });

  test("is a replica's data: a second restore into it is refused", async () => {
    const cluster = await clusterWithFile("twice");
    await restore(cluster, 1);
    await expect(restore(cluster, 1)).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
    await cluster.stop();
  });

  test("and interrupted at any moment has no vote until it has caught up", async () => {
    const cluster = await clusterWithFile("interrupted");
    for (const id of [1, 2, 3, 4, 5]) cluster.crash(id);
    for (const id of [1, 2, 3]) cluster.world.restart(`m${id}`);
    await restore(cluster, 2);
    await restore(cluster, 3);
    let interrupted = 0;
    for (let ms = 0.05; ms < 4; ms += 0.15) {
      const { disk } = cluster.world.env("m1");
      await cluster.world.run(disk.remove("/restored"));
      const file = await cluster.world.run(readSnapshotFile(disk, PATH));
      let done = false;
      void restoreDataFolder({ disk, folder: "/restored", owner, voters: [1, 2, 3].map(member), file }).then(
        () => (done = true),
      );
      await cluster.world.advance(ms);
      const whole = done;
      cluster.world.restart("m1", { disk: "power-loss" });
      const replica = await cluster.boot(nodeId(1), changes);
      if (whole) expect(replica.node.status().notVoting).toBeNull();
      else if (replica.node.status().notVoting !== null) interrupted++;
      cluster.world.restart("m1", { disk: "process" });
    }
    expect(interrupted).toBeGreaterThan(5);
  });
});
