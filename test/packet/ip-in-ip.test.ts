import { describe, expect, it } from "vitest";
import { unreachableBytes, writeUnreachable } from "../../packet/icmp.js";
import { decapsulatedEcn, writeEcn, writeOuterHeader } from "../../packet/ip-in-ip.js";
import { translateDestination, translateSource } from "../../packet/translate.js";
import { address, read, readEncapsulated, tcp, udp } from "./packet-kit.js";

describe("encapsulation", () => {
  it("puts an outer header in front: own TTL, don't fragment, inner DSCP and ECN", () => {
    const inner = tcp("198.51.100.7:40000", "203.0.113.10:80", "S", { tos: 0xb9, ttl: 3, dontFragment: false });
    const packet = new Uint8Array(20 + inner.length);
    packet.set(inner, 20);
    writeOuterHeader(
      new DataView(packet.buffer),
      0,
      address("192.0.2.1"),
      address("255.255.255.254"),
      0xb9,
      inner.length,
    );
    const read1 = readEncapsulated(packet);
    expect(read1.outer).toMatchObject({ source: "192.0.2.1", destination: "255.255.255.254", ttl: 64, tos: 0xb9 });
    expect(read1.outer.dontFragment).toBe(true);
    expect(read1.inner.bytes).toEqual(inner);
  });

  // Rows: inner Not-ECT, ECT(0) = 2, ECT(1) = 1, CE = 3; columns: outer Not-ECT, ECT(0), ECT(1), CE. (RFC 6040, figure 4)
  const figure4: readonly (readonly [inner: number, then: readonly number[]])[] = [
    [0, [0, 0, 0, -1]],
    [2, [2, 2, 1, 3]],
    [1, [1, 1, 1, 3]],
    [3, [3, 3, 3, 3]],
  ];
  it.each(figure4)("combines inner ECN %i with any outer", (inner, then) => {
    expect([0, 2, 1, 3].map((outer) => decapsulatedEcn(outer | 0xb8, inner | 0x48))).toEqual(then);
  });

  it("marks congestion on the inner header and keeps its checksum valid", () => {
    const packet = tcp("10.0.0.1:1", "10.0.0.2:2", "A", { tos: 0xba });
    writeEcn(new DataView(packet.buffer), 0, 3);
    expect(read(packet).tos).toBe(0xbb);
  });
});

describe("translation", () => {
  it("rewrites address and port with valid checksums", () => {
    const packet = tcp("10.0.0.1:1000", "10.0.0.2:2000", "PA", { payload: Uint8Array.of(1, 2, 3) });
    const view = new DataView(packet.buffer);
    translateSource(view, 0, 20, 6, address("255.255.255.255"), 65_535);
    translateDestination(view, 0, 20, 6, address("1.0.0.0"), 1);
    expect(read(packet).flow).toBe("255.255.255.255:65535 > 1.0.0.0:1");
  });

  it("leaves a UDP checksum of 0 (none) alone, and never makes one (RFC 768)", () => {
    const none = udp("10.0.0.1:1000", "10.0.0.2:2000");
    none.set([0, 0], 26);
    translateSource(new DataView(none.buffer), 0, 20, 17, address("10.9.9.9"), 7);
    expect([none[26], none[27]]).toEqual([0, 0]);
    let zeroSums = 0;
    for (let port = 1; port < 65_536; port++) {
      const packet = udp("10.0.0.1:1000", "10.0.0.2:2000");
      translateDestination(new DataView(packet.buffer), 0, 20, 17, address("10.0.0.3"), port);
      const sum = packet[26]! * 256 + packet[27]!;
      if (sum === 0) zeroSums++;
      if (sum === 0xffff) read(packet);
    }
    expect(zeroSums).toBe(0);
  });
});

describe("destination unreachable", () => {
  it("quotes the IP header and eight bytes, and names the next-hop MTU (RFC 1191)", () => {
    const quoted = tcp("198.51.100.7:40000", "203.0.113.10:80", "A", { payload: new Uint8Array(1_460) });
    const answer = new Uint8Array(unreachableBytes(20, quoted.length));
    const fields = {
      source: address("203.0.113.10"),
      destination: address("198.51.100.7"),
      code: 4,
      nextHopMtu: 1_480,
    };
    writeUnreachable(answer, 0, fields, quoted, 0, 20, quoted.length);
    const { body, flow } = read(answer);
    expect(flow).toBe("203.0.113.10 > 198.51.100.7");
    expect([...body.subarray(0, 2)]).toEqual([3, 4]);
    expect([...body.subarray(4, 8)]).toEqual([0, 0, 1_480 >> 8, 1_480 & 255]);
    expect(body.subarray(8)).toEqual(quoted.subarray(0, 28));
  });
});
