/**
 * What a service behind a VIP and its clients see of the load balancer: their bytes and their addresses, and nothing of the load
 * balancer's own. Every hop is the product's; machines and clients judge each packet as a strict kernel would.
 */
import { describe, expect, it } from "vitest";
import type { Port } from "../../core/brands.js";
import { createRandom } from "../../core/random.js";
import { BulkTransfer } from "../../fabric/bulk-transfer.js";
import { IdentityServer } from "../../fabric/endpoints/identity-server.js";
import type { Tuple } from "../../fabric/endpoints/packets.js";
import { BACKEND_PORT, BACKEND_UDP_PORT, BULK_PORT } from "../../fabric/site.js";
import { read, readEncapsulated } from "../packet/packet-kit.js";
import { Call } from "./call.js";
import { address, destination, MUXES, poolObject, ruleObject, vipObject, WholeSite } from "./whole-site.js";

const VIP = "203.0.113.10";
const decoder = new TextDecoder();
const bytes = (value: string): Uint8Array => new TextEncoder().encode(value);

describe("a TCP service", () => {
  it("gets ten million random bytes as they were sent, and hashes them to the same", { timeout: 300_000 }, async () => {
    const site = await WholeSite.start(
      { name: "ten million bytes", hosts: [["10.0.1.1"], ["10.0.2.1"]] },
      poolObject("stores", ["10.0.1.1", "10.0.2.1"]),
      vipObject("store", VIP, { rules: [ruleObject(`tcp/80 -> stores:${BULK_PORT}`)] }),
    );
    const transfer = new BulkTransfer(
      { source: site.clients[0]!, destination: destination(VIP, 80), bytes: 10_000_000 },
      createRandom(site.world.seed),
      () => site.nowMs,
    );
    await site.world.runUntil(() => transfer.result !== null || transfer.failure !== null, 60_000, "the hash");
    expect(transfer.failure).toBeNull();
    expect(transfer.result).toMatchObject({ isWhole: true, bytes: 10_000_000 });
    await site.stop();
  });

  it("that is gone gives its client a reset or silence, and never an answer that no machine gave", async () => {
    const site = await WholeSite.start(
      { name: "nobody answers", hosts: [["10.0.1.1"], ["10.0.2.1"]] },
      poolObject("web", ["10.0.1.1", "10.0.2.1"]),
      vipObject("web", VIP, { rules: [ruleObject(`tcp/80 -> web:${BACKEND_PORT}`)] }),
    );
    const calls = (): Call[] => site.clients.map((client) => new Call(site, client, destination(VIP, 80)));
    const served = calls();
    await site.advance(1_000);
    expect(served.filter(({ text }) => text.startsWith("by=10.0."))).toHaveLength(20);

    for (const host of [1, 2]) site.machine(host).unlisten(BACKEND_PORT); // the service stops, the machines live
    const refused = calls();
    await site.advance(1_000);
    expect(refused.map(({ end, text }) => `${end}${text}`)).toEqual(Array<string>(20).fill("reset"));

    for (const host of [1, 2]) site.killHost(host);
    const unanswered = calls();
    await site.advance(40_000);
    expect(unanswered.map(({ end, text }) => `${end}${text}`)).toEqual(Array<string>(20).fill("no-progress"));
    await site.stop();
  });

  it("is reached on a port of the VIP that is not its own, in a tunnel that leaves the packet as it was", async () => {
    const site = await WholeSite.start(
      { name: "another subnet", hosts: [["10.77.8.9"]] },
      poolObject("web", ["10.77.8.9"]),
      vipObject("web", VIP, { rules: [ruleObject(`tcp/80 -> web:${BACKEND_PORT}`)] }),
    );
    const toMux: Uint8Array[] = [];
    const toHost: Uint8Array[] = [];
    const toClient: Uint8Array[] = [];
    site.tap((packet, { kind }) => {
      if (kind === "mux" && read(packet).destination !== VIP) return; // what MUXes tell each other
      ({ mux: toMux, host: toHost, local: toClient })[kind].push(packet.slice());
    });
    const call = new Call(site, site.clients[0]!, destination(VIP, 80));
    await site.advance(500);
    expect(call.end).toBe("closed");
    // The machine saw the client, and answers as 10.77.8.9; the client heard its VIP alone.
    const client = `${site.clients[0]!.address}:`;
    expect(call.text).toMatch(new RegExp(`^by=10\\.77\\.8\\.9 saw=${client}`));
    expect(toHost).toHaveLength(toMux.length);
    for (const [n, packet] of toHost.entries()) {
      const { outer, inner } = readEncapsulated(packet);
      expect(outer).toMatchObject({ protocol: 4, destination: "10.77.8.9" });
      expect(outer.source).toMatch(/^10\.255\.0\.[1-8]$/);
      expect(inner.bytes, "a router and a MUX do not change what is inside").toEqual(read(toMux[n]!).bytes);
    }
    expect(toMux.length).toBeGreaterThan(3);
    expect(new Set(toClient.map((packet) => read(packet).source))).toEqual(new Set([VIP]));
    await site.stop();
  });

  it(
    "answers past the MUXes: of a download they carry less than three bytes in a hundred",
    { timeout: 300_000 },
    async () => {
      const site = await WholeSite.start(
        { name: "a download", hosts: [["10.0.1.1"]] },
        poolObject("films", ["10.0.1.1"]),
        vipObject("film", VIP, { rules: [ruleObject("tcp/80 -> films:9100")] }),
      );
      const film = new Uint8Array(20_000_000);
      site.machine(1).listen(9_100 as Port, {
        received: (connection) => {
          connection.send(film);
          connection.close();
        },
        ended: () => undefined,
      });
      let arrived = 0;
      const { address: vip, port } = destination(VIP, 80);
      site.clients[0]!.connect(
        vip,
        port,
        {
          connected: (connection) => connection.send(bytes("film\n")),
          received: (_, payload) => (arrived += payload.length),
          peerClosed: (connection) => connection.close(),
          ended: () => undefined,
        },
        site.nowMs,
      );
      await site.world.runUntil(() => arrived === film.length, 300_000, "the whole film");
      const share = site.muxTraffic().bytes / film.length;
      console.info(`MUXes carried ${(share * 100).toFixed(2)} % of ${film.length} bytes`);
      expect(share).toBeLessThan(0.03);
      expect(share, "acknowledgements do go by the MUX").toBeGreaterThan(0.001);
      await site.stop();
    },
  );
});

describe("a UDP service", () => {
  it("gets a datagram of twelve bytes once, on one machine, at its own port", async () => {
    const hosts = [["10.0.1.1"], ["10.0.2.1"], ["10.0.3.1"]];
    const site = await WholeSite.start(
      { name: "one datagram", hosts },
      poolObject("sink", hosts.flat()),
      vipObject("sink", VIP, { rules: [ruleObject("udp/80 -> sink:8080")] }),
    );
    const heard: string[] = [];
    for (const host of [1, 2, 3])
      site.machine(host).listenUdp(8_080 as Port, (payload, from) => {
        heard.push(`${decoder.decode(payload)} at ${from.destination}:${from.destinationPort}`);
      });
    const [client] = site.clients;
    const tuple = { source: client!.address, sourcePort: 30_000 as Port, ...destinationOf(80) };
    client!.sendUdp(tuple, bytes("test message"));
    await site.advance(1_000);
    expect(heard).toHaveLength(1);
    expect(heard[0]).toMatch(/^test message at 10\.0\.[123]\.1:8080$/);
    expect(site.muxTraffic().packets, "one MUX carried it").toBe(1);
    await site.stop();
  });

  it("sees each of a thousand clients under its own address and port, and its answers reach them", async () => {
    const hosts = [["10.0.1.1", "10.0.1.2"], ["10.0.2.1"]];
    const site = await WholeSite.start(
      { name: "a thousand clients", hosts, clients: 1_000 },
      poolObject("dns", hosts.flat()),
      vipObject("dns", VIP, { rules: [ruleObject(`udp/53 -> dns:${BACKEND_UDP_PORT}`)] }),
    );
    let answered = 0;
    for (const [n, client] of site.clients.entries()) {
      const own = { source: client.address, sourcePort: (30_000 + n) as Port };
      client.listenUdp(own.sourcePort, (payload, from) => {
        const saw = `saw=${own.source}:${own.sourcePort} `;
        if (decoder.decode(payload).includes(saw) && from.source === address(VIP) && from.sourcePort === 53) answered++;
      });
      client.sendUdp({ ...own, ...destinationOf(53) }, bytes("who am I"));
      if (n % 100 === 99) await site.advance(20);
    }
    await site.advance(1_000);
    expect(answered).toBe(1_000);
    await site.stop();
  });

  it("shares its port and its pool with TCP, when the rule serves both", async () => {
    const hosts = [["10.0.1.1"], ["10.0.2.1"]];
    const site = await WholeSite.start(
      { name: "both protocols", hosts },
      poolObject("dns", hosts.flat()),
      vipObject("dns", VIP, { rules: [ruleObject("tcp_udp/53 -> dns:5300")] }),
    );
    const tcp = new IdentityServer();
    for (const host of [1, 2]) {
      site.machine(host).listen(5_300 as Port, tcp);
      site.machine(host).listenUdp(5_300 as Port, (payload, _, reply) => reply(payload));
    }
    const calls = site.clients.map((client) => new Call(site, client, destination(VIP, 53)));
    let echoes = 0;
    for (const client of site.clients) {
      client.listenUdp(30_000 as Port, () => echoes++);
      const tuple: Tuple = { source: client.address, sourcePort: 30_000 as Port, ...destinationOf(53) };
      client.sendUdp(tuple, bytes("?"));
    }
    await site.advance(1_000);
    expect({ tcp: calls.filter(({ end }) => end === "closed").length, udp: echoes }).toEqual({ tcp: 20, udp: 20 });
    await site.stop();
  });
});

describe("the routers' first stage", () => {
  it("spreads flows over eight MUXes evenly, to within a tenth", async () => {
    const site = await WholeSite.start(
      { name: "eight next hops", hosts: [["10.0.1.1"]], clients: 100 },
      poolObject("sink", ["10.0.1.1"]),
      vipObject("sink", VIP, { rules: [ruleObject("udp/80 -> sink:8080")] }),
    );
    expect(site.nextHops(VIP)).toBe(MUXES);
    for (let n = 0; n < 20_000; n++) {
      const client = site.clients[n % 100]!;
      const sourcePort = (10_000 + Math.floor(n / 100)) as Port;
      client.sendUdp({ source: client.address, sourcePort, ...destinationOf(80) }, new Uint8Array(4));
      if (n % 100 === 99) await site.advance(2);
    }
    await site.advance(100);
    const shares = site.packetsByMux().map((packets) => packets / (20_000 / MUXES));
    expect(shares).toHaveLength(MUXES);
    expect(Math.min(...shares)).toBeGreaterThan(0.9);
    expect(Math.max(...shares)).toBeLessThan(1.1);
    await site.stop();
  });
});

function destinationOf(port: number): Pick<Tuple, "destination" | "destinationPort"> {
  return { destination: address(VIP), destinationPort: port as Port };
}
