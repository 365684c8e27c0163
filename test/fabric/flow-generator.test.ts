import { describe, expect, it } from "vitest";
import type { IpAddress, Port } from "../../core/brands.js";
import { createRandom } from "../../core/random.js";
import { Endpoint } from "../../fabric/endpoints/endpoint.js";
import { IdentityServer } from "../../fabric/endpoints/identity-server.js";
import { readPacket } from "../../fabric/endpoints/packets.js";
import { FlowGenerator, type FlowPlan } from "../../fabric/flow-generator.js";

const IPV4 = { vip: "203.0.113.10" as IpAddress, client: "198.51.100." };
const IPV6 = { vip: "2001:db8:113::10" as IpAddress, client: "2001:db8:51::" };
const HTTP = 80 as Port;

/**
 * Clients, two servers that both have the VIP's address, and a link of 2 ms that sends each packet for the VIP where
 * `choose` says: what a load balancer must get right, without one.
 */
class Scene {
  nowMs = 0;
  choose: (clientPort: number) => number = (clientPort) => clientPort % 2;
  /** Packets for which this is true vanish. */
  lost: (packet: Uint8Array) => boolean = () => false;
  readonly clients: Endpoint[];
  readonly servers: Endpoint[];
  readonly generator: FlowGenerator;
  private readonly flying: { atMs: number; packet: Uint8Array }[] = [];

  private readonly vip: IpAddress;
  /** What SYNs offered. */
  readonly mss = new Set<number>();

  constructor(plan: Partial<FlowPlan> = {}, { vip, client } = IPV4) {
    this.vip = vip;
    const random = createRandom(11);
    const put = (packet: Uint8Array): void => {
      if (!this.lost(packet)) this.flying.push({ atMs: this.nowMs + 2, packet });
    };
    this.clients = [1, 2, 3].map((n) => new Endpoint(`${client}${n}` as IpAddress, random.fork(), put));
    this.servers = [0, 1].map(() => new Endpoint(vip, random.fork(), put));
    for (const [n, server] of this.servers.entries()) server.listen(HTTP, namedServer(`dip-${n}`));
    this.generator = new FlowGenerator(
      {
        direction: "inbound",
        flows: 30,
        opensMax: 30,
        opensPerSecond: 100,
        requestIntervalMs: 500,
        lifetimeMs: null,
        sources: this.clients,
        destinations: [{ address: vip, port: HTTP }],
        ...plan,
      },
      random,
    );
  }

  run(durationMs: number): void {
    for (const end = this.nowMs + durationMs; this.nowMs < end; this.nowMs++) {
      while (this.flying.length > 0 && this.flying[0]!.atMs <= this.nowMs) this.deliver(this.flying.shift()!.packet);
      if (this.nowMs % 20 !== 0) continue;
      for (const endpoint of [...this.clients, ...this.servers]) endpoint.tick(this.nowMs);
      this.generator.tick(this.nowMs);
    }
  }

  private deliver(packet: Uint8Array): void {
    const read = readPacket(packet);
    if (read.kind !== "tcp") throw new Error(`a TCP packet, not ${JSON.stringify(read)}`);
    const { destination, sourcePort } = read.tuple;
    if (read.segment.mss !== null) this.mss.add(read.segment.mss);
    if (destination === this.vip) this.servers[this.choose(sourcePort)]!.receive(packet, this.nowMs);
    else this.clients.find((client) => client.address === destination)!.receive(packet, this.nowMs);
  }
}

/** An identity server that answers under a name of its own: both share the VIP's address here. */
function namedServer(name: string): IdentityServer {
  const server = new IdentityServer();
  const { received } = server;
  server.received = function (connection, payload) {
    const renamed = {
      tuple: connection.tuple,
      send: (bytes: Uint8Array) =>
        connection.send(
          Buffer.from(
            Buffer.from(bytes)
              .toString()
              .replace(/by=\S+/, `by=${name}`),
          ),
        ),
      close: () => connection.close(),
      abort: () => connection.abort(),
    };
    received.call(this, renamed, payload);
  };
  return server;
}

const because = (scene: Scene): string[] => scene.generator.statistics().broken.map((flow) => flow.because);

describe("flow generator", () => {
  it("opens at the given pace, keeps every flow talking and closes all of them in order", () => {
    const scene = new Scene();
    scene.run(150);
    expect(scene.generator.statistics().opened).toBeLessThan(16);
    scene.run(5_000);
    const steady = scene.generator.statistics();
    expect(steady).toMatchObject({ opened: 30, answeredOnce: 30, open: 30, brokenCount: 0 });
    expect(steady.answers).toBeGreaterThan(200);
    expect(steady.longestStallMs).toBeLessThan(100);
    expect([...steady.spread.keys()].sort()).toEqual(["dip-0", "dip-1"]);
    scene.generator.finish();
    scene.run(4_000);
    expect(scene.generator.statistics()).toMatchObject({ opened: 30, open: 0, completed: 30, brokenCount: 0 });
    scene.run(11_000); // TIME-WAIT
    expect(scene.clients.every((client) => client.connectionCount === 0)).toBe(true);
    expect(scene.servers.every((server) => server.connectionCount === 0)).toBe(true);
    expect(scene.clients.every((client) => client.counters.bad.size === 0)).toBe(true);
  });

  it("opens, asks and closes over IPv6 alike, with segments that fit its longer header", () => {
    const scene = new Scene({}, IPV6);
    scene.run(5_000);
    expect(scene.generator.statistics()).toMatchObject({ opened: 30, answeredOnce: 30, open: 30, brokenCount: 0 });
    expect(scene.mss).toEqual(new Set([1_440]));
    scene.generator.finish();
    scene.run(4_000);
    expect(scene.generator.statistics()).toMatchObject({ open: 0, completed: 30, brokenCount: 0 });
    expect(scene.clients.every((client) => client.counters.bad.size === 0)).toBe(true);
  });

  it("sees a flow that another machine resets because it does not know it, with the step it happened in", () => {
    const scene = new Scene();
    scene.run(2_000);
    scene.generator.step = "kill a MUX";
    scene.choose = (clientPort) => (clientPort + 1) % 2;
    scene.run(3_000);
    const { broken, brokenCount, open } = scene.generator.statistics();
    expect(brokenCount).toBe(30);
    expect(open).toBe(0);
    expect(new Set(because(scene))).toEqual(new Set(["reset"]));
    expect(new Set(broken.map((flow) => flow.step))).toEqual(new Set(["kill a MUX"]));
  });

  it("sees an answer of another DIP on a connection that goes on", () => {
    const scene = new Scene({ flows: 1, opensMax: 1 });
    scene.run(1_000);
    // A path that hands the connection itself over, state and all, so that only the name gives it away.
    const [first, second] = scene.servers as [Endpoint, Endpoint];
    const used = first.connectionCount > 0 ? first : second;
    const application = (used as unknown as { connections: Map<number, Map<number, { application: unknown }>> })
      .connections;
    for (const peers of application.values())
      for (const connection of peers.values()) connection.application = namedServer("dip-9");
    scene.run(1_000);
    expect(because(scene)).toEqual(["answered by another DIP"]);
  });

  it("tells an outage that heals, as a stall, from 30 s without progress, which breaks the flow", () => {
    const scene = new Scene();
    scene.run(2_000);
    scene.lost = () => true;
    scene.run(1_500);
    scene.lost = () => false;
    scene.run(4_000);
    const healed = scene.generator.statistics();
    expect(healed.brokenCount).toBe(0);
    expect(healed.longestStallMs).toBeGreaterThan(1_000);
    expect(healed.longestStallMs).toBeLessThan(4_500);
    scene.lost = () => true;
    scene.run(32_000);
    expect(new Set(because(scene))).toEqual(new Set(["without progress"]));
    expect(scene.generator.statistics().brokenCount).toBe(30);
  });

  it("calls an inbound flow broken when the far end does not see the client's own address", () => {
    const scene = new Scene({ direction: "outbound" });
    scene.run(1_000);
    // Nothing translates the source here, so an outbound flow must not see its own address echoed.
    expect(new Set(because(scene))).toEqual(new Set(["seen as another source"]));
  });

  it("replaces flows that reach their lifetime, without breaking any", () => {
    const scene = new Scene({ flows: 5, opensMax: null, lifetimeMs: 1_500 });
    scene.run(10_000);
    const { opened, completed, open, brokenCount } = scene.generator.statistics();
    expect(opened).toBeGreaterThan(20);
    expect(completed).toBeGreaterThanOrEqual(opened - open);
    expect(brokenCount).toBe(0);
  });
});
