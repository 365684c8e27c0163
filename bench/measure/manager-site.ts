/**
 * What a SNAT grant goes through, and nothing else: five Managers with synced storage and two MUXes that acknowledge, each a
 * process, on loopback, in a temporary folder. No agents and no traffic: the benchmark is the agents.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { assert } from "../../core/assert.js";
import { hex } from "../../core/hex.js";
import { ManagerApi, type ApiObject } from "../../fabric/control/manager-api.js";
import { childPlans, planSite, PORT_SPAN, type SitePlan } from "../../fabric/site.js";
import type { Env } from "../../runtime/env.js";
import { createNodeEnv } from "../../runtime/node/env.js";
import { atExit, temporaryFolder } from "./cleanup.js";
import { freePortBlock } from "./ports.js";

const READY_MS = 120_000;
const POLL_MS = 50;
/** On a machine that others keep busy, too. */
const APPLY_LIMITS = { deadlineMs: 300_000, hedgeMs: 60_000 };

export interface ManagerSiteOptions {
  readonly portsFrom: number;
  readonly muxCapacity: { readonly rules: number; readonly snatRanges: number };
  /** Node writes a CPU profile of every Manager and MUX to the current folder when it ends. */
  readonly profile: boolean;
  /** What runs as a Manager, from the root of the build, instead of its own main file; and settings beside those of the plan. */
  readonly manager?: {
    readonly program: string;
    readonly settings: Readonly<Record<string, unknown>>;
    /** Environment of the Manager of this name. */
    readonly env: (name: string, folder: string) => Readonly<Record<string, string>>;
  };
}

export interface SiteProcess {
  readonly name: string;
  readonly role: "manager" | "mux";
  readonly pid: number;
}

interface ProcessPlan {
  readonly name: string;
  readonly role: "manager" | "mux";
  readonly program: string;
  readonly config: Readonly<Record<string, unknown>>;
}

interface Child {
  readonly plan: ProcessPlan;
  readonly child: ChildProcess;
  /** Its end is wanted. */
  isEnding: boolean;
}

export class ManagerSite {
  readonly env: Env;
  readonly plan: SitePlan;
  readonly clusterId: string;
  readonly api: ManagerApi;
  readonly #folder = temporaryFolder("managers");
  readonly #children: Child[] = [];
  readonly #options: ManagerSiteOptions;
  readonly #forget: () => void;
  #stopping = false;

  /** Resolves when one leads, all follow it and both MUXes are live. */
  static async start(options: ManagerSiteOptions): Promise<ManagerSite> {
    const portBase = (await freePortBlock(PORT_SPAN + 1, options.portsFrom)) - 1;
    const site = new ManagerSite(portBase, options);
    await site.leadership();
    return site;
  }

  private constructor(portBase: number, options: ManagerSiteOptions) {
    this.#options = options;
    this.env = createNodeEnv({ name: "benchmark", logLevel: "warn", logTo: join(this.#folder.path, "benchmark.log") });
    this.clusterId = hex(this.env.entropy(16));
    this.plan = planSite(portBase);
    this.#forget = atExit(() => this.#killAll());
    const { clusterId } = this;
    for (const plan of childPlans(this.plan, { clusterId, dataFolder: this.#folder.path, bootstrap: true })) {
      if (plan.role === "agent") continue;
      if (plan.role === "mux")
        this.#spawn({ ...plan, role: plan.role, config: { ...plan.config, capacity: options.muxCapacity } });
      else this.#spawn({ ...plan, role: plan.role });
    }
    this.api = new ManagerApi(
      this.env,
      this.plan.managers.map(({ api }) => api),
    );
  }

  get folder(): string {
    return this.#folder.path;
  }

  /** Waits for `leader`, and says in which term it leads: another term is another leadership, by whomever. */
  async leadership(): Promise<{ readonly leader: number; readonly term: number }> {
    const endMs = performance.now() + READY_MS;
    for (;;) {
      const leader = await this.leader();
      if (leader !== null) return { leader, term: (await this.api.status(leader, READY_MS)).term };
      assert(performance.now() < endMs, `a leader and two live MUXes within ${READY_MS} ms`);
      await pause(POLL_MS);
    }
  }

  /** Position of the leader that all Managers follow; null while there is none or a MUX is not live. */
  async leader(): Promise<number | null> {
    const seen = await Promise.all(this.api.endpoints.map((_, at) => this.api.status(at, 1_000).catch(() => null)));
    const leader = seen.findIndex((replica) => replica?.role === "leader");
    const inStep = seen.every((replica) => replica !== null && replica.leader === leader + 1);
    const live = seen[leader]?.muxes.filter(({ state }) => state === "live").length ?? 0;
    return leader >= 0 && inStep && live === this.plan.muxes.length ? leader : null;
  }

  /** Applies the objects and waits until all MUXes use them. */
  async apply(objects: readonly ApiObject[]): Promise<void> {
    const { inForce } = await this.api.apply(this.api.newSession(), objects, APPLY_LIMITS);
    assert(inForce, "the objects are in force on all MUXes");
  }

  processes(): readonly SiteProcess[] {
    return this.#children
      .filter(({ isEnding }) => !isEnding)
      .map(({ plan: { name, role }, child }) => ({ name, role, pid: child.pid ?? 0 }));
  }

  /** Kills the process with SIGKILL and starts it again with what it has on disk; `ended` runs between the two. */
  async restart(name: string, ended: () => Promise<void>): Promise<void> {
    const at = this.#children.find(({ plan, isEnding }) => plan.name === name && !isEnding);
    assert(at !== undefined, `${name} runs`);
    at.isEnding = true;
    at.child.kill("SIGKILL");
    await ended();
    const { plan } = at;
    this.#spawn(plan.role === "manager" ? { ...plan, config: { ...plan.config, bootstrap: false } } : plan);
  }

  /** Starts a sixth replica with an empty folder, which has still to be added to the cluster. */
  startSixth(): { readonly nodeId: number; readonly raftAddress: string; readonly apiAddress: string } {
    const first = this.#children.find(({ plan }) => plan.name === "manager-1")?.plan;
    assert(first !== undefined, "the first Manager was started");
    const [host = "", port = ""] = (this.plan.managers[0]?.api ?? "").split(":");
    const at = (offset: number): string => `${host}:${Number(port) + offset}`;
    const own = { nodeId: 6, raftAddress: at(15), apiAddress: at(5) };
    const replicas = [...(first.config["replicas"] as readonly unknown[]), own];
    this.#spawn({
      ...first,
      name: "manager-6",
      config: {
        ...first.config,
        nodeId: 6,
        bootstrap: false,
        join: true,
        dataFolder: join(this.#folder.path, "manager-6"),
        opsAddress: at(25),
        replicas,
      },
    });
    return own;
  }

  /** Asks nicely, so that a profiled process writes its profile; then the hard way. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.api.close();
    const gone = this.#children.map(
      ({ child }) =>
        new Promise<void>((resolve) => {
          if (child.exitCode !== null || child.signalCode !== null) resolve();
          else child.once("exit", () => resolve());
        }),
    );
    for (const { child } of this.#children) child.kill("SIGTERM");
    const killer = setTimeout(() => this.#killAll(), this.#options.profile ? 60_000 : 5_000);
    await Promise.all(gone);
    clearTimeout(killer);
    this.#forget();
    this.#folder.remove();
  }

  #spawn(plan: ProcessPlan): void {
    const { manager, profile } = this.#options;
    const isManager = plan.role === "manager";
    const folder = join(this.#folder.path, plan.name);
    mkdirSync(folder, { recursive: true });
    const configFile = join(this.#folder.path, `${plan.name}.json`);
    writeFileSync(configFile, JSON.stringify({ ...plan.config, ...(isManager ? manager?.settings : {}) }));
    const logFile = join(this.#folder.path, `${plan.name}.log`);
    const log = openSync(logFile, "a");
    const own = isManager && manager !== undefined ? manager.program : plan.program;
    const program = fileURLToPath(new URL(`../../${own}`, import.meta.url));
    const profiling = profile ? ["--cpu-prof", "--cpu-prof-name", `${plan.name}.cpuprofile`] : [];
    const args = ["--enable-source-maps", ...profiling, program, "--config", configFile];
    const env = { ...process.env, ...(isManager ? manager?.env(plan.name, this.#folder.path) : {}) };
    const started: Child = {
      plan,
      child: spawn(process.execPath, args, { stdio: ["ignore", log, log], env }),
      isEnding: false,
    };
    closeSync(log);
    this.#children.push(started);
    started.child.once("exit", () => {
      if (this.#stopping || started.isEnding) return;
      process.stderr.write(`${plan.name} ended:\n${readFileSync(logFile, "utf8").slice(-4_000)}\n`);
      process.exit(1); // nothing that is measured without it means anything
    });
  }

  #killAll(): void {
    for (const { child } of this.#children) child.kill("SIGKILL");
  }
}

export const pause = (delayMs: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, delayMs));
