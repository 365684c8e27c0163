/**
 * Does one tenant's flood of SNAT requests slow down anybody else? Five Managers and two MUXes as processes; an abusive tenant
 * keeps 100,000 requests open; an operator applies VIPs and a second tenant asks for ports, both at an ordinary pace, first
 * alone and then under the flood. bench/README.md says how it is taken.
 */
import { once } from "node:events";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { assert } from "../core/assert.js";
import { hex } from "../core/hex.js";
import { print, progress, runBenchmark } from "./measure/benchmark.js";
import { residentMb } from "./measure/cpu.js";
import { ManagerSite, pause } from "./measure/manager-site.js";
import { numberText, percentile, resultNumber } from "./measure/statistics.js";
import { channelsTo, refused, TCP, UDP, VICTIM_DIPS } from "./overload/asking.js";
import type { BystandersData, Round, RoundPlan } from "./overload/bystanders.js";
import { FollowingAgent } from "./overload/following-agent.js";

const MUX_CAPACITY = { rules: 16_384, snatRanges: 2 ** 20 };
/** Times two protocols: as many sessions as the numbers of one stream may begin. */
const DIPS_PER_HOST = 32;
/** With one request for TCP and one for UDP of each DIP: 100,032 in all. */
const FLOOD_HOSTS = 1_563;
const HOSTS_PER_POOL = 16;
/** One request is one entry of the log, of at most 1 MiB. */
const OBJECTS_PER_APPLY = 40;
/** Hosts that register at once. */
const TOGETHER = 64;
/** Connections to each replica that the streams of the flood share. */
const CHANNELS = 5;
const MEMORY_EVERY_MS = 1_000;
/** Every open request is answered long before. */
const STOP_MS = 30_000;
const STOP_POLL_MS = 50;

const hostDips = (host: number): readonly string[] =>
  Array.from({ length: DIPS_PER_HOST }, (_, dip) => `10.${host >> 8}.${host & 255}.${dip + 1}`);

/** The tenant that floods has one VIP for the DIPs of 16 hosts, and 1,024 ports for each DIP at most. */
async function configure(site: ManagerSite, floodHosts: number): Promise<void> {
  const pools = Math.ceil(floodHosts / HOSTS_PER_POOL);
  const flood = Array.from({ length: pools }, (_, pool) => {
    const metadata = { tenant: "flood", name: `flood-${pool}` };
    const hosts = Array.from({ length: HOSTS_PER_POOL }, (__, host) => pool * HOSTS_PER_POOL + host);
    const members = hosts.flatMap(hostDips).map((dip) => ({ dip }));
    return [
      { metadata, backendPool: { members, maxMembers: members.length } },
      { metadata, vip: { address: `203.0.113.${pool + 1}`, outbound: { pools: [metadata.name], maxPorts: 1_024 } } },
    ];
  }).flat();
  const metadata = { tenant: "victim", name: "victim" };
  for (let at = 0; at < flood.length; at += OBJECTS_PER_APPLY)
    await site.apply(flood.slice(at, at + OBJECTS_PER_APPLY));
  await site.apply([
    { metadata, backendPool: { members: VICTIM_DIPS.map((dip) => ({ dip })), maxMembers: VICTIM_DIPS.length } },
    { metadata, vip: { address: "198.51.100.1", outbound: { pools: ["victim"], maxPorts: 64_512 } } },
    { metadata: { tenant: "victim", name: "web" }, backendPool: { members: [{ dip: "10.200.0.1" }], maxMembers: 4 } },
  ]);
}

class Flood {
  readonly refusals = new Map<string, number>();
  readonly #agents: readonly FollowingAgent[];
  answered = 0;
  granted = 0;
  #open = 0;
  #stopping = false;

  constructor(agents: readonly FollowingAgent[]) {
    this.#agents = agents;
  }

  start(): void {
    for (const agent of this.#agents)
      for (let at = 0; at < agent.requesters; at++) void this.#ask(agent, at, at % 2 === 0 ? TCP : UDP);
  }

  /** Resolves when what is under way is answered; those that were told to wait do not ask again. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const untilMs = performance.now() + STOP_MS;
    while (this.#open > 0 && performance.now() < untilMs) await pause(STOP_POLL_MS);
  }

  /** The VMs abuse; their agent waits as long as it is told to, and asks again. */
  async #ask(agent: FollowingAgent, at: number, protocol: number): Promise<void> {
    while (!this.#stopping) {
      let waitMs = 0;
      this.#open++;
      try {
        await agent.allocate(at, protocol, 8);
        this.granted++;
      } catch (caught) {
        waitMs = refused(caught, this.refusals);
        if (agent.isOver) return; // else it would be refused for ever, without a turn of the event loop between
      } finally {
        this.#open--;
      }
      this.answered++;
      if (waitMs > 0 && !this.#stopping) await pause(waitMs);
    }
  }
}

/** The operator and the second tenant; see bench/overload/bystanders.ts. */
class Bystanders {
  readonly #thread: Worker;

  static async start(data: BystandersData): Promise<Bystanders> {
    const thread = new Worker(new URL("./overload/bystanders.js", import.meta.url), { workerData: data });
    const bystanders = new Bystanders(thread);
    await bystanders.#next();
    return bystanders;
  }

  private constructor(thread: Worker) {
    this.#thread = thread;
  }

  async measure(plan: RoundPlan): Promise<Round> {
    this.#thread.postMessage(plan);
    return (await this.#next()) as Round;
  }

  async stop(): Promise<void> {
    await this.#thread.terminate();
  }

  /** Rejects when the thread fails. */
  async #next(): Promise<unknown> {
    const [message] = (await once(this.#thread, "message")) as readonly unknown[];
    return message;
  }
}

function tell(name: string, { applyMs, grantMs, refusals }: Round): void {
  const text = (values: number[]): string =>
    `p50 ${numberText(percentile(values, 0.5), 1)} ms, p99 ${numberText(percentile(values, 0.99), 1)} ms (${values.length})`;
  print(`  ${name.padEnd(12)} VIP in force: ${text(applyMs)}; second tenant's grants: ${text(grantMs)}`);
  for (const [reason, count] of refusals)
    print(`    of the second tenant's requests ${numberText(count)} were refused: ${reason}`);
}

await runBenchmark({
  name: "overload",
  question: "What an operator and a second tenant feel while one tenant keeps 100,000 SNAT requests open.",
  options: {
    seconds: { meaning: "measured time of each part", default: 20, min: 2, max: 600 },
    hosts: {
      meaning: "hosts of the tenant that floods, with 64 requesters each",
      default: FLOOD_HOSTS,
      min: 1,
      max: FLOOD_HOSTS,
    },
    profile: { meaning: "1: Managers and MUXes write CPU profiles to the current folder", default: 0, min: 0, max: 1 },
    "ports-from": { meaning: "where the search for free ports starts", default: 26_400, min: 1_024, max: 32_000 },
  },
  async run(options) {
    const floodHosts = options.hosts;
    const site = await ManagerSite.start({
      portsFrom: options["ports-from"],
      muxCapacity: MUX_CAPACITY,
      profile: options.profile === 1,
    });
    try {
      await configure(site, floodHosts);
      const leader = site.api.endpoints[(await site.leader()) ?? 0] ?? "";
      const bystanders = await Bystanders.start({
        clusterId: site.clusterId,
        endpoints: site.api.endpoints,
        leader,
        logTo: join(site.folder, "bystanders.log"),
      });
      // Agents ask the leader, as Host Agents do.
      const channels = Array.from({ length: CHANNELS }, () => channelsTo(site.env));
      const agents: FollowingAgent[] = [];
      for (let first = 0; first < floodHosts; first += TOGETHER) {
        const hosts = Array.from({ length: Math.min(TOGETHER, floodHosts - first) }, (_, at) => first + at);
        const starting = hosts.map((host) =>
          FollowingAgent.start({
            channelTo: channels[host % CHANNELS]!, // in range
            leader,
            clusterId: site.clusterId,
            host: `flood-${host}`,
            bootId: hex(site.env.entropy(16)),
            newSession: () => hex(site.env.entropy(16)),
            tenant: "flood",
            dips: hostDips(host),
            openPerDip: 2,
            oneSession: true,
          }),
        );
        agents.push(...(await Promise.all(starting)));
      }
      progress(`${floodHosts} hosts with ${floodHosts * DIPS_PER_HOST} DIPs registered`);
      const { seconds } = options;
      const operator = await bystanders.measure({ seconds, who: "operator", first: 0 });
      const tenant = await bystanders.measure({ seconds, who: "second tenant", first: 0 });
      progress("quiet part done");
      const flood = new Flood(agents);
      const memory: number[] = [];
      const watch = setInterval(() => {
        memory.push(Math.max(...site.processes().map(({ pid }) => residentMb(pid))));
      }, MEMORY_EVERY_MS);
      flood.start();
      const flooded = await bystanders.measure({ seconds, who: "both", first: 20_000 });
      clearInterval(watch);
      progress("measured under the flood");
      await flood.stop();
      assert(
        agents.every(({ isOver }) => !isOver),
        "no stream of the flood ended",
      );
      print(`\n${numberText(floodHosts * DIPS_PER_HOST * 2)} requesters in the flood:`);
      tell("alone", { ...operator, grantMs: tenant.grantMs, refusals: tenant.refusals });
      tell("flooded", flooded);
      print(
        `  the flood got ${numberText(flood.answered)} answers, ${numberText(flood.granted)} of them grants; refused:`,
      );
      for (const [reason, count] of [...flood.refusals].sort(([, a], [, b]) => b - a))
        print(`    ${reason.padEnd(24)} ${numberText(count)}`);
      const third = Math.max(1, Math.floor(memory.length / 3));
      const mean = (values: readonly number[]): number => values.reduce((sum, one) => sum + one, 0) / values.length;
      print(
        `  largest process: ${numberText(mean(memory.slice(0, third)))} MiB in the first third, ${numberText(mean(memory.slice(-third)))} MiB in the last`,
      );
      await bystanders.stop();
      for (const agent of agents) agent.close();
      return {
        vipApplyP50Ms: resultNumber(percentile(operator.applyMs, 0.5), 1),
        vipApplyP99Ms: resultNumber(percentile(operator.applyMs, 0.99), 1),
        vipApplyFloodP99Ms: resultNumber(percentile(flooded.applyMs, 0.99), 1),
        victimGrantP99Ms: resultNumber(percentile(flooded.grantMs, 0.99), 1),
      };
    } finally {
      await site.stop();
    }
  },
});
