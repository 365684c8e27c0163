/** Packets for tests: builders with addresses as text, and a reader that checks lengths and checksums on its own. */
import { expect } from "vitest";
import { formatIpv4, formatIpv6, parseIpv4 } from "../../core/address.js";
import type { Ipv4 } from "../../core/brands.js";
import { PacketBatch } from "../../dataplane/packet-batch.js";
import { buildTcpPacket, buildUdpPacket } from "../../packet/build.js";
import { TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN } from "../../packet/tcp.js";

export const SEED = Number(process.env["ANANTA_TEST_SEED"] ?? "1");

export interface TcpOptions {
  readonly mss?: number;
  readonly sequence?: number;
  readonly acknowledgement?: number;
  readonly timestamp?: number;
  readonly payload?: Uint8Array;
  readonly ttl?: number;
  readonly tos?: number;
  readonly dontFragment?: boolean;
}

const FLAGS: Readonly<Record<string, number>> = { S: TCP_SYN, A: TCP_ACK, F: TCP_FIN, R: TCP_RST, P: TCP_PSH };

export const address = (text: string): Ipv4 => {
  const value = parseIpv4(text);
  if (value === null) throw new Error(`${text} is no IPv4 address`);
  return value;
};

/** "198.51.100.7:40000" */
function endpoint(text: string): { readonly address: Ipv4; readonly port: number } {
  const [host = "", port = ""] = text.split(":");
  return { address: address(host), port: Number(port) };
}

/** A TCP segment; `flags` by their letters: "S", "SA", "A", "FA", "R". */
export function tcp(from: string, to: string, flags: string, options: TcpOptions = {}): Uint8Array {
  const [source, destination] = [endpoint(from), endpoint(to)];
  return buildTcpPacket({
    source: source.address,
    destination: destination.address,
    sourcePort: source.port,
    destinationPort: destination.port,
    flags: Array.from(flags).reduce((bits, letter) => bits | FLAGS[letter]!, 0),
    ...options,
  });
}

export function udp(from: string, to: string, payload: Uint8Array = new Uint8Array(4)): Uint8Array {
  const [source, destination] = [endpoint(from), endpoint(to)];
  return buildUdpPacket({
    source: source.address,
    destination: destination.address,
    sourcePort: source.port,
    destinationPort: destination.port,
    payload,
  });
}

export interface ReadPacket {
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  readonly ttl: number;
  readonly tos: number;
  readonly dontFragment: boolean;
  /** "198.51.100.7:40000 > 203.0.113.10:80", without ports for other protocols. */
  readonly flow: string;
  /** Letters of the TCP flags, in the order SFRPA; empty for others. */
  readonly flags: string;
  readonly mss: number | null;
  /** What follows the IP header. */
  readonly body: Uint8Array;
  readonly bytes: Uint8Array;
}

const onesSum = (bytes: Uint8Array, start = 0): number => {
  let sum = start;
  for (let i = 0; i < bytes.length; i += 2) sum += bytes[i]! * 256 + (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum % 65_536) + Math.floor(sum / 65_536);
  return sum;
};

/**
 * Reads a packet by the letter of the RFCs, with none of the product's code, and fails on a wrong length or checksum. Of IPv6
 * without extension headers.
 */
export function read(packet: Uint8Array): ReadPacket {
  const bytes = packet.slice();
  const view = new DataView(bytes.buffer);
  const isIpv6 = bytes[0]! >> 4 === 6;
  const headerBytes = isIpv6 ? 40 : (bytes[0]! & 15) * 4;
  if (isIpv6) expect(view.getUint16(4), "payload length").toBe(bytes.length - headerBytes);
  else {
    expect(bytes[0]! >> 4, "IP version").toBe(4);
    expect(view.getUint16(2), "total length").toBe(bytes.length);
    expect(onesSum(bytes.subarray(0, headerBytes)), "IP checksum").toBe(0xffff);
  }
  const protocol = bytes[isIpv6 ? 6 : 9]!;
  const body = bytes.subarray(headerBytes);
  const addresses = isIpv6 ? bytes.subarray(8, 40) : bytes.subarray(12, 20);
  const [source, destination] = [0, addresses.length / 2].map((at) =>
    addressText(addresses.subarray(at, at + addresses.length / 2)),
  ) as [string, string];
  const isWhole = isIpv6 ? protocol !== 44 : (view.getUint16(6) & 0x3fff) === 0;
  const hasPorts = isWhole && (protocol === 6 || protocol === 17);
  const pseudoSum = onesSum(addresses) + protocol + body.length;
  if (hasPorts && !(protocol === 17 && !isIpv6 && view.getUint16(headerBytes + 6) === 0))
    expect(onesSum(body, pseudoSum), "transport checksum").toBe(0xffff);
  if (isWhole && protocol === 1) expect(onesSum(body), "ICMP checksum").toBe(0xffff);
  if (protocol === 58) expect(onesSum(body, pseudoSum), "ICMPv6 checksum").toBe(0xffff);
  let flags = "";
  let mss: number | null = null;
  if (isWhole && protocol === 6) {
    for (const letter of "SFRPA") if ((body[13]! & FLAGS[letter]!) !== 0) flags += letter;
    for (let at = 20; at < (body[12]! >> 4) * 4;) {
      if (body[at] === 0) break;
      if (body[at] === 2) mss = body[at + 2]! * 256 + body[at + 3]!;
      at += body[at] === 1 ? 1 : Math.max(2, body[at + 1]!);
    }
  }
  const end = (address: string, at: number): string =>
    `${isIpv6 ? `[${address}]` : address}:${view.getUint16(headerBytes + at)}`;
  const flow = hasPorts ? `${end(source, 0)} > ${end(destination, 2)}` : `${source} > ${destination}`;
  const dontFragment = isIpv6 || (bytes[6]! & 0x40) !== 0;
  const [ttl, tos] = isIpv6 ? [bytes[7]!, (view.getUint16(0) >> 4) & 0xff] : [bytes[8]!, bytes[1]!];
  return { source, destination, protocol, ttl, tos, dontFragment, flow, flags, mss, body, bytes };
}

/** Of 4 or 16 bytes. */
function addressText(bytes: Uint8Array): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  if (bytes.length === 4) return formatIpv4(view.getUint32(0) as Ipv4);
  return formatIpv6(Array.from({ length: 8 }, (_, group) => view.getUint16(group * 2)));
}

/** Reads an IP-in-IP packet, either in either: the outer header's facts, and the inner packet. */
export function readEncapsulated(packet: Uint8Array): { readonly outer: ReadPacket; readonly inner: ReadPacket } {
  const outer = read(packet);
  const inner = read(outer.body);
  expect(outer.protocol, "IP-in-IP").toBe(inner.bytes[0]! >> 4 === 6 ? 41 : 4);
  return { outer, inner };
}

export function batchOf(...packets: readonly Uint8Array[]): PacketBatch {
  const batch = new PacketBatch({ packets: Math.max(1, packets.length) });
  for (const packet of packets) expect(batch.append(packet)).toBe(true);
  return batch;
}

export const packetsOf = (batch: PacketBatch): Uint8Array[] =>
  Array.from({ length: batch.count }, (_, i) => batch.packet(i).slice());

/** A packet with an outer header in front, as a MUX sends it. */
export function encapsulate(inner: Uint8Array, outerSource: string, outerDestination: string, tos = 0): Uint8Array {
  const bytes = new Uint8Array(inner.length + 20);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 0x4500 | tos);
  view.setUint16(2, bytes.length);
  view.setUint16(6, 0x4000);
  view.setUint16(8, (64 << 8) | 4);
  view.setUint32(12, address(outerSource));
  view.setUint32(16, address(outerDestination));
  view.setUint16(10, 0xffff - onesSum(bytes.subarray(0, 20)));
  bytes.set(inner, 20);
  return bytes;
}
