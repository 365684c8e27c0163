/**
 * What is kept as log stays bounded, whatever the followers do (snapshots.ts, Z2 and Z3). One core that is its own quorum, its
 * snapshots, and a follower played by the test.
 */
import { expect, test } from "vitest";
import { nodeId, type LogIndex, type Term } from "../../core/brands.js";
import { createRandom } from "../../core/random.js";
import { simpleMembership } from "../../manager/raft/core/membership.js";
import { RaftCore } from "../../manager/raft/core/raft.js";
import { APPLIED_BYTES_MAX, SNAPSHOT_EVERY_BYTES, Snapshots } from "../../manager/raft/snapshots.js";
import { MemoryStorage } from "../../manager/raft/storage/memory-storage.js";
import type { SnapshotOffer, TransferMessage } from "../../manager/raft/transport/transport.js";
import { silentLog } from "../kit/silent-log.js";
import { VirtualWorld } from "../kit/virtual-world.js";
import { HandClock, quiet } from "./image-disk.js";

const FOLLOWER = nodeId(2);
const PAYLOAD = new Uint8Array(1024 * 1024);

class Leader {
  readonly clock = new HandClock();
  readonly offers: SnapshotOffer[] = [];
  readonly failures: unknown[] = [];
  readonly stateMachine = {
    busy: false,
    apply: () => undefined,
    *snapshot() {
      yield Buffer.from("the ");
      yield Buffer.from("state");
    },
    restore: () => undefined,
  };
  readonly core = new RaftCore(
    {
      ...{ id: nodeId(1), membership: simpleMembership([nodeId(1)]), voting: { kind: "full" } },
      ...{ electionTimeoutMinTicks: 15, electionTimeoutMaxTicks: 25, heartbeatTicks: 3, unreachableDelayMaxTicks: 5 },
      ...{ inflightAppendsMax: 8, inflightBytesMax: 1 << 22, appendBytesMax: 1 << 22, uncommittedBytesMax: 1 << 26 },
      ...{ storageStallTicks: 20, leaseMarginTicks: null, random: createRandom(1), readNonce: 1, observe: null },
    },
    {
      ...{ hardState: { term: 0 as Term, votedFor: null }, snapshot: null },
      ...{ entries: [], commitIndex: 0 as LogIndex },
    },
  );
  readonly snapshots = new Snapshots({
    env: { ...new VirtualWorld({ seed: 1 }).env("m1"), clock: this.clock },
    log: silentLog,
    config: { id: nodeId(1), snapshotEveryEntries: 1_000_000, trailingEntries: 10 } as never,
    storage: new MemoryStorage(),
    transport: {
      send: () => undefined,
      sendTransfer: (_to: unknown, message: TransferMessage) => {
        if (message.kind === "snapshot-offer") this.offers.push(message);
      },
    } as never,
    stateMachine: this.stateMachine,
    failed: (error) => this.failures.push(error),
    sent: () => undefined,
  });

  async work(): Promise<void> {
    while (this.core.hasReady()) {
      const { persist } = this.core.ready();
      if (persist !== null) this.core.appended(persist.token);
    }
    this.snapshots.takeWhenDue(this.core);
    await quiet();
  }

  async write(mebibytes: number): Promise<void> {
    for (let at = 0; at < mebibytes; at++) {
      expect(this.core.propose(PAYLOAD).kind).toBe("accepted");
      await this.work();
    }
  }

  get snapshotIndex(): number {
    return this.core.state.snapshot?.index ?? 0;
  }
}

async function elected(): Promise<Leader> {
  const leader = new Leader();
  for (let tick = 0; leader.core.state.role.kind !== "leader"; tick++) {
    leader.core.tick();
    await leader.work();
  }
  return leader;
}

test("a state machine that is never idle does not keep the log for ever", async () => {
  const leader = await elected();
  leader.stateMachine.busy = true;
  await leader.write(APPLIED_BYTES_MAX / PAYLOAD.length - 1);
  expect(leader.snapshotIndex, "it might be idle soon").toBe(0);
  await leader.write(2);
  expect(leader.snapshotIndex).toBeGreaterThan(0);
  expect(leader.failures).toEqual([]);
});

test("a follower that breaks its transfer off again and again holds the log up to four times its bound, not for ever", async () => {
  const leader = await elected();
  await leader.write(SNAPSHOT_EVERY_BYTES / PAYLOAD.length + 1);
  const first = leader.snapshotIndex;
  expect(first).toBeGreaterThan(0);
  const { term } = leader.core.state;
  let written = 0;
  let taken = 0;
  for (let round = 0; round < 40; round++) {
    // It takes one chunk, and then its connection breaks, every five seconds.
    leader.snapshots.send(FOLLOWER, {
      ...{ kind: "install-snapshot", from: nodeId(1), term },
      snapshot: leader.core.state.snapshot!,
    });
    const { digest } = leader.offers.at(-1)!.snapshot;
    leader.snapshots.acknowledged({
      ...{ kind: "snapshot-chunk-ack", from: FOLLOWER, term },
      ...{ digest, next: 1, rewind: true },
    });
    await quiet();
    await leader.write(8);
    leader.snapshots.abortSending(FOLLOWER);
    leader.clock.pass(5_000);
    written += 8 * PAYLOAD.length;
    if (leader.snapshotIndex === first) expect(written).toBeLessThanOrEqual(APPLIED_BYTES_MAX + 8 * PAYLOAD.length);
    else taken ||= written;
  }
  expect(leader.failures).toEqual([]);
  expect(taken).toBeGreaterThanOrEqual(APPLIED_BYTES_MAX - 8 * PAYLOAD.length); // (Z2): not before either
  expect(leader.core.state.log.lastIndex - leader.core.state.log.firstIndex).toBeLessThan(
    APPLIED_BYTES_MAX / PAYLOAD.length,
  );
});
