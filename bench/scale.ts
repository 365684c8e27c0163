/**
 * Does a large site work, and does anything hold up a Manager's event loop? 20,000 endpoints, 100,000 DIPs, 1.6 M SNAT ports
 * and 2,000 agent streams over five replicas, taken through start, snapshot, death of the leader, restore and a sixth
 * replica that catches up. bench/README.md says what each row is.
 */
import { join } from "node:path";
import { assert } from "../core/assert.js";
import { CLUSTER_ADD_REPLICA } from "../manager/api/methods.js";
import type { Channel } from "../runtime/env.js";
import { print, progress, runBenchmark } from "./measure/benchmark.js";
import { numberText, resultNumber } from "./measure/statistics.js";
import { LightAgent } from "./scale/agents.js";
import {
  dipAddress,
  dipsOf,
  dipsOfHost,
  endpointsOf,
  PORTS_PER_DIP,
  poolsOf,
  portsOf,
  siteObjects,
  tenantOfDip,
  vipsOf,
  type SiteSize,
} from "./scale/objects.js";
import { replicaFigures, residentMb, type ReplicaFigures } from "./scale/replicas.js";
import { readStalls } from "./scale/stall-watch.js";
import { ManagerSite, pause } from "./snat/manager-site.js";

/** So few that snapshots of the full state come within seconds; users' default is 10,000. */
const SNAPSHOT_EVERY_ENTRIES = 400;
const MUX_CAPACITY = { rules: 65_536, snatRanges: 2 ** 20 };
/** Hosts that register, or ask, at once. */
const HOSTS_AT_ONCE = 32;
const POLL_MS = 200;
const WAIT_MS = 600_000;
const CHURN_PORTS = 8;

interface Phase {
  readonly name: string;
  readonly seconds: number;
  readonly fromMs: number;
  readonly toMs: number;
  readonly note: string;
}

const stallFile = (folder: string, name: string): string => join(folder, `${name}.stalls`);
const MANAGERS = [1, 2, 3, 4, 5, 6].map((id) => `manager-${id}`);

class LargeSite {
  readonly #size: SiteSize;
  readonly #site: ManagerSite;
  readonly #channels: readonly Channel[];
  readonly agents: LightAgent[] = [];
  readonly phases: Phase[] = [];
  granted = 0;
  #opsAddresses: readonly string[];

  static async start(
    size: SiteSize,
    options: { readonly portsFrom: number; readonly profile: boolean },
  ): Promise<LargeSite> {
    const fromMs = Date.now();
    const site = await ManagerSite.start({
      ...options,
      muxCapacity: MUX_CAPACITY,
      manager: {
        program: "bench/scale/main.js",
        settings: { snapshotEveryEntries: SNAPSHOT_EVERY_ENTRIES },
        env: (name, folder) => ({ ANANTA_STALL_FILE: stallFile(folder, name) }),
      },
    });
    const large = new LargeSite(size, site);
    large.#note("five empty replicas start", fromMs, "");
    return large;
  }

  private constructor(size: SiteSize, site: ManagerSite) {
    this.#size = size;
    this.#site = site;
    this.#opsAddresses = site.plan.managers.map(({ ops }) => ops);
    this.#channels = site.api.endpoints.map((address) => site.env.network.connect(address, { reconnectMaxMs: 250 }));
  }

  async phase(name: string, work: () => Promise<string>): Promise<void> {
    const fromMs = Date.now();
    this.#note(name, fromMs, await work());
  }

  #note(name: string, fromMs: number, note: string): void {
    const toMs = Date.now();
    const seconds = (toMs - fromMs) / 1_000;
    progress(`${name}: ${seconds.toFixed(1)} s${note === "" ? "" : `, ${note}`}`);
    this.phases.push({ name, seconds, fromMs, toMs, note });
  }

  async configure(): Promise<string> {
    const requests = siteObjects(this.#size);
    for (const objects of requests) await this.#site.apply(objects);
    return `${numberText(endpointsOf(this.#size))} endpoints on ${numberText(vipsOf(this.#size))} VIPs, ${requests.length} requests`;
  }

  async connect(): Promise<string> {
    const { env, clusterId } = this.#site;
    for (let host = 0; host < this.#size.hosts; host++) {
      const dips = dipsOfHost(this.#size, host).map((dip) => ({ tenant: tenantOfDip(dip), address: dipAddress(dip) }));
      const options = { env, channels: this.#channels, clusterId, host: `host-${host}`, first: host, dips };
      this.agents.push(new LightAgent(options));
      if (host % HOSTS_AT_ONCE === 0)
        await until(
          "agents to follow",
          () => this.agents.filter(({ index }) => index === 0).length < HOSTS_AT_ONCE,
          10,
        );
    }
    await this.#following();
    return `${numberText(this.agents.length)} streams, ${numberText(dipsOf(this.#size))} DIPs`;
  }

  #following(): Promise<void> {
    return until(
      "agents to follow",
      () => this.agents.every(({ index }) => index > 0),
      POLL_MS,
      () => this.agents.find(({ index }) => index === 0)?.lastEnd ?? "",
    );
  }

  async grantAll(): Promise<string> {
    const fromMs = performance.now();
    const owned = new Map<string, Uint8Array>();
    let next = 0;
    const worker = async (): Promise<void> => {
      for (let host = next++; host < this.agents.length; host = next++)
        await this.agents[host]?.allocateAll(PORTS_PER_DIP, (_, { blocks }) => {
          for (const { vip, range, count } of blocks ?? [])
            for (let at = range ?? 0; at < (range ?? 0) + (count ?? 0); at++) {
              let marks = owned.get(vip ?? "");
              if (marks === undefined) owned.set(vip ?? "", (marks = new Uint8Array(8_192)));
              assert(marks[at] === 0, `${vip ?? ""} range ${at} was granted once`);
              marks[at] = 1;
              this.granted++;
            }
        });
    };
    await Promise.all(Array.from({ length: HOSTS_AT_ONCE }, worker));
    assert(this.granted * 8 >= portsOf(this.#size), "every DIP got what it asked for");
    await this.caughtUp();
    const perSecond = dipsOf(this.#size) / ((performance.now() - fromMs) / 1_000);
    return `${numberText(this.granted * 8)} ports, ${numberText(perSecond)} grants/s`;
  }

  /** All replicas have applied the same, own the same, and every agent has it. */
  async caughtUp(): Promise<void> {
    await until("replicas and agents in step", async () => {
      const figures = (await this.figures()).filter((one) => one !== null);
      const commit = Math.max(...figures.map(({ commitIndex }) => commitIndex));
      return (
        figures.length === this.#opsAddresses.length &&
        figures.every(({ appliedIndex, ownedRanges }) => appliedIndex >= commit && ownedRanges === this.granted) &&
        this.agents.every(({ index }) => index > 0)
      );
    });
  }

  /** One DIP after the other gets ports and gives them back: two log entries each. */
  async churn(enough: () => boolean | Promise<boolean>): Promise<{ rounds: number; longestMs: number }> {
    let [rounds, longestMs] = [0, 0];
    const endMs = performance.now() + WAIT_MS;
    while (!(await enough())) {
      assert(performance.now() < endMs, `what is waited for comes within ${WAIT_MS / 1_000} s`);
      const agent = this.agents[(rounds * 7) % this.agents.length]!; // in range
      const fromMs = performance.now();
      const { blocks } = await agent.allocate(0, CHURN_PORTS);
      longestMs = Math.max(longestMs, performance.now() - fromMs);
      await agent.release(0, blocks);
      rounds++;
    }
    return { rounds, longestMs };
  }

  async snapshots(): Promise<string> {
    const from = Math.max(...(await this.figures()).map((one) => one?.appliedIndex ?? 0));
    let checked = 0;
    const { rounds, longestMs } = await this.churn(async () => {
      if (++checked % 20 !== 0) return false;
      return (await this.figures()).every((one) => (one?.snapshotIndex ?? 0) > from);
    });
    return `${rounds} grants meanwhile, the slowest ${longestMs.toFixed(0)} ms`;
  }

  async killLeader(): Promise<string> {
    const leader = await this.#site.leader();
    assert(leader !== null, "somebody leads");
    const name = `manager-${leader + 1}`;
    const reopenedBefore = this.agents.reduce((sum, { reopened }) => sum + reopened, 0);
    let fromMs = 0;
    let outage = 0;
    await this.#site.restart(name, async () => {
      let rounds = 0;
      outage = (await this.churn(() => rounds++ >= 100)).longestMs;
      await this.#following();
      fromMs = performance.now();
    });
    await this.caughtUp();
    const reopened = this.agents.reduce((sum, agent) => sum + agent.reopened, 0) - reopenedBefore;
    return `${name}; slowest grant ${outage.toFixed(0)} ms, ${reopened} streams moved; back in step ${((performance.now() - fromMs) / 1_000).toFixed(1)} s after its start`;
  }

  async joinSixth(): Promise<string> {
    const own = this.#site.startSixth();
    const host = own.apiAddress.split(":")[0] ?? "";
    const port = Number(own.apiAddress.split(":")[1]) + 20;
    await this.#site.api.any(CLUSTER_ADD_REPLICA, own, { deadlineMs: 60_000, hedgeMs: 60_000 });
    this.#opsAddresses = [...this.#opsAddresses, `${host}:${port}`];
    await this.caughtUp();
    const restored = (await this.figures()).at(-1)?.restoreSeconds ?? 0;
    return `restore of what it received ${restored.toFixed(2)} s`;
  }

  async reads(): Promise<string> {
    const status = await this.#site.api.status(0, 60_000);
    const vips = await this.#site.api.vips();
    assert(vips.length === vipsOf(this.#size), "all VIPs are listed");
    return `status of ${numberText(status.hosts.length)} hosts, list of ${numberText(vips.length)} VIPs, metrics`;
  }

  figures(): Promise<readonly (ReplicaFigures | null)[]> {
    return Promise.all(this.#opsAddresses.map(replicaFigures));
  }

  memory(): readonly { readonly name: string; readonly nowMb: number; readonly peakMb: number }[] {
    return this.#site.processes().map(({ name, pid }) => ({ name, ...residentMb(pid) }));
  }

  /** Of each phase: what held up a Manager longest, by itself and with its wait for a processor. */
  stalls(): readonly { readonly ownMs: number; readonly lateMs: number }[] {
    const all = MANAGERS.flatMap((name) => readStalls(stallFile(this.#site.folder, name)));
    return this.phases.map(({ fromMs, toMs }) => {
      const within = all.filter(({ atMs }) => atMs >= fromMs && atMs < toMs);
      const longest = (of: "ownMs" | "lateMs"): number => within.reduce((most, stall) => Math.max(most, stall[of]), 0);
      return { ownMs: longest("ownMs"), lateMs: longest("lateMs") };
    });
  }

  async stop(): Promise<void> {
    for (const agent of this.agents) agent.stop();
    for (const channel of this.#channels) channel.close();
    await this.#site.stop();
  }
}

async function until(
  what: string,
  isSo: () => boolean | Promise<boolean>,
  pollMs = POLL_MS,
  why: () => string = () => "",
): Promise<void> {
  const endMs = performance.now() + WAIT_MS;
  while (!(await isSo())) {
    assert(performance.now() < endMs, `waited for ${what} within ${WAIT_MS / 1_000} s ${why()}`);
    await pause(pollMs);
  }
}

function printTable(large: LargeSite, stalls: ReturnType<LargeSite["stalls"]>): void {
  print(`\n${"phase".padEnd(36)}${"seconds".padStart(9)}${"stall, ms".padStart(11)}${"late, ms".padStart(10)}`);
  large.phases.forEach(({ name, seconds, note }, at) => {
    const { ownMs = 0, lateMs = 0 } = stalls[at] ?? {};
    print(
      `${name.padEnd(36)}${seconds.toFixed(1).padStart(9)}${ownMs.toFixed(0).padStart(11)}${lateMs.toFixed(0).padStart(10)}  ${note}`,
    );
  });
  print(`\n${"process".padEnd(36)}${"MB now".padStart(9)}${"MB most".padStart(11)}`);
  for (const { name, nowMb, peakMb } of large.memory())
    print(`${name.padEnd(36)}${nowMb.toFixed(0).padStart(9)}${peakMb.toFixed(0).padStart(11)}`);
}

await runBenchmark({
  name: "scale",
  question:
    "A large site on five replicas: time, memory, and what holds up a Manager's event loop, from the start to a restore.",
  options: {
    hosts: { meaning: "hosts, with a stream each", default: 2_000, min: 10, max: 4_000 },
    "dips-per-host": { meaning: "DIPs on each host", default: 50, min: 1, max: 64 },
    "ports-from": { meaning: "where the search for free ports starts", default: 27_000, min: 1_024, max: 32_000 },
    profile: {
      meaning: "1: Node writes a CPU profile of every Manager to the current folder",
      default: 0,
      min: 0,
      max: 1,
    },
  },
  async run(options) {
    const size: SiteSize = { hosts: options.hosts, dipsPerHost: options["dips-per-host"] };
    const large = await LargeSite.start(size, { portsFrom: options["ports-from"], profile: options.profile === 1 });
    try {
      await large.phase("configuration is applied", () => large.configure());
      await large.phase("agents register and follow", () => large.connect());
      await large.phase("every DIP gets ports", () => large.grantAll());
      await large.phase("every replica takes a snapshot", () => large.snapshots());
      const full = (await large.figures()).filter((one) => one !== null);
      const managerMb = Math.max(
        ...large.memory().flatMap(({ name, nowMb }) => (name.startsWith("manager") ? [nowMb] : [])),
      );
      await large.phase("the leader dies and comes back", () => large.killLeader());
      await large.phase("a sixth replica joins", () => large.joinSixth());
      await large.phase("an operator looks", () => large.reads());
      const after = (await large.figures()).filter((one) => one !== null);
      const stalls = large.stalls();
      printTable(large, stalls);
      print(
        `\n${numberText(poolsOf(size))} pools; a snapshot every ${SNAPSHOT_EVERY_ENTRIES} log entries instead of 10,000`,
      );
      print("stall: longest hold-up of a Manager's event loop by its own work; late: with its wait for a processor");
      return {
        managerMb: resultNumber(managerMb),
        snapshotSeconds: resultNumber(Math.max(...full.map(({ snapshotSeconds }) => snapshotSeconds)), 2),
        restoreSeconds: resultNumber(Math.max(...after.map(({ restoreSeconds }) => restoreSeconds)), 2),
        longestStallMs: resultNumber(Math.max(...stalls.map(({ ownMs }) => ownMs))),
      };
    } finally {
      await large.stop();
    }
  },
});
