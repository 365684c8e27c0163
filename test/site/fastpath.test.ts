/**
 * FastPath in a whole site on virtual time, with Managers, MUXes, agents, a router and machines: a service uploads to another one
 * by its VIP. The bytes arrive whole, and of those that the machines send no more than one in a hundred passes a MUX; with
 * `fastpath: false` all of them do.
 */
import { expect, it } from "vitest";
import { createAgent, type Agent } from "../../agent/agent.js";
import { agentConfig } from "../../agent/config.js";
import { formatIpv4 } from "../../core/address.js";
import { createRandom } from "../../core/random.js";
import { BulkTransfer } from "../../fabric/bulk-transfer.js";
import { ManagerApi } from "../../fabric/control/manager-api.js";
import { Fabric } from "../../fabric/fabric.js";
import { BULK_PORT, BULK_VIP, DEMO_VIP, planSite } from "../../fabric/site.js";
import { muxConfig } from "../../mux/config.js";
import { createMux, type Mux } from "../../mux/mux.js";
import { finishesCleanly } from "../kit/finishes-cleanly.js";
import { testSeed, VirtualWorld } from "../kit/virtual-world.js";
import { CLUSTER_ID, VirtualManagers } from "./virtual-managers.js";

const plan = planSite(7_400);
const [clientHost, serverHost] = [plan.hosts[0]!, plan.hosts[1]!];
const BYTES = 10_000_000;
/** What the agents clamp it to. */
const MSS = 1_440;

const objects = (fastpath: boolean): Parameters<ManagerApi["apply"]>[1] => [
  { metadata: { name: "uploaders" }, backendPool: { members: [{ dip: formatIpv4(clientHost.vms[0]!.dip) }] } },
  { metadata: { name: "stores" }, backendPool: { members: [{ dip: formatIpv4(serverHost.vms[0]!.dip) }] } },
  { metadata: { name: "uploader" }, vip: { address: formatIpv4(DEMO_VIP), outbound: { pools: ["uploaders"] } } },
  {
    metadata: { name: "store" },
    vip: {
      address: formatIpv4(BULK_VIP),
      rules: [{ name: "bulk", protocol: 6, port: BULK_PORT, pool: "stores", backendPort: BULK_PORT, fastpath }],
    },
  },
];

it("a service uploads to another one by its VIP, past the MUXes", { timeout: 120_000 }, async () => {
  const world = new VirtualWorld({ seed: testSeed("fastpath"), logLevel: "info" });
  const managers = new VirtualManagers(world, { count: 3 });
  const api = new ManagerApi(world.env("client"), managers.apiAddresses);
  const fabric = await world.run(Fabric.start(world.env("fabric"), plan, { ecmp: "plain" }));
  await managers.startAll();
  const muxes: Mux[] = [];
  for (const { name, address, wire } of plan.muxes) {
    const mux = createMux(
      world.env(name),
      muxConfig({
        name,
        clusterId: CLUSTER_ID,
        managers: managers.apiAddresses,
        address: formatIpv4(address),
        io: { kind: "fabric", listen: wire, router: plan.router },
      }),
    );
    muxes.push(mux);
    await world.run(mux.start());
  }
  const agents: Agent[] = [];
  for (const { name, wire, vmListen, vms } of [clientHost, serverHost]) {
    const agent = createAgent(
      world.env(name),
      agentConfig({
        name,
        clusterId: CLUSTER_ID,
        managers: managers.apiAddresses,
        dataFolder: `/data/${name}`,
        dips: vms.map((vm) => ({ address: formatIpv4(vm.dip), nic: vm.nic })),
        io: { kind: "fabric", listen: wire, router: plan.router, vmListen },
      }),
      { failed: (error) => managers.failures.push(`${name}: ${error.message}`) },
    );
    agents.push(agent);
    await world.run(agent.start());
  }
  await world.runUntil(() => muxes.every((mux) => mux.status().membership === "joined"), 5_000, "both MUXes joined");
  await world.advance(1_000);

  const apply = async (fastpath: boolean): Promise<void> => {
    const options = { deadlineMs: 10_000, hedgeMs: 3_000 };
    const applied = await world.run(api.apply(api.newSession(), objects(fastpath), options));
    expect(applied.inForce).toBe(true);
    await world.advance(2_000);
  };
  /** Bytes that MUXes got while so many were uploaded. */
  const upload = async (): Promise<number> => {
    const throughMuxes = (): number =>
      muxes.reduce((sum, mux) => sum + mux.dataplane.telemetry.counters().received.bytes, 0);
    const before = throughMuxes();
    const transfer = new BulkTransfer(
      { source: fabric.vms[0]!, destination: { address: BULK_VIP, port: BULK_PORT }, bytes: BYTES },
      createRandom(testSeed("upload")),
      () => world.nowMs,
    );
    await world.runUntil(() => transfer.result !== null || transfer.failure !== null, 60_000, "the end of the upload");
    expect(transfer.failure).toBeNull();
    expect(transfer.result).toMatchObject({ isWhole: true, bytes: BYTES });
    return throughMuxes() - before;
  };

  await apply(true);
  const withFastpath = await upload();
  const sent = agents.map((agent) => agent.dataplane.fastpath());
  expect(withFastpath / BYTES, "of all bytes").toBeLessThan(0.01);
  expect(sent[0]!.sent * MSS, "data").toBeGreaterThan(BYTES * 0.99);
  expect(sent[1]!.sent, "and acknowledgements").toBeGreaterThan(100);
  expect(sent.map(({ fellBack }) => fellBack)).toEqual([0, 0]);

  await apply(false);
  const before = agents.map((agent) => agent.dataplane.fastpath());
  expect(await upload()).toBeGreaterThan(BYTES);
  expect(agents.map((agent) => agent.dataplane.fastpath())).toEqual(before);

  api.close();
  for (const agent of agents) await world.run(agent.stop());
  for (const mux of muxes) await world.run(mux.stop());
  await managers.stopAll();
  fabric.stop();
  expect(managers.failures).toEqual([]);
  await finishesCleanly(world);
});
