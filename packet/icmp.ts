/**
 * ICMP (RFC 792), as far as a load balancer speaks it: "destination unreachable", which quotes the packet it is about.
 *
 *     +---------------+---------------+-------------------------------+
 *     |     type      |     code      |           checksum            |
 *     +---------------+---------------+-------------------------------+
 *     |            unused             |     next-hop MTU (code 4)     |
 *     +-------------------------------+-------------------------------+
 *     |  the packet in question: IP header and the start of its data  |
 */
import { checksum } from "./checksum.js";
import { IPV4_HEADER_BYTES, PROTOCOL_ICMP, writeIpv4Header } from "./ipv4.js";

export const ICMP_HEADER_BYTES = 8;
export const ICMP_UNREACHABLE = 3;
export const UNREACHABLE_PORT = 3;
export const UNREACHABLE_FRAGMENTATION_NEEDED = 4;

const ICMP_TYPE = 0;
const ICMP_CODE = 1;
const ICMP_CHECKSUM = 2;
const ICMP_NEXT_HOP_MTU = 6;

/** RFC 792 quotes 8 bytes behind the IP header: the ports and, of TCP, the sequence number. Enough to match a flow. */
const QUOTED_BYTES = 8;

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
