/**
 * A whole site on virtual time, made of the product's own processes: Managers, MUXes, Host Agents, and the fabric with its ECMP
 * router, its clients and machines. What an operator applies goes through the Managers' API, what clients send through every hop.
 *
 *     client -> router -> one of eight MUXes -> router -> host -> machine, and from there straight back
 */
import { expect } from "vitest";
import { createAgent, type Agent } from "../../agent/agent.js";
import { agentConfig } from "../../agent/config.js";
import { formatIpv4, parseIpAddress } from "../../core/address.js";
import type { IpAddress, Ipv4, Port } from "../../core/brands.js";
import { given } from "../../core/present.js";
import type { CounterSnapshot } from "../../dataplane/contract.js";
import { PacketFramer } from "../../dataplane/fabric-frame.js";
import { type ApiObject, ManagerApi } from "../../fabric/control/manager-api.js";
import type { Endpoint } from "../../fabric/endpoints/endpoint.js";
import { Fabric } from "../../fabric/fabric.js";
import { FlowGenerator, type FlowPlan } from "../../fabric/flow-generator.js";
import type { RouterEvent, RouterPort } from "../../fabric/router-model.js";
import { planSite, type SitePlan } from "../../fabric/site.js";
import { OPERATOR_DELETE } from "../../manager/api/methods.js";
import { muxConfig } from "../../mux/config.js";
import { createMux, type Mux } from "../../mux/mux.js";
import type { DatagramSocket } from "../../runtime/env.js";
import { finishesCleanly } from "../kit/finishes-cleanly.js";
import { testSeed, VirtualWorld } from "../kit/virtual-world.js";
import { CLUSTER_ID, VirtualManagers } from "./virtual-managers.js";

/** Typical of a pool (Ananta §3.3). */
export const MUXES = 8;

export interface MachinePlan {
  readonly dip: string;
  /** Default: "default". */
  readonly tenant?: string;
  /** Default: the DIP. */
  readonly locator?: string;
}

export interface WholeSiteOptions {
  /** Of the scenario: the seed is made of it. */
  readonly name: string;
  /** Machines of each host; text: a DIP of the default tenant. Hosts are "host-1" and so on. */
  readonly hosts: readonly (readonly (MachinePlan | string)[])[];
  /** Default 20, from 198.51.100.10 on. */
  readonly clients?: number;
  /** Default 6, from 2001:db8:51::1 on. */
  readonly clientsIpv6?: number;
  /** MUXes that forward IPv4 only, counted from 1. */
  readonly ipv4Muxes?: readonly number[];
  /** Default `MUXES`. */
  readonly muxes?: number;
  /** Hosts that are started at once, the first ones; default all. */
  readonly hostsAtStart?: number;
}

/** A packet that the router passed on, and where it left; a view: copy what is kept. */
export type Tap = (packet: Uint8Array, port: RouterPort) => void;

const MUX_LAYOUT = {
  ...{ vips: 64, pools: 64, dips: 256, members: 1_024, nats: 256 },
  ...{ trustedFlows: 16_384, untrustedFlows: 16_384, fragments: 64, heldFragments: 16 },
};
const AGENT_LAYOUT = {
  ...{ dips: 16, vips: 64, endpoints: 256, outbounds: 64, ranges: 4_096, rules: 256, owners: 512 },
  ...{ flows: 16_384, fragments: 64, heldFragments: 16, held: 1_024, heldPerDip: 512 },
};

/** 198.51.100.10 and on: clients are numbered through one /16 after the other. */
const clientAddress = (n: number): IpAddress => formatIpv4((0xc633_640a + n) as Ipv4);

export function address(text: string): IpAddress {
  const parsed = parseIpAddress(text);
  if (parsed === null) throw new Error(`${text} is no IP address`);
  return parsed;
}

function sitePlan({ hosts, clients = 20, clientsIpv6 = 6, muxes = MUXES }: WholeSiteOptions): SitePlan {
  const upTo = (count: number): readonly number[] => Array.from({ length: count }, (_, index) => index + 1);
  return {
    ...planSite(7_400),
    router: "router:8000",
    muxes: upTo(muxes).map((n) => ({
      name: `mux-${n}`,
      address: address(`10.255.0.${n}`),
      addressIpv6: address(`2001:db8:255::${n}`),
      wire: `mux-${n}:8000`,
      ops: "",
    })),
    hosts: hosts.map((machines, at) => ({
      name: `host-${at + 1}`,
      wire: `host-${at + 1}:8000`,
      vmListen: `host-${at + 1}:8001`,
      ops: "",
      vms: machines.map(planOf).map(({ dip, tenant, locator }, n) => ({
        dip: address(dip),
        locator: locator as IpAddress,
        nic: `machine-${at + 1}-${n + 1}-${tenant}:8002`,
      })),
    })),
    clients: upTo(clients).map((n) => clientAddress(n - 1)),
    clientsIpv6: upTo(clientsIpv6).map((n) => address(`2001:db8:51::${n.toString(16)}`)),
  };
}

const planOf = (machine: MachinePlan | string): Required<MachinePlan> => {
  const { dip, tenant = "default", locator = dip } = typeof machine === "string" ? { dip: machine } : machine;
  return { dip, tenant, locator };
};

export class WholeSite {
  readonly world: VirtualWorld;
  readonly managers: VirtualManagers;
  readonly plan: SitePlan;
  readonly muxes: Mux[] = [];
  readonly #options: WholeSiteOptions;
  readonly #api: ManagerApi;
  readonly #agents = new Map<number, Agent>();
  readonly #deadMuxes = new Set<number>();
  readonly #taps = new Set<Tap>();
  #outside: DatagramSocket | null = null;
  #deletions = 0;
  #fabric!: Fabric;

  private constructor(options: WholeSiteOptions) {
    this.#options = options;
    this.plan = sitePlan(options);
    this.world = new VirtualWorld({ seed: testSeed(options.name), logLevel: "info" });
    this.managers = new VirtualManagers(this.world, { count: 3 });
    this.#api = new ManagerApi(this.world.env("operator"), this.managers.apiAddresses);
  }

  /** With the objects in force, and announced by all MUXes. */
  static async start(options: WholeSiteOptions, ...objects: readonly ApiObject[]): Promise<WholeSite> {
    const site = new WholeSite(options);
    const { world, plan } = site;
    site.#fabric = await world.run(Fabric.start(world.env("fabric"), plan, { ecmp: "plain" }));
    site.#tapRouter();
    await site.managers.startAll();
    for (const n of plan.muxes.keys()) await site.#startMux(n);
    for (let host = 1; host <= (options.hostsAtStart ?? plan.hosts.length); host++) await site.startHost(host);
    await world.runUntil(
      () => site.muxes.every((mux) => mux.status().membership === "announcing"),
      10_000,
      "all MUXes",
    );
    await site.apply(...objects);
    const vips = objects.filter(({ vip }) => vip !== undefined && vip !== null).length;
    await world.runUntil(() => site.muxes.every((mux) => mux.status().announced.length === vips), 5_000, "all routes");
    await world.advance(500); // and the reserve of SNAT ports
    return site;
  }

  /** Everything stops in order, nothing is left, and no packet was damaged on the way. */
  async stop(): Promise<void> {
    const { badPackets, misdelivered } = this.#fabric.counters();
    expect({ badPackets: [...badPackets], misdelivered }).toEqual({ badPackets: [], misdelivered: 0 });
    this.#api.close();
    for (const host of [...this.#agents.keys()]) await this.stopHost(host);
    for (const [n, mux] of this.muxes.entries()) if (!this.#deadMuxes.has(n)) await this.world.run(mux.stop());
    await this.managers.stopAll();
    this.#fabric.stop();
    this.#outside?.close();
    expect(this.managers.failures).toEqual([]);
    await finishesCleanly(this.world);
  }

  get nowMs(): number {
    return this.world.nowMs;
  }

  advance(ms: number): Promise<void> {
    return this.world.advance(ms);
  }

  // ---- what operators and mishaps do ----

  /** In force on all MUXes and known to the hosts when it returns. */
  async apply(...objects: readonly ApiObject[]): Promise<void> {
    const limits = { deadlineMs: 10_000, hedgeMs: 3_000 };
    const { inForce } = await this.world.run(this.#api.apply(this.#api.newSession(), objects, limits));
    expect(inForce).toBe(true);
    await this.world.advance(100);
  }

  /** In force on all MUXes when it returns. */
  async delete(ref: { readonly kind: string; readonly name: string }): Promise<void> {
    const origin = { session: `${this.#deletions++}`.padStart(32, "de1e7e"), sequence: 1 };
    const leader = this.managers.leader() ?? 0;
    const { inForce } = await this.managers.call(leader, OPERATOR_DELETE, { origin, refs: [ref] });
    expect(inForce).toBe(true);
    await this.world.advance(100);
  }

  /** kill -9 of MUX n, 1 and up. */
  killMux(n: number): void {
    this.#deadMuxes.add(n - 1);
    this.world.crash(`mux-${n}`);
  }

  /** MUX n, 1 and up, leaves the pool in order. */
  async stopMux(n: number): Promise<void> {
    this.#deadMuxes.add(n - 1);
    await this.world.run(this.muxes[n - 1]!.stop());
  }

  /** A new process of MUX n; the last of `muxes`. */
  async startMux(n: number): Promise<void> {
    await this.#startMux(n - 1);
  }

  /** A MUX that was killed is started again, in its place among `muxes`. */
  async restartMux(n: number): Promise<void> {
    this.#deadMuxes.delete(n - 1);
    this.world.restart(`mux-${n}`);
    await this.#startMux(n - 1);
    this.muxes[n - 1] = this.muxes.pop()!;
  }

  /** The host's machine is gone, with the machines on it. */
  killHost(n: number): void {
    this.#agents.delete(n);
    this.world.crash(`host-${n}`);
  }

  /** The host's agent ends in order; its machines are cut off. */
  async stopHost(n: number): Promise<void> {
    const agent = this.#agents.get(n);
    this.#agents.delete(n);
    if (agent !== undefined) await this.world.run(agent.stop());
  }

  /** Host n of the plan, counted from 1, with the first `machineCount` of its machines; default all. */
  async startHost(n: number, machineCount?: number): Promise<void> {
    const { name, wire, vmListen, vms } = this.plan.hosts[n - 1]!;
    const machines = this.#options.hosts[n - 1]!.map(planOf).slice(0, machineCount);
    const config = agentConfig({
      name,
      clusterId: CLUSTER_ID,
      managers: this.managers.apiAddresses,
      dataFolder: `/data/${name}`,
      dips: machines.map(({ dip, tenant, locator }, at) => ({
        tenant,
        address: dip as IpAddress,
        locator: locator as IpAddress,
        nic: vms[at]!.nic,
      })),
      io: { kind: "fabric", listen: wire, router: this.plan.router, vmListen },
    });
    const agent = createAgent(this.world.env(name), config, {
      failed: (error) => this.managers.failures.push(`${name}: ${error.message}`),
      layout: AGENT_LAYOUT,
    });
    this.#agents.set(n, agent);
    await this.world.run(agent.start());
  }

  get agents(): readonly Agent[] {
    return [...this.#agents.values()];
  }

  // ---- who is there ----

  get clients(): readonly Endpoint[] {
    return this.#fabric.clients;
  }

  get servers(): readonly Endpoint[] {
    return this.#fabric.servers;
  }

  get clientsIpv6(): readonly Endpoint[] {
    return this.#fabric.clientsIpv6;
  }

  get serversIpv6(): readonly Endpoint[] {
    return this.#fabric.serversIpv6;
  }

  /** A packet that comes to the router from outside, whoever sent it. */
  async inject(packet: Uint8Array): Promise<void> {
    this.#outside ??= await this.world.run(this.world.env("outside").datagrams.bind("outside:8000"));
    this.#outside.send(new PacketFramer().frame(packet), this.plan.router);
  }

  /** The nth machine of the nth host, counted from 1. */
  machine(host: number, n = 1): Endpoint {
    const before = this.plan.hosts.slice(0, host - 1).reduce((sum, { vms }) => sum + vms.length, 0);
    return this.#fabric.vms[before + n - 1]!; // of a host and machine of the plan
  }

  /** MUXes that the router spreads the VIP over. */
  nextHops(vip: string): number {
    return this.#fabric.router.routes(this.nowMs).filter(({ vips }) => vips.includes(address(vip))).length;
  }

  /** Packets that the router sent to each MUX. */
  packetsByMux(): readonly number[] {
    return this.#fabric.router.routes(this.nowMs).map(({ packets }) => packets);
  }

  onRouterEvent(listener: (event: RouterEvent) => void): void {
    this.#fabric.onRouterEvent = listener;
  }

  /** Ids that the VIPs have in the log: one that was made anew has another. */
  vipIds(): readonly number[] {
    const { state } = this.managers.manager(this.managers.leader() ?? 1);
    return state.objects("Vip", null).map((object) => ("vipId" in object ? object.vipId : 0));
  }

  routerDrops(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#fabric.router.drops);
  }

  // ---- what goes through ----

  /** Long-lived connections that ask now and then; how they fare is in their statistics. */
  flows(plan: Partial<FlowPlan> & Pick<FlowPlan, "flows" | "destinations">): FlowGenerator {
    const generator = new FlowGenerator(
      {
        direction: "inbound",
        opensMax: plan.flows,
        opensPerSecond: 500,
        requestIntervalMs: 2_000,
        lifetimeMs: null,
        sources: this.clients,
        ...plan,
      },
      this.world.env("fabric").random.fork(),
    );
    this.#fabric.add(generator);
    return generator;
  }

  /** They are open, answered, and none is broken. */
  async untilOpen(generator: FlowGenerator, count: number): Promise<void> {
    await this.world.runUntil(() => generator.statistics().answeredOnce === count, 20_000, "all flows are answered");
    expect(generator.statistics()).toMatchObject({ open: count, brokenCount: 0 });
  }

  remove(generator: FlowGenerator): void {
    this.#fabric.remove(generator);
  }

  /** Called for every packet that the router passes on, until `untap`. */
  tap(tap: Tap): void {
    this.#taps.add(tap);
  }

  untap(tap: Tap): void {
    this.#taps.delete(tap);
  }

  muxTraffic(): { readonly packets: number; readonly bytes: number } {
    const counters = this.muxes.map((mux) => mux.dataplane.telemetry.counters().received);
    return {
      packets: counters.reduce((sum, { packets }) => sum + packets, 0),
      bytes: counters.reduce((sum, { bytes }) => sum + bytes, 0),
    };
  }

  /** Drops so far by reason, those above 0. */
  muxDrops(): Readonly<Record<string, number>> {
    return dropsOf(this.muxes.map((mux) => mux.dataplane.telemetry.counters()));
  }

  hostDrops(): Readonly<Record<string, number>> {
    return dropsOf(this.agents.map((agent) => agent.dataplane.telemetry.counters()));
  }

  // ---- inside ----

  #tapRouter(): void {
    const { router } = this.#fabric;
    const forward = router.forward.bind(router);
    router.forward = (packet) => {
      const port = forward(packet);
      if (port !== null) for (const tap of this.#taps) tap(packet, port);
      return port;
    };
  }

  async #startMux(n: number): Promise<void> {
    const { name, address: own, addressIpv6, wire } = this.plan.muxes[n]!;
    const config = muxConfig({
      name,
      clusterId: CLUSTER_ID,
      managers: this.managers.apiAddresses,
      address: own,
      ...given({ addressIpv6 }),
      ipv6: this.#options.ipv4Muxes?.includes(n + 1) !== true,
      capacity: { rules: 256, snatRanges: 16_384 },
      io: { kind: "fabric", listen: wire, router: this.plan.router },
    });
    const mux = createMux(this.world.env(name), config, { layout: MUX_LAYOUT });
    this.muxes.push(mux);
    await this.world.run(mux.start());
  }
}

function dropsOf(snapshots: readonly CounterSnapshot[]): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const { drops } of snapshots)
    for (const [reason, count] of Object.entries(drops)) if (count > 0) sums[reason] = (sums[reason] ?? 0) + count;
  return sums;
}

// ---- objects as operators write them ----

type PoolSpec = NonNullable<ApiObject["backendPool"]>;
type VipSpec = NonNullable<ApiObject["vip"]>;
type Rule = NonNullable<VipSpec["rules"]>[number];

export const poolObject = (
  name: string,
  dips: readonly string[],
  spec: PoolSpec = {},
  tenant = "default",
): ApiObject => ({
  metadata: { name, tenant },
  backendPool: { members: dips.map((dip) => ({ dip })), maxMembers: 20, ...spec },
});

export const vipObject = (name: string, vip: string, spec: VipSpec, tenant = "default"): ApiObject => ({
  metadata: { name, tenant },
  vip: { address: vip, ...spec },
});

/** "tcp/80 -> web:8080", "udp/53 -> web:5353", "tcp_udp/53 -> web:53". */
export function ruleObject(text: string, more: Partial<Rule> = {}): Rule {
  const [, protocol = "", port, pool = "", backendPort] = /^(\w+)\/(\d+) -> ([a-z0-9-]+):(\d+)$/.exec(text) ?? [];
  const number = { tcp: 6, udp: 17, tcp_udp: 256 }[protocol];
  if (number === undefined) throw new Error(`not a rule: ${text}`);
  const ports = { port: Number(port), backendPort: Number(backendPort) };
  return { name: `${protocol.replace("_", "-")}-${port ?? ""}`, protocol: number, pool, ...ports, ...more };
}

export const destination = (vip: string, port: number): { readonly address: IpAddress; readonly port: Port } => ({
  address: address(vip),
  port: port as Port,
});
