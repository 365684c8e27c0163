import { beforeEach, describe, expect, it } from "vitest";
import type { IpAddress, Port } from "../../core/brands.js";
import { decodeFrame, encodeAnnouncement, PacketFramer } from "../../dataplane/fabric-frame.js";
import { readPacket, writeTcp, type Tuple } from "../../fabric/endpoints/packets.js";
import { Fabric } from "../../fabric/fabric.js";
import { FlowGenerator } from "../../fabric/flow-generator.js";
import { BACKEND_PORT, DEMO_VIP, planSite } from "../../fabric/site.js";
import type { DatagramSocket } from "../../runtime/env.js";
import { testSeed, VirtualWorld } from "../kit/virtual-world.js";

const plan = planSite(7_400);
const HTTP = 80 as Port;
const framer = new PacketFramer();

/** Rewrites one end of a TCP packet, checksums included, as MUX and host together do for an inbound flow. */
function rewritten(packet: Uint8Array, change: Partial<Tuple>): Uint8Array {
  const read = readPacket(packet);
  if (read.kind !== "tcp") throw new Error(`a TCP packet, not ${JSON.stringify(read)}`);
  return writeTcp({ ...read.tuple, ...change }, read.segment);
}

/** A MUX without tables: every flow of the VIP goes to the VM that its client port names. */
class FakeMux {
  sequence = 0;
  announcing = true;
  private socket: DatagramSocket | null = null;

  async start(world: VirtualWorld, index: number): Promise<void> {
    const mux = plan.muxes[index]!;
    const env = world.env(mux.name);
    const vms = plan.hosts.flatMap((host) => host.vms);
    const socket = await env.datagrams.bind(mux.wire);
    this.socket = socket;
    socket.listen((bytes) => {
      const frame = decodeFrame(bytes);
      if (frame?.kind !== "packet") return;
      const read = readPacket(frame.packet);
      const port = read.kind === "tcp" ? read.tuple.sourcePort : 0;
      const destination = vms[port % vms.length]!.dip;
      socket.send(framer.frame(rewritten(frame.packet, { destination, destinationPort: BACKEND_PORT })), plan.router);
    });
    const beat = (): void => {
      if (this.announcing) this.announce([DEMO_VIP], mux.name, mux.address);
      env.clock.setTimer(250, beat);
    };
    beat();
  }

  announce(vips: readonly IpAddress[], mux: string, address: IpAddress): void {
    const frame = encodeAnnouncement({
      mux,
      address,
      vips,
      holdTimeMs: 1_000,
      sequence: ++this.sequence,
    });
    this.socket?.send(frame!, plan.router);
  }
}

async function startFakeHosts(world: VirtualWorld): Promise<void> {
  for (const host of plan.hosts) {
    const { datagrams } = world.env(host.name);
    const wire = await datagrams.bind(host.wire);
    const vmListen = await datagrams.bind(host.vmListen);
    const nics = new Map(host.vms.map((vm) => [vm.dip, vm.nic]));
    wire.listen((bytes) => {
      const frame = decodeFrame(bytes);
      if (frame?.kind !== "packet") return;
      const read = readPacket(frame.packet);
      const nic = read.kind === "tcp" ? nics.get(read.tuple.destination) : undefined;
      if (nic !== undefined) vmListen.send(framer.frame(frame.packet), nic);
    });
    vmListen.listen((bytes) => {
      const frame = decodeFrame(bytes);
      if (frame?.kind !== "packet") return;
      wire.send(framer.frame(rewritten(frame.packet, { source: DEMO_VIP, sourcePort: HTTP })), plan.router);
    });
  }
}

describe("the network of the embedded site", () => {
  let world: VirtualWorld;
  let fabric: Fabric;
  let muxes: readonly FakeMux[];
  let flows: FlowGenerator;
  beforeEach(async () => {
    world = new VirtualWorld({ seed: testSeed("fabric") });
    const env = world.env("fabric");
    fabric = await world.run(Fabric.start(env, plan, { ecmp: "plain" }));
    await world.run(startFakeHosts(world));
    muxes = plan.muxes.map(() => new FakeMux());
    for (const [index, mux] of muxes.entries()) await world.run(mux.start(world, index));
    flows = new FlowGenerator(
      {
        direction: "inbound",
        flows: 60,
        opensMax: 60,
        opensPerSecond: 100,
        requestIntervalMs: 400,
        lifetimeMs: null,
        sources: fabric.clients,
        destinations: [{ address: DEMO_VIP, port: HTTP }],
      },
      env.random.fork(),
    );
    await world.advance(500);
    fabric.add(flows);
  });

  it("carries flows from clients over MUXes and hosts to VMs, and the answers past the MUXes", async () => {
    await world.advance(3_000);
    const { answeredOnce, brokenCount, spread } = flows.statistics();
    expect({ answeredOnce, brokenCount }).toEqual({ answeredOnce: 60, brokenCount: 0 });
    expect([...spread.keys()].sort()).toEqual(plan.hosts.flatMap((host) => host.vms.map((vm) => vm.dip)));
    const counters = fabric.counters();
    expect([...counters.badPackets]).toEqual([]);
    expect(counters.misdelivered).toBe(0);
    expect(fabric.router.forwarded.local).toBeGreaterThan(100);
    expect(fabric.router.routes(world.nowMs).every((route) => route.packets > 0)).toBe(true);
    fabric.stop();
  });

  it("loses a silent MUX after its hold time, and every flow goes on over the other", async () => {
    await world.advance(2_000);
    world.crash("mux-1");
    const events: string[] = [];
    fabric.onRouterEvent = (event) => events.push(`${event.kind} ${event.mux}`);
    await world.advance(1_200);
    expect(events).toEqual(["hold-expired mux-1"]);
    await world.advance(5_000);
    const before = flows.statistics();
    await world.advance(1_000);
    const after = flows.statistics();
    expect(after).toMatchObject({ open: 60, brokenCount: 0 });
    expect(after.answers - before.answers).toBeGreaterThan(100);
    expect(after.longestStallMs).toBeLessThan(3_500);
    fabric.stop();
  });

  it("answers with silence, not with a crash, when datagrams are no frames", async () => {
    const stranger = await world.run(world.env("stranger").datagrams.bind("127.0.0.1:9999"));
    for (const bytes of [[], [1], [2, 3], [9, 9, 9], [1, 0x45, 0, 0]])
      stranger.send(Uint8Array.from(bytes), plan.router);
    await world.advance(100);
    expect(fabric.router.drops.get("malformed")).toBe(1);
    fabric.stop();
  });
});
