/**
 * IPv4 (RFC 791): names of the header's bytes, and one parser that the data planes share. It checks everything that a
 * later stage relies on, so that no later read leaves the packet.
 *
 *      0               1               2               3
 *     +-------+-------+-----------+---+-------------------------------+
 *     |version|  IHL  |   DSCP    |ECN|         total length          |
 *     +-------+-------+-----------+---+-----+-------------------------+
 *     |        identification         |0 D M|     fragment offset     |
 *     +---------------+---------------+-----+-------------------------+
 *     |      TTL      |   protocol    |        header checksum        |
 *     +---------------+---------------+-------------------------------+
 *     |                            source                             |
 *     +---------------------------------------------------------------+
 *     |                          destination                          |
 *     +---------------------------------------------------------------+
 */
import { FAULT, NO_FAULT } from "./fault.js";
import { foldSum, sumWords } from "./checksum.js";
import { clearTransport, MAPPED_WORD, type PacketHeader } from "./header.js";

export const IPV4_HEADER_BYTES = 20;

// Byte offsets within the header.
export const IPV4_TOS = 1;
export const IPV4_TOTAL_LENGTH = 2;
export const IPV4_ID = 4;
export const IPV4_FRAGMENT = 6;
export const IPV4_TTL = 8;
export const IPV4_PROTOCOL = 9;
export const IPV4_CHECKSUM = 10;
export const IPV4_SOURCE = 12;
export const IPV4_DESTINATION = 16;

export const FLAG_DONT_FRAGMENT = 0x4000;
export const FLAG_MORE_FRAGMENTS = 0x2000;
export const FRAGMENT_OFFSET_MASK = 0x1fff;

export const PROTOCOL_ICMP = 1;
export const PROTOCOL_IP_IN_IP = 4;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;
export const PROTOCOL_IPV6_IN_IP = 41;
export const PROTOCOL_ICMPV6 = 58;

// ECN field (RFC 3168): the two low bits of the TOS byte.
export const ECN_MASK = 0x03;
export const ECN_NOT_ECT = 0;
export const ECN_CE = 3;

export { createPacketHeader, PacketHeader } from "./header.js";

/** Folded sum over a header; without options, which is nearly always, unrolled. */
function headerSum(view: DataView, offset: number, headerBytes: number): number {
  if (headerBytes !== IPV4_HEADER_BYTES) return foldSum(sumWords(view, offset, headerBytes));
  return foldSum(
    view.getUint16(offset) +
      view.getUint16(offset + 2) +
      view.getUint16(offset + 4) +
      view.getUint16(offset + 6) +
      view.getUint16(offset + 8) +
      view.getUint16(offset + 10) +
      view.getUint16(offset + 12) +
      view.getUint16(offset + 14) +
      view.getUint16(offset + 16) +
      view.getUint16(offset + 18),
  );
}

/** Parses the IP header of the packet in [offset, offset + length). `NO_FAULT`, or a fault and `header` is half filled. */
export function parseIpv4Header(view: DataView, offset: number, length: number, header: PacketHeader): number {
  if (length < 1) return FAULT.truncated;
  const first = view.getUint8(offset);
  if (first >>> 4 !== 4) return FAULT.bad_ip_header;
  if (length < IPV4_HEADER_BYTES) return FAULT.truncated;
  const headerBytes = (first & 0x0f) * 4;
  if (headerBytes < IPV4_HEADER_BYTES) return FAULT.bad_ip_header;
  const totalBytes = view.getUint16(offset + IPV4_TOTAL_LENGTH);
  if (totalBytes < headerBytes) return FAULT.bad_ip_header;
  if (totalBytes > length) return FAULT.truncated;
  if (headerSum(view, offset, headerBytes) !== 0xffff) return FAULT.bad_ip_checksum;
  header.family = 4;
  header.offset = offset;
  header.headerBytes = headerBytes;
  header.totalBytes = totalBytes;
  header.tos = view.getUint8(offset + IPV4_TOS);
  header.fragment = view.getUint16(offset + IPV4_FRAGMENT);
  header.fragmentId = view.getUint16(offset + IPV4_ID);
  header.fragmentOffset = 0;
  header.ttl = view.getUint8(offset + IPV4_TTL);
  header.protocol = view.getUint8(offset + IPV4_PROTOCOL);
  header.source0 = 0;
  header.source1 = 0;
  header.source2 = MAPPED_WORD;
  header.source3 = view.getInt32(offset + IPV4_SOURCE);
  header.destination0 = 0;
  header.destination1 = 0;
  header.destination2 = MAPPED_WORD;
  header.destination3 = view.getInt32(offset + IPV4_DESTINATION);
  header.transportOffset = offset + headerBytes;
  header.payloadOffset = offset + headerBytes;
  clearTransport(header);
  return NO_FAULT;
}

/** True for any part of a fragmented packet, the first one too. */
export const isFragment = (fragment: number): boolean =>
  (fragment & (FLAG_MORE_FRAGMENTS | FRAGMENT_OFFSET_MASK)) !== 0;

/** Writes the checksum of the header at `offset` anew. */
export function writeIpv4Checksum(view: DataView, offset: number, headerBytes: number): void {
  view.setUint16(offset + IPV4_CHECKSUM, 0);
  view.setUint16(offset + IPV4_CHECKSUM, ~foldSum(sumWords(view, offset, headerBytes)) & 0xffff);
}

export interface Ipv4HeaderFields {
  readonly source: number;
  readonly destination: number;
  readonly protocol: number;
  readonly totalBytes: number;
  readonly tos?: number;
  readonly ttl?: number;
  readonly id?: number;
  /** Flags and offset; default: don't fragment. */
  readonly fragment?: number;
}

/** Writes a header without options, checksum included. For builders and answers of our own, not the fast path. */
export function writeIpv4Header(view: DataView, offset: number, fields: Ipv4HeaderFields): void {
  view.setUint16(offset, 0x4500 | (fields.tos ?? 0));
  view.setUint16(offset + IPV4_TOTAL_LENGTH, fields.totalBytes);
  view.setUint16(offset + IPV4_ID, fields.id ?? 0);
  view.setUint16(offset + IPV4_FRAGMENT, fields.fragment ?? FLAG_DONT_FRAGMENT);
  view.setUint8(offset + IPV4_TTL, fields.ttl ?? 64);
  view.setUint8(offset + IPV4_PROTOCOL, fields.protocol);
  view.setInt32(offset + IPV4_SOURCE, fields.source);
  view.setInt32(offset + IPV4_DESTINATION, fields.destination);
  writeIpv4Checksum(view, offset, IPV4_HEADER_BYTES);
}
