/**
 * The packet that an ICMP error quotes: the flow that the error is about. Only its start is there, so its length fields say
 * more than can be read; lengths are not compared with them, and its checksums are not looked at: a router has decremented
 * the TTL of what it quotes.
 *
 * Ports are needed, so a quoted later fragment is a "fragment", and one whose ports were cut off is "truncated".
 */
import { FAULT, NO_FAULT } from "./fault.js";
import { clearTransport, MAPPED_WORD, type PacketHeader } from "./header.js";
import { ICMP_HEADER_BYTES, ICMP_ID, parseIcmp } from "./icmp.js";
import {
  FRAGMENT_OFFSET_MASK,
  IPV4_DESTINATION,
  IPV4_FRAGMENT,
  IPV4_HEADER_BYTES,
  IPV4_ID,
  IPV4_PROTOCOL,
  IPV4_SOURCE,
  IPV4_TOS,
  IPV4_TOTAL_LENGTH,
  IPV4_TTL,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
} from "./ipv4.js";
import { innerFamily } from "./ip-in-ip.js";
import {
  IPV6_DESTINATION,
  IPV6_HEADER_BYTES,
  IPV6_HOP_LIMIT,
  IPV6_NEXT_HEADER,
  IPV6_PAYLOAD_LENGTH,
  IPV6_SOURCE,
  walkExtensions,
} from "./ipv6.js";

const PORTS_BYTES = 4;

/**
 * Parses what the ICMP error in `header` (parsed, with its transport) quotes into `quoted`. `totalBytes` of the result is what
 * is there to read. `NO_FAULT`, or a fault and `quoted` is half filled.
 */
export function parseQuoted(view: DataView, header: PacketHeader, quoted: PacketHeader): number {
  const offset = header.transportOffset + ICMP_HEADER_BYTES;
  return parseCutPacket(view, offset, header.offset + header.totalBytes, header.family, quoted);
}

/** As `parseQuoted`, of an error about a packet of ours with an outer header: that one. "unsupported_protocol": it has none. */
export function parseQuotedTunnel(view: DataView, header: PacketHeader, quoted: PacketHeader): number {
  const offset = header.transportOffset + ICMP_HEADER_BYTES;
  const fault = parseCutHeader(view, offset, header.offset + header.totalBytes, header.family, quoted);
  if (fault !== NO_FAULT) return fault;
  return innerFamily(quoted.protocol) === 0 ? FAULT.unsupported_protocol : NO_FAULT;
}

/** As `parseQuoted`, of the packet behind the outer header that `parseQuotedTunnel` has found. */
export function parseInTunnel(view: DataView, quoted: PacketHeader, inner: PacketHeader): number {
  const family = innerFamily(quoted.protocol);
  return parseCutPacket(view, quoted.transportOffset, quoted.offset + quoted.totalBytes, family, inner);
}

/** Length that the quoted packet had when it was sent. */
export const quotedBytes = (view: DataView, { family, offset }: PacketHeader): number =>
  family === 4
    ? view.getUint16(offset + IPV4_TOTAL_LENGTH)
    : IPV6_HEADER_BYTES + view.getUint16(offset + IPV6_PAYLOAD_LENGTH);

/** The error in `header` quotes a packet that was sent in the name of the address that the error came to. */
export const isAboutReceiver = (header: PacketHeader, quoted: PacketHeader): boolean =>
  quoted.source3 === header.destination3 &&
  quoted.source2 === header.destination2 &&
  quoted.source1 === header.destination1 &&
  quoted.source0 === header.destination0;

/** From a packet that left to the flow that it belongs to, as the client's packets have it. */
export function reverseFlow(header: PacketHeader): void {
  const { source0, source1, source2, source3, sourcePort } = header;
  header.source0 = header.destination0;
  header.source1 = header.destination1;
  header.source2 = header.destination2;
  header.source3 = header.destination3;
  header.sourcePort = header.destinationPort;
  header.destination0 = source0;
  header.destination1 = source1;
  header.destination2 = source2;
  header.destination3 = source3;
  header.destinationPort = sourcePort;
}

function parseCutHeader(view: DataView, offset: number, end: number, family: number, quoted: PacketHeader): number {
  if (offset + IPV4_HEADER_BYTES > end) return FAULT.truncated;
  if (view.getUint8(offset) >>> 4 !== family) return FAULT.bad_ip_header;
  return family === 4 ? quotedIpv4(view, offset, end, quoted) : quotedIpv6(view, offset, end, quoted);
}

function parseCutPacket(view: DataView, offset: number, end: number, family: number, quoted: PacketHeader): number {
  const fault = parseCutHeader(view, offset, end, family, quoted);
  if (fault !== NO_FAULT) return fault;
  if ((quoted.fragment & FRAGMENT_OFFSET_MASK) !== 0) return FAULT.fragment;
  const at = quoted.transportOffset;
  if (quoted.protocol === PROTOCOL_TCP || quoted.protocol === PROTOCOL_UDP) {
    if (at + PORTS_BYTES > end) return FAULT.truncated;
    quoted.sourcePort = view.getUint16(at);
    quoted.destinationPort = view.getUint16(at + 2);
    return NO_FAULT;
  }
  if (quoted.protocol !== (family === 4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6)) return FAULT.unsupported_protocol;
  if (at + ICMP_ID + 2 > end) return FAULT.truncated;
  return parseIcmp(view, quoted);
}

function quotedIpv4(view: DataView, offset: number, end: number, quoted: PacketHeader): number {
  const headerBytes = (view.getUint8(offset) & 0x0f) * 4;
  if (headerBytes < IPV4_HEADER_BYTES) return FAULT.bad_ip_header;
  if (offset + headerBytes > end) return FAULT.truncated;
  quoted.family = 4;
  quoted.offset = offset;
  quoted.headerBytes = headerBytes;
  quoted.totalBytes = end - offset;
  quoted.tos = view.getUint8(offset + IPV4_TOS);
  quoted.fragment = view.getUint16(offset + IPV4_FRAGMENT);
  quoted.fragmentId = view.getUint16(offset + IPV4_ID);
  quoted.fragmentOffset = 0;
  quoted.ttl = view.getUint8(offset + IPV4_TTL);
  quoted.protocol = view.getUint8(offset + IPV4_PROTOCOL);
  quoted.source0 = 0;
  quoted.source1 = 0;
  quoted.source2 = MAPPED_WORD;
  quoted.source3 = view.getInt32(offset + IPV4_SOURCE);
  quoted.destination0 = 0;
  quoted.destination1 = 0;
  quoted.destination2 = MAPPED_WORD;
  quoted.destination3 = view.getInt32(offset + IPV4_DESTINATION);
  quoted.transportOffset = offset + headerBytes;
  quoted.payloadOffset = quoted.transportOffset;
  clearTransport(quoted);
  return NO_FAULT;
}

function quotedIpv6(view: DataView, offset: number, end: number, quoted: PacketHeader): number {
  if (offset + IPV6_HEADER_BYTES > end) return FAULT.truncated;
  quoted.family = 6;
  quoted.offset = offset;
  quoted.totalBytes = end - offset;
  quoted.tos = (view.getUint16(offset) >>> 4) & 0xff;
  quoted.ttl = view.getUint8(offset + IPV6_HOP_LIMIT);
  quoted.fragment = 0;
  quoted.fragmentId = 0;
  quoted.fragmentOffset = 0;
  quoted.source0 = view.getInt32(offset + IPV6_SOURCE);
  quoted.source1 = view.getInt32(offset + IPV6_SOURCE + 4);
  quoted.source2 = view.getInt32(offset + IPV6_SOURCE + 8);
  quoted.source3 = view.getInt32(offset + IPV6_SOURCE + 12);
  quoted.destination0 = view.getInt32(offset + IPV6_DESTINATION);
  quoted.destination1 = view.getInt32(offset + IPV6_DESTINATION + 4);
  quoted.destination2 = view.getInt32(offset + IPV6_DESTINATION + 8);
  quoted.destination3 = view.getInt32(offset + IPV6_DESTINATION + 12);
  clearTransport(quoted);
  return walkExtensions(view, end, view.getUint8(offset + IPV6_NEXT_HEADER), quoted);
}
