/**
 * The whole site in one virtual world: Manager replicas, MUXes, Host Agents, the router with its clients, servers and VMs.
 * All of it is the product's own code. Each process has a supervisor, as `npm start` is one: what ends is started again.
 */
import { createAgent, type Agent } from "../../agent/agent.js";
import { agentConfig } from "../../agent/config.js";
import { InvariantError } from "../../core/assert.js";
import { type IpAddress, nodeId } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import type { HostLayout, MuxLayout } from "../../dataplane/layouts.js";
import { Fabric } from "../../fabric/fabric.js";
import { planSite, type SitePlan } from "../../fabric/site.js";
import { managerConfig, type ReplicaAddresses } from "../../manager/config.js";
import { createManager, type Manager } from "../../manager/manager.js";
import { muxConfig } from "../../mux/config.js";
import { createMux, type Mux } from "../../mux/mux.js";
import type { Env } from "../../runtime/env.js";
import type { CrashOptions, VirtualWorld } from "../kit/virtual-world.js";
import { Violation } from "./violation.js";
import type { WorldPlan } from "./world-plan.js";

export const CLUSTER_ID = "c1".padEnd(32, "0");
/** Why a replica is damaged, when its disk was emptied. */
export const WIPED = "wiped";
const RESTART_MIN_MS = 100;
const RESTART_MAX_MS = 900;

/** Room enough for a site of three hosts, and quick to set up: processes start a dozen times in a world. */
const SMALL_MUX: Partial<MuxLayout> = {
  vips: 256,
  pools: 256,
  nats: 256,
  members: 1_024,
  dips: 256,
  trustedFlows: 4_096,
  untrustedFlows: 4_096,
  fragments: 64,
  heldFragments: 16,
  samples: 256,
};
const SMALL_HOST: Partial<HostLayout> = {
  dips: 64,
  vips: 256,
  endpoints: 256,
  outbounds: 256,
  ranges: 4_096,
  flows: 4_096,
  held: 128,
  lastWords: 1_024,
};

/** One process of the site, running or not. `unit` is the product's object while it runs. */
export interface Process<Unit> {
  readonly name: string;
  unit: Unit | null;
  /** Its start has ended well. */
  ready: boolean;
  /** A later start makes what an earlier one still does meaningless. */
  starts: number;
  restartPending: boolean;
}

export interface ManagerProcess extends Process<Manager> {
  readonly id: number;
  readonly joined: boolean;
  /** Its durable state is gone or damaged: it counts against the fault budget until it is replaced. */
  damaged: string | null;
  /** Removed from the cluster, or being so: never started again. */
  retired: boolean;
}

export interface SiteObserver {
  managerStarted(process: ManagerProcess, manager: Manager): void;
  muxStarted(process: Process<Mux>, mux: Mux): void;
  agentStarted(process: Process<Agent>, agent: Agent): void;
  /** Something was delivered to this process. */
  touched(name: string): void;
  /** A host sends this datagram to the router. */
  hostSends(host: string, bytes: Uint8Array): void;
}

export class SimSite {
  readonly world: VirtualWorld;
  readonly plan: WorldPlan;
  readonly layout: SitePlan;
  readonly managers: ManagerProcess[] = [];
  readonly muxes: Process<Mux>[];
  readonly agents: Process<Agent>[];
  fabric: Fabric | null = null;
  /** Processes that ended by themselves, with the reason. */
  readonly ended: string[] = [];
  /** Set when something that must never happen did: the world ends after the present event. */
  violation: Violation | null = null;
  /** While false, supervisors wait: the world is being built or taken down. */
  supervised = true;
  private readonly observer: SiteObserver;
  private nextNode: number;

  constructor(world: VirtualWorld, plan: WorldPlan, observer: SiteObserver) {
    this.world = world;
    this.plan = plan;
    this.observer = observer;
    const all = planSite(7_400);
    this.layout = { ...all, muxes: sized(all.muxes, plan.muxes, muxLike), hosts: all.hosts.slice(0, plan.hosts) };
    for (let id = 1; id <= plan.managers; id++) this.managers.push(managerProcess(id, false));
    this.nextNode = plan.managers + 1;
    this.muxes = this.layout.muxes.map(({ name }) => process(name));
    this.agents = this.layout.hosts.map(({ name }) => process(name));
    for (const [name, clockRate] of plan.clockRates) world.env(name, { clockRate });
  }

  get founders(): readonly ReplicaAddresses[] {
    return this.managers.filter(({ joined }) => !joined).map(({ id }) => addressesOf(id));
  }

  get apiAddresses(): readonly string[] {
    return this.founders.map(({ apiAddress }) => apiAddress);
  }

  get runningManagers(): readonly (ManagerProcess & { readonly unit: Manager })[] {
    return this.managers.filter((one): one is ManagerProcess & { unit: Manager } => one.unit !== null && one.ready);
  }

  /** The replica that leads in the highest term, whether it may serve yet or not. */
  leader(): ManagerProcess | null {
    let best: { readonly process: ManagerProcess; readonly term: number } | null = null;
    for (const one of this.runningManagers) {
      const { role, term } = one.unit.raftStatus();
      if (role === "leader" && term > (best?.term ?? -1)) best = { process: one, term };
    }
    return best?.process ?? null;
  }

  inOffice(): ManagerProcess | null {
    return this.runningManagers.find((one) => one.unit.pipeline.inOffice) ?? null;
  }

  // ---- starting ----

  async startNetwork(): Promise<void> {
    const env = this.world.env("fabric");
    this.fabric = await this.world.run(Fabric.start(env, this.layout, { ecmp: "plain" }));
  }

  startManager(one: ManagerProcess, mode: "bootstrap" | "join" | "again"): void {
    const env = this.watched(one.name);
    const start = this.begin(one);
    const outside = {
      version: "simulated",
      pid: one.id,
      failed: (error: Error): void => this.endedByItself(one, start, error),
    };
    const manager = createManager(
      env,
      managerConfig({
        nodeId: nodeId(one.id),
        clusterId: CLUSTER_ID,
        dataFolder: `/data/${one.name}`,
        bootstrap: mode === "bootstrap",
        join: one.joined,
        replicas: one.joined ? [...this.founders, addressesOf(one.id)] : this.founders,
        raft: this.plan.raft,
      }),
      outside,
    );
    one.unit = manager;
    this.observer.managerStarted(one, manager);
    this.follow(one, start, manager.start());
  }

  startMux(one: Process<Mux>): void {
    const planned = this.layout.muxes.find(({ name }) => name === one.name);
    if (planned === undefined) return;
    const start = this.begin(one);
    const mux = createMux(
      this.watched(one.name),
      muxConfig({
        name: one.name,
        clusterId: CLUSTER_ID,
        managers: this.apiAddresses,
        address: planned.address,
        io: { kind: "fabric", listen: planned.wire, router: this.layout.router },
        capacity: { rules: 1_000, snatRanges: 20_000 },
      }),
      { layout: SMALL_MUX },
    );
    one.unit = mux;
    this.observer.muxStarted(one, mux);
    this.follow(one, start, mux.start());
  }

  startAgent(one: Process<Agent>): void {
    const planned = this.layout.hosts.find(({ name }) => name === one.name);
    if (planned === undefined) return;
    const start = this.begin(one);
    const env = this.watched(one.name);
    const agent = createAgent(
      { ...env, datagrams: this.tapped(one.name, env) },
      agentConfig({
        name: one.name,
        clusterId: CLUSTER_ID,
        managers: this.apiAddresses,
        dataFolder: `/data/${one.name}`,
        dips: planned.vms.map((vm) => ({ address: vm.dip, nic: vm.nic })),
        io: { kind: "fabric", listen: planned.wire, router: this.layout.router, vmListen: planned.vmListen },
      }),
      { failed: (error) => this.endedByItself(one, start, error), layout: SMALL_HOST },
    );
    one.unit = agent;
    this.observer.agentStarted(one, agent);
    this.follow(one, start, agent.start());
  }

  /** A replica that was never part of the cluster: it starts as a learner that asks to be let in. */
  addManager(): ManagerProcess {
    const one = managerProcess(this.nextNode++, true);
    this.managers.push(one);
    this.startManager(one, "join");
    return one;
  }

  // ---- ending ----

  /** Ends the process and starts it again after `backMs`; null: never. */
  crash(one: Process<unknown>, options: CrashOptions, backMs: number | null): void {
    one.unit = null;
    one.ready = false;
    one.starts++;
    this.world.crash(one.name, options);
    if (backMs !== null) this.restartLater(one, backMs);
  }

  restartLater(one: Process<unknown>, delayMs: number): void {
    if (one.restartPending) return;
    one.restartPending = true;
    this.world.clock.schedule(delayMs, () => {
      one.restartPending = false;
      if (one.unit === null) this.restart(one);
    });
  }

  restart(one: Process<unknown>): void {
    if (!this.supervised || ("retired" in one && one.retired === true)) return;
    this.world.restart(one.name, { disk: "process" });
    if (isManager(one)) this.startManager(one, "again");
    else if (this.muxes.includes(one as Process<Mux>)) this.startMux(one as Process<Mux>);
    else this.startAgent(one as Process<Agent>);
  }

  drawRestartMs(share: number): number {
    return RESTART_MIN_MS + (RESTART_MAX_MS - RESTART_MIN_MS) * share;
  }

  // ---- inside ----

  private begin(one: Process<unknown>): number {
    one.ready = false;
    return ++one.starts;
  }

  private follow(one: Process<unknown>, start: number, started: Promise<void>): void {
    started.then(
      () => {
        if (one.starts === start) one.ready = true;
      },
      (caught: unknown) => this.endedByItself(one, start, AnantaError.from(caught)),
    );
  }

  private endedByItself(one: Process<unknown>, start: number, error: Error): void {
    if (one.starts !== start) return;
    const cause = error.cause instanceof Error ? error.cause : null;
    const broken = [error, cause].find((each) => each instanceof InvariantError);
    if (broken !== undefined) {
      this.violation ??= new Violation(
        "the product's own invariants",
        `${one.name}: ${broken.stack ?? broken.message}`,
      );
      return;
    }
    const code = error instanceof AnantaError ? error.code : "unknown";
    this.ended.push(`${one.name}: ${code} ${error.message}`);
    this.world.log.note(this.world.nowMs, `${one.name} ended by itself: ${code} ${error.message}`);
    if (code === "INTERNAL" || code === "unknown") {
      this.violation ??= new Violation("no unexpected exception", `${one.name}: ${error.stack ?? error.message}`);
      return;
    }
    if (isManager(one) && code === "STORAGE_DAMAGED") one.damaged ??= error.message;
    // Its env must go on to the end of the present event: it is ended by an event of its own.
    this.world.clock.schedule(0, () => {
      if (one.starts !== start) return;
      const back = isManager(one) && one.damaged !== null && code === "STORAGE_DAMAGED" ? null : RESTART_MAX_MS;
      this.crash(one, { disk: "process" }, back);
    });
  }

  private watched(name: string): Env {
    const env = this.world.env(name);
    this.world.process(name).onDelivered = () => this.observer.touched(name);
    return env;
  }

  private tapped(host: string, env: Env): Env["datagrams"] {
    const { router } = this.layout;
    return {
      bind: async (address) => {
        const socket = await env.datagrams.bind(address);
        return {
          address: socket.address,
          send: (bytes, to) => {
            if (to === router) this.observer.hostSends(host, bytes);
            socket.send(bytes, to);
          },
          lost: () => socket.lost(),
          listen: (listener) => socket.listen(listener),
          close: () => socket.close(),
        };
      },
    };
  }
}

const isManager = (one: Process<unknown>): one is ManagerProcess => "retired" in one;

export function addressesOf(id: number): ReplicaAddresses {
  return { nodeId: nodeId(id), raftAddress: `manager-${id}:7100`, apiAddress: `manager-${id}:7400` };
}

function process<Unit>(name: string): Process<Unit> {
  return { name, unit: null, ready: false, starts: 0, restartPending: false };
}

function managerProcess(id: number, joined: boolean): ManagerProcess {
  return { ...process<Manager>(`manager-${id}`), id, joined, damaged: null, retired: false };
}

type MuxPlan = SitePlan["muxes"][number];

/** The plan of the embedded site has two MUXes; a third one listens next to them. */
function muxLike(first: MuxPlan, n: number): MuxPlan {
  return {
    name: `mux-${n}`,
    address: first.address.replace(/\d+$/, String(n)) as IpAddress,
    addressIpv6: `2001:db8:255::${n}` as IpAddress,
    wire: `127.0.0.1:${7_430 + n}`,
    ops: `127.0.0.1:${7_440 + n}`,
  };
}

function sized<T>(items: readonly T[], count: number, more: (first: T, n: number) => T): readonly T[] {
  return Array.from({ length: count }, (_, at) => items[at] ?? more(items[0]!, at + 1)); // a site has a MUX
}
