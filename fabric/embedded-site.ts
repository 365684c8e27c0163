/**
 * The whole system on one machine: data folder, network, child processes, and a client of the public API. What `npm start` and
 * the demo share.
 *
 * Start, in order: look whether the ports are free; write the configurations; bind the network; start the
 * children; wait until a leader, both MUXes and all hosts are there. Stop in reverse.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { given } from "../core/present.js";
import type { Env } from "../runtime/env.js";
import { hex } from "../core/hex.js";
import { ManagerApi, type ApiObject } from "./control/manager-api.js";
import { Fabric } from "./fabric.js";
import { type DataFolder, LauncherError, type Site } from "./launcher/data-folder.js";
import { firstPortInUse } from "./launcher/ports.js";
import { Supervisor, type ChildEvent } from "./launcher/supervisor.js";
import { routerEventText } from "./live-view.js";
import type { EcmpMode } from "./router-model.js";
import { childPlans, type LocatorFamily, planSite, portsOf, type SitePlan } from "./site.js";
import { connectedHosts, leaderOf, muxesOf, SiteWatch, type SiteStatus } from "./site-status.js";

export interface SiteOptions {
  /** Locked by the caller. */
  readonly folder: DataFolder;
  readonly portBase: number;
  /** Dead children are started again after 2 s. */
  readonly restart: boolean;
  readonly ecmp: EcmpMode;
  /** Default: "ipv4". */
  readonly locators?: LocatorFamily;
  /** Something happened that a person would want to read. */
  readonly onEvent: (text: string) => void;
}

/** Between two looks while waiting for something. */
const POLL_MS = 200;
const APPLY_LIMITS = { deadlineMs: 20_000, hedgeMs: 3_000 };

export class EmbeddedSite {
  readonly env: Env;
  readonly plan: SitePlan;
  readonly fabric: Fabric;
  readonly supervisor: Supervisor;
  readonly api: ManagerApi;
  readonly watch: SiteWatch;
  readonly folder: DataFolder;
  private site: Site;
  /** Why the start failed; a child said so. */
  private failure: LauncherError | null = null;
  private starting = true;
  private stopping = false;

  private constructor(
    env: Env,
    options: SiteOptions,
    parts: { folder: DataFolder; site: Site; plan: SitePlan; fabric: Fabric },
  ) {
    this.env = env;
    this.folder = parts.folder;
    this.site = parts.site;
    this.plan = parts.plan;
    this.fabric = parts.fabric;
    this.api = new ManagerApi(
      env,
      parts.plan.managers.map((manager) => manager.api),
    );
    this.watch = new SiteWatch(
      env,
      this.api,
      [...this.plan.muxes, ...this.plan.hosts].map(({ name, ops }) => ({ name, address: ops })),
    );
    const root = fileURLToPath(new URL("..", import.meta.url));
    this.supervisor = new Supervisor(
      this.writeConfigs().map(({ name, role, program, configFile }) => ({
        name,
        role,
        program: join(root, program),
        configFile,
        logFile: this.folder.logPath(name),
      })),
      { restart: options.restart, tether: new URL("./launcher/tether.js", import.meta.url).href },
    );
    this.fabric.onRouterEvent = (event) => options.onEvent(routerEventText(event));
    this.watch.onLeader = ({ nodeId, term }) => options.onEvent(`manager-${nodeId} leads, term ${term}`);
    this.supervisor.onEvent = (event) => this.tell(event, options.onEvent);
    this.supervisor.onStartFailed = (name, reason) => {
      const text = `${name} did not start: ${reason}`;
      if (this.starting) this.failure ??= new LauncherError(`${text} (log: ${this.folder.logPath(name)})`);
      else options.onEvent(text);
    };
  }

  /** Throws LauncherError with one clear line when the site cannot be started. */
  static async start(env: Env, options: SiteOptions): Promise<EmbeddedSite> {
    const plan = planSite(options.portBase, { ...given({ locators: options.locators }), ipv6Machines: true });
    const { folder } = options;
    const site = folder.site(() => hex(env.entropy(16)));
    const taken = await firstPortInUse(portsOf(plan));
    if (taken !== null) {
      const { address, transport, usedBy } = taken.port;
      const why = taken.code === "EADDRINUSE" ? "is in use" : `cannot be used (${taken.code})`;
      throw new LauncherError(
        `${transport.toUpperCase()} port ${address} (${usedBy}) ${why}: stop what uses it, or move all ports with --port-base`,
      );
    }
    const fabric = await Fabric.start(env, plan, { ecmp: options.ecmp });
    const started = new EmbeddedSite(env, options, { folder, site, plan, fabric });
    started.supervisor.startAll();
    return started;
  }

  /** The cluster has been formed before: its VIPs are there already. */
  get formed(): boolean {
    return this.site.formed;
  }

  /** Resolves when a leader is elected, all MUXes are live and all hosts connected. Throws when a child could not start. */
  async whenReady(timeoutMs: number): Promise<void> {
    const missing = (status: SiteStatus): string | null => {
      if (leaderOf(status) === null) return "no leader";
      const live = muxesOf(status).filter((mux) => mux.state === "live");
      if (live.length < this.plan.muxes.length) return `${live.length} of ${this.plan.muxes.length} MUXes live`;
      const hosts = connectedHosts(status);
      return this.plan.hosts.every((host) => hosts.has(host.name))
        ? null
        : `${hosts.size} of ${this.plan.hosts.length} hosts connected`;
    };
    await this.until("the site to be ready", timeoutMs, async () => missing(await this.watch.refresh(false)));
    this.starting = false;
  }

  /** Applies objects through the public API. From then on the cluster counts as formed. */
  async apply(
    objects: readonly ApiObject[],
  ): Promise<{ readonly changes: readonly string[]; readonly inForce: boolean }> {
    const result = await this.api.apply(this.api.newSession(), objects, APPLY_LIMITS);
    if (!this.site.formed) {
      this.site = { ...this.site, formed: true };
      this.folder.writeSite(this.site);
      this.writeConfigs(); // an empty folder of a replica is a loss from now on
    }
    return result;
  }

  /** Waits until `missing` answers null; its text says what is awaited still. */
  async until(what: string, timeoutMs: number, missing: () => Promise<string | null> | string | null): Promise<void> {
    const { clock } = this.env;
    const endMs = clock.nowMs() + timeoutMs;
    for (;;) {
      if (this.failure !== null && this.starting) throw this.failure;
      if (this.stopping) return new Promise(() => undefined); // whoever waits is not gone on with
      const still = await missing();
      if (still === null) return;
      if (clock.nowMs() >= endMs)
        throw new LauncherError(
          `waited ${Math.round(timeoutMs / 1_000)} s for ${what}: ${still} (logs: ${join(this.folder.path, "log")})`,
        );
      await this.pause(POLL_MS);
    }
  }

  pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.env.clock.setTimer(delayMs, resolve);
    });
  }

  async stop(): Promise<void> {
    this.stopping = true;
    this.watch.stop();
    await this.supervisor.stop();
    this.api.close();
    this.fabric.stop();
  }

  private writeConfigs(): readonly {
    name: string;
    role: "manager" | "mux" | "agent";
    program: string;
    configFile: string;
  }[] {
    const { clusterId, formed } = this.site;
    return childPlans(this.plan, { clusterId, dataFolder: this.folder.path, bootstrap: !formed }).map((child) => ({
      name: child.name,
      role: child.role,
      program: child.program,
      configFile: this.folder.writeConfig(child.name, child.config),
    }));
  }

  private tell(event: ChildEvent, say: (text: string) => void): void {
    if (event.kind === "started") {
      say(`${event.name} started, pid ${event.pid}`);
      return;
    }
    if (this.failure !== null) return; // told as the reason why the start failed
    const stays = event.next === "stays-down";
    const next = stays ? "it stays down; this starts it again:" : "starting it again in 2 s";
    say(`${event.name} (pid ${event.pid}) ended: ${event.reason}; ${next}`);
    if (stays) say(this.supervisor.commandOf(event.name)); // alone on its line, to be copied
  }
}
