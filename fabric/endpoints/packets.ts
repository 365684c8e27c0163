/**
 * [pure] IPv4, IPv6, TCP and UDP as the machines at both ends of a flow read and write them (RFC 791, 8200, 9293, 768).
 *
 * Written apart from `packet/` on purpose: MUXes and Host Agents rewrite with that code, and these machines judge what
 * comes out. One wrong checksum routine shared by both would agree with itself.
 *
 * Invariant: `readPacket` accepts only what a strict receiver would: right lengths, right checksums.
 */
import { familyOf, formatIpv4, formatIpv6, parseIpv4, parseIpv6 } from "../../core/address.js";
import { assert } from "../../core/assert.js";
import type { IpAddress, Ipv4, Port } from "../../core/brands.js";
import { SYN, type TcpSegment } from "./mini-tcp.js";

/** Both addresses are of one family. */
export interface Tuple {
  readonly source: IpAddress;
  readonly sourcePort: Port;
  readonly destination: IpAddress;
  readonly destinationPort: Port;
}

export type ReadPacket =
  | { readonly kind: "tcp"; readonly tuple: Tuple; readonly segment: TcpSegment }
  /** `payload` is a view on the packet. */
  | { readonly kind: "udp"; readonly tuple: Tuple; readonly payload: Uint8Array }
  /** ICMP and ICMPv6. `body`, a view on the packet, begins with type and code. */
  | { readonly kind: "icmp"; readonly source: IpAddress; readonly destination: IpAddress; readonly body: Uint8Array }
  | { readonly kind: "other"; readonly protocol: number }
  | { readonly kind: "bad"; readonly reason: BadPacket };

export type BadPacket =
  "malformed" | "bad_header_checksum" | "bad_tcp_checksum" | "bad_udp_checksum" | "bad_icmp_checksum" | "fragment";

const IPV4_HEADER_BYTES = 20;
const IPV6_HEADER_BYTES = 40;
const TCP_HEADER_BYTES = 20;
const UDP_HEADER_BYTES = 8;
const ICMP_HEADER_BYTES = 8;
const MSS_OPTION_BYTES = 4;
const PROTOCOL_ICMP = 1;
const PROTOCOL_TCP = 6;
const PROTOCOL_UDP = 17;
const IPV6_FRAGMENT = 44;
const PROTOCOL_ICMPV6 = 58;
const TTL = 64;

/** What the IP header says. */
interface Envelope {
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly protocol: number;
  /** Where both addresses are: they are part of the checksums (RFC 9293 §3.1, RFC 8200 §8.1). */
  readonly addresses: Uint8Array;
  readonly body: Uint8Array;
}

export function readPacket(packet: Uint8Array): ReadPacket {
  const envelope = (packet[0] ?? 0) >> 4 === 6 ? readIpv6(packet) : readIpv4(packet);
  if (typeof envelope === "string") return bad(envelope);
  switch (envelope.protocol) {
    case PROTOCOL_TCP:
      return readTcp(envelope);
    case PROTOCOL_UDP:
      return readUdp(envelope);
    case PROTOCOL_ICMP:
    case PROTOCOL_ICMPV6:
      return readIcmp(envelope);
    default:
      return { kind: "other", protocol: envelope.protocol };
  }
}

function readIpv4(packet: Uint8Array): Envelope | BadPacket {
  if (packet.length < IPV4_HEADER_BYTES) return "malformed";
  const view = viewOf(packet);
  const headerBytes = (view.getUint8(0) & 15) * 4;
  if (view.getUint8(0) >> 4 !== 4 || headerBytes < IPV4_HEADER_BYTES || headerBytes > packet.length) return "malformed";
  if (view.getUint16(2) !== packet.length) return "malformed";
  if (sum(packet.subarray(0, headerBytes), 0) !== 0xffff) return "bad_header_checksum";
  if ((view.getUint16(6) & 0x3fff) !== 0) return "fragment";
  return {
    source: formatIpv4(view.getUint32(12) as Ipv4),
    destination: formatIpv4(view.getUint32(16) as Ipv4),
    protocol: view.getUint8(9),
    addresses: packet.subarray(12, 20),
    body: packet.subarray(headerBytes),
  };
}

/** Extension headers are not read: what has any is of another protocol. */
function readIpv6(packet: Uint8Array): Envelope | BadPacket {
  if (packet.length < IPV6_HEADER_BYTES) return "malformed";
  const view = viewOf(packet);
  if (view.getUint16(4) !== packet.length - IPV6_HEADER_BYTES) return "malformed";
  const protocol = view.getUint8(6);
  if (protocol === IPV6_FRAGMENT) return "fragment";
  const address = (at: number): IpAddress =>
    formatIpv6(Array.from({ length: 8 }, (_, group) => view.getUint16(at + group * 2)));
  return {
    source: address(8),
    destination: address(24),
    protocol,
    addresses: packet.subarray(8, 40),
    body: packet.subarray(IPV6_HEADER_BYTES),
  };
}

function readTcp(envelope: Envelope): ReadPacket {
  const { body } = envelope;
  if (body.length < TCP_HEADER_BYTES) return bad("malformed");
  const view = viewOf(body);
  const dataOffset = (view.getUint8(12) >> 4) * 4;
  if (dataOffset < TCP_HEADER_BYTES || dataOffset > body.length) return bad("malformed");
  if (checksumOf(envelope) !== 0xffff) return bad("bad_tcp_checksum");
  const segment: TcpSegment = {
    seq: view.getUint32(4),
    ack: view.getUint32(8),
    flags: view.getUint8(13),
    window: view.getUint16(14),
    mss: mssOption(body.subarray(TCP_HEADER_BYTES, dataOffset)),
    payload: body.subarray(dataOffset),
  };
  return { kind: "tcp", tuple: tupleOf(envelope, view), segment };
}

function readUdp(envelope: Envelope): ReadPacket {
  const { body, addresses } = envelope;
  if (body.length < UDP_HEADER_BYTES) return bad("malformed");
  const view = viewOf(body);
  if (view.getUint16(4) !== body.length) return bad("malformed");
  // Zero means that the sender made none (RFC 768); with IPv6 there must be one (RFC 8200 §8.1).
  const hasNone = view.getUint16(6) === 0 && addresses.length === 8;
  if (!hasNone && (view.getUint16(6) === 0 || checksumOf(envelope) !== 0xffff)) return bad("bad_udp_checksum");
  return { kind: "udp", tuple: tupleOf(envelope, view), payload: body.subarray(UDP_HEADER_BYTES) };
}

/** The checksum of ICMPv6 has the addresses in it, that of ICMP has not (RFC 4443 §2.3, RFC 792). */
function readIcmp(envelope: Envelope): ReadPacket {
  const { source, destination, protocol, addresses, body } = envelope;
  if ((protocol === PROTOCOL_ICMPV6) !== (addresses.length === 32)) return { kind: "other", protocol };
  if (body.length < ICMP_HEADER_BYTES) return bad("malformed");
  const checksum = protocol === PROTOCOL_ICMP ? sum(body, 0) : checksumOf(envelope);
  return checksum === 0xffff ? { kind: "icmp", source, destination, body } : bad("bad_icmp_checksum");
}

const bad = (reason: BadPacket): ReadPacket => ({ kind: "bad", reason });

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

const tupleOf = ({ source, destination }: Envelope, transport: DataView): Tuple => ({
  source,
  sourcePort: transport.getUint16(0) as Port,
  destination,
  destinationPort: transport.getUint16(2) as Port,
});

/** The MSS option (RFC 9293 §3.2), or null. A broken option list ends the search. */
function mssOption(options: Uint8Array): number | null {
  for (let at = 0; at < options.length;) {
    const kind = options[at]!;
    if (kind === 0) return null;
    if (kind === 1) {
      at++;
      continue;
    }
    const length = options[at + 1] ?? 0;
    if (length < 2 || at + length > options.length) return null;
    if (kind === 2 && length === MSS_OPTION_BYTES) return (options[at + 2]! << 8) | options[at + 3]!;
    at += length;
  }
  return null;
}

export function writeTcp(tuple: Tuple, segment: TcpSegment): Uint8Array {
  const withMss = (segment.flags & SYN) !== 0 && segment.mss !== null;
  const dataOffset = TCP_HEADER_BYTES + (withMss ? MSS_OPTION_BYTES : 0);
  const { packet, envelope } = newPacket(tuple, PROTOCOL_TCP, dataOffset + segment.payload.length);
  const { body } = envelope;
  const view = viewOf(body);
  view.setUint16(0, tuple.sourcePort);
  view.setUint16(2, tuple.destinationPort);
  view.setUint32(4, segment.seq);
  view.setUint32(8, segment.ack);
  view.setUint8(12, (dataOffset / 4) << 4);
  view.setUint8(13, segment.flags);
  view.setUint16(14, segment.window);
  if (withMss) {
    view.setUint8(20, 2);
    view.setUint8(21, MSS_OPTION_BYTES);
    view.setUint16(22, segment.mss);
  }
  body.set(segment.payload, dataOffset);
  view.setUint16(16, ~checksumOf(envelope) & 0xffff);
  return packet;
}

export function writeUdp(tuple: Tuple, payload: Uint8Array): Uint8Array {
  const { packet, envelope } = newPacket(tuple, PROTOCOL_UDP, UDP_HEADER_BYTES + payload.length);
  const { body } = envelope;
  const view = viewOf(body);
  view.setUint16(0, tuple.sourcePort);
  view.setUint16(2, tuple.destinationPort);
  view.setUint16(4, body.length);
  body.set(payload, UDP_HEADER_BYTES);
  const checksum = ~checksumOf(envelope) & 0xffff;
  view.setUint16(6, checksum === 0 ? 0xffff : checksum); // zero would mean "none"
  return packet;
}

/** With its IP header, and room for the body. */
function newPacket(
  { source, destination }: Tuple,
  protocol: number,
  bodyBytes: number,
): { readonly packet: Uint8Array; readonly envelope: Envelope } {
  const isIpv6 = familyOf(source) === "ipv6";
  assert(familyOf(source) === familyOf(destination), `${source} and ${destination} are of one family`);
  const headerBytes = isIpv6 ? IPV6_HEADER_BYTES : IPV4_HEADER_BYTES;
  const packet = new Uint8Array(headerBytes + bodyBytes);
  const view = viewOf(packet);
  if (isIpv6) {
    view.setUint8(0, 0x60);
    view.setUint16(4, bodyBytes);
    view.setUint8(6, protocol);
    view.setUint8(7, TTL);
    putAddress(view, 8, source);
    putAddress(view, 24, destination);
  } else {
    view.setUint8(0, 0x45);
    view.setUint16(2, packet.length);
    view.setUint16(6, 0x4000); // don't fragment
    view.setUint8(8, TTL);
    view.setUint8(9, protocol);
    putAddress(view, 12, source);
    putAddress(view, 16, destination);
    view.setUint16(10, ~sum(packet.subarray(0, headerBytes), 0) & 0xffff);
  }
  const addresses = isIpv6 ? packet.subarray(8, 40) : packet.subarray(12, 20);
  return { packet, envelope: { source, destination, protocol, addresses, body: packet.subarray(headerBytes) } };
}

function putAddress(view: DataView, at: number, address: IpAddress): void {
  const ipv4 = parseIpv4(address);
  if (ipv4 !== null) {
    view.setUint32(at, ipv4);
    return;
  }
  const groups = parseIpv6(address);
  assert(groups !== null, `${address} is an address`);
  groups.forEach((group, n) => view.setUint16(at + n * 2, group));
}

/** Over the pseudo header and the body: 0xffff when the body's checksum is right. */
const checksumOf = ({ addresses, protocol, body }: Envelope): number =>
  sum(body, sum(addresses, 0) + protocol + body.length);

/** Ones-complement sum of 16-bit words, folded (RFC 1071); at most 64 KB, so the plain sum stays below 2^32. */
function sum(bytes: Uint8Array, start: number): number {
  let total = start;
  const even = bytes.length & ~1;
  for (let at = 0; at < even; at += 2) total += (bytes[at]! << 8) | bytes[at + 1]!;
  if (even < bytes.length) total += bytes[even]! << 8;
  while (total > 0xffff) total = (total & 0xffff) + Math.floor(total / 0x1_0000);
  return total;
}
