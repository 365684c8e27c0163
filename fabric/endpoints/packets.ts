/**
 * [pure] IPv4, TCP and UDP as the machines at both ends of a flow read and write them (RFC 791, 9293, 768).
 *
 * Written apart from `packet/` on purpose: MUXes and Host Agents rewrite with that code, and these machines judge what
 * comes out. One wrong checksum routine shared by both would agree with itself.
 *
 * Invariant: `readPacket` accepts only what a strict receiver would: right lengths, right checksums.
 */
import type { Ipv4, Port } from "../../core/brands.js";
import { SYN, type TcpSegment } from "./mini-tcp.js";

export interface Tuple {
  readonly source: Ipv4;
  readonly sourcePort: Port;
  readonly destination: Ipv4;
  readonly destinationPort: Port;
}

export type ReadPacket =
  | { readonly kind: "tcp"; readonly tuple: Tuple; readonly segment: TcpSegment }
  /** `payload` is a view on the packet. */
  | { readonly kind: "udp"; readonly tuple: Tuple; readonly payload: Uint8Array }
  | { readonly kind: "other"; readonly protocol: number }
  | { readonly kind: "bad"; readonly reason: BadPacket };

export type BadPacket = "malformed" | "bad_header_checksum" | "bad_tcp_checksum" | "bad_udp_checksum" | "fragment";

const IPV4_HEADER_BYTES = 20;
const TCP_HEADER_BYTES = 20;
const UDP_HEADER_BYTES = 8;
const MSS_OPTION_BYTES = 4;
const PROTOCOL_TCP = 6;
const PROTOCOL_UDP = 17;
const TTL = 64;

export function readPacket(packet: Uint8Array): ReadPacket {
  if (packet.length < IPV4_HEADER_BYTES) return bad("malformed");
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  const headerBytes = (view.getUint8(0) & 15) * 4;
  if (view.getUint8(0) >> 4 !== 4 || headerBytes < IPV4_HEADER_BYTES || headerBytes > packet.length)
    return bad("malformed");
  if (view.getUint16(2) !== packet.length) return bad("malformed");
  if (sum(packet.subarray(0, headerBytes), 0) !== 0xffff) return bad("bad_header_checksum");
  if ((view.getUint16(6) & 0x3fff) !== 0) return bad("fragment");
  const protocol = view.getUint8(9);
  if (protocol !== PROTOCOL_TCP && protocol !== PROTOCOL_UDP) return { kind: "other", protocol };
  const body = packet.subarray(headerBytes);
  const tcp = protocol === PROTOCOL_TCP;
  if (body.length < (tcp ? TCP_HEADER_BYTES : UDP_HEADER_BYTES)) return bad("malformed");
  const tuple: Tuple = {
    source: view.getUint32(12) as Ipv4,
    sourcePort: view.getUint16(headerBytes) as Port,
    destination: view.getUint32(16) as Ipv4,
    destinationPort: view.getUint16(headerBytes + 2) as Port,
  };
  const checksum = (): number => sum(body, pseudoHeader(tuple, protocol, body.length));
  if (!tcp) {
    if (view.getUint16(headerBytes + 4) !== body.length) return bad("malformed");
    // RFC 768: zero means that the sender made none.
    if (view.getUint16(headerBytes + 6) !== 0 && checksum() !== 0xffff) return bad("bad_udp_checksum");
    return { kind: "udp", tuple, payload: body.subarray(UDP_HEADER_BYTES) };
  }
  const dataOffset = (view.getUint8(headerBytes + 12) >> 4) * 4;
  if (dataOffset < TCP_HEADER_BYTES || dataOffset > body.length) return bad("malformed");
  if (checksum() !== 0xffff) return bad("bad_tcp_checksum");
  const segment: TcpSegment = {
    seq: view.getUint32(headerBytes + 4),
    ack: view.getUint32(headerBytes + 8),
    flags: view.getUint8(headerBytes + 13),
    window: view.getUint16(headerBytes + 14),
    mss: mssOption(body.subarray(TCP_HEADER_BYTES, dataOffset)),
    payload: body.subarray(dataOffset),
  };
  return { kind: "tcp", tuple, segment };
}

const bad = (reason: BadPacket): ReadPacket => ({ kind: "bad", reason });

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
  const { packet, view, body } = ipv4(tuple, PROTOCOL_TCP, dataOffset + segment.payload.length);
  const at = IPV4_HEADER_BYTES;
  view.setUint16(at, tuple.sourcePort);
  view.setUint16(at + 2, tuple.destinationPort);
  view.setUint32(at + 4, segment.seq);
  view.setUint32(at + 8, segment.ack);
  view.setUint8(at + 12, (dataOffset / 4) << 4);
  view.setUint8(at + 13, segment.flags);
  view.setUint16(at + 14, segment.window);
  if (withMss) {
    view.setUint8(at + 20, 2);
    view.setUint8(at + 21, MSS_OPTION_BYTES);
    view.setUint16(at + 22, segment.mss);
  }
  body.set(segment.payload, dataOffset);
  view.setUint16(at + 16, ~sum(body, pseudoHeader(tuple, PROTOCOL_TCP, body.length)) & 0xffff);
  return packet;
}

export function writeUdp(tuple: Tuple, payload: Uint8Array): Uint8Array {
  const { packet, view, body } = ipv4(tuple, PROTOCOL_UDP, UDP_HEADER_BYTES + payload.length);
  const at = IPV4_HEADER_BYTES;
  view.setUint16(at, tuple.sourcePort);
  view.setUint16(at + 2, tuple.destinationPort);
  view.setUint16(at + 4, body.length);
  body.set(payload, UDP_HEADER_BYTES);
  const checksum = ~sum(body, pseudoHeader(tuple, PROTOCOL_UDP, body.length)) & 0xffff;
  view.setUint16(at + 6, checksum === 0 ? 0xffff : checksum); // zero would mean "none"
  return packet;
}

function ipv4(
  tuple: Tuple,
  protocol: number,
  bodyBytes: number,
): { packet: Uint8Array; view: DataView; body: Uint8Array } {
  const packet = new Uint8Array(IPV4_HEADER_BYTES + bodyBytes);
  const view = new DataView(packet.buffer);
  view.setUint8(0, 0x45);
  view.setUint16(2, packet.length);
  view.setUint16(6, 0x4000); // don't fragment
  view.setUint8(8, TTL);
  view.setUint8(9, protocol);
  view.setUint32(12, tuple.source);
  view.setUint32(16, tuple.destination);
  view.setUint16(10, ~sum(packet.subarray(0, IPV4_HEADER_BYTES), 0) & 0xffff);
  return { packet, view, body: packet.subarray(IPV4_HEADER_BYTES) };
}

function pseudoHeader(tuple: Tuple, protocol: number, length: number): number {
  const { source, destination } = tuple;
  return (source >>> 16) + (source & 0xffff) + (destination >>> 16) + (destination & 0xffff) + protocol + length;
}

/** Ones-complement sum of 16-bit words, folded (RFC 1071); at most 64 KB, so the plain sum stays below 2^32. */
function sum(bytes: Uint8Array, start: number): number {
  let total = start;
  const even = bytes.length & ~1;
  for (let at = 0; at < even; at += 2) total += (bytes[at]! << 8) | bytes[at + 1]!;
  if (even < bytes.length) total += bytes[even]! << 8;
  while (total > 0xffff) total = (total & 0xffff) + Math.floor(total / 0x1_0000);
  return total;
}
