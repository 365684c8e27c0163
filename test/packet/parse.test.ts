import { describe, expect, it } from "vitest";
import { NO_FAULT, PACKET_FAULTS } from "../../packet/fault.js";
import { createPacketHeader } from "../../packet/ipv4.js";
import { parsePacket } from "../../packet/parse.js";
import { clampMss, readMss, readTimestamp } from "../../packet/tcp.js";
import { pcapFileHeader, pcapRecord } from "../../packet/pcap.js";
import { read, tcp, udp } from "./packet-kit.js";

const SYN = tcp("198.51.100.7:40000", "203.0.113.10:80", "S", { mss: 1460 });
const DATAGRAM = udp("198.51.100.7:40000", "203.0.113.10:53");

/** The packet with changes, and its IP checksum made right again unless `keepChecksum`. */
function changed(packet: Uint8Array, change: (bytes: Uint8Array) => void, keepChecksum = false): Uint8Array {
  const bytes = packet.slice();
  change(bytes);
  if (keepChecksum) return bytes;
  const headerBytes = Math.min((bytes[0]! & 15) * 4, bytes.length);
  bytes.set([0, 0], 10);
  let sum = 0;
  for (let i = 0; i + 1 < headerBytes; i += 2) sum += bytes[i]! * 256 + bytes[i + 1]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65_536);
  bytes.set([(0xffff - sum) >> 8, (0xffff - sum) & 255], 10);
  return bytes;
}

describe("parsing", () => {
  const rows: readonly { description: string; given: Uint8Array; then: (typeof PACKET_FAULTS)[number] | "ok" }[] = [
    { description: "a SYN", given: SYN, then: "ok" },
    { description: "a datagram", given: DATAGRAM, then: "ok" },
    { description: "padding behind the packet", given: Uint8Array.of(...DATAGRAM, 0, 0, 0), then: "ok" },
    { description: "nothing at all", given: new Uint8Array(0), then: "truncated" },
    { description: "half an IP header", given: SYN.slice(0, 10), then: "truncated" },
    { description: "less than the length field says", given: SYN.slice(0, 41), then: "truncated" },
    { description: "IPv6", given: changed(SYN, (b) => (b[0] = 0x65)), then: "bad_ip_header" },
    { description: "IP version 5", given: changed(SYN, (b) => (b[0] = 0x55)), then: "bad_ip_header" },
    { description: "a header of 16 bytes", given: changed(SYN, (b) => (b[0] = 0x44)), then: "bad_ip_header" },
    {
      description: "a total length below the header",
      given: changed(SYN, (b) => b.set([0, 19], 2)),
      then: "bad_ip_header",
    },
    { description: "a wrong IP checksum", given: changed(SYN, (b) => (b[8] = 1), true), then: "bad_ip_checksum" },
    { description: "a first fragment", given: changed(SYN, (b) => b.set([0x20, 0], 6)), then: "fragment" },
    { description: "a last fragment", given: changed(SYN, (b) => b.set([0, 5], 6)), then: "fragment" },
    { description: "ICMP", given: changed(SYN, (b) => (b[9] = 1)), then: "unsupported_protocol" },
    { description: "half a TCP header", given: changed(SYN, (b) => b.set([0, 30], 2)), then: "truncated" },
    {
      description: "a TCP header of 16 bytes",
      given: changed(SYN, (b) => (b[32] = 0x40)),
      then: "bad_transport_header",
    },
    {
      description: "a TCP header beyond the packet",
      given: changed(SYN, (b) => (b[32] = 0xf0)),
      then: "bad_transport_header",
    },
    { description: "half a UDP header", given: changed(DATAGRAM, (b) => b.set([0, 24], 2)), then: "truncated" },
    {
      description: "a UDP length below 8",
      given: changed(DATAGRAM, (b) => b.set([0, 7], 24)),
      then: "bad_transport_header",
    },
    {
      description: "a UDP length beyond",
      given: changed(DATAGRAM, (b) => b.set([0, 99], 24)),
      then: "bad_transport_header",
    },
  ];
  it.each(rows)("$description: $then", ({ given, then }) => {
    const bytes = Uint8Array.of(0xee, 0xee, ...given); // not at the start of the arena
    const fault = parsePacket(new DataView(bytes.buffer), 2, given.length, createPacketHeader());
    expect(fault === NO_FAULT ? "ok" : PACKET_FAULTS[fault]).toBe(then);
  });
});

describe("TCP options", () => {
  /** A SYN whose options are these bytes. */
  const withOptions = (...options: number[]): { bytes: Uint8Array; view: DataView; end: number } => {
    const bytes = tcp("10.0.0.1:1", "10.0.0.2:2", "S", { mss: 0, timestamp: 0 }); // 16 bytes of options
    bytes.fill(0, 40, 56);
    bytes.set(options, 40);
    const view = new DataView(bytes.buffer);
    view.setUint16(36, 0);
    let sum = 36 + 6;
    for (let i = 12; i < 56; i += 2) sum += view.getUint16(i);
    while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65_536);
    view.setUint16(36, 0xffff - sum);
    read(bytes);
    return { bytes, view, end: 56 };
  };
  const rows = [
    { description: "lowers a larger MSS", given: [2, 4, 0x05, 0xb4], then: { changed: true, mss: 1440 } },
    { description: "leaves a smaller one", given: [2, 4, 0x02, 0x18], then: { changed: false, mss: 536 } },
    { description: "finds it at an odd offset", given: [1, 2, 4, 0x05, 0xb4], then: { changed: true, mss: 1440 } },
    {
      description: "finds it behind others",
      given: [3, 3, 7, 1, 2, 4, 0x23, 0x28],
      then: { changed: true, mss: 1440 },
    },
    { description: "stops at the end of options", given: [0, 2, 4, 0x05, 0xb4], then: { changed: false, mss: -1 } },
    {
      description: "stops at an option of length 0",
      given: [9, 0, 2, 4, 0x05, 0xb4],
      then: { changed: false, mss: -1 },
    },
    {
      description: "stops at one beyond the header",
      given: [9, 99, 2, 4, 0x05, 0xb4],
      then: { changed: false, mss: -1 },
    },
  ];
  it.each(rows)("clamping $description, with a valid checksum", ({ given, then }) => {
    const { bytes, view, end } = withOptions(...given);
    expect(clampMss(view, 20, end, 1440)).toBe(then.changed);
    expect(readMss(view, 20, end)).toBe(then.mss);
    read(bytes);
  });

  it("gives the sender's timestamp, above 2^31 too", () => {
    const bytes = tcp("10.0.0.1:1", "10.0.0.2:2", "S", { mss: 1460, timestamp: 0xfedc_ba98 });
    expect(readTimestamp(new DataView(bytes.buffer), 20, 56)).toBe(0xfedc_ba98);
  });
});

describe("a capture", () => {
  it("is a pcap file of raw IP packets", () => {
    expect([...pcapFileHeader().subarray(0, 8)]).toEqual([0xa1, 0xb2, 0xc3, 0xd4, 0, 2, 0, 4]);
    const record = pcapRecord(SYN, 1_500.25);
    const view = new DataView(record.buffer);
    expect([view.getUint32(0), view.getUint32(4), view.getUint32(8), view.getUint32(12)]).toEqual([1, 500_250, 44, 44]);
  });
});
