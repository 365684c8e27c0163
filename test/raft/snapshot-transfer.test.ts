/**
 * A snapshot on its way: sender and receiver face to face over a wire that the test holds, and then whole replicas whose
 * connections break, whose processes end, whose leader changes in the middle of it.
 */
import { describe, expect, test } from "vitest";
import { nodeId, type NodeId, type Term } from "../../core/brands.js";
import type { InstallSnapshot } from "../../manager/raft/core/messages.js";
import { SnapshotReceiver } from "../../manager/raft/snapshot-receiver.js";
import { CHUNKS_UNDER_WAY_MAX, SnapshotSender } from "../../manager/raft/snapshot-sender.js";
import { MemoryStorage } from "../../manager/raft/storage/memory-storage.js";
import type { StoredSnapshot } from "../../manager/raft/storage/storage.js";
import type { SnapshotChunkAck, TransferMessage } from "../../manager/raft/transport/transport.js";
import { silentLog } from "../kit/silent-log.js";
import { finishesCleanly } from "../kit/finishes-cleanly.js";
import { testSeed } from "../kit/virtual-world.js";
import { HandClock, quiet } from "./image-disk.js";
import { RaftCluster, type TextList } from "./raft-cluster.js";
import { meta, stored } from "./storage-contract.js";

const TEXTS = Array.from({ length: 12 }, (_, at) => `chunk ${at}`);
const SNAPSHOT = stored(meta(100, 3), TEXTS);
const TERM = 5 as Term;

/** Storage that holds the snapshot and nothing else. */
async function holding(snapshot: StoredSnapshot, texts: readonly string[]): Promise<MemoryStorage> {
  const storage = new MemoryStorage();
  for (const [number, text] of texts.entries())
    await storage.writeSnapshotChunk(snapshot.meta, number, Buffer.from(text));
  await storage.completeSnapshot(snapshot);
  return storage;
}

/** One sender and one receiver; messages wait in two queues until the test lets them through. */
class Wire {
  readonly clock = new HandClock();
  readonly toReceiver: TransferMessage[] = [];
  readonly toSender: SnapshotChunkAck[] = [];
  readonly installs: InstallSnapshot[] = [];
  readonly ended: boolean[] = [];
  readonly failures: unknown[] = [];
  readonly state = { held: false, installing: false };
  /** Most chunks that were ever sent and not acknowledged. */
  underWayMax = 0;
  sent = 0;
  sender: SnapshotSender | null = null;
  receiver: SnapshotReceiver;

  readonly storage: MemoryStorage;

  constructor(storage: MemoryStorage) {
    this.storage = storage;
    this.receiver = this.newReceiver();
  }

  newReceiver(): SnapshotReceiver {
    return new SnapshotReceiver({
      id: nodeId(2),
      storage: this.storage,
      transport: { sendTransfer: (_to, message) => this.toSender.push(message as SnapshotChunkAck) },
      log: silentLog,
      failed: (error) => this.failures.push(error),
    });
  }

  async start(snapshot: StoredSnapshot, texts: readonly string[], from: NodeId = nodeId(1)): Promise<void> {
    this.sender = new SnapshotSender({
      to: nodeId(2),
      message: { kind: "install-snapshot", from, term: TERM, snapshot: snapshot.meta },
      snapshot,
      storage: await holding(snapshot, texts),
      transport: {
        send: ({ message }) => this.installs.push(message as InstallSnapshot),
        sendTransfer: (_to, message) => {
          this.toReceiver.push(message);
          if (message.kind === "snapshot-chunk") this.sent++;
        },
      },
      clock: this.clock,
      finished: (delivered) => this.ended.push(delivered),
      failed: (error) => this.failures.push(error),
    });
    this.sender.start();
    await quiet();
  }

  /** Delivers one message in each direction. */
  async step(): Promise<boolean> {
    this.underWayMax = Math.max(
      this.underWayMax,
      this.toReceiver.filter(({ kind }) => kind === "snapshot-chunk").length,
    );
    const message = this.toReceiver.shift();
    if (message?.kind === "snapshot-offer") this.receiver.offered(message, this.state);
    else if (message?.kind === "snapshot-chunk") this.receiver.received(message, this.state);
    await quiet();
    const ack = this.toSender.shift();
    if (ack !== undefined) this.sender?.acknowledged(ack);
    await quiet();
    return message !== undefined || ack !== undefined;
  }

  async run(steps = 1_000): Promise<void> {
    while (steps-- > 0 && (await this.step()));
  }

  /** The connection breaks: what is on its way is lost, and the sender is told. */
  break(): void {
    this.toReceiver.length = 0;
    this.toSender.length = 0;
    this.sender?.abort();
  }
}

async function arrived(wire: Wire): Promise<void> {
  expect(wire.failures).toEqual([]);
  expect(wire.ended.at(-1)).toBe(true);
  expect(wire.installs).toHaveLength(1);
  expect(wire.receiver.complete(SNAPSHOT.meta)).toEqual(SNAPSHOT);
  expect(await wire.storage.verifyReceived()).toBe(true);
}

describe("from sender to receiver", () => {
  test("all chunks arrive in order, a few under way at a time, and the install message comes last", async () => {
    const wire = new Wire(new MemoryStorage());
    await wire.start(SNAPSHOT, TEXTS);
    await wire.run();
    await arrived(wire);
    expect(wire.sent).toBe(TEXTS.length);
    expect(wire.underWayMax).toBe(CHUNKS_UNDER_WAY_MAX);
  });

  test("a lost chunk is asked for again, and only what followed it is sent twice", async () => {
    for (let lost = 0; lost < TEXTS.length - 1; lost++) {
      const wire = new Wire(new MemoryStorage());
      await wire.start(SNAPSHOT, TEXTS);
      let gone = false;
      while (await wire.step()) {
        const next = wire.toReceiver[0];
        if (gone || next?.kind !== "snapshot-chunk" || next.number !== lost) continue;
        wire.toReceiver.shift();
        gone = true;
      }
      // Lost behind everything else that was under way, nobody would notice: then the time-out does.
      await arrived(wire);
      expect(wire.sent).toBeLessThanOrEqual(TEXTS.length + CHUNKS_UNDER_WAY_MAX);
    }
  });

  test("late and repeated acknowledgements change nothing", async () => {
    const wire = new Wire(new MemoryStorage());
    await wire.start(SNAPSHOT, TEXTS);
    while (await wire.step()) {
      const ack = wire.toSender[0];
      if (ack !== undefined) {
        wire.sender?.acknowledged({ ...ack, next: Math.max(0, ack.next - 2), rewind: false });
        wire.sender?.acknowledged({ ...ack, digest: "0".repeat(64), next: 0, rewind: true });
      }
    }
    await arrived(wire);
    expect(wire.sent).toBe(TEXTS.length);
  });

  test("after a broken connection it goes on where it stopped, whenever that was", async () => {
    for (let steps = 1; steps < TEXTS.length; steps++) {
      const wire = new Wire(new MemoryStorage());
      await wire.start(SNAPSHOT, TEXTS);
      await wire.run(steps);
      const before = (await wire.storage.open()).receiving?.next ?? 0;
      wire.break();
      expect(wire.ended).toEqual([false]);
      wire.sent = 0;
      await wire.start(SNAPSHOT, TEXTS);
      await wire.run();
      await arrived(wire);
      expect(wire.sent).toBe(TEXTS.length - before);
    }
  });

  test("after a restart of the receiver it goes on where the disk says", async () => {
    const wire = new Wire(new MemoryStorage());
    await wire.start(SNAPSHOT, TEXTS);
    await wire.run(7);
    wire.break();
    wire.receiver = wire.newReceiver();
    const { receiving } = await wire.storage.open();
    wire.receiver.resume(receiving!);
    wire.sent = 0;
    await wire.start(SNAPSHOT, TEXTS);
    await wire.run();
    await arrived(wire);
    expect(receiving!.next).toBeGreaterThan(4);
    expect(wire.sent).toBe(TEXTS.length - receiving!.next);
  });

  test("another sender with the same content finishes what the first began", async () => {
    const wire = new Wire(new MemoryStorage());
    await wire.start(SNAPSHOT, TEXTS, nodeId(1));
    await wire.run(8);
    wire.break();
    wire.sent = 0;
    await wire.start(SNAPSHOT, TEXTS, nodeId(3));
    await wire.run();
    await arrived(wire);
    expect(wire.sent).toBeLessThan(TEXTS.length - 4);
  });

  test("another content at the same index begins anew, and nothing is mixed", async () => {
    const wire = new Wire(new MemoryStorage());
    const others = TEXTS.map((text) => text.toUpperCase());
    await wire.start(stored(meta(100, 3), others), others);
    await wire.run(8);
    wire.break();
    wire.sent = 0;
    await wire.start(SNAPSHOT, TEXTS);
    await wire.run();
    await arrived(wire);
    expect(wire.sent).toBe(TEXTS.length);
  });

  test("content that does not have the digest it was offered under is never installed", async () => {
    const wire = new Wire(new MemoryStorage());
    await wire.start(SNAPSHOT, TEXTS);
    while (await wire.step()) {
      const chunk = wire.toReceiver[0];
      if (chunk?.kind === "snapshot-chunk" && chunk.number === 6)
        wire.toReceiver[0] = { ...chunk, data: Buffer.from("forged") };
    }
    expect(wire.receiver.complete(SNAPSHOT.meta)).toBeNull();
    expect(wire.installs).toEqual([]);
    expect(wire.ended).toEqual([false]); // after a few attempts
    expect(wire.sent).toBe(4 * TEXTS.length);
  });

  test("a receiver that falls silent ends the transfer with a report, not with oblivion", async () => {
    for (let steps = 0; steps < 6; steps++) {
      const wire = new Wire(new MemoryStorage());
      await wire.start(SNAPSHOT, TEXTS);
      await wire.run(steps);
      wire.clock.pass(2_000);
      expect(wire.ended).toEqual([false]);
      expect(wire.clock.timers).toBe(0);
    }
  });

  test("while a snapshot is being installed no other takes its place", async () => {
    const wire = new Wire(new MemoryStorage());
    await wire.start(SNAPSHOT, TEXTS);
    await wire.run();
    wire.state.installing = true;
    const newer = stored(meta(200, 3), ["newer"]);
    await wire.start(newer, ["newer"]);
    await wire.run();
    expect(wire.receiver.complete(SNAPSHOT.meta)).toEqual(SNAPSHOT);
    expect((await wire.storage.open()).receiving?.snapshot).toEqual(SNAPSHOT);
  });

  test("a receiver whose log has caught up meanwhile says that nothing is missing", async () => {
    const wire = new Wire(new MemoryStorage());
    await wire.start(SNAPSHOT, TEXTS);
    await wire.run(4);
    wire.state.held = true;
    await wire.run();
    expect(wire.ended).toEqual([true]);
    expect(wire.sent).toBeLessThan(TEXTS.length);
  });

  test("a receiver without room for it does not begin", async () => {
    const storage = new MemoryStorage();
    storage.freeBytes = () => Promise.resolve(1_000);
    const wire = new Wire(storage);
    await wire.start(SNAPSHOT, TEXTS);
    await wire.run();
    expect(wire.sent).toBe(0);
    wire.clock.pass(2_000);
    expect(wire.ended).toEqual([false]);
    expect((await storage.open()).receiving).toBeNull();
  });
});

describe("between replicas", () => {
  const config = { snapshotEveryEntries: 50, trailingEntries: 10 };
  const filler = "x".repeat(2_000);

  /** One replica is down while the others write far beyond their logs' reach; its snapshot will have many chunks. */
  async function lagging(salt: string): Promise<{ cluster: RaftCluster; away: number }> {
    const cluster = await new RaftCluster(
      { seed: testSeed(salt), disk: { unsyncedWrites: "by-chance" } },
      { config },
    ).start();
    const leader = await cluster.awaitLeader();
    const away = cluster.live.find((replica) => replica !== leader)!.id;
    cluster.crash(away);
    for (let at = 0; at < 120; at++) await cluster.write(`entry ${at} ${filler}`);
    return { cluster, away };
  }

  const chunksReceived = (cluster: RaftCluster, machine: string): number =>
    cluster.world
      .disk(machine)
      .storeEntries("/raft/log")
      .filter(({ key }) => key[0] === "C".charCodeAt(0) && key[9] === 1).length;

  const caughtUp = async (cluster: RaftCluster, away: number): Promise<void> => {
    await cluster.converge(20_000);
    const { state, failures, node } = cluster.replica(away);
    expect(state.texts).toHaveLength(120);
    expect(state.restoredAt).toBeGreaterThan(0);
    expect(failures).toEqual([]);
    expect(node.status().notVoting).toBeNull();
  };

  test("a transfer whose connection breaks again and again is finished all the same (S5)", async () => {
    const { cluster, away } = await lagging("breaks");
    await cluster.restart(away);
    let progress = 0;
    for (let round = 0; round < 200 && cluster.replica(away).state.restoredAt === 0; round++) {
      await cluster.world.advance(20);
      const now = chunksReceived(cluster, `m${away}`);
      if (cluster.replica(away).state.restoredAt === 0) expect(now).toBeGreaterThanOrEqual(progress);
      progress = now;
      for (const { machine } of cluster.live) if (machine !== `m${away}`) cluster.world.cut(machine, `m${away}`);
      await cluster.world.advance(400);
      cluster.world.heal();
      await cluster.world.advance(60);
    }
    await caughtUp(cluster, away);
    await cluster.stop();
    await finishesCleanly(cluster.world);
  });

  test("a receiver that loses power again and again in the middle of it gets there (S4, S5)", async () => {
    const { cluster, away } = await lagging("restarts");
    await cluster.restart(away);
    let kept = 0;
    for (let round = 0; round < 100 && cluster.replica(away).state.restoredAt === 0; round++) {
      await cluster.world.advance(25 + (round % 7));
      if (cluster.replica(away).state.restoredAt > 0) break;
      await cluster.restart(away, {}, { disk: "power-loss" });
      kept = Math.max(kept, chunksReceived(cluster, `m${away}`));
    }
    await caughtUp(cluster, away);
    expect(kept).toBeGreaterThan(0);
    await cluster.stop();
  });

  test("a leader that changes in the middle of it does not stop it", async () => {
    const { cluster, away } = await lagging("leader changes");
    await cluster.restart(away);
    const senders = new Set<number>();
    for (let round = 0; round < 3; round++) {
      const before = chunksReceived(cluster, `m${away}`);
      await cluster.world.runUntil(() => chunksReceived(cluster, `m${away}`) > before, 5_000, "chunks on their way");
      expect(cluster.replica(away).state.restoredAt).toBe(0); // it is the middle of the transfer
      const leader = await cluster.awaitLeader();
      senders.add(leader.id);
      await cluster.restart(leader.id);
      await cluster.awaitLeader(5_000);
    }
    expect(senders.size).toBeGreaterThan(1);
    await caughtUp(cluster, away);
    await cluster.stop();
  });

  test("writes that go on meanwhile never outrun it (S5: hashicorp 212)", async () => {
    const { cluster, away } = await lagging("outrun");
    await cluster.restart(away);
    let written = 0;
    for (; written < 400 && cluster.replica(away).state.restoredAt === 0; written++)
      await cluster.write(`more ${written}`);
    expect(cluster.replica(away).state.restoredAt).toBeGreaterThan(0);
    await cluster.converge(20_000);
    expect(cluster.replica(away).state.texts).toHaveLength(120 + written);
    await cluster.stop();
  });

  test("an install that races with applies, and a second one close behind (S2: etcd 18055)", async () => {
    const { cluster, away } = await lagging("races");
    const installed = new Set<number>();
    for (let round = 0; round < 4; round++) {
      const { state } = await cluster.restart(away);
      const atStart = state.restoredAt;
      for (let at = 0; at < 70; at++) await cluster.write(`round ${round} ${at}`);
      await cluster.world.runUntil(() => state.restoredAt > atStart, 20_000, "an install");
      installed.add(state.restoredAt);
      cluster.crash(away);
      await cluster.world.advance(10_000); // a transfer that broke off would keep the log from being compacted
      for (let at = 0; at < 120; at++) await cluster.write(`away ${round} ${at}`);
    }
    await cluster.restart(away);
    await cluster.converge(20_000);
    for (const { failures } of cluster.live) expect(failures).toEqual([]);
    expect(installed.size).toBe(4); // further every time
    await cluster.stop();
  });
});

/** The replica's state machine writes itself down piece by piece, and waits for the gate before the first. */
function slice(state: TextList, gate: () => Promise<void>): void {
  const sliced = state as unknown as { snapshot(): AsyncIterable<Uint8Array> };
  const whole = state.snapshot.bind(state);
  sliced.snapshot = () => {
    const captured = [...whole()].map((chunk) => chunk.slice()); // the state of the call
    return (async function* () {
      await gate();
      for (const chunk of captured) {
        await Promise.resolve();
        yield chunk;
      }
    })();
  };
}

test("a snapshot finished while its predecessor is being sent ends that transfer; nothing is mixed and nobody fails", async () => {
  const config = { snapshotEveryEntries: 50, trailingEntries: 10 };
  const cluster = await new RaftCluster({ seed: testSeed("taken while sent") }, { config }).start();
  const leader = await cluster.awaitLeader();
  const away = cluster.live.find((replica) => replica !== leader)!.id;
  cluster.crash(away);
  for (let at = 0; at < 101; at++) await cluster.write(`entry ${at} ${"x".repeat(2_000)}`);
  await cluster.world.advance(200);
  const before = leader.node.status().snapshotIndex;
  let open = (): void => undefined;
  const gate = new Promise<void>((resolve) => (open = resolve));
  let asked = 0;
  slice(leader.state, () => {
    asked++;
    return gate;
  });
  await cluster.write("clear"); // the next snapshot has one chunk where this one has fifty
  while (asked === 0) await cluster.write("more");
  await cluster.restart(away);
  const received = (): number =>
    cluster.world
      .disk(`m${away}`)
      .storeEntries("/raft/log")
      .filter(({ key }) => key[0] === "C".charCodeAt(0) && key[9] === 1).length;
  await cluster.world.runUntil(() => received() > 5, 5_000, "a transfer under way");
  expect(received()).toBeLessThan(40);
  expect(leader.node.status().snapshotIndex).toBe(before);
  open();
  await cluster.converge(20_000);
  expect(cluster.leader).toBe(leader);
  for (const { failures } of cluster.live) expect(failures).toEqual([]);
  expect(leader.node.status().snapshotIndex).toBeGreaterThan(before);
  expect(cluster.replica(away).state.restoredAt).toBe(leader.node.status().snapshotIndex);
  expect(cluster.replica(away).state.texts).toEqual(leader.state.texts);
  await cluster.stop();
  await finishesCleanly(cluster.world);
});

test("a state machine that writes itself down in slices is asked for nothing else", async () => {
  const cluster = new RaftCluster(
    { seed: testSeed("async") },
    { config: { snapshotEveryEntries: 20, trailingEntries: 5 } },
  );
  await cluster.start();
  for (const { state } of cluster.live) slice(state, () => Promise.resolve());
  for (let at = 0; at < 100; at++) await cluster.write(`w${at}`);
  const last = cluster.live.at(-1)!;
  expect(last.node.status().snapshotIndex).toBeGreaterThan(20);
  const again = await cluster.restart(last.id);
  await cluster.converge();
  expect(again.state.restoredAt).toBeGreaterThan(20);
  expect(again.state.texts).toHaveLength(100);
  await cluster.stop();
});
