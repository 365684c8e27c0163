/**
 * One replica whose log is damaged, at a moment when its disk is slow: what it lacks comes as a snapshot while the write of a
 * new term is under way. The leader is played by the test.
 */
import { expect, test } from "vitest";
import { nodeId, type LogIndex, type Term } from "../../core/brands.js";
import { createRaftNode } from "../../manager/raft/index.js";
import { LevelStorage } from "../../manager/raft/storage/level-storage.js";
import type { OpenedStorage } from "../../manager/raft/storage/storage.js";
import type { PeerMessage, RaftTransport, TransportListener } from "../../manager/raft/transport/transport.js";
import { testSeed, VirtualWorld } from "../kit/virtual-world.js";
import { TextList } from "./raft-cluster.js";
import { batch, entries, meta, stored } from "./storage-contract.js";

const OWNER = { clusterId: "test", clusterEpoch: 1, nodeId: 3 };
const MACHINE = "m3";
const LEADER = nodeId(1);
const SYNC_MS = 200;
/** Everything that a quorum has committed; the replica acknowledged it and lost its end. */
const COMMITTED = 20 as LogIndex;
const CHUNK = JSON.stringify(Array.from({ length: COMMITTED }, (_, at) => `e${at + 1}`));
const SNAPSHOT = stored(meta(COMMITTED, 1), [CHUNK]);

/** Hands what the replica says to the test, and what the test says to the replica. */
class HeldTransport implements RaftTransport {
  listener: TransportListener | null = null;
  readonly sent: PeerMessage[] = [];
  start(listener: TransportListener): Promise<void> {
    this.listener = listener;
    return Promise.resolve();
  }
  setMembers(): void {}
  send({ message }: { readonly message: PeerMessage }): void {
    this.sent.push(message);
  }
  sendTransfer(_to: unknown, message: PeerMessage): void {
    this.sent.push(message);
  }
  stop(): Promise<void> {
    return Promise.resolve();
  }
}

const storageOf = (world: VirtualWorld): LevelStorage => {
  const { disk, clock } = world.env(MACHINE);
  return new LevelStorage({ disk, clock, folder: "/raft", owner: OWNER, bootstrap: true });
};

/** The disk after the damage: a block in the middle reads as nothing. */
async function damagedWorld(): Promise<VirtualWorld> {
  const world = new VirtualWorld({ seed: testSeed("damaged replica") });
  const storage = storageOf(world);
  await world.run(storage.open());
  await world.run(storage.persist(batch({ hardState: { term: 1 as Term, votedFor: LEADER } })));
  for (let at = 1; at < COMMITTED; at += 2)
    await world.run(storage.persist(batch({ entries: entries(at, at + 1, 1), commitIndex: (at - 1) as LogIndex })));
  await world.run(storage.close());
  const blocks = world
    .disk(MACHINE)
    .storeEntries("/raft/log")
    .filter(({ key }) => key[0] === "B".charCodeAt(0));
  world.disk(MACHINE).tamperStore("/raft/log", [{ key: blocks[3]!.key, value: new Uint8Array(9) }]);
  world.restart(MACHINE);
  return world;
}

/** Runs the replica through the story and takes its power away so long after the snapshot's arrival. */
async function powerLostAfter(ms: number): Promise<OpenedStorage> {
  const world = await damagedWorld();
  const transport = new HeldTransport();
  const failures: Error[] = [];
  const node = createRaftNode({
    env: world.env(MACHINE),
    config: {
      ...{ id: nodeId(3), voters: new Map([1, 2, 3].map((id) => [nodeId(id), `m${id}:1`])) },
      ...{ clusterId: "test", clusterEpoch: 1, dataFolder: "/raft", bootstrap: true },
      ...{ tickMs: 10, heartbeatMs: 30, electionTimeoutMinMs: 1_500, electionTimeoutMaxMs: 2_500 },
      ...{ snapshotEveryEntries: 10_000, trailingEntries: 5_000, uncommittedBytesMax: 1 << 20 },
    },
    stateMachine: new TextList(),
    transport,
    events: { failed: (error) => failures.push(error) },
  });
  await world.run(node.start());
  expect(node.status().notVoting).not.toBeNull();
  const say = (message: PeerMessage): void => transport.listener!.received(message);
  const beat = (term: number): void =>
    say({
      ...{ kind: "heartbeat", from: LEADER, term: term as Term, round: 1 },
      ...{ commitIndex: 0 as LogIndex, quorumAgeTicks: 0 },
    });
  beat(1);
  await world.advance(50);
  const question = transport.sent.find((message) => message.kind === "read-request");
  expect(question).toBeDefined();
  if (question?.kind === "read-request")
    say({ kind: "read-response", from: LEADER, term: 1 as Term, id: question.id, index: COMMITTED });
  say({ kind: "snapshot-offer", from: LEADER, term: 1 as Term, snapshot: SNAPSHOT });
  await world.advance(50);
  say({
    ...{ kind: "snapshot-chunk", from: LEADER, term: 1 as Term },
    ...{ digest: SNAPSHOT.digest, number: 0, data: Buffer.from(CHUNK) },
  });
  await world.advance(50);
  expect(transport.sent.at(-1)).toMatchObject({ kind: "snapshot-chunk-ack", next: 1 });
  world.disk(MACHINE).slowSync(SYNC_MS);
  beat(2); // the write of term 2 begins
  await world.advance(20);
  say({ kind: "install-snapshot", from: LEADER, term: 2 as Term, snapshot: SNAPSHOT.meta });
  await world.advance(ms);
  expect(failures).toEqual([]);
  world.crash(MACHINE, { disk: "power-loss" });
  world.disk(MACHINE).mend();
  world.restart(MACHINE);
  return world.run(storageOf(world).open());
}

test("a damaged replica is a full voter again only when the snapshot it was missing is on its disk", async () => {
  const seen = new Set<string>();
  for (let ms = 0; ms <= 5 * SYNC_MS; ms += SYNC_MS / 5) {
    const { voting, snapshot } = await powerLostAfter(ms);
    const holds = snapshot?.meta.index === COMMITTED;
    if (voting.kind === "full") expect(holds, `power lost after ${ms} ms`).toBe(true);
    seen.add(`${voting.kind}, ${holds ? "holds all" : "lacks entries"}`);
  }
  expect([...seen]).toEqual(["until-caught-up, lacks entries", "until-caught-up, holds all", "full, holds all"]);
});
