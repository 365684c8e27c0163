/**
 * The consensus core alone: five of them in one process, messages handed over as they are, disks that take no time. What is
 * left is the cost of the protocol's decisions. Agreement of all five is checked.
 */
import { nodeId, type LogIndex, type NodeId, type Term } from "../../core/brands.js";
import { assert } from "../../core/assert.js";
import { createRandom } from "../../core/random.js";
import { simpleMembership } from "../../manager/raft/core/membership.js";
import { RaftCore } from "../../manager/raft/core/raft.js";

/** Proposals that arrive in one turn of the event loop: about what 256 requesters bring. */
const BATCH = 200;
const PAYLOAD_BYTES = 64;
const SNAPSHOT_EVERY = 20_000;

interface Replica {
  readonly core: RaftCore;
  applied: number;
  digest: number;
}

/** Committed entries per second. */
export function measureCore(entries: number): number {
  const replicas = createReplicas();
  const leader = replicas.get(nodeId(1))!.core;
  for (let at = 0; at < 25; at++) leader.tick(); // its election timeout runs out
  pump(replicas);
  const payload = new Uint8Array(PAYLOAD_BYTES).fill(7);
  const beganMs = performance.now();
  for (let at = 0; at < entries; at += BATCH) {
    for (let one = 0; one < BATCH; one++)
      assert(leader.propose(payload).kind === "accepted", "the leader takes proposals");
    pump(replicas);
    if (at % SNAPSHOT_EVERY === 0) for (const { core } of replicas.values()) compact(core);
  }
  const seconds = (performance.now() - beganMs) / 1_000;
  const first = replicas.get(nodeId(1))!;
  for (const { applied, digest } of replicas.values())
    assert(applied === entries + 1 && digest === first.digest, "all five applied the same entries"); // and the no-op
  return entries / seconds;
}

function createReplicas(): Map<NodeId, Replica> {
  const ids = [1, 2, 3, 4, 5].map(nodeId);
  const create = (id: NodeId): RaftCore =>
    new RaftCore(
      {
        id,
        membership: simpleMembership(ids),
        electionTimeoutMinTicks: 15,
        electionTimeoutMaxTicks: 25,
        heartbeatTicks: 3,
        unreachableDelayMaxTicks: 5,
        inflightAppendsMax: 256,
        inflightBytesMax: 8 << 20,
        appendBytesMax: 1 << 20,
        storageStallTicks: 100,
        leaseMarginTicks: null,
        uncommittedBytesMax: 16 << 20,
        random: createRandom(id),
        readNonce: id,
        voting: { kind: "full" },
        observe: null,
      },
      { hardState: { term: 0 as Term, votedFor: null }, snapshot: null, entries: [], commitIndex: 0 as LogIndex },
    );
  return new Map(ids.map((id) => [id, { core: create(id), applied: 0, digest: 0 }]));
}

/** Until nobody has anything to do. */
function pump(replicas: ReadonlyMap<NodeId, Replica>): void {
  for (let busy = true; busy;) {
    busy = false;
    for (const replica of replicas.values()) {
      const { core } = replica;
      while (core.hasReady()) {
        busy = true;
        const ready = core.ready();
        for (const { to, message } of ready.sendNow) replicas.get(to)!.core.step(message);
        if (ready.persist !== null) core.appended(ready.persist.token);
        for (const entry of ready.committed) {
          replica.applied++;
          replica.digest = (Math.imul(replica.digest, 31) + entry.index * 7 + (entry.payload[0] ?? 0)) | 0;
        }
      }
    }
  }
}

function compact(core: RaftCore): void {
  const { appliedIndex } = core.state.log;
  core.snapshotTaken({ index: appliedIndex, term: core.state.term, membership: core.state.membership }, appliedIndex);
}
