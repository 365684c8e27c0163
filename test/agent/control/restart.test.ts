// A Host Agent restarts under live flows: what goes on, what ends at once, and what waits for a Manager.
import { describe, expect, it } from "vitest";
import type { DipId, VipId } from "../../../core/brands.js";
import type { HostItem } from "../../../dataplane/host-items.js";
import { decodeFrame, PacketFramer } from "../../../dataplane/fabric-frame.js";
import { encapsulate, read, tcp } from "../../packet/packet-kit.js";
import type { VirtualWorld } from "../../kit/virtual-world.js";
import { hasReserve, makeAgent, startAgent, type AgentWorld } from "./agent-world.js";
import { VIP } from "./fake-managers.js";

const DIP = "10.1.1.1";
const CLIENT = "198.51.100.7:40000";
const REMOTE = "192.0.2.99:443";

/** Network cards of VMs and the router's port live on machines of their own, and outlive the agent. */
async function outside(world: VirtualWorld) {
  const router = await world.run(world.env("router").datagrams.bind("router:4000"));
  const vm = await world.run(world.env("vm").datagrams.bind("host-1:9001"));
  const packets = (socket: typeof router): string[] => {
    const flows: string[] = [];
    socket.listen((bytes) => {
      const frame = decodeFrame(bytes);
      if (frame?.kind !== "packet") return;
      const { flow, flags } = read(frame.packet);
      flows.push(`${flow} ${flags}`);
    });
    return flows;
  };
  const frame = (packet: Uint8Array): Uint8Array => new PacketFramer().frame(packet);
  return {
    atRouter: packets(router),
    atVm: packets(vm),
    fromMux: (packet: Uint8Array) => router.send(frame(encapsulate(packet, "10.255.0.1", DIP)), "host-1:4000"),
    fromVm: (packet: Uint8Array) => vm.send(frame(packet), "host-1:5000"),
  };
}

/** VIP:80 leads to port 8080 of the machine; written to disk. */
async function servingHost(title: string): Promise<{ setup: AgentWorld; lines: Awaited<ReturnType<typeof outside>> }> {
  const setup = await startAgent(title);
  const { world, cluster, agent } = setup;
  const lines = await outside(world);
  await hasReserve(setup);
  const item = { kind: "endpoint", vipId: 1 as VipId, vip: VIP, protocol: 6, port: 80 } as const;
  const host = cluster.hosts.get("host-1")!;
  cluster.commit(host, { op: "upsert", item: { ...item, dipId: 1 as DipId, dipPort: 8_080 } });
  await world.runUntil(() => agent.dataplane.telemetry.gauges().entries["endpoints"] === 1, 5_000, "the rule in force");
  await world.advance(1_500);
  return { setup, lines };
}

describe("a Host Agent that restarts while no Manager can be reached", () => {
  it("goes on with connections to its VIPs, takes new ones, and resets those by SNAT", async () => {
    const { setup, lines } = await servingHost("restart without managers");
    const { world, replicas } = setup;
    const { atRouter, atVm, fromMux, fromVm } = lines;
    fromMux(tcp(CLIENT, `${VIP}:80`, "S"));
    fromVm(tcp(`${DIP}:5000`, REMOTE, "S"));
    await world.advance(50);
    expect(atVm.splice(0)).toEqual([`${CLIENT} > ${DIP}:8080 S`]);
    expect(atRouter.splice(0)).toHaveLength(1);

    for (const replica of replicas) await world.run(replica.stop());
    const again = makeAgent(world.restart("host-1"), "host-1");
    await world.run(again.agent.start());
    fromVm(tcp(`${DIP}:8080`, CLIENT, "PA")); // an answer under way
    fromMux(tcp(CLIENT, `${VIP}:80`, "A"));
    fromMux(tcp("198.51.100.8:40000", `${VIP}:80`, "S"));
    await world.advance(50);
    expect(atRouter.splice(0)).toEqual([`${VIP}:80 > ${CLIENT} PA`]);
    expect(atVm.splice(0).sort()).toEqual([`${CLIENT} > ${DIP}:8080 A`, `198.51.100.8:40000 > ${DIP}:8080 S`]);

    fromVm(tcp(`${DIP}:5000`, REMOTE, "A")); // whose port it was, nobody knows any more
    await world.advance(50);
    expect(atVm).toEqual([`${REMOTE} > ${DIP}:5000 R`]);
    expect(atRouter).toEqual([]);
    expect(again.agent.status()).toMatchObject({ inForce: { index: 0 }, rangesInForce: 0 });
    await world.run(again.agent.stop());
  });

  it("takes the Managers' view as soon as there is one: a rule that was removed meanwhile is gone", async () => {
    const { setup, lines } = await servingHost("restart, rules changed");
    const { world, cluster } = setup;
    world.crash("host-1");
    cluster.commit(cluster.hosts.get("host-1")!, { op: "remove", key: "endpoint/1/6/80/1" });
    const again = makeAgent(world.restart("host-1"), "host-1");
    await world.run(again.agent.start());
    expect(again.agent.dataplane.telemetry.gauges().entries["endpoints"]).toBe(1);
    await world.runUntil(() => again.agent.status().inForce.index > 0, 5_000, "a view");
    expect(again.agent.dataplane.telemetry.gauges().entries["endpoints"]).toBe(0);
    lines.fromMux(tcp(CLIENT, `${VIP}:80`, "S"));
    await world.advance(50);
    expect(lines.atVm).toEqual([]);
    expect(again.agent.status().resyncs).toBe(0);
    await world.run(again.agent.stop());
  });

  it("keeps no key on disk", async () => {
    const { setup } = await servingHost("restart, keys");
    const { world, cluster, agent } = setup;
    const dip = [...agent.dataplane.tables.items()].find((item) => item.kind === "dip")!;
    cluster.commit(cluster.hosts.get("host-1")!, {
      op: "upsert",
      item: { ...dip, fastpathKey: Uint8Array.from({ length: 16 }, (_, i) => i) },
    });
    const key = (items: Iterable<HostItem>): Uint8Array | undefined =>
      [...items].find((item) => item.kind === "dip")?.fastpathKey;
    await world.runUntil(() => key(agent.dataplane.tables.items()) !== undefined, 5_000, "the key in force");
    await world.advance(1_500);
    world.crash("host-1");
    const again = makeAgent(world.restart("host-1"), "host-1");
    await world.run(again.agent.start());
    expect(again.agent.dataplane.telemetry.gauges().entries["dips"]).toBe(1);
    expect(key(again.agent.dataplane.tables.items())).toBeUndefined();
    await world.run(again.agent.stop());
  });

  it("does not use rules of machines that it has no more, nor of another cluster", async () => {
    const { setup } = await servingHost("restart, other dips");
    const { world } = setup;
    const again = makeAgent(world.restart("host-1"), "host-1", { dip: "10.1.1.9" });
    let isRestarted = false;
    again.agent.dataplane.restarted = () => (isRestarted = true);
    await world.run(again.agent.start());
    expect(isRestarted, "the data plane knows that there were flows, all the same").toBe(true);
    expect(again.agent.dataplane.telemetry.gauges().entries).toMatchObject({ dips: 0, endpoints: 0 });
    await world.run(again.agent.stop());
  });
});
