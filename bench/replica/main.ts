/**
 * One replica as a process: the consensus module as the Manager runs it (driver, LevelDB with synced batches, gRPC between
 * replicas) around a key-value store instead of Ananta's state. Its settings are one JSON argument.
 */
import { nodeId } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import { RAFT_TIMINGS } from "../../manager/config.js";
import { createRaftNode, type RaftNode } from "../../manager/raft/index.js";
import { LevelStorage } from "../../manager/raft/storage/level-storage.js";
import { bidi, unary, type MessageStream } from "../../runtime/env.js";
import { createNodeEnv } from "../../runtime/node/env.js";
import { mapStacksOnDemand } from "../../runtime/stacks.js";
import { closedLoop } from "../measure/closed-loop.js";
import { CountingStorage } from "./counting-storage.js";
import { KeyValueStore } from "./key-value.js";
import { payloadOf } from "./payload.js";
import { DRIVE, INSPECT, PUT, PUTS, type NumberedPut } from "./wire.js";

export interface ReplicaSettings {
  readonly id: number;
  readonly folder: string;
  /** Raft addresses of all replicas, in order of their ids from 1. */
  readonly raftAddresses: readonly string[];
  readonly clientAddress: string;
}

const CLUSTER_ID = "0123456789abcdef0123456789abcdef";
/** etcd 3.4 takes one after 100,000 entries, too. */
const SNAPSHOT_EVERY_ENTRIES = 100_000;
/** Retries of the requesters inside this process while a full window refuses them. */
const OVERLOADED_PAUSE_MS = 1;

mapStacksOnDemand();
const settings = JSON.parse(process.argv[2] ?? "null") as ReplicaSettings;
const env = createNodeEnv({ name: `replica-${settings.id}`, dataFolder: settings.folder, logLevel: "warn" });
const id = nodeId(settings.id);
const store = new KeyValueStore();
const owner = { clusterId: CLUSTER_ID, clusterEpoch: 1, nodeId: id };
const storage = new CountingStorage(
  new LevelStorage({ disk: env.disk, clock: env.clock, folder: settings.folder, owner, bootstrap: true }),
);
const node: RaftNode = createRaftNode({
  env,
  config: {
    id,
    voters: new Map(settings.raftAddresses.map((address, at) => [nodeId(at + 1), address])),
    clusterId: CLUSTER_ID,
    clusterEpoch: 1,
    dataFolder: settings.folder,
    bootstrap: true,
    ...RAFT_TIMINGS,
    snapshotEveryEntries: SNAPSHOT_EVERY_ENTRIES,
  },
  stateMachine: store,
  storage,
  events: {
    failed: (error) => {
      process.stderr.write(`${error.message}\n`);
      process.exit(1);
    },
  },
});

/** Resolves when the payload is committed and applied here. */
async function put(payload: Uint8Array): Promise<number> {
  for (;;) {
    try {
      const proposal = node.propose(payload);
      await proposal.applied;
      return proposal.index;
    } catch (caught) {
      if (!(caught instanceof AnantaError) || caught.code !== "STAGE_OVERLOADED") throw caught;
      await new Promise((resolve) => setTimeout(resolve, OVERLOADED_PAUSE_MS));
    }
  }
}

/** Answers of one turn of the event loop leave together. */
function serveStream(stream: MessageStream<readonly number[], readonly NumberedPut[]>): void {
  let done: number[] = [];
  const answered = (put: number): void => {
    if (done.length === 0)
      env.clock.nextTurn(() => {
        stream.send(done);
        done = [];
      });
    done.push(put);
  };
  stream.listen({
    message: (puts) => {
      for (const { id: number, payload } of puts)
        put(payload).then(
          () => answered(number),
          (caught: unknown) => stream.end(AnantaError.from(caught)),
        );
    },
    closed: () => stream.end(),
  });
}

await env.network.serve(settings.clientAddress, [
  unary(PUT, (payload) => put(payload)),
  bidi(PUTS, serveStream),
  unary(INSPECT, () => {
    const { role, term, commitIndex } = node.status();
    const { applied, digest } = store;
    const { batches, entries: batchedEntries } = storage;
    return Promise.resolve({ role, term, commitIndex, applied, digest, batches, batchedEntries });
  }),
  unary(DRIVE, (loop) =>
    closedLoop({
      ...loop,
      request: async (requester, round) => {
        await put(payloadOf(requester, round));
      },
    }),
  ),
]);
await node.start();
