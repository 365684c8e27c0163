/**
 * How fast is the consensus module? First its core alone, then five processes with synced disks, beside five members of etcd.
 * bench/README.md says what is compared and how.
 */
import { assert } from "../core/assert.js";
import { AnantaError, type ErrorCode } from "../core/errors.js";
import { ETCD_MISSING, findEtcd, startEtcd } from "./etcd/etcd-cluster.js";
import type { EtcdClient } from "./etcd/etcd-client.js";
import { GrpcEtcdClient } from "./etcd/grpc-client.js";
import { LeanEtcdClient } from "./etcd/lean-client.js";
import { print, progress, runBenchmark } from "./measure/benchmark.js";
import { closedLoop, type LoopResult } from "./measure/closed-loop.js";
import { numberText, resultNumber, spreadOf, spreadText } from "./measure/statistics.js";
import { ReplicaCluster } from "./replica/cluster.js";
import { measureCore } from "./replica/core-alone.js";
import { keyOf, payloadOf, VALUE_BYTES, valueOf } from "./replica/payload.js";

const REQUESTERS: readonly number[] = [1, 64, 256];
const WARM_UP_MS = 1_000;
const LEADER_LOST: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["LEADERSHIP_LOST", "NOT_LEADER"]);
/** Of one point of one run. */
const ATTEMPTS_MAX = 3;

/** Who is measured. The order is the order of the table. */
const SUBJECTS = {
  inside: "Ananta, requesters in the leader's process",
  stream: "Ananta, client process, gRPC stream",
  unary: "Ananta, client process, gRPC unary calls",
  etcd: "etcd, client process, grpc-js",
  lean: "etcd, client process, lean client",
} as const;
type Subject = keyof typeof SUBJECTS;

interface Sample {
  readonly subject: Subject;
  readonly requesters: number;
  readonly result: LoopResult;
  /** Entries per synced batch of the leader; null where it cannot be seen. */
  readonly batch: number | null;
}

async function measureReplicas(measureMs: number, portsFrom: number): Promise<Sample[]> {
  const cluster = await ReplicaCluster.start(portsFrom);
  const samples: Sample[] = [];
  let answered = 0;
  let repeated = 0;
  try {
    for (const requesters of REQUESTERS) {
      for (const subject of ["inside", "stream", "unary"] as const) {
        for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
          try {
            const sample = await measureReplica(cluster, subject, { requesters, warmUpMs: WARM_UP_MS, measureMs });
            answered += sample.result.total;
            tell(sample);
            samples.push(sample);
            break;
          } catch (caught) {
            // On a machine that does much else the leader may change: then the point means nothing.
            if (!LEADER_LOST.has(AnantaError.from(caught).code)) throw caught;
            repeated++;
            const next = attempt < ATTEMPTS_MAX ? "once more" : "left out";
            progress(`the leader changed during ${SUBJECTS[subject]}, ${requesters}: ${next}`);
          }
        }
      }
    }
    const applied = await cluster.agreed();
    assert(
      repeated === 0 ? applied === answered : applied >= answered,
      `what was answered (${answered}) was applied by all five, once (${applied})`,
    );
  } finally {
    await cluster.stop();
  }
  return samples;
}

async function measureReplica(
  cluster: ReplicaCluster,
  subject: "inside" | "stream" | "unary",
  loop: { readonly requesters: number; readonly warmUpMs: number; readonly measureMs: number },
): Promise<Sample> {
  const leader = await cluster.leader();
  const before = await cluster.inspect(leader);
  const stream = subject === "stream" ? cluster.puts(leader) : null;
  const put = (payload: Uint8Array): Promise<void> => stream?.put(payload) ?? cluster.put(leader, payload);
  const result =
    subject === "inside"
      ? await cluster.drive(leader, loop)
      : await closedLoop({ ...loop, request: (id, round) => put(payloadOf(id, round)) });
  stream?.close();
  const after = await cluster.inspect(leader);
  if (after.role !== "leader" || after.term !== before.term)
    throw new AnantaError("LEADERSHIP_LOST", "the leader changed during the measurement");
  const batch = (after.batchedEntries - before.batchedEntries) / (after.batches - before.batches);
  return { subject, requesters: loop.requesters, result, batch };
}

async function measureEtcd(measureMs: number, portsFrom: number): Promise<Sample[]> {
  const etcd = await startEtcd({ portsFrom });
  if (etcd === null) return [];
  const samples: Sample[] = [];
  try {
    const leader = await etcd.leader();
    for (const requesters of REQUESTERS) {
      const loop = { requesters, warmUpMs: WARM_UP_MS, measureMs };
      for (const subject of ["etcd", "lean"] as const) {
        const client: EtcdClient =
          subject === "etcd" ? new GrpcEtcdClient(etcd.addresses) : new LeanEtcdClient(etcd.addresses);
        const first = await client.put(leader, keyOf(0, 0), valueOf());
        // One requester goes to the leader, the shortest way; many are spread over all members, as etcd advises.
        const memberOf = (id: number): number => (leader + id) % etcd.addresses.length;
        const result = await closedLoop({
          ...loop,
          request: async (id, round) => {
            await client.put(memberOf(id), keyOf(id, round), valueOf());
          },
        });
        const last = await client.put(leader, keyOf(0, 0), valueOf());
        assert(last - first - 1 === result.total, "what was answered was written by etcd, once");
        client.close();
        tell({ subject, requesters, result, batch: null });
        samples.push({ subject, requesters, result, batch: null });
      }
    }
  } finally {
    await etcd.stop();
  }
  return samples;
}

function tell({ subject, requesters, result, batch }: Sample): void {
  const batches = batch === null ? "" : `, ${batch.toFixed(1)} entries per synced batch`;
  const latency = `p50 ${result.p50Ms.toFixed(2)} ms, p99 ${result.p99Ms.toFixed(1)} ms`;
  progress(`${SUBJECTS[subject]}, ${requesters}: ${numberText(result.perSecond)}/s, ${latency}${batches}`);
}

function printTable(samples: readonly Sample[]): void {
  print(`\nCommits/s, p50 and p99 in ms, entries per synced batch: median [smallest..largest]`);
  for (const requesters of REQUESTERS) {
    print(`\n${requesters} concurrent`);
    for (const [subject, name] of Object.entries(SUBJECTS) as [Subject, string][]) {
      const rows = samples.filter((sample) => sample.subject === subject && sample.requesters === requesters);
      if (rows.length === 0) continue;
      const spread = (pick: (sample: Sample) => number, digits: number): string =>
        spreadText(spreadOf(rows.map(pick)), digits);
      const batch = rows[0]?.batch === null ? "" : `   batch ${spread((row) => row.batch ?? Number.NaN, 1)}`;
      print(
        `  ${name.padEnd(44)} ${spread((row) => row.result.perSecond, 0).padEnd(28)} p50 ${spread((row) => row.result.p50Ms, 2).padEnd(22)} p99 ${spread((row) => row.result.p99Ms, 1).padEnd(22)}${batch}`,
      );
    }
  }
}

await runBenchmark({
  name: "raft",
  question: `Commits per second and their latency: the core alone, and five replicas with synced storage beside etcd; values of ${VALUE_BYTES} bytes.`,
  options: {
    runs: { meaning: "alternated runs of each side", default: 3, min: 1, max: 100 },
    seconds: { meaning: "measured time of each point", default: 3, min: 1, max: 600 },
    entries: {
      meaning: "entries that the core alone commits, each run",
      default: 1_000_000,
      min: 1_000,
      max: 100_000_000,
    },
    "ports-from": { meaning: "where the search for free ports starts", default: 23_000, min: 1_024, max: 32_000 },
  },
  async run(options) {
    const entries = Math.ceil(options.entries / 200) * 200;
    const core = spreadOf(
      Array.from({ length: options.runs }, () => {
        const rate = measureCore(entries);
        progress(`core alone, five in one process: ${numberText(rate)} committed entries/s`);
        return rate;
      }),
    );
    if (findEtcd() === null) progress(ETCD_MISSING);
    const samples: Sample[] = [];
    for (let run = 1; run <= options.runs; run++) {
      progress(`run ${run} of ${options.runs}`);
      samples.push(...(await measureReplicas(options.seconds * 1_000, options["ports-from"])));
      samples.push(...(await measureEtcd(options.seconds * 1_000, options["ports-from"])));
    }
    print(`\nCore alone, five in one process, in memory: ${spreadText(core)} committed entries/s`);
    printTable(samples);
    const median = (subject: Subject, requesters: number, pick: (result: LoopResult) => number): number =>
      spreadOf(
        samples
          .filter((sample) => sample.subject === subject && sample.requesters === requesters)
          .map(({ result }) => pick(result)),
      ).median;
    const rate = (result: LoopResult): number => result.perSecond;
    const p50 = (result: LoopResult): number => result.p50Ms;
    return {
      coreEntriesPerSecond: resultNumber(core.median),
      commitsPerSecond256: resultNumber(median("stream", 256, rate)),
      commitP50MsAt1: resultNumber(median("stream", 1, p50), 2),
      etcdPutsPerSecond256: resultNumber(median("etcd", 256, rate)),
      etcdLeanPutsPerSecond256: resultNumber(median("lean", 256, rate)),
      etcdP50MsAt1: resultNumber(median("etcd", 1, p50), 2),
    };
  },
});
