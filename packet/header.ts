/**
 * What parsing found, as numbers; made once per pipeline and filled again for every packet.
 *
 * An address is four 32-bit words for both families, so that one table and one comparison serve both: IPv4 a.b.c.d is kept
 * as the IPv4-mapped ::ffff:a.b.c.d, which no IPv6 packet may carry (RFC 4291 §2.5.5.2; parsing refuses it). The words are
 * *signed*: V8 keeps those without a heap number, where an unsigned one above 2^31 - 1 costs 16 bytes whenever it is stored
 * or passed on.
 *
 *               word 0   word 1   word 2       word 3
 *     IPv4         0        0     0x0000ffff   a.b.c.d
 *     IPv6      bits 0..31 of the address ...  bits 96..127
 */

/** Word 2 of an IPv4 address; words 0 and 1 are 0. */
export const MAPPED_WORD = 0xffff;

export class PacketHeader {
  /** 4 or 6. */
  family = 4;
  /** Of the IP header in the arena. */
  offset = 0;
  /** IP header with options or extension headers: the transport header follows. */
  headerBytes = 0;
  /** Of the whole packet, from the header's own field: bytes after it are padding. */
  totalBytes = 0;
  /** IPv4 TOS or IPv6 traffic class: DSCP and ECN. */
  tos = 0;
  /** IPv4 TTL or IPv6 hop limit. */
  ttl = 0;
  /** Of the transport: in IPv6 what the last extension header names. */
  protocol = 0;
  /** Flags and offset as in the IPv4 header; for IPv6 those of the fragment header in the same form. */
  fragment = 0;
  /** IPv4 identification, or that of the IPv6 fragment header, signed. */
  fragmentId = 0;
  /** IPv6: of the fragment header in the arena; 0: there is none. */
  fragmentOffset = 0;
  source0 = 0;
  source1 = 0;
  source2 = 0;
  source3 = 0;
  destination0 = 0;
  destination1 = 0;
  destination2 = 0;
  destination3 = 0;
  /** Of the transport header in the arena. */
  transportOffset = 0;
  /** TCP and UDP. Fields of the transport header are 0 until it was parsed. */
  sourcePort = 0;
  destinationPort = 0;
  tcpFlags = 0;
  /** ICMP and ICMPv6. */
  icmpType = 0;
  icmpCode = 0;
  /** Identifier of an echo request or reply. */
  icmpId = 0;
  /** Transport payload: [payloadOffset, offset + totalBytes). */
  payloadOffset = 0;

  /** IPv4 source, unsigned 32 bits in host order. For the edges; the packet path uses words. */
  get source(): number {
    return this.source3 >>> 0;
  }

  /** IPv4 destination, likewise. */
  get destination(): number {
    return this.destination3 >>> 0;
  }
}

export const createPacketHeader = (): PacketHeader => new PacketHeader();

/** Forgets the fields of the former packet's transport header. */
export function clearTransport(header: PacketHeader): void {
  header.sourcePort = 0;
  header.destinationPort = 0;
  header.tcpFlags = 0;
  header.icmpType = 0;
  header.icmpCode = 0;
  header.icmpId = 0;
}
