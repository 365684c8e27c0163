import { describe, expect, it } from "vitest";
import type { IpAddress, Port } from "../../core/brands.js";
import { readPacket, writeUdp } from "../../fabric/endpoints/packets.js";
import { RouterModel, type EcmpMode, type RouterPort } from "../../fabric/router-model.js";
import { packetOf } from "../packet/fixtures/notation.js";

const address = (text: string): IpAddress => text as IpAddress;
const VIP = address("203.0.113.10");
const HOST: RouterPort = { kind: "host", name: "host-1", address: "127.0.0.1:7451" };
const CLIENT: RouterPort = { kind: "local", name: "client-1" };

function router(ecmp: EcmpMode): RouterModel {
  return new RouterModel({
    ecmp,
    hashSeed: 7,
    holdTimeMs: 1_000,
    routes: new Map([
      [address("10.1.1.1"), HOST],
      [address("198.51.100.1"), CLIENT],
    ]),
  });
}

let sequence = 0;
const announce = (model: RouterModel, mux: number, nowMs: number, vips: readonly IpAddress[] = [VIP]): void => {
  model.announce(
    { mux: `mux-${mux}`, address: `10.255.0.${mux}`, vips, holdTimeMs: 1_000, sequence: ++sequence },
    `127.0.0.1:${7430 + mux}`,
    nowMs,
  );
};

const flow = (n: number): Uint8Array =>
  writeUdp(
    {
      source: address(`198.51.100.${n % 250}`),
      sourcePort: (1_024 + n) as Port,
      destination: VIP,
      destinationPort: 80 as Port,
    },
    new Uint8Array(4),
  );

const takers = (model: RouterModel, flows: number): string[] =>
  Array.from({ length: flows }, (_, n) => model.forward(flow(n))?.name ?? "dropped");

const moved = (before: readonly string[], after: readonly string[]): number =>
  before.filter((name, n) => name !== after[n]).length / before.length;

describe("router model", () => {
  it("sends all packets of a five-tuple to one MUX and spreads five-tuples evenly", () => {
    const model = router("plain");
    for (const mux of [1, 2, 3]) announce(model, mux, 0);
    const first = takers(model, 3_000);
    expect(takers(model, 3_000)).toEqual(first);
    for (const mux of ["mux-1", "mux-2", "mux-3"]) {
      const share = first.filter((name) => name === mux).length / 3_000;
      expect(share).toBeGreaterThan(0.3);
      expect(share).toBeLessThan(0.37);
    }
  });

  it("drops a MUX that is silent for its hold time, and no sooner", () => {
    const model = router("plain");
    announce(model, 1, 0);
    announce(model, 2, 0);
    for (let nowMs = 0; nowMs <= 900; nowMs += 100) model.tick(nowMs);
    announce(model, 2, 900);
    expect(new Set(takers(model, 100))).toEqual(new Set(["mux-1", "mux-2"]));
    expect(model.tick(1_000)).toEqual([{ kind: "hold-expired", mux: "mux-1", routes: 1 }]);
    expect(new Set(takers(model, 100))).toEqual(new Set(["mux-2"]));
  });

  it("does not blame the MUXes when the router itself stood still", () => {
    const model = router("plain");
    announce(model, 1, 0);
    model.tick(0);
    expect(model.tick(5_000)).toEqual([]); // announcements may wait in the socket
    announce(model, 1, 5_000);
    expect(model.tick(5_100)).toEqual([]);
    expect(model.forward(flow(1))?.name).toBe("mux-1");
  });

  it("still notices a dead MUX when it runs slowly, only later", () => {
    const model = router("plain");
    announce(model, 1, 0);
    const expiredMs = [];
    for (let nowMs = 0; nowMs <= 5_000; nowMs += 300) if (model.tick(nowMs).length > 0) expiredMs.push(nowMs);
    expect(expiredMs).toEqual([3_000]);
  });

  it("takes back single routes, and all of them on an empty announcement", () => {
    const model = router("plain");
    const other = address("203.0.113.20");
    announce(model, 1, 0, [VIP, other]);
    announce(model, 1, 10, [other]);
    expect(model.forward(flow(1))).toBeNull();
    expect(model.drops.get("vip_withdrawn")).toBe(1);
    announce(model, 1, 20, []);
    expect(model.routes(20)).toEqual([]);
  });

  it("ignores an announcement that a newer one has overtaken, but not one of a MUX that started again", () => {
    const model = router("plain");
    const at = (vips: readonly IpAddress[], count: number, nowMs: number): void => {
      model.announce(
        { mux: "mux-1", address: "10.255.0.1", vips, holdTimeMs: 1_000, sequence: count },
        "127.0.0.1:1",
        nowMs,
      );
    };
    at([VIP], 5, 0);
    at([], 4, 1);
    expect(model.forward(flow(1))).not.toBeNull();
    at([], 1, 700);
    expect(model.forward(flow(1))).toBeNull();
  });

  it("moves most flows when a plain group shrinks, and in resilient mode only those of the MUX that went", () => {
    const shares = (["plain", "resilient"] as const).map((mode) => {
      const model = router(mode);
      for (const mux of [1, 2, 3, 4]) announce(model, mux, 0);
      const before = takers(model, 4_000);
      announce(model, 4, 10, []);
      const without = takers(model, 4_000);
      announce(model, 4, 20);
      return { lost: moved(before, without), back: moved(without, takers(model, 4_000)) };
    });
    expect(shares[0]!.lost).toBeGreaterThan(0.6);
    expect(shares[1]!.lost).toBeGreaterThan(0.2);
    expect(shares[1]!.lost).toBeLessThan(0.3);
    expect(shares[1]!.back).toBeLessThan(0.3);
  });

  it("hashes every fragment without ports, so that all of them take one MUX", () => {
    const model = router("plain");
    for (const mux of [1, 2, 3, 4, 5]) announce(model, mux, 0);
    const fragment = (n: number, flagsAndOffset: number): Uint8Array => {
      const packet = flow(n * 250 + 1); // one source address, many ports
      packet[6] = flagsAndOffset >> 8;
      packet[7] = flagsAndOffset & 255;
      return withHeaderChecksum(packet);
    };
    const names = new Set<string>();
    for (let n = 0; n < 40; n++) {
      names.add(model.forward(fragment(n, 0x2000))!.name);
      names.add(model.forward(fragment(n, 0x2040))!.name);
      names.add(model.forward(fragment(n, 0x0080))!.name);
    }
    expect(names.size).toBe(1);
  });

  it("decrements the TTL, keeps the header checksum right, and drops what has none left", () => {
    const model = router("plain");
    announce(model, 1, 0);
    const packet = flow(1);
    for (let ttl = 63; ttl >= 1; ttl--) {
      expect(model.forward(packet)?.name).toBe("mux-1");
      expect(packet[8]).toBe(ttl);
      expect(readPacket(packet).kind).toBe("udp");
    }
    expect(model.forward(packet)).toBeNull();
    expect(model.drops.get("ttl_expired")).toBe(1);
  });

  it("follows static host routes, and counts what it cannot place by reason", () => {
    const model = router("plain");
    const to = (destination: string): Uint8Array =>
      writeUdp(
        {
          source: address("203.0.113.10"),
          sourcePort: 80 as Port,
          destination: address(destination),
          destinationPort: 5 as Port,
        },
        new Uint8Array(0),
      );
    expect(model.forward(to("10.1.1.1"))).toBe(HOST);
    expect(model.forward(to("198.51.100.1"))).toBe(CLIENT);
    expect(model.forward(to("192.0.2.99"))).toBeNull();
    const damaged = to("10.1.1.1");
    damaged[12]! ^= 1;
    expect(model.forward(damaged)).toBeNull();
    expect(model.forward(new Uint8Array(7))).toBeNull();
    expect(Object.fromEntries(model.drops)).toEqual({ no_route: 1, bad_header_checksum: 1, malformed: 1 });
  });

  it("spreads five-tuples of an IPv6 VIP over the MUXes that announce it, and takes all pieces of a packet to one", () => {
    const model = router("plain");
    const vip = address("2001:db8:113::10");
    for (const mux of [1, 2, 3]) announce(model, mux, 0, mux === 3 ? [VIP] : [VIP, vip]);
    const to = (port: number): Uint8Array =>
      writeUdp(
        { source: address("2001:db8:51::7"), sourcePort: port as Port, destination: vip, destinationPort: 80 as Port },
        new Uint8Array(4),
      );
    const ways = Array.from({ length: 2_000 }, (_, n) => model.forward(to(1_024 + n))?.name);
    expect(ways.filter((name) => name === "mux-1").length / 2_000).toBeCloseTo(0.5, 1);
    expect(new Set(ways)).toEqual(new Set(["mux-1", "mux-2"]));
    expect(Array.from({ length: 2_000 }, (_, n) => model.nextHopOf(to(1_024 + n)) ?? undefined)).toEqual(ways);

    const tuple = "[2001:db8:51::7]:1 > [2001:db8:113::10]:80";
    const pieces = [`udp ${tuple} data=16 frag=0+ cut=16`, `udp ${tuple} data=16 frag=2 cut=8`].map((text) =>
      packetOf(text),
    );
    expect(new Set(pieces.map((piece) => model.forward(piece)?.name)).size).toBe(1);
    announce(model, 1, 10);
    announce(model, 2, 10);
    expect(model.forward(to(5))).toBeNull();
    expect(Object.fromEntries(model.drops)).toEqual({ vip_withdrawn: 1 });
  });

  it("sends IPv6 packets to the hosts' locators, and decrements their hop limit", () => {
    const model = new RouterModel({
      ...{ ecmp: "plain", hashSeed: 7, holdTimeMs: 1_000 },
      routes: new Map([[address("2001:db8:1::1"), HOST]]),
    });
    const packet = (locator: string): Uint8Array =>
      packetOf(`ipip 2001:db8:255::1 > ${locator} ( udp 192.0.2.1:1 > 192.0.2.2:2 )`);
    const sent = packet("2001:db8:1::1");
    const hopLimit = sent[7]!;
    expect(model.forward(sent)).toBe(HOST);
    expect(sent[7]).toBe(hopLimit - 1);
    expect(model.forward(packet("2001:db8:1::2"))).toBeNull();
    expect(model.forward(sent.subarray(0, 50))).toBeNull();
    sent[7] = 1;
    expect(model.forward(sent)).toBeNull();
    expect(Object.fromEntries(model.drops)).toEqual({ no_route: 1, malformed: 1, ttl_expired: 1 });
  });
});

function withHeaderChecksum(packet: Uint8Array): Uint8Array {
  packet[10] = 0;
  packet[11] = 0;
  let sum = 0;
  for (let at = 0; at < 20; at += 2) sum += (packet[at]! << 8) | packet[at + 1]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  packet[10] = (~sum >> 8) & 255;
  packet[11] = ~sum & 255;
  return packet;
}
