/**
 * Does one tenant's flood of SNAT requests slow down anybody else? Five Managers and two MUXes as processes; an abusive tenant
 * keeps 100,000 requests open; an operator applies VIPs and a second tenant asks for ports, both at an ordinary pace, first
 * alone and then under the flood. bench/README.md says how it is taken.
 */
import { assert } from "../core/assert.js";
import { AnantaError } from "../core/errors.js";
import { hex } from "../core/hex.js";
import type { Channel } from "../runtime/env.js";
import { print, progress, runBenchmark } from "./measure/benchmark.js";
import { residentMb } from "./measure/cpu.js";
import { numberText, percentile, resultNumber } from "./measure/statistics.js";
import { AgentStream } from "./snat/agent-stream.js";
import { ManagerSite, pause } from "./measure/manager-site.js";

const MUX_CAPACITY = { rules: 16_384, snatRanges: 2 ** 20 };
const TCP = 6;
const UDP = 17;
/** Times two protocols: as many sessions as the numbers of one stream may begin. */
const DIPS_PER_HOST = 32;
const FLOOD_HOSTS = 1_563;
const HOSTS_PER_POOL = 16;
/** Of each DIP, TCP and UDP: 100,032 in all. */
const FLOOD_REQUESTS = FLOOD_HOSTS * DIPS_PER_HOST * 2;
/** One request is one entry of the log, of at most 1 MiB. */
const OBJECTS_PER_APPLY = 40;
/** Hosts that register at once. */
const TOGETHER = 64;
const VICTIM_DIPS = 20;
/** Between two requests of one victim's DIP, and between two changes of the operator. */
const PACE_MS = 50;
const MEMORY_EVERY_MS = 1_000;
/** Nobody sleeps through the benchmark. */
const RETRY_MAX_MS = 1_000;

/** Who is refused without a hint asks again after this long. */
const RETRY_MIN_MS = 20;
/** Every open request is answered, and every pause over, long before. */
const STOP_MS = 30_000;

interface Round {
  readonly applyMs: number[];
  readonly grantMs: number[];
  /** Of the second tenant: each was asked again until it was granted, which is what `grantMs` tells. */
  readonly refusals: Map<string, number>;
}

/** Counts why a request was refused; gives how long to wait before it is made again. */
function refused(caught: unknown, refusals: Map<string, number>): number {
  const { facts, message } = AnantaError.from(caught);
  const reason = String(facts["refusal"] ?? message);
  refusals.set(reason, (refusals.get(reason) ?? 0) + 1);
  return Math.max(RETRY_MIN_MS, Math.min(RETRY_MAX_MS, Number(facts["retryAfterMs"] ?? 0)));
}

const hostDips = (host: number): readonly string[] =>
  Array.from({ length: DIPS_PER_HOST }, (_, dip) => `10.${host >> 8}.${host & 255}.${dip + 1}`);

const victimDips = Array.from({ length: VICTIM_DIPS }, (_, dip) => `10.200.0.${dip + 1}`);

async function startAgent(
  site: ManagerSite,
  channel: Channel,
  host: {
    readonly name: string;
    readonly tenant: string;
    readonly dips: readonly string[];
    readonly openPerDip?: 2;
    readonly follows?: boolean;
  },
): Promise<AgentStream> {
  return AgentStream.start({
    channel,
    clusterId: site.clusterId,
    bootId: hex(site.env.entropy(16)),
    newSession: () => hex(site.env.entropy(16)),
    ...host,
    host: host.name,
  });
}

/** The tenant that floods has one VIP for the DIPs of 16 hosts, and 1,024 ports for each DIP at most. */
async function configure(site: ManagerSite): Promise<void> {
  const pools = Math.ceil(FLOOD_HOSTS / HOSTS_PER_POOL);
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
    { metadata, backendPool: { members: victimDips.map((dip) => ({ dip })), maxMembers: VICTIM_DIPS } },
    { metadata, vip: { address: "198.51.100.1", outbound: { pools: ["victim"], maxPorts: 64_512 } } },
    { metadata: { tenant: "victim", name: "web" }, backendPool: { members: [{ dip: "10.200.0.1" }], maxMembers: 4 } },
  ]);
}

/** One VIP after the other, each with a rule: from the request until it is in force on all MUXes. */
async function applyVips(site: ManagerSite, untilMs: number, round: Round, first: number): Promise<void> {
  const session = site.api.newSession();
  for (let at = first; performance.now() < untilMs; at++) {
    const sentMs = performance.now();
    const vip = {
      metadata: { tenant: "victim", name: `web-${at}` },
      vip: {
        address: `198.18.${at >> 8}.${at & 255}`,
        rules: [{ name: "http", protocol: TCP, port: 80, pool: "web" }],
      },
    };
    const { inForce } = await site.api.apply(session, [vip], { deadlineMs: 120_000, hedgeMs: 20_000 });
    assert(inForce, "a VIP is in force on all MUXes in the end");
    round.applyMs.push(performance.now() - sentMs);
    await pause(PACE_MS);
  }
}

async function askForPorts(agent: AgentStream, dip: number, untilMs: number, round: Round): Promise<void> {
  await pause((PACE_MS * dip) / VICTIM_DIPS);
  while (performance.now() < untilMs) {
    const sentMs = performance.now();
    for (let isGranted = false; !isGranted;) {
      try {
        await agent.allocate(dip, dip % 2 === 0 ? TCP : UDP, 8);
        isGranted = true;
      } catch (caught) {
        assert(!agent.isOver, "the second tenant's stream stays");
        await pause(refused(caught, round.refusals));
      }
    }
    round.grantMs.push(performance.now() - sentMs);
    await pause(PACE_MS);
  }
}

class Flood {
  readonly refusals = new Map<string, number>();
  readonly #agents: readonly AgentStream[];
  answered = 0;
  #running: readonly Promise<void>[] = [];
  #stopping = false;

  constructor(agents: readonly AgentStream[]) {
    this.#agents = agents;
  }

  start(): void {
    this.#running = this.#agents.flatMap((agent) =>
      agent.requesters.map((_, at) => this.#ask(agent, at, at % 2 === 0 ? TCP : UDP)),
    );
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.race([Promise.all(this.#running), pause(STOP_MS)]);
  }

  /** The VMs abuse; their agent waits as long as it is told to, and asks again. */
  async #ask(agent: AgentStream, at: number, protocol: number): Promise<void> {
    while (!this.#stopping) {
      let waitMs = 0;
      try {
        await agent.allocate(at, protocol, 8);
      } catch (caught) {
        waitMs = refused(caught, this.refusals);
        if (agent.isOver) return; // else it would be refused for ever, without a turn of the event loop between
      }
      this.answered++;
      if (waitMs > 0 && !this.#stopping) await pause(waitMs);
    }
  }
}

async function measure(site: ManagerSite, victim: AgentStream, seconds: number, first: number): Promise<Round> {
  const round: Round = { applyMs: [], grantMs: [], refusals: new Map() };
  const untilMs = performance.now() + seconds * 1_000;
  await Promise.all([
    applyVips(site, untilMs, round, first),
    ...victim.requesters.map((_, dip) => askForPorts(victim, dip, untilMs, round)),
  ]);
  return round;
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
    seconds: { meaning: "measured time, quiet and again under the flood", default: 20, min: 2, max: 600 },
    "ports-from": { meaning: "where the search for free ports starts", default: 26_400, min: 1_024, max: 32_000 },
  },
  async run(options) {
    const site = await ManagerSite.start({
      portsFrom: options["ports-from"],
      muxCapacity: MUX_CAPACITY,
      profile: false,
    });
    try {
      await configure(site);
      const channels = site.api.endpoints.map((address) => site.env.network.connect(address, { reconnectMaxMs: 100 }));
      const channel = (at: number): Channel => channels[at % channels.length]!; // in range
      const victim = await startAgent(site, channel(0), {
        name: "victim",
        tenant: "victim",
        dips: victimDips,
        follows: true, // the operator's VIPs lead to one of its DIPs
      });
      const agents: AgentStream[] = [];
      for (let first = 0; first < FLOOD_HOSTS; first += TOGETHER) {
        const hosts = Array.from({ length: Math.min(TOGETHER, FLOOD_HOSTS - first) }, (_, at) => first + at);
        const starting = hosts.map((host) =>
          startAgent(site, channel(host), {
            name: `flood-${host}`,
            tenant: "flood",
            dips: hostDips(host),
            openPerDip: 2,
          }),
        );
        agents.push(...(await Promise.all(starting)));
      }
      progress(`${FLOOD_HOSTS} hosts with ${FLOOD_HOSTS * DIPS_PER_HOST} DIPs registered`);
      const quiet = await measure(site, victim, options.seconds, 0);
      progress("quiet part done");
      const flood = new Flood(agents);
      const memory: number[] = [];
      const watch = setInterval(() => {
        memory.push(Math.max(...site.processes().map(({ pid }) => residentMb(pid))));
      }, MEMORY_EVERY_MS);
      flood.start();
      const flooded = await measure(site, victim, options.seconds, 20_000);
      clearInterval(watch);
      progress("measured under the flood");
      await flood.stop();
      assert(
        agents.every(({ isOver }) => !isOver),
        "no stream of the flood ended",
      );
      print(`\n${numberText(FLOOD_REQUESTS)} requesters in the flood:`);
      tell("quiet", quiet);
      tell("flooded", flooded);
      print(`  the flood got ${numberText(flood.answered)} answers, refused:`);
      for (const [reason, count] of [...flood.refusals].sort(([, a], [, b]) => b - a))
        print(`    ${reason.padEnd(24)} ${numberText(count)}`);
      const third = Math.max(1, Math.floor(memory.length / 3));
      const mean = (values: readonly number[]): number => values.reduce((sum, one) => sum + one, 0) / values.length;
      print(
        `  largest process: ${numberText(mean(memory.slice(0, third)))} MiB in the first third, ${numberText(mean(memory.slice(-third)))} MiB in the last`,
      );
      victim.close();
      for (const agent of agents) agent.close();
      for (const one of channels) one.close();
      return {
        vipApplyP50Ms: resultNumber(percentile(quiet.applyMs, 0.5), 1),
        vipApplyP99Ms: resultNumber(percentile(quiet.applyMs, 0.99), 1),
        vipApplyFloodP99Ms: resultNumber(percentile(flooded.applyMs, 0.99), 1),
        victimGrantP99Ms: resultNumber(percentile(flooded.grantMs, 0.99), 1),
      };
    } finally {
      await site.stop();
    }
  },
});
