/**
 * IP-in-IP (RFC 2003): the original packet, untouched, behind an outer IPv4 header of 20 bytes.
 *
 * Rules
 *  - TTL: the outer one is the tunnel's own; the inner one is left as it is. To sender and receiver the tunnel is one hop
 *    that does not count, and the inner checksum stays valid.
 *  - Don't fragment: always set on the outer header; a packet that does not fit is answered or fragmented inside.
 *  - ECN (RFC 6040, normal mode): copied outwards on encapsulation, combined on decapsulation.
 *  - DSCP: copied outwards.
 *  - Identification is 0: a packet that is never fragmented needs none (RFC 6864).
 */
import {
  ECN_CE,
  ECN_MASK,
  ECN_NOT_ECT,
  FLAG_DONT_FRAGMENT,
  IPV4_CHECKSUM,
  IPV4_DESTINATION,
  IPV4_FRAGMENT,
  IPV4_HEADER_BYTES,
  IPV4_ID,
  IPV4_SOURCE,
  IPV4_TOS,
  IPV4_TOTAL_LENGTH,
  IPV4_TTL,
  PROTOCOL_IP_IN_IP,
} from "./ipv4.js";
import { foldSum, updateWord } from "./checksum.js";

/** What encapsulation adds to a packet. */
export const OUTER_BYTES = IPV4_HEADER_BYTES;

/** TTL of outer headers, our choice; the usual start value of hosts. */
export const OUTER_TTL = 64;

/** Writes the outer header at `offset` of a packet whose inner part starts at `offset + OUTER_BYTES`. */
export function writeOuterHeader(
  view: DataView,
  offset: number,
  source: number,
  destination: number,
  innerTos: number,
  innerBytes: number,
): void {
  const totalBytes = innerBytes + OUTER_BYTES;
  view.setUint16(offset, 0x4500 | innerTos);
  view.setUint16(offset + IPV4_TOTAL_LENGTH, totalBytes);
  view.setUint16(offset + IPV4_ID, 0);
  view.setUint16(offset + IPV4_FRAGMENT, FLAG_DONT_FRAGMENT);
  view.setUint16(offset + IPV4_TTL, (OUTER_TTL << 8) | PROTOCOL_IP_IN_IP);
  view.setUint32(offset + IPV4_SOURCE, source);
  view.setUint32(offset + IPV4_DESTINATION, destination);
  const sum =
    (0x4500 | innerTos) +
    totalBytes +
    FLAG_DONT_FRAGMENT +
    ((OUTER_TTL << 8) | PROTOCOL_IP_IN_IP) +
    (source >>> 16) +
    (source & 0xffff) +
    (destination >>> 16) +
    (destination & 0xffff);
  view.setUint16(offset + IPV4_CHECKSUM, ~foldSum(sum) & 0xffff);
}

/**
 * ECN of the packet after decapsulation (RFC 6040 §4.2, figure 4), or -1: drop, because congestion was marked on a packet
 * whose ends do not understand the mark.
 */
export function decapsulatedEcn(outerTos: number, innerTos: number): number {
  const outer = outerTos & ECN_MASK;
  const inner = innerTos & ECN_MASK;
  if (outer === ECN_CE) return inner === ECN_NOT_ECT ? -1 : ECN_CE;
  // Outer ECT(1) over inner ECT(0) raises the inner to ECT(1); all other pairs leave the inner as it is.
  return outer === 1 && inner === 2 ? 1 : inner;
}

/** Puts `ecn` into the inner header at `offset` and updates its checksum. */
export function writeEcn(view: DataView, offset: number, ecn: number): void {
  const before = view.getUint16(offset);
  const after = (before & ~ECN_MASK) | ecn;
  if (after === before) return;
  view.setUint8(offset + IPV4_TOS, after & 0xff);
  view.setUint16(offset + IPV4_CHECKSUM, updateWord(view.getUint16(offset + IPV4_CHECKSUM), before, after));
}
