/**
 * How fast are durable SNAT grants, in force on all MUXes? Five Managers and two MUXes as processes, beside five members of
 * etcd that store one key per grant. bench/README.md says what is compared and how.
 */
import { assert } from "../core/assert.js";
import { ETCD_MISSING, findEtcd, startEtcd } from "./etcd/etcd-cluster.js";
import type { EtcdClient } from "./etcd/etcd-client.js";
import { GrpcEtcdClient } from "./etcd/grpc-client.js";
import { LeanEtcdClient } from "./etcd/lean-client.js";
import { print, progress, runBenchmark } from "./measure/benchmark.js";
import { closedLoop } from "./measure/closed-loop.js";
import { cpuMicros } from "./measure/cpu.js";
import { numberText, resultNumber, spreadOf, spreadText } from "./measure/statistics.js";
import { keyOf, valueOf } from "./replica/payload.js";
import { Agents, snatObjects, STOCK, type GrantResult } from "./snat/grants.js";
import { ManagerSite } from "./measure/manager-site.js";
import { UnaryClients } from "./snat/unary.js";

const REQUESTERS: readonly number[] = [1, 64, 256, 1_000];
/** One unary row is enough: it shows the price of a call per request. */
const UNARY_REQUESTERS = 256;
const WARM_UP_MS = 1_000;
/**
 * Before anything counts: V8 interprets what it meets for the first time, and compiles what it meets often; a Manager in service
 * runs for weeks. 100,000 grants are about what it takes until the state machine's code is the final one.
 */
const WARM_MS = 20_000;
const WARM_REQUESTERS = 256;
/** So often a point is measured anew when another leader was elected meanwhile; it is told, and counted. */
const ELECTIONS_MAX = 3;
const MUX_CAPACITY = { rules: 1_024, snatRanges: 2 ** 21 };

const SUBJECTS = {
  stream: "Ananta, 16 agent streams",
  unary: "Ananta, unary calls",
  etcd: "etcd, grpc-js client, unary",
  lean: "etcd, lean client, unary",
} as const;
type Subject = keyof typeof SUBJECTS;

interface Sample {
  readonly subject: Subject;
  readonly requesters: number;
  readonly result: GrantResult;
}

function tell(sample: Sample): Sample {
  const { subject, requesters, result } = sample;
  const { p50Ms, p99Ms, cpuMicros: cpu } = result;
  progress(
    `${SUBJECTS[subject]}, ${requesters}: ${numberText(result.perSecond)}/s, p50 ${p50Ms.toFixed(2)} ms, p99 ${p99Ms.toFixed(1)} ms, ${cpu.toFixed(1)} us CPU each`,
  );
  return sample;
}

interface Measured {
  readonly samples: readonly Sample[];
  /** That voided a point, which was measured anew. */
  readonly elections: number;
}

async function measureGrants(
  measureMs: number,
  options: { readonly portsFrom: number; readonly profile: boolean },
): Promise<Measured> {
  const site = await ManagerSite.start({
    portsFrom: options.portsFrom,
    muxCapacity: MUX_CAPACITY,
    profile: options.profile,
  });
  const samples: Sample[] = [];
  let elections = 0;
  try {
    await site.apply(snatObjects());
    const agents = await Agents.start(site);
    /** With one leader throughout: a follower would only pass on what the streams to it ask. */
    const underOneLeader = async (point: () => Promise<GrantResult>): Promise<GrantResult> => {
      for (;;) {
        const { term } = await site.leadership();
        const result = await point();
        if ((await site.leadership()).term === term) return result;
        elections++;
        assert(elections <= ELECTIONS_MAX, `at most ${ELECTIONS_MAX} elections while nothing failed`);
        progress(`another leader was elected meanwhile; measured anew`);
        await agents.connect();
      }
    };
    progress(`warming up: ${WARM_REQUESTERS} requesters for ${WARM_MS / 1_000} s, not counted`);
    await agents.run({ requesters: WARM_REQUESTERS, warmUpMs: 0, measureMs: WARM_MS });
    await agents.connect(); // to whoever leads now
    for (const requesters of REQUESTERS) {
      const result = await underOneLeader(() => agents.run({ requesters, warmUpMs: WARM_UP_MS, measureMs }));
      samples.push(tell({ subject: "stream", requesters, result }));
    }
    assert(agents.granted < STOCK, "there were ports enough");
    const unary = await UnaryClients.start(site, agents);
    const loop = { requesters: UNARY_REQUESTERS, warmUpMs: WARM_UP_MS, measureMs };
    const result = await underOneLeader(() => unary.run(loop));
    samples.push(tell({ subject: "unary", requesters: UNARY_REQUESTERS, result }));
    await agents.verify();
    unary.stop();
    agents.stop();
  } finally {
    await site.stop();
  }
  return { samples, elections };
}

async function measureEtcd(measureMs: number, portsFrom: number): Promise<Sample[]> {
  const etcd = await startEtcd({ portsFrom });
  if (etcd === null) return [];
  const samples: Sample[] = [];
  try {
    const leader = await etcd.leader();
    for (const requesters of REQUESTERS) {
      for (const subject of ["etcd", "lean"] as const) {
        const client: EtcdClient =
          subject === "etcd" ? new GrpcEtcdClient(etcd.addresses) : new LeanEtcdClient(etcd.addresses);
        const first = await client.put(leader, keyOf(0, 0), valueOf());
        const memberOf = (id: number): number => (leader + id) % etcd.addresses.length;
        const before = cpuMicros(process.pid);
        const result = await closedLoop({
          requesters,
          warmUpMs: WARM_UP_MS,
          measureMs,
          request: async (id, round) => {
            await client.put(memberOf(id), keyOf(id, round), valueOf());
          },
        });
        const cpu = (cpuMicros(process.pid) - before) / result.total;
        const last = await client.put(leader, keyOf(0, 0), valueOf());
        assert(last - first - 1 === result.total, "what was answered was written by etcd, once");
        client.close();
        samples.push(tell({ subject, requesters, result: { ...result, cpuMicros: cpu } }));
      }
    }
  } finally {
    await etcd.stop();
  }
  return samples;
}

function printTable(samples: readonly Sample[]): void {
  print(`\nGrants or puts per second, p50 and p99 in ms, CPU microseconds each: median [smallest..largest]`);
  print(`CPU: all processes for Ananta (five Managers, two MUXes, client); the client alone for etcd`);
  for (const requesters of REQUESTERS) {
    print(`\n${requesters} concurrent`);
    for (const [subject, name] of Object.entries(SUBJECTS) as [Subject, string][]) {
      const rows = samples.filter((sample) => sample.subject === subject && sample.requesters === requesters);
      if (rows.length === 0) continue;
      const spread = (pick: (result: GrantResult) => number, digits: number): string =>
        spreadText(spreadOf(rows.map(({ result }) => pick(result))), digits);
      print(
        `  ${name.padEnd(28)} ${spread((row) => row.perSecond, 0).padEnd(28)} p50 ${spread((row) => row.p50Ms, 2).padEnd(22)} p99 ${spread((row) => row.p99Ms, 1).padEnd(22)} CPU ${spread((row) => row.cpuMicros, 1)}`,
      );
    }
  }
}

await runBenchmark({
  name: "snat",
  question:
    "SNAT grants per second and their latency: durable on five replicas with synced storage, in force on two MUXes; beside etcd.",
  options: {
    runs: { meaning: "alternated runs of each side", default: 3, min: 1, max: 100 },
    seconds: { meaning: "measured time of each point", default: 3, min: 1, max: 10 },
    "ports-from": { meaning: "where the search for free ports starts", default: 26_000, min: 1_024, max: 32_000 },
    profile: {
      meaning: "1: Node writes a CPU profile of every Manager and MUX to the current folder",
      default: 0,
      min: 0,
      max: 1,
    },
  },
  async run(options) {
    if (findEtcd() === null) progress(ETCD_MISSING);
    const samples: Sample[] = [];
    let elections = 0;
    for (let run = 1; run <= options.runs; run++) {
      progress(`run ${run} of ${options.runs}`);
      const measured = await measureGrants(options.seconds * 1_000, {
        portsFrom: options["ports-from"],
        profile: options.profile === 1,
      });
      samples.push(...measured.samples);
      elections += measured.elections;
      samples.push(...(await measureEtcd(options.seconds * 1_000, options["ports-from"])));
    }
    printTable(samples);
    if (elections > 0)
      print(`\n${elections} elections while nothing failed; the points they fell into were measured anew`);
    const median = (subject: Subject, requesters: number, pick: (result: GrantResult) => number): number =>
      spreadOf(
        samples
          .filter((sample) => sample.subject === subject && sample.requesters === requesters)
          .map(({ result }) => pick(result)),
      ).median;
    return {
      grantsPerSecond256: resultNumber(median("stream", 256, (result) => result.perSecond)),
      cpuMicrosPerGrant256: resultNumber(
        median("stream", 256, (result) => result.cpuMicros),
        1,
      ),
      grantP50MsAt1: resultNumber(
        median("stream", 1, (result) => result.p50Ms),
        2,
      ),
      grantP99MsAt256: resultNumber(
        median("stream", 256, (result) => result.p99Ms),
        1,
      ),
      etcdPutsPerSecond256: resultNumber(median("etcd", 256, (result) => result.perSecond)),
      etcdLeanPutsPerSecond256: resultNumber(median("lean", 256, (result) => result.perSecond)),
      etcdP50MsAt1: resultNumber(
        median("etcd", 1, (result) => result.p50Ms),
        2,
      ),
    };
  },
});
