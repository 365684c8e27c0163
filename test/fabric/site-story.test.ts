/**
 * The story of the demo on virtual time: five Managers, two MUXes, three hosts with their VMs, flows in both directions and a
 * third-party client that is granted ports, while a leader or a MUX dies.
 */
import { afterEach, describe, expect, it } from "vitest";
import type { Port } from "../../core/brands.js";
import { agentConfig } from "../../agent/config.js";
import { createAgent, type Agent } from "../../agent/agent.js";
import { formatIpv4 } from "../../core/address.js";
import { ManagerApi } from "../../fabric/control/manager-api.js";
import { Fabric } from "../../fabric/fabric.js";
import { FlowGenerator, type FlowPlan } from "../../fabric/flow-generator.js";
import { GrantWorkload } from "../../fabric/grant-workload.js";
import { doublyOwned, longestGapMs } from "../../fabric/ownership.js";
import { DEMO_VIP, exampleObjects, planSite, SERVER_PORT } from "../../fabric/site.js";
import { muxConfig } from "../../mux/config.js";
import { createMux, type Mux } from "../../mux/mux.js";
import { testSeed, VirtualWorld } from "../kit/virtual-world.js";
import { CLUSTER_ID, VirtualManagers } from "../site/virtual-managers.js";

const plan = planSite(7_400);
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

  constructor(salt: string) {
    this.world = new VirtualWorld({ seed: testSeed(salt), logLevel: "info" });
    this.managers = new VirtualManagers(this.world);
    const env = this.world.env("client");
    this.api = new ManagerApi(env, this.managers.apiAddresses);
    this.grants = new GrantWorkload(env, this.api, { host: "third-party", dips: DIPS, pauseMs: 50, blocksKept: 8 });
  }

  async start(): Promise<void> {
    const { world } = this;
    this.fabric = await world.run(Fabric.start(world.env("fabric"), plan, { ecmp: "plain" }));
    await this.managers.startAll();
    for (const index of plan.muxes.keys()) await this.startMux(index);
    for (const index of plan.hosts.keys()) await this.startAgent(index);
    for (let rounds = 0; (await this.liveMuxes()) < 2; rounds++) {
      expect(rounds, "both MUXes join within 5 s").toBeLessThan(50);
      await world.advance(100);
    }
    const applied = await world.run(
      this.api.apply(this.api.newSession(), [...exampleObjects(plan), ...GRANT_OBJECTS], {
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
      sources: fabric.clients,
      destinations: [{ address: DEMO_VIP, port: 80 as Port }],
    };
    const outbound: FlowPlan = {
      ...common,
      direction: "outbound",
      sources: fabric.vms,
      destinations: fabric.servers.map(({ address }) => ({ address, port: SERVER_PORT })),
    };
    this.inbound = new FlowGenerator(inbound, world.env("fabric").random.fork());
    this.outbound = new FlowGenerator(outbound, world.env("fabric").random.fork());
    fabric.add(this.inbound);
    fabric.add(this.outbound);
  }

  private async startAgent(index: number): Promise<void> {
    const { name, wire, vmListen, vms } = plan.hosts[index]!;
    const agent = createAgent(
      this.world.env(name),
      agentConfig({
        name,
        clusterId: CLUSTER_ID,
        managers: this.managers.apiAddresses,
        dataFolder: `/data/${name}`,
        dips: vms.map((vm) => ({ address: formatIpv4(vm.dip), nic: vm.nic })),
        io: { kind: "fabric", listen: wire, router: plan.router, vmListen },
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

  async startMux(index: number): Promise<Mux> {
    const { name, address, wire } = plan.muxes[index]!;
    const mux = createMux(
      this.world.env(name),
      muxConfig({
        name,
        clusterId: CLUSTER_ID,
        managers: this.managers.apiAddresses,
        address: formatIpv4(address),
        io: { kind: "fabric", listen: wire, router: plan.router },
      }),
    );
    await this.world.run(mux.start());
    return mux;
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
});
