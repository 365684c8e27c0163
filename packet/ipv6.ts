/**
 * IPv6 (RFC 8200): names of the header's bytes, and the parser. It walks the extension headers to the transport header, and
 * checks everything that a later stage relies on, so that no later read leaves the packet.
 *
 *     +-------+---------------+---------------------------------------+
 *     |version| traffic class |              flow label               |
 *     +-------+---------------+-------+---------------+---------------+
 *     |        payload length         |  next header  |   hop limit   |
 *     +-------------------------------+---------------+---------------+
 *     |                       source, 16 bytes                        |
 *     |                     destination, 16 bytes                     |
 *
 * Extension headers that are walked: hop-by-hop, routing, fragment, destination options. Routing type 0 is refused (RFC 5095).
 * Others (ESP, AH, mobility, "no next header") end the walk: they are the transport, one without ports.
 */
import { FAULT, NO_FAULT } from "./fault.js";
import { foldSum, sumWords } from "./checksum.js";
import { clearTransport, MAPPED_WORD, type PacketHeader } from "./header.js";

export const IPV6_HEADER_BYTES = 40;

// Byte offsets within the header.
export const IPV6_PAYLOAD_LENGTH = 4;
export const IPV6_NEXT_HEADER = 6;
export const IPV6_HOP_LIMIT = 7;
export const IPV6_SOURCE = 8;
export const IPV6_DESTINATION = 24;

/** RFC 8200 §5: every link carries this much. */
export const IPV6_MTU_MIN_BYTES = 1_280;

export const NEXT_HOP_BY_HOP = 0;
export const NEXT_ROUTING = 43;
export const NEXT_FRAGMENT = 44;
export const NEXT_DESTINATION_OPTIONS = 60;

export const FRAGMENT_HEADER_BYTES = 8;

/** Our choice: real packets have two or three; more are only there to keep a parser busy. */
const EXTENSION_HEADERS_MAX = 8;

/** Parses the IP header of the packet in [offset, offset + length). `NO_FAULT`, or a fault and `header` is half filled. */
export function parseIpv6Header(view: DataView, offset: number, length: number, header: PacketHeader): number {
  if (length < IPV6_HEADER_BYTES) return FAULT.truncated;
  const first = view.getUint16(offset);
  if (first >>> 12 !== 6) return FAULT.bad_ip_header;
  const payloadBytes = view.getUint16(offset + IPV6_PAYLOAD_LENGTH);
  if (payloadBytes === 0) return FAULT.bad_ip_header; // nothing, or a jumbogram (RFC 2675): neither is forwarded
  if (payloadBytes + IPV6_HEADER_BYTES > length) return FAULT.truncated;
  header.family = 6;
  header.offset = offset;
  header.totalBytes = payloadBytes + IPV6_HEADER_BYTES;
  header.tos = (first >>> 4) & 0xff;
  header.ttl = view.getUint8(offset + IPV6_HOP_LIMIT);
  header.fragment = 0;
  header.fragmentId = 0;
  header.fragmentOffset = 0;
  const source = offset + IPV6_SOURCE;
  const destination = offset + IPV6_DESTINATION;
  header.source0 = view.getInt32(source);
  header.source1 = view.getInt32(source + 4);
  header.source2 = view.getInt32(source + 8);
  header.source3 = view.getInt32(source + 12);
  header.destination0 = view.getInt32(destination);
  header.destination1 = view.getInt32(destination + 4);
  header.destination2 = view.getInt32(destination + 8);
  header.destination3 = view.getInt32(destination + 12);
  if (header.source2 === MAPPED_WORD && header.source1 === 0 && header.source0 === 0) return FAULT.bad_ip_address;
  if (header.destination2 === MAPPED_WORD && header.destination1 === 0 && header.destination0 === 0)
    return FAULT.bad_ip_address;
  clearTransport(header);
  return walkExtensions(view, offset + header.totalBytes, view.getUint8(offset + IPV6_NEXT_HEADER), header);
}

/** From behind the fixed header on; `end` is the first byte that may not be read. */
export function walkExtensions(view: DataView, end: number, firstHeader: number, header: PacketHeader): number {
  let next = firstHeader;
  let at = header.offset + IPV6_HEADER_BYTES;
  for (let count = 0; ; count++) {
    if (
      next !== NEXT_HOP_BY_HOP &&
      next !== NEXT_ROUTING &&
      next !== NEXT_FRAGMENT &&
      next !== NEXT_DESTINATION_OPTIONS
    )
      break;
    if (count === EXTENSION_HEADERS_MAX || at + 8 > end) return FAULT.bad_extension_header;
    if (next === NEXT_HOP_BY_HOP && count > 0) return FAULT.bad_extension_header; // RFC 8200 §4.1: only the first
    if (next === NEXT_ROUTING && view.getUint8(at + 2) === 0) return FAULT.bad_extension_header; // RFC 5095
    const following = view.getUint8(at);
    let bytes = FRAGMENT_HEADER_BYTES;
    if (next === NEXT_FRAGMENT) {
      if (header.fragmentOffset !== 0) return FAULT.bad_extension_header; // a fragment of a fragment
      const word = view.getUint16(at + 2);
      header.fragment = (word >>> 3) | ((word & 1) << 13);
      header.fragmentId = view.getInt32(at + 4);
      header.fragmentOffset = at;
    } else bytes = (view.getUint8(at + 1) + 1) * 8;
    if (at + bytes > end) return FAULT.bad_extension_header;
    at += bytes;
    next = following;
    // Behind the header of a later fragment comes the middle of something.
    if ((header.fragment & 0x1fff) !== 0) break;
  }
  header.protocol = next;
  header.headerBytes = at - header.offset;
  header.transportOffset = at;
  header.payloadOffset = at;
  return NO_FAULT;
}

/** An address as four words, signed: see `header.ts`. */
export type AddressWords = readonly [number, number, number, number] | Int32Array;

export interface Ipv6HeaderFields {
  readonly source: AddressWords;
  readonly destination: AddressWords;
  readonly nextHeader: number;
  /** Everything behind the fixed header. */
  readonly payloadBytes: number;
  readonly trafficClass?: number;
  readonly hopLimit?: number;
  /** 20 bits. */
  readonly flowLabel?: number;
}

/** Writes a fixed header. For builders and answers of our own, not the fast path. */
export function writeIpv6Header(view: DataView, offset: number, fields: Ipv6HeaderFields): void {
  view.setInt32(offset, (6 << 28) | ((fields.trafficClass ?? 0) << 20) | (fields.flowLabel ?? 0));
  view.setUint16(offset + IPV6_PAYLOAD_LENGTH, fields.payloadBytes);
  view.setUint8(offset + IPV6_NEXT_HEADER, fields.nextHeader);
  view.setUint8(offset + IPV6_HOP_LIMIT, fields.hopLimit ?? 64);
  for (let word = 0; word < 4; word++) {
    view.setInt32(offset + IPV6_SOURCE + word * 4, fields.source[word]!);
    view.setInt32(offset + IPV6_DESTINATION + word * 4, fields.destination[word]!);
  }
}

/**
 * Transport checksum of TCP, UDP and ICMPv6 over IPv6 (RFC 8200 §8.1), the field itself being 0. The addresses are read
 * from the header at `offset`; `length` is that of the transport header and its data.
 */
export function ipv6TransportChecksum(
  view: DataView,
  offset: number,
  transportOffset: number,
  length: number,
  protocol: number,
): number {
  const sum = sumWords(view, offset + IPV6_SOURCE, 32) + sumWords(view, transportOffset, length) + length + protocol;
  return ~foldSum(sum) & 0xffff;
}
