/** The site of the benchmark: five Managers, two MUXes, 2,000 light agents, and what is done to them. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { assert } from "../../core/assert.js";
import { CLUSTER_ADD_REPLICA } from "../../manager/api/methods.js";
import type { Channel } from "../../runtime/env.js";
import { progress } from "../measure/benchmark.js";
import { numberText, percentile } from "../measure/statistics.js";
import { ManagerSite, pause } from "../measure/manager-site.js";
import { LightAgent } from "./agents.js";
import {
  dipAddress,
  dipsOf,
  dipsOfHost,
  endpointsOf,
  PORTS_PER_DIP,
  portsOf,
  siteObjects,
  tenantOfDip,
  vipsOf,
  type SiteSize,
} from "./objects.js";
import { isReady, replicaFigures, residentMb, type ReplicaFigures } from "./replicas.js";
import { readStalls, type Stall } from "./stall-watch.js";

/** So few that snapshots of the full state come within seconds; users' default is 10,000. */
export const SNAPSHOT_EVERY_ENTRIES = 400;
const MUX_CAPACITY = { rules: 65_536, snatRanges: 2 ** 20 };
/** Hosts that register, or ask, at once. */
const HOSTS_AT_ONCE = 32;
const POLL_MS = 200;
const PROGRESS_MS = 15_000;
const WAIT_MS = 600_000;
const READ_MS = 120_000;
const CHURN_PORTS = 8;
/** Nothing may hold an event loop up for longer. */
const GOAL_MS = 50;

interface Phase {
  readonly name: string;
  readonly seconds: number;
  readonly fromMs: number;
  readonly toMs: number;
  readonly note: string;
}

export interface PhaseStalls {
  readonly ownMs: number;
  readonly lateMs: number;
  /** Pauses of the garbage collector in the longest one. */
  readonly gcMs: number;
  readonly gcKind: Stall["gcKind"];
  /** Whose the longest was; "" when there was none. */
  readonly who: string;
  /** The longest of each Manager, by its name; absent: none of 10 ms. */
  readonly ownMsOf: ReadonlyMap<string, number>;
  /** How many were longer than 50 ms. */
  readonly over: number;
}

/** With the name of the Manager. */
export type NamedStall = Stall & { readonly name: string };

const stallFile = (folder: string, name: string): string => join(folder, `${name}.stalls`);
export const MANAGERS = [1, 2, 3, 4, 5, 6].map((id) => `manager-${id}`);

export class LargeSite {
  readonly #size: SiteSize;
  readonly #site: ManagerSite;
  readonly #channels: readonly Channel[];
  readonly agents: LightAgent[] = [];
  readonly phases: Phase[] = [];
  granted = 0;
  /** How far the phase is. */
  #doing = "";
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
    this.#doing = "";
    const told = setInterval(() => progress(`${name}: ${this.#doing || "under way"}`), PROGRESS_MS);
    try {
      this.#note(name, fromMs, await work());
    } finally {
      clearInterval(told);
    }
  }

  #note(name: string, fromMs: number, note: string): void {
    const toMs = Date.now();
    const seconds = (toMs - fromMs) / 1_000;
    progress(`${name}: ${seconds.toFixed(1)} s${note === "" ? "" : `, ${note}`}`);
    this.phases.push({ name, seconds, fromMs, toMs, note });
  }

  async configure(): Promise<string> {
    const requests = siteObjects(this.#size);
    for (const [at, objects] of requests.entries()) {
      this.#doing = `${at} of ${requests.length} requests`;
      await this.#site.apply(objects);
    }
    return `${numberText(endpointsOf(this.#size))} endpoints on ${numberText(vipsOf(this.#size))} VIPs, ${requests.length} requests`;
  }

  async connect(): Promise<string> {
    const { env, clusterId } = this.#site;
    for (let host = 0; host < this.#size.hosts; host++) {
      const dips = dipsOfHost(this.#size, host).map((dip) => ({ tenant: tenantOfDip(dip), address: dipAddress(dip) }));
      const options = { env, channels: this.#channels, clusterId, host: `host-${host}`, first: host, dips };
      this.agents.push(new LightAgent(options));
      this.#doing = `${this.agents.length} of ${this.#size.hosts} agents`;
      if (host % HOSTS_AT_ONCE === 0)
        await until(
          "agents to follow",
          () => this.agents.filter(({ index }) => index === 0).length < HOSTS_AT_ONCE,
          10,
        );
    }
    await this.#following();
    return `${numberText(this.agents.length)} streams, ${numberText(dipsOf(this.#size))} DIPs; hello to whole view: ${this.#takeFollowMs()}`;
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
              this.#doing = `${numberText(this.granted * 8)} ports`;
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
      this.#doing = `${++rounds} grants`;
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

  /** Position of the replica that leads; on a busy machine there may be none for a moment. */
  async #leader(): Promise<number> {
    let leader = -1;
    await until("somebody to lead", async () => {
      leader = (await this.figures()).findIndex((one) => one?.isLeader === true);
      return leader >= 0;
    });
    return leader;
  }

  async killLeader(): Promise<string> {
    const name = `manager-${(await this.#leader()) + 1}`;
    const reopenedBefore = this.agents.reduce((sum, { reopened }) => sum + reopened, 0);
    let fromMs = 0;
    let outage = 0;
    let followed = "";
    await this.#site.restart(name, async () => {
      let rounds = 0;
      outage = (await this.churn(() => rounds++ >= 100)).longestMs;
      await this.#following();
      followed = this.#takeFollowMs();
      fromMs = performance.now();
    });
    await this.caughtUp();
    const seconds = (performance.now() - fromMs) / 1_000;
    const reopened = this.agents.reduce((sum, agent) => sum + agent.reopened, 0) - reopenedBefore;
    return `slowest grant ${outage.toFixed(0)} ms; ${reopened} streams moved, end to following: ${followed}; ${name} in step ${seconds.toFixed(1)} s after its start`;
  }

  /** From the start of the new process until it has the whole view in force and announces. */
  async restartMux(): Promise<string> {
    const mux = this.#site.plan.muxes.at(-1);
    assert(mux !== undefined, "there is a MUX");
    await this.#site.restart(mux.name, () => Promise.resolve());
    const fromMs = performance.now();
    await until(`${mux.name} to announce`, () => isReady(mux.ops), 20);
    const seconds = (performance.now() - fromMs) / 1_000;
    await this.caughtUp();
    return `${numberText(this.granted)} ranges, ${numberText(endpointsOf(this.#size))} rules in force after ${seconds.toFixed(1)} s`;
  }

  async joinSixth(): Promise<string> {
    const sixth = this.#site.startSixth();
    const host = sixth.apiAddress.split(":")[0] ?? "";
    const port = Number(sixth.apiAddress.split(":")[1]) + 20;
    const fromMs = performance.now();
    await this.#site.api.any(CLUSTER_ADD_REPLICA, sixth, { deadlineMs: 60_000, hedgeMs: 60_000 });
    this.#opsAddresses = [...this.#opsAddresses, `${host}:${port}`];
    await this.caughtUp();
    const seconds = (performance.now() - fromMs) / 1_000;
    const own = (await this.figures()).at(-1);
    assert(own !== null && own !== undefined && own.restoreSeconds > 0, "it took a snapshot, for the log begins later");
    return `in step ${seconds.toFixed(1)} s after it was added, ${own.restoreSeconds.toFixed(2)} s of it the restore`;
  }

  async reads(): Promise<string> {
    const status = await this.#site.api.status(0, READ_MS);
    const vips = await this.#site.api.vips({ deadlineMs: READ_MS, hedgeMs: READ_MS });
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
  stalls(): readonly PhaseStalls[] {
    const all = this.#allStalls();
    return this.phases.map(({ fromMs, toMs }) => {
      const within = all.filter(({ atMs }) => atMs >= fromMs && atMs < toMs);
      const longest = (of: "ownMs" | "lateMs"): number => within.reduce((most, stall) => Math.max(most, stall[of]), 0);
      const ownMs = longest("ownMs");
      const worst = within.find((stall) => stall.ownMs === ownMs);
      const over = within.filter((stall) => stall.ownMs > GOAL_MS).length;
      const ownMsOf = new Map<string, number>();
      for (const stall of within) ownMsOf.set(stall.name, Math.max(stall.ownMs, ownMsOf.get(stall.name) ?? 0));
      return {
        ownMs,
        lateMs: longest("lateMs"),
        gcMs: worst?.gcMs ?? 0,
        gcKind: worst?.gcKind ?? "",
        who: worst?.name ?? "",
        over,
        ownMsOf,
      };
    });
  }

  /** The longest hold-ups of each phase, longest first. */
  longestTurns(most: number): readonly { readonly phase: string; readonly turns: readonly NamedStall[] }[] {
    const all = this.#allStalls();
    return this.phases.map(({ name, fromMs, toMs }) => {
      const within = all.filter(({ atMs }) => atMs >= fromMs && atMs < toMs);
      return { phase: name, turns: within.sort((a, b) => b.ownMs - a.ownMs).slice(0, most) };
    });
  }

  #allStalls(): readonly NamedStall[] {
    return MANAGERS.flatMap((name) =>
      readStalls(stallFile(this.#site.folder, name)).map((stall) => ({ ...stall, name })),
    );
  }

  /** Bytes of the newest snapshot of the state, as a Manager's log tells. */
  snapshotBytes(): number {
    const lines = readFileSync(join(this.#site.folder, "manager-1.log"), "utf8").split("\n");
    const line = lines.findLast((one) => one.includes('"snapshot taken"'));
    assert(line !== undefined, "a snapshot was taken");
    return (JSON.parse(line) as { readonly bytes: number }).bytes;
  }

  /** Ms from the request, or from the end of a stream, until an agent follows: those since the last call. */
  #takeFollowMs(): string {
    const times = this.agents.flatMap((agent) => agent.followedMs.splice(0));
    if (times.length === 0) return "none";
    const most = Math.max(...times);
    return `median ${percentile(times, 0.5).toFixed(0)} ms, longest ${most.toFixed(0)} ms`;
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
