/**
 * ICMP (RFC 792) and ICMPv6 (RFC 4443), as far as a load balancer speaks them: errors, which quote the packet that they are
 * about, and the identifier of an echo.
 *
 *     +---------------+---------------+-------------------------------+
 *     |     type      |     code      |           checksum            |
 *     +---------------+---------------+-------------------------------+
 *     |  v4: unused | next-hop MTU (code 4)      v6: MTU (type 2)     |
 *     +-------------------------------+-------------------------------+
 *     |  the packet in question: IP header and the start of its data  |
 */
import { checksum } from "./checksum.js";
import { FAULT, NO_FAULT } from "./fault.js";
import type { PacketHeader } from "./header.js";
import { IPV4_HEADER_BYTES, PROTOCOL_ICMP, PROTOCOL_ICMPV6, writeIpv4Header } from "./ipv4.js";
import {
  type AddressWords,
  IPV6_HEADER_BYTES,
  IPV6_MTU_MIN_BYTES,
  ipv6TransportChecksum,
  writeIpv6Header,
} from "./ipv6.js";

export const ICMP_HEADER_BYTES = 8;

// Byte offsets within the header.
export const ICMP_TYPE = 0;
export const ICMP_CODE = 1;
export const ICMP_CHECKSUM = 2;
export const ICMP_ID = 4;
export const ICMP_NEXT_HOP_MTU = 6;
export const ICMPV6_MTU = 4;

export const ICMP_ECHO_REPLY = 0;
export const ICMP_UNREACHABLE = 3;
export const ICMP_SOURCE_QUENCH = 4;
export const ICMP_REDIRECT = 5;
export const ICMP_ECHO_REQUEST = 8;
export const ICMP_TIME_EXCEEDED = 11;
export const ICMP_PARAMETER_PROBLEM = 12;

export const UNREACHABLE_PORT = 3;
export const UNREACHABLE_FRAGMENTATION_NEEDED = 4;

export const ICMPV6_PACKET_TOO_BIG = 2;
export const ICMPV6_ECHO_REQUEST = 128;
export const ICMPV6_ECHO_REPLY = 129;

/** RFC 792 quotes 8 bytes behind the IP header: the ports and, of TCP, the sequence number. Enough to match a flow. */
const QUOTED_BYTES = 8;

/** Type, code and echo identifier of a packet whose IP header was parsed. */
export function parseIcmp(view: DataView, header: PacketHeader): number {
  const at = header.transportOffset;
  if (header.totalBytes - header.headerBytes < ICMP_HEADER_BYTES) return FAULT.truncated;
  header.icmpType = view.getUint8(at + ICMP_TYPE);
  header.icmpCode = view.getUint8(at + ICMP_CODE);
  header.icmpId = isEcho(header) ? view.getUint16(at + ICMP_ID) : 0;
  header.payloadOffset = at + ICMP_HEADER_BYTES;
  return NO_FAULT;
}

/** The message is an error, which quotes a packet: never answered with another error (RFC 1122 §3.2.2). */
export function isIcmpError(header: PacketHeader): boolean {
  const type = header.icmpType;
  if (header.family === 6) return type < 128;
  return (
    type === ICMP_UNREACHABLE ||
    type === ICMP_SOURCE_QUENCH ||
    type === ICMP_REDIRECT ||
    type === ICMP_TIME_EXCEEDED ||
    type === ICMP_PARAMETER_PROBLEM
  );
}

export function isEcho(header: PacketHeader): boolean {
  const type = header.icmpType;
  return header.family === 6
    ? type === ICMPV6_ECHO_REQUEST || type === ICMPV6_ECHO_REPLY
    : type === ICMP_ECHO_REQUEST || type === ICMP_ECHO_REPLY;
}

/** "Fragmentation needed" (RFC 1191), or "packet too big" (RFC 4443 §3.2). */
export const isTooBig = ({ family, icmpType, icmpCode }: PacketHeader): boolean =>
  family === 6
    ? icmpType === ICMPV6_PACKET_TOO_BIG
    : icmpType === ICMP_UNREACHABLE && icmpCode === UNREACHABLE_FRAGMENTATION_NEEDED;

/** MTU that a "too big" names; 0: none, from a router of before RFC 1191. */
export const tooBigMtu = (view: DataView, { family, transportOffset }: PacketHeader): number =>
  family === 6 ? view.getUint32(transportOffset + ICMPV6_MTU) : view.getUint16(transportOffset + ICMP_NEXT_HOP_MTU);

/** Over the whole message of either family; for those that change what we keep. */
export function hasGoodIcmpChecksum(view: DataView, header: PacketHeader): boolean {
  const { family, offset, headerBytes, totalBytes, transportOffset } = header;
  const messageBytes = totalBytes - headerBytes;
  if (family === 6) return ipv6TransportChecksum(view, offset, transportOffset, messageBytes, PROTOCOL_ICMPV6) === 0;
  return checksum(view, transportOffset, messageBytes) === 0;
}

export const isEchoReply = (header: PacketHeader): boolean =>
  header.icmpType === (header.family === 6 ? ICMPV6_ECHO_REPLY : ICMP_ECHO_REPLY);

export interface UnreachableFields {
  /** Who says so, and to whom. */
  readonly source: number;
  readonly destination: number;
  readonly code: number;
  /** RFC 1191: only with code 4; 0 elsewhere. */
  readonly nextHopMtu: number;
}

/** Length of the answer about a packet with this IP header length and total length. */
export const unreachableBytes = (headerBytes: number, totalBytes: number): number =>
  IPV4_HEADER_BYTES + ICMP_HEADER_BYTES + Math.min(headerBytes + QUOTED_BYTES, totalBytes);

/**
 * Writes the answer at `offset` of `target`, about the packet at `quotedOffset` of `quoted` (which may be the same arena,
 * elsewhere). The room of `unreachableBytes` must be there. Answers the length.
 */
export function writeUnreachable(
  target: Uint8Array,
  offset: number,
  fields: UnreachableFields,
  quoted: Uint8Array,
  quotedOffset: number,
  headerBytes: number,
  totalBytes: number,
): number {
  const view = new DataView(target.buffer, target.byteOffset, target.byteLength);
  const length = unreachableBytes(headerBytes, totalBytes);
  const at = offset + IPV4_HEADER_BYTES;
  writeIpv4Header(view, offset, {
    source: fields.source,
    destination: fields.destination,
    protocol: PROTOCOL_ICMP,
    totalBytes: length,
  });
  view.setUint8(at + ICMP_TYPE, ICMP_UNREACHABLE);
  view.setUint8(at + ICMP_CODE, fields.code);
  view.setUint16(at + ICMP_CHECKSUM, 0);
  view.setUint32(at + 4, 0);
  view.setUint16(at + ICMP_NEXT_HOP_MTU, fields.nextHopMtu);
  const quotedBytes = length - IPV4_HEADER_BYTES - ICMP_HEADER_BYTES;
  for (let i = 0; i < quotedBytes; i++) target[at + ICMP_HEADER_BYTES + i] = quoted[quotedOffset + i]!; // within totalBytes
  view.setUint16(at + ICMP_CHECKSUM, checksum(view, at, length - IPV4_HEADER_BYTES));
  return length;
}

export interface Icmpv6ErrorFields {
  readonly source: AddressWords;
  readonly destination: AddressWords;
  readonly type: number;
  readonly code: number;
  /** Second word of the message: the MTU of "packet too big", the pointer of a parameter problem, else 0. */
  readonly parameter: number;
}

/** RFC 4443 §3: as much of the packet as fits the smallest MTU. */
export const icmpv6ErrorBytes = (totalBytes: number): number =>
  Math.min(IPV6_HEADER_BYTES + ICMP_HEADER_BYTES + totalBytes, IPV6_MTU_MIN_BYTES);

/** As `writeUnreachable`, for IPv6 and any error. The room of `icmpv6ErrorBytes` must be there. */
export function writeIcmpv6Error(
  target: Uint8Array,
  offset: number,
  fields: Icmpv6ErrorFields,
  quoted: Uint8Array,
  quotedOffset: number,
  totalBytes: number,
): number {
  const view = new DataView(target.buffer, target.byteOffset, target.byteLength);
  const length = icmpv6ErrorBytes(totalBytes);
  const messageBytes = length - IPV6_HEADER_BYTES;
  const at = offset + IPV6_HEADER_BYTES;
  const { source, destination } = fields;
  writeIpv6Header(view, offset, { source, destination, nextHeader: PROTOCOL_ICMPV6, payloadBytes: messageBytes });
  view.setUint8(at + ICMP_TYPE, fields.type);
  view.setUint8(at + ICMP_CODE, fields.code);
  view.setUint16(at + ICMP_CHECKSUM, 0);
  view.setUint32(at + ICMPV6_MTU, fields.parameter);
  const quotedBytes = messageBytes - ICMP_HEADER_BYTES;
  for (let i = 0; i < quotedBytes; i++) target[at + ICMP_HEADER_BYTES + i] = quoted[quotedOffset + i]!; // within totalBytes
  view.setUint16(at + ICMP_CHECKSUM, ipv6TransportChecksum(view, offset, at, messageBytes, PROTOCOL_ICMPV6));
  return length;
}
