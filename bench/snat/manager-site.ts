/**
 * What a SNAT grant goes through, and nothing else: five Managers with synced storage and two MUXes that acknowledge, each a
 * process, on loopback, in a temporary folder. No agents and no traffic: the benchmark is the agents.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { assert } from "../../core/assert.js";
import { hex, ManagerApi, type ApiObject } from "../../fabric/control/manager-api.js";
import { childPlans, planSite, PORT_SPAN, type SitePlan } from "../../fabric/site.js";
import type { Env } from "../../runtime/env.js";
import { createNodeEnv } from "../../runtime/node/env.js";
import { atExit, temporaryFolder } from "../measure/cleanup.js";
import { freePortBlock } from "../measure/ports.js";

const READY_MS = 60_000;
const POLL_MS = 50;
const APPLY_LIMITS = { deadlineMs: 60_000, hedgeMs: 30_000 };

export interface ManagerSiteOptions {
  readonly portsFrom: number;
  readonly muxCapacity: { readonly rules: number; readonly snatRanges: number };
  /** Node writes a CPU profile of every Manager and MUX to the current folder when it ends. */
  readonly profile: boolean;
}

export interface SiteProcess {
  readonly name: string;
  readonly role: "manager" | "mux";
  readonly pid: number;
}

export class ManagerSite {
  readonly env: Env;
  readonly plan: SitePlan;
  readonly clusterId: string;
  readonly api: ManagerApi;
  readonly #folder = temporaryFolder("snat");
  readonly #children: { readonly name: string; readonly role: "manager" | "mux"; readonly child: ChildProcess }[] = [];
  readonly #forget: () => void;
  #stopping = false;

  /** Resolves when one leads, all follow it and both MUXes are live. */
  static async start(options: ManagerSiteOptions): Promise<ManagerSite> {
    const portBase = (await freePortBlock(PORT_SPAN + 1, options.portsFrom)) - 1;
    const site = new ManagerSite(portBase, options);
    const endMs = performance.now() + READY_MS;
    for (;;) {
      if ((await site.leader()) !== null) return site;
      assert(performance.now() < endMs, `a leader and two live MUXes within ${READY_MS} ms`);
      await pause(POLL_MS);
    }
  }

  private constructor(portBase: number, { muxCapacity, profile }: ManagerSiteOptions) {
    this.env = createNodeEnv({ name: "benchmark", logLevel: "warn", logTo: join(this.#folder.path, "benchmark.log") });
    this.clusterId = hex(this.env.entropy(16));
    this.plan = planSite(portBase);
    this.#forget = atExit(() => this.#killAll());
    const { clusterId } = this;
    for (const plan of childPlans(this.plan, { clusterId, dataFolder: this.#folder.path, bootstrap: true })) {
      if (plan.role === "agent") continue;
      const config = plan.role === "mux" ? { ...plan.config, capacity: muxCapacity } : plan.config;
      this.#spawn({ ...plan, role: plan.role, config }, profile);
    }
    this.api = new ManagerApi(
      this.env,
      this.plan.managers.map(({ api }) => api),
    );
  }

  get folder(): string {
    return this.#folder.path;
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
    return this.#children.map(({ name, role, child }) => ({ name, role, pid: child.pid ?? 0 }));
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
    const killer = setTimeout(() => this.#killAll(), 5_000);
    await Promise.all(gone);
    clearTimeout(killer);
    this.#forget();
    this.#folder.remove();
  }

  #spawn(
    plan: {
      readonly name: string;
      readonly role: "manager" | "mux";
      readonly program: string;
      readonly config: unknown;
    },
    profile: boolean,
  ): void {
    const folder = join(this.#folder.path, plan.name);
    mkdirSync(folder, { recursive: true });
    const configFile = join(this.#folder.path, `${plan.name}.json`);
    writeFileSync(configFile, JSON.stringify(plan.config));
    const logFile = join(this.#folder.path, `${plan.name}.log`);
    const log = openSync(logFile, "a");
    const program = fileURLToPath(new URL(`../../${plan.program}`, import.meta.url));
    const profiling = profile ? ["--cpu-prof", "--cpu-prof-name", `${plan.name}.cpuprofile`] : [];
    const args = ["--enable-source-maps", ...profiling, program, "--config", configFile];
    const child = spawn(process.execPath, args, { stdio: ["ignore", log, log] });
    closeSync(log);
    this.#children.push({ name: plan.name, role: plan.role, child });
    child.once("exit", () => {
      if (this.#stopping) return;
      process.stderr.write(`${plan.name} ended:\n${readFileSync(logFile, "utf8").slice(-4_000)}\n`);
      process.exit(1); // nothing that is measured without it means anything
    });
  }

  #killAll(): void {
    for (const { child } of this.#children) child.kill("SIGKILL");
  }
}

export const pause = (delayMs: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, delayMs));
