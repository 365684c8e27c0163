/** The site of `npm start` with a proxy on every link to a Manager, one replica on a small disk, and handles for each fault. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { atExit, temporaryFolder } from "../../bench/measure/cleanup.js";
import { freePortBlock } from "../../bench/measure/ports.js";
import type { ReplicaView } from "../../fabric/control/manager-api.js";
import { EmbeddedSite } from "../../fabric/embedded-site.js";
import { DataFolder } from "../../fabric/launcher/data-folder.js";
import { exampleObjects, planSite, PORT_SPAN, type SitePlan } from "../../fabric/site.js";
import { leaderOf } from "../../fabric/site-status.js";
import { createNodeEnv, type NodeEnv } from "../../runtime/node/env.js";
import { ProxyMesh, type Link } from "./proxy-mesh.js";
import type { Routes } from "./reroute.js";
import { SmallDisk } from "./small-disk.js";

const READY_MS = 60_000;
const FINAL_MS = 90_000;

export class ChaosSite {
  readonly env: NodeEnv;
  readonly site: EmbeddedSite;
  readonly mesh: ProxyMesh;
  readonly disk: SmallDisk;
  /** The replica with the small disk. */
  readonly diskOwner: string;
  readonly #stopped = new Set<number>();
  readonly #discard: () => void;

  static async start(options: {
    readonly seed: number;
    readonly portsFrom: number;
    readonly onEvent: (text: string) => void;
  }): Promise<ChaosSite> {
    const temporary = temporaryFolder("chaos");
    const folder = new DataFolder(temporary.path);
    folder.lock();
    const env = createNodeEnv({
      name: "chaos",
      dataFolder: folder.path,
      logTo: folder.logPath("chaos"),
      seed: options.seed,
    });
    const block = await freePortBlock(PORT_SPAN + 1 + LINKS_MAX, options.portsFrom);
    const portBase = block - 1;
    const plan = planSite(portBase);
    const links = linksOf(plan, block + PORT_SPAN);
    const mesh = await ProxyMesh.start(links);
    preload(temporary.path, links);
    const diskOwner = plan.managers[env.random.below(plan.managers.length)]!.name; // below its length
    const disk = new SmallDisk(join(folder.path, diskOwner), join(folder.path, "full"), diskOwner);
    const site = await EmbeddedSite.start(env, {
      folder,
      portBase,
      restart: false,
      ecmp: "plain",
      onEvent: options.onEvent,
    });
    const tell = site.supervisor.onEvent;
    site.supervisor.onEvent = (event) => {
      if (event.kind === "ended") mesh.processEnded(event.name);
      else mesh.processStarted(event.name);
      tell(event);
    };
    const forget = atExit(() => {
      for (const { pid } of site.supervisor.list()) if (pid !== null) signal(pid, "SIGKILL");
    });
    const started = new ChaosSite({ env, site, mesh, disk, diskOwner }, () => {
      forget();
      folder.unlock();
      temporary.remove();
    });
    await site.whenReady(READY_MS);
    return started;
  }

  private constructor(
    parts: {
      readonly env: NodeEnv;
      readonly site: EmbeddedSite;
      readonly mesh: ProxyMesh;
      readonly disk: SmallDisk;
      readonly diskOwner: string;
    },
    discard: () => void,
  ) {
    this.env = parts.env;
    this.site = parts.site;
    this.mesh = parts.mesh;
    this.disk = parts.disk;
    this.diskOwner = parts.diskOwner;
    this.#discard = discard;
  }

  get managers(): readonly string[] {
    return this.site.plan.managers.map(({ name }) => name);
  }

  /** The replica that leads now; null: none that answers. */
  async leader(): Promise<{ readonly name: string; readonly view: ReplicaView } | null> {
    const view = leaderOf(await this.site.watch.refresh(false));
    const name = view === null ? null : this.site.supervisor.nameOf(view.pid);
    return view === null || name === null ? null : { name, view };
  }

  /** SIGKILL; it stays down until `start`. False when it was down. */
  kill(name: string): boolean {
    const pid = this.#pidOf(name);
    if (pid !== null) this.site.supervisor.killAndHold(name);
    return pid !== null;
  }

  /** SIGTERM, as a person who restarts it would; resolves when it has ended. */
  async end(name: string): Promise<void> {
    const pid = this.#pidOf(name);
    if (pid === null) return;
    signal(pid, "SIGTERM");
    await this.until(`${name} to end`, 20_000, () => this.#pidOf(name) !== pid);
  }

  /** Does nothing when it runs. */
  start(name: string): void {
    this.site.supervisor.start(name);
  }

  pause(name: string): void {
    const pid = this.#pidOf(name);
    if (pid === null) return;
    signal(pid, "SIGSTOP");
    this.#stopped.add(pid);
  }

  resume(name: string): void {
    const pid = this.#pidOf(name);
    if (pid === null) return;
    signal(pid, "SIGCONT");
    this.#stopped.delete(pid);
  }

  /** A Manager answers again. */
  async answers(name: string, withinMs: number): Promise<boolean> {
    const at = this.managers.indexOf(name);
    const since = this.env.clock.nowMs();
    while (this.env.clock.nowMs() - since < withinMs) {
      const status = await this.site.api.status(at, 500).catch(() => null);
      if (status !== null && status.leader !== 0) return true;
      await this.sleep(100);
    }
    return false;
  }

  /** All Managers that are not stopped answer, or the time is over. */
  async allAnswer(withinMs: number): Promise<void> {
    const stopped = (name: string): boolean => this.#stopped.has(this.#pidOf(name) ?? 0);
    await Promise.all(this.managers.filter((name) => !stopped(name)).map((name) => this.answers(name, withinMs)));
  }

  /** Ends every fault. */
  heal(): void {
    this.mesh.heal(false);
    this.disk.empty();
    for (const pid of this.#stopped) signal(pid, "SIGCONT");
    this.#stopped.clear();
    for (const { name, pid } of this.site.supervisor.list()) if (pid === null) this.start(name);
  }

  /** Everything runs and serves; throws when it does not come to that. */
  async recovered(): Promise<void> {
    await this.site.whenReady(FINAL_MS);
  }

  async applyExample(objects: Parameters<EmbeddedSite["apply"]>[0]): Promise<boolean> {
    return (await this.site.apply([...exampleObjects(this.site.plan), ...objects])).inForce;
  }

  sleep(ms: number): Promise<void> {
    return this.site.pause(ms);
  }

  async until(what: string, withinMs: number, condition: () => boolean): Promise<void> {
    await this.site.until(what, withinMs, () => (condition() ? null : "not yet"));
  }

  async stop(): Promise<void> {
    for (const pid of this.#stopped) signal(pid, "SIGCONT"); // a stopped process does not hear SIGTERM
    await this.site.stop();
    this.mesh.stop();
    this.disk.remove();
    this.#discard();
  }

  #pidOf(name: string): number | null {
    return this.site.supervisor.list().find((child) => child.name === name)?.pid ?? null;
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (caught) {
    if ((caught as NodeJS.ErrnoException).code !== "ESRCH") throw caught; // it has just ended
  }
}

/** Ten processes, each with two ports of five Managers. */
const LINKS_MAX = 100;

function linksOf(plan: SitePlan, firstPort: number): readonly Link[] {
  const callers = [...plan.managers, ...plan.muxes, ...plan.hosts].map(({ name }) => name);
  const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(":") + 1));
  return callers.flatMap((from, at) =>
    plan.managers.flatMap(({ name, api, raft }, to) =>
      [api, raft].map((address, which) => ({
        from,
        to: name,
        listenPort: firstPort + at * 2 * plan.managers.length + to * 2 + which,
        targetPort: portOf(address),
      })),
    ),
  );
}

/** Children inherit this process's environment. */
function preload(folder: string, links: readonly Link[]): void {
  const routes: Record<string, Record<string, number>> = {};
  for (const { from, to, listenPort, targetPort } of links) {
    if (from !== to) (routes[from] ??= {})[String(targetPort)] = listenPort;
  }
  const file = join(folder, "routes.json");
  writeFileSync(file, JSON.stringify(routes satisfies Routes));
  const flags = join(folder, "full");
  if (!existsSync(flags)) mkdirSync(flags);
  process.env["ANANTA_CHAOS_ROUTES"] = file;
  process.env["ANANTA_CHAOS_FULL"] = flags;
  process.env["NODE_OPTIONS"] = `--import=${new URL("./reroute.js", import.meta.url).href}`;
}
