import type { HostItem } from "../../../dataplane/host-items.js";
import { describe, expect, it } from "vitest";
import { formatIpv4, parseIpv4 } from "../../../core/address.js";
import type { Ipv4 } from "../../../core/brands.js";
import { decodeFrame, PacketFramer } from "../../../dataplane/fabric-frame.js";
import { buildTcpPacket } from "../../../packet/build.js";
import { TCP_SYN } from "../../../packet/tcp.js";
import type { VirtualWorld } from "../../kit/virtual-world.js";
import { hasReserve, makeAgent, managers, startAgent } from "./agent-world.js";
import { VIP } from "./fake-managers.js";

const at = (text: string): Ipv4 => parseIpv4(text)!;

/** The router's port, and the network card of the VM: sockets of machines of their own. */
async function wires(world: VirtualWorld) {
  const arrived: { atMs: number; packet: Uint8Array }[] = [];
  const router = await world.run(world.env("router").datagrams.bind("router:4000"));
  router.listen((bytes) => {
    const frame = decodeFrame(bytes);
    if (frame?.kind === "packet") arrived.push({ atMs: world.nowMs, packet: frame.packet.slice() });
  });
  const nic = await world.run(world.env("vm").datagrams.bind("host-1:9001"));
  const connect = (sourcePort: number): void => {
    const fields = { source: at("10.1.1.1"), destination: at("192.0.2.1"), sourcePort, destinationPort: 443 };
    nic.send(new PacketFramer().frame(buildTcpPacket({ ...fields, flags: TCP_SYN })), "host-1:5000");
  };
  return { arrived, connect };
}

const sourceOf = (packet: Uint8Array): string => formatIpv4(new DataView(packet.buffer).getUint32(12) as Ipv4);
const portOf = (packet: Uint8Array): number => new DataView(packet.buffer).getUint16(20);

describe("packets of a VM to the outside", () => {
  it("leave at once by a port of the reserve", async () => {
    const setup = await startAgent("packet from reserve");
    const { world, cluster } = setup;
    const { arrived, connect } = await wires(world);
    await hasReserve(setup);
    const sentMs = world.nowMs;
    connect(40_000);
    await world.runUntil(() => arrived.length === 1, 100, "the packet at the router");
    expect(world.nowMs - sentMs).toBeLessThan(5);
    expect(sourceOf(arrived[0]!.packet)).toBe(VIP);
    expect(cluster.owners.has(`range/1/6/${portOf(arrived[0]!.packet) >> 3}`)).toBe(true);
  });

  // The host has just started, and its first connection meets an empty reserve.
  it("wait for a grant when there is none, and leave as soon as it is in force", async () => {
    const { world, cluster } = await managers("packet waits");
    const { arrived, connect } = await wires(world);
    const { agent } = makeAgent(world.env("host-1"), "host-1");
    cluster.refusal = { code: "NO_LIVE_MUX", reason: "none yet", retryAfterMs: 500 };
    await world.run(agent.start());
    await world.runUntil(() => agent.status().refusals === 2, 2_000);
    connect(40_000);
    await world.advance(100);
    expect(arrived).toEqual([]);
    cluster.refusal = null;
    // Those for UDP were refused, too, and are asked for again at a moment of their own.
    const isTcpRange = (item: HostItem): boolean => item.kind === "range" && item.protocol === 6;
    await world.runUntil(() => [...agent.dataplane.tables.items()].some(isTcpRange), 2_000);
    const inForceMs = world.nowMs;
    await world.runUntil(() => arrived.length === 1, 100, "the packet at the router");
    expect(world.nowMs - inForceMs).toBeLessThan(5);
    expect(sourceOf(arrived[0]!.packet)).toBe(VIP);
    expect(agent.status().snatWaited).toBe(1);
  });

  it("make the agent ask for more before a busy destination has used up its ports", async () => {
    const setup = await startAgent("busy destination");
    const { world, cluster, agent } = setup;
    const { arrived, connect } = await wires(world);
    await hasReserve(setup);
    for (let flow = 0; flow < 200; flow++) {
      connect(40_000 + flow);
      await world.advance(20);
    }
    await world.advance(100);
    expect(arrived).toHaveLength(200);
    expect(agent.status().snatWaited).toBe(0);
    expect(new Set(arrived.map(({ packet }) => portOf(packet))).size).toBe(200);
    expect(cluster.executed.size).toBeGreaterThan(2);
  });
});
