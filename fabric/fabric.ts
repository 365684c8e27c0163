/**
 * The network of the embedded site, in one process: the router, the external clients and servers behind it, and the VMs
 * with their network cards. MUXes and Host Agents are other processes; datagrams on loopback are the cables between.
 *
 *     client -> router -> MUX -> router -> host -> VM                  inbound: to a VIP
 *     client <- router <------------------ host <- VM                  and back, past the MUX (Ananta §3.2.2)
 *
 * One loop drives all endpoints and generators. Nothing here decides anything about flows: it only carries packets.
 */
import type { IpAddress } from "../core/brands.js";
import type { Random } from "../core/random.js";
import { decodeFrame, PacketFramer } from "../dataplane/fabric-frame.js";
import type { DatagramSocket, Env, Timer } from "../runtime/env.js";
import { HashServer } from "./bulk-transfer.js";
import { Endpoint } from "./endpoints/endpoint.js";
import { identityEcho, IdentityServer } from "./endpoints/identity-server.js";
import type { FlowGenerator } from "./flow-generator.js";
import { RouterModel, type EcmpMode, type RouterEvent, type RouterPort } from "./router-model.js";
import { BACKEND_PORT, BACKEND_UDP_PORT, BULK_PORT, SERVER_PORT, type SitePlan } from "./site.js";

/** Fine enough for retransmission at 200 ms, coarse enough to cost nothing. */
const TICK_MS = 20;
/** A dead MUX loses its routes this long after its last announcement (router hold timer). */
const HOLD_TIME_MS = 1_000;

export interface FabricCounters {
  /** Packets that an endpoint found wrong, by reason: a rewrite somewhere forgot a checksum. */
  readonly badPackets: ReadonlyMap<string, number>;
  readonly misdelivered: number;
  readonly retransmissions: number;
  readonly packets: number;
}

interface Ticking {
  tick(nowMs: number): void;
}

export class Fabric {
  readonly router: RouterModel;
  readonly clients: readonly Endpoint[];
  readonly servers: readonly Endpoint[];
  readonly clientsIpv6: readonly Endpoint[];
  readonly serversIpv6: readonly Endpoint[];
  readonly vms: readonly Endpoint[];
  onRouterEvent: (event: RouterEvent) => void = () => undefined;
  private readonly env: Env;
  private readonly framer = new PacketFramer();
  private readonly routerSocket: DatagramSocket;
  private readonly nics: readonly DatagramSocket[];
  private readonly locals = new Map<string, Endpoint>();
  private readonly generators = new Set<Ticking>();
  /** Packets between endpoints and router, in order: an endpoint answers from within `receive`. */
  private readonly queue: Uint8Array[] = [];
  private draining = false;
  private timer: Timer | null = null;
  private stopped = false;

  private constructor(
    env: Env,
    plan: SitePlan,
    sockets: { router: DatagramSocket; nics: readonly DatagramSocket[] },
    ecmp: EcmpMode,
  ) {
    const random = env.random.fork();
    this.env = env;
    this.routerSocket = sockets.router;
    this.nics = sockets.nics;
    const routes = new Map<IpAddress, RouterPort>();
    for (const host of plan.hosts) {
      const port: RouterPort = { kind: "host", name: host.name, address: host.wire };
      for (const { dip, locator } of host.vms) routes.set(locator ?? dip, port);
    }
    // What MUXes relay to each other goes by their own addresses.
    for (const mux of plan.muxes) routes.set(mux.address, { kind: "mux", name: mux.name, address: mux.wire });
    for (const local of [...plan.clients, ...plan.servers, ...plan.clientsIpv6, ...plan.serversIpv6])
      routes.set(local, { kind: "local", name: local });
    this.router = new RouterModel({
      ecmp,
      hashSeed: random.nextUint32(),
      holdTimeMs: HOLD_TIME_MS,
      routes,
    });
    this.clients = plan.clients.map((address) => this.local(address, random));
    this.servers = plan.servers.map((address) => this.local(address, random));
    const vmPlans = plan.hosts.flatMap((host) => host.vms.map((vm) => ({ ...vm, gateway: host.vmListen })));
    this.vms = vmPlans.map((vm, index) => this.machine(vm.dip, random, this.nics[index]!, vm.gateway)); // one socket per VM
    this.clientsIpv6 = plan.clientsIpv6.map((address) => this.local(address, random));
    this.serversIpv6 = plan.serversIpv6.map((address) => this.local(address, random));
    for (const server of [...this.servers, ...this.serversIpv6]) server.listen(SERVER_PORT, new IdentityServer());
    this.routerSocket.listen((bytes, from) => this.fromWire(bytes, from));
  }

  /** Binds the router's and the VMs' sockets. Rejects with FAILED_PRECONDITION when a port is taken. */
  static async start(env: Env, plan: SitePlan, options: { readonly ecmp: EcmpMode }): Promise<Fabric> {
    const bound: DatagramSocket[] = [];
    const bind = async (address: string): Promise<DatagramSocket> => {
      const socket = await env.datagrams.bind(address);
      bound.push(socket);
      return socket;
    };
    try {
      const router = await bind(plan.router);
      const nics: DatagramSocket[] = [];
      for (const host of plan.hosts) for (const vm of host.vms) nics.push(await bind(vm.nic));
      const fabric = new Fabric(env, plan, { router, nics }, options.ecmp);
      fabric.schedule();
      return fabric;
    } catch (caught) {
      for (const socket of bound) socket.close();
      throw caught;
    }
  }

  /** Ticked from now on, until `remove`. */
  add(generator: FlowGenerator | Ticking): void {
    this.generators.add(generator);
  }

  remove(generator: FlowGenerator | Ticking): void {
    this.generators.delete(generator);
  }

  counters(): FabricCounters {
    const badPackets = new Map<string, number>();
    let misdelivered = 0;
    let retransmissions = 0;
    let packets = 0;
    for (const { counters } of this.endpoints) {
      for (const [reason, count] of counters.bad) badPackets.set(reason, (badPackets.get(reason) ?? 0) + count);
      misdelivered += counters.misdelivered;
      retransmissions += counters.retransmissions;
      packets += counters.packetsIn;
    }
    return { badPackets, misdelivered, retransmissions, packets };
  }

  stop(): void {
    this.stopped = true;
    this.timer?.cancel();
    this.routerSocket.close();
    for (const nic of this.nics) nic.close();
  }

  private schedule(): void {
    this.timer = this.env.clock.setTimer(TICK_MS, () => {
      const nowMs = this.env.clock.nowMs();
      for (const event of this.router.tick(nowMs)) this.onRouterEvent(event);
      for (const endpoint of this.endpoints) endpoint.tick(nowMs);
      for (const generator of this.generators) generator.tick(nowMs);
      if (!this.stopped) this.schedule();
    });
  }

  private get endpoints(): readonly Endpoint[] {
    return [...this.locals.values(), ...this.vms];
  }

  private local(address: IpAddress, random: Random): Endpoint {
    const endpoint = new Endpoint(address, random.fork(), (packet) => this.route(packet));
    this.locals.set(address, endpoint);
    return endpoint;
  }

  private machine(dip: IpAddress, random: Random, nic: DatagramSocket, gateway: string): Endpoint {
    const vm = new Endpoint(dip, random.fork(), (packet) => nic.send(this.framer.frame(packet), gateway));
    vm.listen(BACKEND_PORT, new IdentityServer());
    vm.listen(BULK_PORT, new HashServer());
    vm.listenUdp(BACKEND_UDP_PORT, identityEcho);
    nic.listen((bytes) => {
      const frame = decodeFrame(bytes);
      if (frame?.kind === "packet") vm.receive(frame.packet, this.env.clock.nowMs());
    });
    return vm;
  }

  private fromWire(bytes: Uint8Array, from: string): void {
    const frame = decodeFrame(bytes);
    if (frame === null) return;
    if (frame.kind === "packet") this.route(frame.packet);
    else
      for (const event of this.router.announce(frame.announcement, from, this.env.clock.nowMs()))
        this.onRouterEvent(event);
  }

  private route(packet: Uint8Array): void {
    this.queue.push(packet);
    if (this.draining) return;
    this.draining = true;
    for (let next = this.queue.shift(); next !== undefined; next = this.queue.shift()) {
      const port = this.router.forward(next);
      if (port === null) continue;
      if (port.kind !== "local") this.routerSocket.send(this.framer.frame(next), port.address);
      else this.locals.get(port.name)?.receive(next, this.env.clock.nowMs());
    }
    this.draining = false;
  }
}
