/**
 * The story of the demo on virtual time: five Managers, two MUXes, three hosts with their VMs, flows in both directions and a
 * third-party client that is granted ports, while a leader or a MUX dies.
 */
import { afterEach, describe, expect, it } from "vitest";
import type { Port } from "../../core/brands.js";
import { agentConfig } from "../../agent/config.js";
import { createAgent, type Agent } from "../../agent/agent.js";
import { given } from "../../core/present.js";
import { BulkTransfer } from "../../fabric/bulk-transfer.js";
import { ManagerApi } from "../../fabric/control/manager-api.js";
import { Fabric } from "../../fabric/fabric.js";
import { FlowGenerator, type FlowPlan } from "../../fabric/flow-generator.js";
import { GrantWorkload } from "../../fabric/grant-workload.js";
import { doublyOwned, longestGapMs } from "../../fabric/ownership.js";
import {
  BULK_PORT,
  BULK_VIP,
  bulkObjects,
  DEMO_VIP,
  exampleObjects,
  IPV6_VIP,
  type LocatorFamily,
  planSite,
  SERVER_PORT,
  type SitePlan,
} from "../../fabric/site.js";
import { PacketFramer } from "../../dataplane/fabric-frame.js";
import { muxConfig } from "../../mux/config.js";
import { createMux, type Mux } from "../../mux/mux.js";
import { OPERATOR_DRAIN_MUX, OPERATOR_UNDRAIN_MUX } from "../../manager/api/methods.js";
import { origins } from "../manager/edge.js";
import { udp } from "../packet/packet-kit.js";
import { testSeed, VirtualWorld } from "../kit/virtual-world.js";
import { CLUSTER_ID, VirtualManagers } from "../site/virtual-managers.js";

const DIPS = ["10.9.0.1", "10.9.0.2", "10.9.0.3", "10.9.0.4"];
/** Per direction. */
const FLOWS = 24;
const GRANT_OBJECTS = [
  { metadata: { name: "grant-pool" }, backendPool: { members: DIPS.map((dip) => ({ dip })) } },
  { metadata: { name: "grants" }, vip: { address: "203.0.113.11", outbound: { pools: ["grant-pool"] } } },
];

class Story {
  readonly world: VirtualWorld;
  readonly managers: VirtualManagers;
  readonly api: ManagerApi;
  readonly grants: GrantWorkload;
  fabric!: Fabric;
  inbound!: FlowGenerator;
  outbound!: FlowGenerator;
  readonly agents: Agent[] = [];
  readonly muxes: Mux[] = [];

  readonly plan: SitePlan;

  constructor(salt: string, locators: LocatorFamily = "ipv4") {
    this.plan = planSite(7_400, { locators, ipv6Machines: true });
    this.world = new VirtualWorld({ seed: testSeed(salt), logLevel: "info" });
    this.managers = new VirtualManagers(this.world);
    const env = this.world.env("client");
    this.api = new ManagerApi(env, this.managers.apiAddresses);
    this.grants = new GrantWorkload(env, this.api, { host: "third-party", dips: DIPS, periodMs: 60, blocksKept: 8 });
  }

  async start(): Promise<void> {
    const { world, plan } = this;
    this.fabric = await world.run(Fabric.start(world.env("fabric"), plan, { ecmp: "plain" }));
    await this.managers.startAll();
    for (const index of plan.muxes.keys()) await this.startMux(index);
    for (const index of plan.hosts.keys()) await this.startAgent(index);
    for (let rounds = 0; (await this.liveMuxes()) < 2; rounds++) {
      expect(rounds, "both MUXes join within 5 s").toBeLessThan(50);
      await world.advance(100);
    }
    const applied = await world.run(
      this.api.apply(this.api.newSession(), [...exampleObjects(plan), ...GRANT_OBJECTS, ...bulkObjects()], {
        deadlineMs: 10_000,
        hedgeMs: 3_000,
      }),
    );
    expect(applied.inForce).toBe(true);
    await world.runUntil(() => this.announcing() === 2, 5_000, "both MUXes announce");
    await world.run(this.grants.start());
    this.startFlows();
    await world.advance(3_000);
    for (const flows of [this.inbound, this.outbound]) {
      expect(flows.statistics().broken).toEqual([]);
      expect(flows.statistics()).toMatchObject({ opened: FLOWS, answeredOnce: FLOWS });
    }
  }

  private startFlows(): void {
    const { fabric, world } = this;
    const common = {
      flows: FLOWS,
      opensMax: FLOWS,
      opensPerSecond: 50,
      requestIntervalMs: 700,
      lifetimeMs: null,
    };
    const inbound: FlowPlan = {
      ...common,
      direction: "inbound",
      sources: [...fabric.clients, ...fabric.clientsIpv6],
      destinations: [DEMO_VIP, IPV6_VIP].map((address) => ({ address, port: 80 as Port })),
    };
    const outbound: FlowPlan = {
      ...common,
      direction: "outbound",
      sources: fabric.vms,
      destinations: [...fabric.servers, ...fabric.serversIpv6].map(({ address }) => ({ address, port: SERVER_PORT })),
    };
    this.inbound = new FlowGenerator(inbound, world.env("fabric").random.fork());
    this.outbound = new FlowGenerator(outbound, world.env("fabric").random.fork());
    fabric.add(this.inbound);
    fabric.add(this.outbound);
  }

  private async startAgent(index: number): Promise<void> {
    const { name, wire, vmListen, vms } = this.plan.hosts[index]!;
    const agent = createAgent(
      this.world.env(name),
      agentConfig({
        name,
        clusterId: CLUSTER_ID,
        managers: this.managers.apiAddresses,
        dataFolder: `/data/${name}`,
        dips: vms.map(({ dip, locator, nic }) => ({ address: dip, ...given({ locator }), nic })),
        io: { kind: "fabric", listen: wire, router: this.plan.router, vmListen },
      }),
      { failed: (error) => this.managers.failures.push(`${name}: ${error.message}`) },
    );
    this.agents.push(agent);
    await this.world.run(agent.start());
  }

  /** Ends all flows in order; none may have been broken, and no packet damaged, on the way. */
  async endFlows(): Promise<void> {
    this.inbound.finish();
    this.outbound.finish();
    await this.world.advance(4_000);
    for (const flows of [this.inbound, this.outbound]) {
      expect(flows.statistics().broken).toEqual([]);
      expect(flows.statistics()).toMatchObject({ opened: FLOWS, completed: FLOWS, open: 0 });
    }
    expect([...this.fabric.counters().badPackets]).toEqual([]);
    expect(this.fabric.counters().misdelivered).toBe(0);
  }

  async startMux(index: number): Promise<void> {
    const { name, address, addressIpv6, wire } = this.plan.muxes[index]!;
    this.muxes[index] = createMux(
      this.world.env(name),
      muxConfig({
        name,
        clusterId: CLUSTER_ID,
        managers: this.managers.apiAddresses,
        address: address,
        ...given({ addressIpv6 }),
        io: { kind: "fabric", listen: wire, router: this.plan.router },
      }),
    );
    await this.world.run(this.muxes[index].start());
  }

  async liveMuxes(): Promise<number> {
    const { muxes } = await this.world.run(this.api.status(0, 1_000));
    return muxes.filter((mux) => mux.state === "live").length;
  }

  announcing(): number {
    return this.fabric.router.routes(this.world.nowMs).filter((route) => route.vips.includes(DEMO_VIP)).length;
  }

  gapMs(fromMs: number): number {
    return longestGapMs(this.grants.answeredMs, fromMs, this.world.nowMs);
  }

  /** Ends the workload and compares what it was told with what every replica says. */
  async judge(): Promise<void> {
    await this.endFlows();
    await this.world.run(this.grants.stop());
    await this.world.advance(500);
    for (const endpoint of this.managers.running.keys()) {
      const { blocks } = await this.world.run(this.api.snatList({ endpoint, stale: true }));
      expect(this.grants.ledger.lost(blocks)).toEqual([]);
      expect(doublyOwned(blocks)).toEqual([]);
    }
    expect(this.grants.ledger.conflicts).toEqual([]);
    expect([...this.grants.refusals]).toEqual([]);
    expect(this.managers.failures).toEqual([]);
  }
}

/** A packet with a header of 20 bytes as a router would pass it on over a link that is too small. */
function inTwo(packet: Uint8Array): readonly Uint8Array[] {
  const cut = 20 + 104; // offsets count in eights
  return [
    { body: packet.subarray(20, cut), flags: 0x2000 }, // more fragments
    { body: packet.subarray(cut), flags: 104 / 8 },
  ].map(({ body, flags }) => {
    const fragment = new Uint8Array(20 + body.length);
    fragment.set(packet.subarray(0, 20));
    fragment.set(body, 20);
    const view = new DataView(fragment.buffer);
    view.setUint16(2, fragment.length);
    view.setUint16(4, 1);
    view.setUint16(6, flags);
    view.setUint16(10, 0);
    let sum = 0;
    for (let at = 0; at < 20; at += 2) sum += view.getUint16(at);
    view.setUint16(10, ~((sum & 0xffff) + (sum >>> 16)) & 0xffff);
    return fragment;
  });
}

let story: Story | null = null;
afterEach(async () => {
  for (const agent of story?.agents ?? []) await story?.world.run(agent.stop());
  story?.api.close();
  story?.fabric.stop();
  await story?.managers.stopAll();
  story = null;
});

describe("flows and grants of a whole site", () => {
  it("go on when the leader is killed: grants within 400 ms, none lost, no flow broken", async () => {
    story = new Story("leader");
    await story.start();
    const leader = story.managers.leader()!;
    const killedMs = story.world.nowMs;
    story.managers.kill(leader);
    await story.world.advance(3_000);
    expect(story.gapMs(killedMs)).toBeLessThan(400);
    await story.managers.restart(leader);
    await story.world.advance(1_000);
    await story.judge();
  });

  it("go on when a MUX is killed: flows over the other one, grants when its lease has run out", async () => {
    story = new Story("mux");
    await story.start();
    const killedMs = story.world.nowMs;
    story.world.crash("mux-1");
    await story.world.advance(1_200);
    expect(story.announcing()).toBe(1);
    await story.world.advance(5_000);
    expect(story.gapMs(killedMs)).toBeGreaterThan(1_000);
    expect(story.gapMs(killedMs)).toBeLessThan(4_500);
    story.world.restart("mux-1");
    await story.startMux(0);
    const { world } = story;
    await world.runUntil(() => story?.announcing() === 2, 5_000, "the MUX announces again");
    await story.judge();
  });

  it("carry many bytes at once through a VIP: each of them once, in order, unchanged", async () => {
    story = new Story("bulk");
    await story.start();
    const { world, fabric } = story;
    const transfer = new BulkTransfer(
      { source: fabric.clients[0]!, destination: { address: BULK_VIP, port: BULK_PORT }, bytes: 100_001 },
      world.env("fabric").random.fork(),
      () => world.nowMs,
    );
    await world.runUntil(() => transfer.result !== null || transfer.failure !== null, 20_000, "the answer");
    expect(transfer.failure).toBeNull();
    expect(transfer.result).toMatchObject({ bytes: 100_001, receivedHash: transfer.result?.sentHash, isWhole: true });
    await story.judge();
    // Closed flows linger in NAT state; forgetting them is counted, as every end of a flow is.
    for (const agent of story.agents) {
      agent.dataplane.flows.reset({}, (count) => {
        expect(agent.dataplane.endedFlowCounts().get("ended by the operator")).toBe(count);
      });
    }
    expect(story.agents.map((agent) => agent.dataplane.telemetry.gauges().flows)).toEqual([0, 0, 0]);
  });

  // What goes from a MUX to a host has an outer header of IPv6 here, and hosts believe only MUXes that they were told of.
  it("go by IPv6 locators, from the MUXes' IPv6 addresses, and on when a MUX is killed", async () => {
    story = new Story("IPv6 locators", "ipv6");
    await story.start();
    const { world, muxes, agents } = story;
    const known = story.managers.manager(1).state.muxes();
    expect(known.map(({ addressIpv6 }) => addressIpv6).sort()).toEqual(["2001:db8:255::1", "2001:db8:255::2"]);
    for (const mux of muxes) expect(mux.dataplane.telemetry.counters().sent.packets).toBeGreaterThan(FLOWS);
    for (const agent of agents) expect(agent.dataplane.telemetry.counters().drops.unknown_encapsulator).toBe(0);
    world.crash("mux-1");
    await world.advance(6_000);
    world.restart("mux-1");
    await story.startMux(0);
    await world.runUntil(() => story?.announcing() === 2, 5_000, "the MUX announces again");
    await story.judge();
    for (const agent of agents) expect(agent.dataplane.telemetry.counters().drops.unknown_encapsulator).toBe(0);
  });

  // Maintenance: an operator takes a MUX off the routers, reboots it, and puts it back.
  it("go on while a MUX is drained, through the death of the leader and a new start of the MUX, until it is undrained", async () => {
    story = new Story("drain");
    await story.start();
    const { world, managers, muxes } = story;
    const next = origins("operator");
    const received = (): number => muxes[0]!.dataplane.telemetry.counters().received.packets;
    // The answer means: the routes are withdrawn. What is on its way is forwarded, as is all that comes by another way.
    const drained = await managers.call(2, OPERATOR_DRAIN_MUX, { name: "mux-1", reason: "kernel", origin: next() });
    expect(drained).toMatchObject({ changed: true, inForce: true, announcing: 1 });
    await world.runUntil(() => story?.announcing() === 1, 100, "one next hop");
    expect(muxes[0]!.status()).toMatchObject({ membership: "drained", lease: "held" });
    await world.advance(100);
    const seen = received();
    await world.advance(3_000);
    expect(received(), "nothing comes any more").toBe(seen);
    const leader = managers.leader()!;
    managers.kill(leader);
    await world.runUntil(() => managers.leader() !== null, 5_000, "another leader");
    await managers.restart(leader);
    world.crash("mux-1", { disk: "process" });
    world.restart("mux-1");
    await story.startMux(0);
    await world.runUntil(() => muxes[0]!.status().membership === "drained", 5_000, "the MUX is back, and drained");
    await world.advance(2_000);
    expect(story.announcing()).toBe(1);
    const last = await managers.refusal(3, OPERATOR_DRAIN_MUX, { name: "mux-2", reason: "too", origin: next() });
    expect(last.message).toContain("the last one that announces");
    const undrained = await managers.call(4, OPERATOR_UNDRAIN_MUX, { name: "mux-1", origin: next() });
    expect(undrained).toMatchObject({ changed: true, inForce: true, announcing: 2 });
    await world.runUntil(() => story?.announcing() === 2, 1_000, "both announce");
    await story.judge();
  });

  it("let MUXes relay fragments to each other: the fabric has routes to the MUXes' own addresses", async () => {
    story = new Story("fragments");
    await story.start();
    const { world, fabric, muxes } = story;
    const wire = await world.run(world.env("elsewhere").datagrams.bind("127.0.0.1:7600"));
    const framer = new PacketFramer();
    for (const client of fabric.clients) {
      const packet = udp(`${client.address}:30000`, `${DEMO_VIP}:53`, new Uint8Array(200));
      for (const fragment of inTwo(packet)) wire.send(framer.frame(fragment), story.plan.router);
    }
    await world.advance(500);
    const relayed = muxes.map((mux) => mux.dataplane.relayed());
    const sum = (pick: (counts: { out: number; in: number }) => number): number =>
      relayed.reduce((total, counts) => total + pick(counts), 0);
    expect(sum((counts) => counts.out)).toBeGreaterThan(0);
    expect(sum((counts) => counts.in)).toBe(sum((counts) => counts.out));
    expect(muxes.map((mux) => mux.dataplane.telemetry.counters().drops.unknown_peer)).toEqual([0, 0]);
    expect(fabric.router.drops.get("no_route") ?? 0).toBe(0);
    wire.close();
  });
});
