import { describe, expect, it } from "vitest";
import { createRandom } from "../../core/random.js";
import { addressWords, formatWords } from "../../packet/address-words.js";
import { buildIpv6Packet } from "../../packet/build.js";
import { FAULT, NO_FAULT, PACKET_FAULTS } from "../../packet/fault.js";
import { fragmentCount, writeFragment } from "../../packet/fragment.js";
import { createPacketHeader } from "../../packet/header.js";
import {
  icmpv6ErrorBytes,
  isIcmpError,
  writeIcmpv6Error,
  writeUnreachable,
  unreachableBytes,
} from "../../packet/icmp.js";
import { writeOuterHeader, writeOuterIpv6Header, innerFamily } from "../../packet/ip-in-ip.js";
import { parseFirstFragment, parseIpHeader, parseIpPacket } from "../../packet/parse.js";
import { parseQuoted } from "../../packet/quoted.js";
import { translateDestinationIpv6, translateSourceIpv6 } from "../../packet/translate.js";
import { ipv6TransportChecksum } from "../../packet/ipv6.js";
import { SEED, tcp, udp } from "./packet-kit.js";

const CLIENT = addressWords("2001:db8::7")!;
const VIP = addressWords("2001:db8:f::10")!;
const SEGMENT = tcp("1.1.1.1:40000", "2.2.2.2:80", "S", { mss: 1_440 }).subarray(20);
const DATAGRAM = udp("1.1.1.1:40000", "2.2.2.2:53").subarray(20);

const v6 = (protocol: number, body: Uint8Array, extensions?: { first: number; bytes: Uint8Array }): Uint8Array =>
  buildIpv6Packet({ source: CLIENT, destination: VIP, protocol, body, ...(extensions ? { extensions } : {}) });
const changed = (packet: Uint8Array, change: (bytes: Uint8Array) => void): Uint8Array => {
  const bytes = packet.slice();
  change(bytes);
  return bytes;
};
const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const SYN = v6(6, SEGMENT);

describe("IPv6", () => {
  const options = Uint8Array.of(6, 0, 1, 4, 0, 0, 0, 0);
  const rows: readonly { description: string; given: Uint8Array; then: (typeof PACKET_FAULTS)[number] | "ok" }[] = [
    { description: "a SYN", given: SYN, then: "ok" },
    { description: "a datagram", given: v6(17, DATAGRAM), then: "ok" },
    { description: "hop-by-hop options", given: v6(6, SEGMENT, { first: 0, bytes: options }), then: "ok" },
    {
      description: "hop-by-hop, destination options, routing type 2",
      given: v6(6, SEGMENT, {
        first: 0,
        bytes: Uint8Array.of(60, 0, 1, 4, 0, 0, 0, 0, 43, 0, 1, 4, 0, 0, 0, 0, 6, 0, 2, 0, 0, 0, 0, 0),
      }),
      then: "ok",
    },
    { description: "padding behind the packet", given: Uint8Array.of(...SYN, 0, 0), then: "ok" },
    { description: "half a header", given: SYN.slice(0, 39), then: "truncated" },
    { description: "less than the length field says", given: SYN.slice(0, 50), then: "truncated" },
    { description: "a jumbogram", given: changed(SYN, (b) => b.set([0, 0], 4)), then: "bad_ip_header" },
    {
      description: "routing type 0",
      given: v6(6, SEGMENT, { first: 43, bytes: Uint8Array.of(6, 0, 0, 0, 0, 0, 0, 0) }),
      then: "bad_extension_header",
    },
    {
      description: "options longer than the packet",
      given: v6(6, SEGMENT, { first: 0, bytes: Uint8Array.of(6, 200, 1, 4, 0, 0, 0, 0) }),
      then: "bad_extension_header",
    },
    {
      description: "nine extension headers",
      given: v6(6, SEGMENT, {
        first: 60,
        bytes: Uint8Array.from({ length: 72 }, (_, i) => (i % 8 === 0 ? (i === 64 ? 6 : 60) : 0)),
      }),
      then: "bad_extension_header",
    },
    {
      description: "hop-by-hop options that are not first",
      given: v6(6, SEGMENT, { first: 60, bytes: Uint8Array.of(0, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0) }),
      then: "bad_extension_header",
    },
    {
      description: "a first fragment",
      given: v6(6, SEGMENT, { first: 44, bytes: Uint8Array.of(6, 0, 0, 1, 0, 0, 0, 9) }),
      then: "fragment",
    },
    {
      description: "a later fragment, whose data look like another extension header",
      given: v6(60, SEGMENT, { first: 44, bytes: Uint8Array.of(60, 0, 0, 8, 0, 0, 0, 9) }),
      then: "fragment",
    },
    {
      description: "an atomic fragment (RFC 6946)",
      given: v6(6, SEGMENT, { first: 44, bytes: Uint8Array.of(6, 0, 0, 0, 0, 0, 0, 9) }),
      then: "ok",
    },
    { description: "no next header", given: v6(59, new Uint8Array(8)), then: "unsupported_protocol" },
    { description: "ESP", given: v6(50, new Uint8Array(16)), then: "unsupported_protocol" },
    {
      description: "an IPv4-mapped source",
      given: changed(SYN, (b) => b.set([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 1, 2, 3, 4], 8)),
      then: "bad_ip_address",
    },
    { description: "an ICMPv6 echo request", given: v6(58, Uint8Array.of(128, 0, 0, 0, 0, 7, 0, 1)), then: "ok" },
    { description: "half an ICMPv6 header", given: v6(58, Uint8Array.of(128, 0, 0, 0)), then: "truncated" },
    { description: "half a UDP header", given: v6(17, DATAGRAM.slice(0, 6), undefined), then: "truncated" },
  ];
  it.each(rows)("$description: $then", ({ given, then }) => {
    const bytes = Uint8Array.of(0xee, 0xee, ...given);
    const fault = parseIpPacket(new DataView(bytes.buffer), 2, given.length, createPacketHeader());
    expect(fault === NO_FAULT ? "ok" : PACKET_FAULTS[fault]).toBe(then);
  });

  it("finds addresses, ports and payload behind extension headers", () => {
    const header = createPacketHeader();
    const packet = v6(6, SEGMENT, { first: 0, bytes: options });
    expect(parseIpPacket(viewOf(packet), 0, packet.length, header)).toBe(NO_FAULT);
    expect(header).toMatchObject({ family: 6, protocol: 6, sourcePort: 40_000, destinationPort: 80, headerBytes: 48 });
    expect(formatWords(header.source0, header.source1, header.source2, header.source3)).toBe("2001:db8::7");
    expect(header.payloadOffset).toBe(packet.length);
  });

  it("translates addresses and ports, and every checksum stays right", () => {
    const [dip] = [addressWords("2001:db8:1::9")!];
    for (const [protocol, body] of [
      [6, SEGMENT],
      [17, DATAGRAM],
    ] as const) {
      const packet = v6(protocol, body);
      const view = viewOf(packet);
      translateDestinationIpv6(view, 0, 40, protocol, dip, 0, 8_080);
      translateSourceIpv6(view, 0, 40, protocol, dip, 0, 1_234);
      expect(ipv6TransportChecksum(view, 0, 40, body.length, protocol), "sum over all is 0").toBe(0);
      const header = createPacketHeader();
      parseIpPacket(view, 0, packet.length, header);
      expect(header).toMatchObject({ sourcePort: 1_234, destinationPort: 8_080, destination3: 9 });
    }
  });
});

describe("IP-in-IP", () => {
  const inner4 = tcp("198.51.100.7:40000", "203.0.113.10:80", "S");
  const outer = [addressWords("2001:db8:aa::1")!, addressWords("2001:db8:bb::2")!] as const;
  it.each([
    ["4 in 4", 4, inner4],
    ["6 in 4", 4, SYN],
    ["4 in 6", 6, inner4],
    ["6 in 6", 6, SYN],
  ] as const)("%s: the inner packet comes out as it was", (_, family, inner) => {
    const outerBytes = family === 4 ? 20 : 40;
    const bytes = new Uint8Array(outerBytes + inner.length);
    const view = viewOf(bytes);
    const protocol = inner === SYN ? 41 : 4;
    bytes.set(inner, outerBytes);
    if (family === 4) writeOuterHeader(view, 0, 0x0a000001, 0x0a000002, 2, inner.length, protocol);
    else writeOuterIpv6Header(view, 0, outer[0], 0, outer[1], 0, 2, inner.length, protocol, 0x12345);
    const header = createPacketHeader();
    expect(parseIpHeader(view, 0, bytes.length, header)).toBe(NO_FAULT);
    expect(header).toMatchObject({ family, protocol, tos: 2, ttl: 64, totalBytes: bytes.length });
    expect(innerFamily(header.protocol)).toBe(inner === SYN ? 6 : 4);
    expect(bytes.subarray(header.transportOffset)).toEqual(inner);
  });
});

describe("what an ICMP error quotes", () => {
  it("is the flow, in either family, even where the quote ends behind the ports", () => {
    const quoted = createPacketHeader();
    const header = createPacketHeader();
    const v4 = tcp("198.51.100.7:40000", "203.0.113.10:80", "A", { payload: new Uint8Array(100) });
    const answer4 = new Uint8Array(unreachableBytes(20, v4.length));
    writeUnreachable(answer4, 0, { source: 1, destination: 2, code: 4, nextHopMtu: 1_400 }, v4, 0, 20, v4.length);
    expect(parseIpPacket(viewOf(answer4), 0, answer4.length, header)).toBe(NO_FAULT);
    expect(isIcmpError(header)).toBe(true);
    expect(parseQuoted(viewOf(answer4), header, quoted)).toBe(NO_FAULT);
    expect(quoted).toMatchObject({ sourcePort: 40_000, destinationPort: 80, protocol: 6 });

    const answer6 = new Uint8Array(icmpv6ErrorBytes(SYN.length));
    const fields = { source: VIP, destination: CLIENT, type: 2, code: 0, parameter: 1_280 };
    writeIcmpv6Error(answer6, 0, fields, SYN, 0, SYN.length);
    expect(parseIpPacket(viewOf(answer6), 0, answer6.length, header)).toBe(NO_FAULT);
    expect(ipv6TransportChecksum(viewOf(answer6), 0, 40, answer6.length - 40, 58)).toBe(0);
    expect(parseQuoted(viewOf(answer6), header, quoted)).toBe(NO_FAULT);
    expect(quoted).toMatchObject({ family: 6, sourcePort: 40_000, destinationPort: 80 });
  });
});

describe("fragmenting", () => {
  it("gives pieces that fit, with the copied options in each, and that make up the packet again", () => {
    const random = createRandom(SEED);
    for (let round = 0; round < 200; round++) {
      const payload = Uint8Array.from({ length: random.below(3_000) }, () => random.below(256));
      const plain = udp("198.51.100.7:40000", "203.0.113.10:53", payload);
      // A copied option (loose source route's number, 3 bytes) and one that is not (record route, 3 bytes), padded.
      const withOptions = Uint8Array.of(
        0x47,
        ...plain.subarray(1, 20),
        0x83,
        3,
        4,
        7,
        3,
        4,
        0,
        0,
        ...plain.subarray(20),
      );
      const packet = round % 2 === 0 ? plain : withOptions;
      const view = viewOf(packet);
      view.setUint16(2, packet.length);
      view.setUint16(6, 0);
      const header = createPacketHeader();
      view.setUint16(10, 0);
      let sum = 0;
      for (let at = 0; at < (packet[0]! & 15) * 4; at += 2) sum += view.getUint16(at);
      while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
      view.setUint16(10, 0xffff - sum);
      expect(parseIpHeader(view, 0, packet.length, header)).toBe(NO_FAULT);
      const mtu = 68 + random.below(1_500);
      const body = new Uint8Array(packet.length - header.headerBytes);
      const count = fragmentCount(header, mtu);
      for (let piece = 0; piece < count; piece++) {
        const bytes = new Uint8Array(mtu);
        const length = writeFragment(view, header, piece, mtu, viewOf(bytes), 0);
        const found = createPacketHeader();
        expect(parseIpHeader(viewOf(bytes), 0, length, found), `seed ${SEED} round ${round}`).toBe(NO_FAULT);
        body.set(bytes.subarray(found.headerBytes, length), (found.fragment & 0x1fff) * 8);
        expect((found.fragment & 0x2000) !== 0).toBe(piece < count - 1);
        if (piece > 0 && packet === withOptions) expect(found.headerBytes).toBe(24);
      }
      expect(body).toEqual(packet.subarray(header.headerBytes));
    }
  });
});

describe("a first fragment of IPv6", () => {
  const first = (options: readonly number[]): Uint8Array => {
    const packet = new Uint8Array(40 + 8 + options.length + 24);
    const view = new DataView(packet.buffer);
    view.setUint32(0, 6 << 28);
    view.setUint16(4, packet.length - 40);
    packet.set([44, 64], 6);
    packet.set([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 8);
    packet.set([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2], 24);
    packet.set([options.length === 0 ? 6 : 60, 0, 0, 1, 0, 0, 0, 7, ...options], 40);
    view.setUint8(48 + options.length + 12, 5 << 4);
    return packet;
  };
  it.each([
    ["right behind the fragment header is believed", [], NO_FAULT],
    [
      "behind options is refused: a later fragment could write over it",
      [6, 0, 1, 4, 0, 0, 0, 0],
      FAULT.bad_extension_header,
    ],
  ])("whose TCP header is %s", (_, options, fault) => {
    const packet = first(options);
    const header = createPacketHeader();
    const view = new DataView(packet.buffer);
    expect(parseIpHeader(view, 0, packet.length, header)).toBe(NO_FAULT);
    expect(parseFirstFragment(view, header)).toBe(fault);
  });
});
