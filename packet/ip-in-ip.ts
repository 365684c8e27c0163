/**
 * IP-in-IP: the original packet, untouched, behind an outer header. All four combinations: IPv4 or IPv6 inside (protocols 4 and
 * 41) an IPv4 header of 20 bytes (RFC 2003, RFC 4213) or an IPv6 header of 40 (RFC 2473, without the encapsulation limit option:
 * we never nest).
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
  PROTOCOL_IPV6_IN_IP,
} from "./ipv4.js";
import {
  IPV6_DESTINATION,
  IPV6_HEADER_BYTES,
  IPV6_HOP_LIMIT,
  IPV6_NEXT_HEADER,
  IPV6_PAYLOAD_LENGTH,
  IPV6_SOURCE,
} from "./ipv6.js";
import { foldSum, updateWord } from "./checksum.js";

/** What encapsulation in IPv4 adds to a packet. */
export const OUTER_BYTES = IPV4_HEADER_BYTES;

/** What encapsulation in IPv6 adds to a packet. */
export const OUTER_IPV6_BYTES = IPV6_HEADER_BYTES;

/** TTL of outer headers, our choice; the usual start value of hosts. */
export const OUTER_TTL = 64;

/** Protocol number of an inner packet of `family` behind either outer header. */
export const innerProtocol = (family: number): number => (family === 4 ? PROTOCOL_IP_IN_IP : PROTOCOL_IPV6_IN_IP);

/** Family of the inner packet that the outer header's protocol announces; 0: it is no encapsulation. */
export const innerFamily = (protocol: number): number =>
  protocol === PROTOCOL_IP_IN_IP ? 4 : protocol === PROTOCOL_IPV6_IN_IP ? 6 : 0;

/**
 * Writes an outer IPv4 header at `offset` of a packet whose inner part starts at `offset + OUTER_BYTES`. Addresses are 32-bit
 * words, signed or not.
 */
export function writeOuterHeader(
  view: DataView,
  offset: number,
  source: number,
  destination: number,
  innerTos: number,
  innerBytes: number,
  protocol = PROTOCOL_IP_IN_IP,
  ttl = OUTER_TTL,
): void {
  const totalBytes = innerBytes + OUTER_BYTES;
  const ttlAndProtocol = (ttl << 8) | protocol;
  view.setUint16(offset, 0x4500 | innerTos);
  view.setUint16(offset + IPV4_TOTAL_LENGTH, totalBytes);
  view.setUint16(offset + IPV4_ID, 0);
  view.setUint16(offset + IPV4_FRAGMENT, FLAG_DONT_FRAGMENT);
  view.setUint16(offset + IPV4_TTL, ttlAndProtocol);
  view.setInt32(offset + IPV4_SOURCE, source);
  view.setInt32(offset + IPV4_DESTINATION, destination);
  const sum =
    (0x4500 | innerTos) +
    totalBytes +
    FLAG_DONT_FRAGMENT +
    ttlAndProtocol +
    (source >>> 16) +
    (source & 0xffff) +
    (destination >>> 16) +
    (destination & 0xffff);
  view.setUint16(offset + IPV4_CHECKSUM, ~foldSum(sum) & 0xffff);
}

/**
 * Writes an outer IPv6 header at `offset` of a packet whose inner part starts at `offset + OUTER_IPV6_BYTES`. Addresses are the
 * four words at a place of a table. `flowLabel`: the low 20 bits spread the packets over equal paths (RFC 6438).
 */
export function writeOuterIpv6Header(
  view: DataView,
  offset: number,
  source: Int32Array,
  sourceAt: number,
  destination: Int32Array,
  destinationAt: number,
  innerTos: number,
  innerBytes: number,
  protocol: number,
  flowLabel: number,
  ttl = OUTER_TTL,
): void {
  view.setInt32(offset, (6 << 28) | (innerTos << 20) | (flowLabel & 0xf_ffff));
  view.setUint16(offset + IPV6_PAYLOAD_LENGTH, innerBytes);
  view.setUint8(offset + IPV6_NEXT_HEADER, protocol);
  view.setUint8(offset + IPV6_HOP_LIMIT, ttl);
  for (let word = 0; word < 4; word++) {
    view.setInt32(offset + IPV6_SOURCE + word * 4, source[sourceAt + word]!);
    view.setInt32(offset + IPV6_DESTINATION + word * 4, destination[destinationAt + word]!);
  }
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

/** Puts `ecn` into the inner header at `offset`, of either family, and updates the checksum that IPv4 has. */
export function writeEcn(view: DataView, offset: number, ecn: number): void {
  if (view.getUint8(offset) >>> 4 === 6) {
    const word = view.getUint16(offset);
    view.setUint16(offset, (word & ~(ECN_MASK << 4)) | (ecn << 4));
    return;
  }
  const before = view.getUint16(offset);
  const after = (before & ~ECN_MASK) | ecn;
  if (after === before) return;
  view.setUint8(offset + IPV4_TOS, after & 0xff);
  view.setUint16(offset + IPV4_CHECKSUM, updateWord(view.getUint16(offset + IPV4_CHECKSUM), before, after));
}
