/**
 * A whole packet in two steps: the IP header of either family, then the transport header. What passes is safe to read by its
 * offsets, whatever the bytes are.
 */
import { FAULT, NO_FAULT } from "./fault.js";
import type { PacketHeader } from "./header.js";
import { parseIcmp } from "./icmp.js";
import {
  FRAGMENT_OFFSET_MASK,
  isFragment,
  parseIpv4Header,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
} from "./ipv4.js";
import { parseIpv6Header } from "./ipv6.js";
import { parseTcp } from "./tcp.js";
import { parseUdp, parseUdpPorts } from "./udp.js";

const FRAGMENT_HEADER_BYTES = 8;

/** IP header of the packet in [offset, offset + length), of the family that its first bits name. */
export function parseIpHeader(view: DataView, offset: number, length: number, header: PacketHeader): number {
  if (length > 0 && view.getUint8(offset) >>> 4 === 6) return parseIpv6Header(view, offset, length, header);
  return parseIpv4Header(view, offset, length, header);
}

/** Ports of a packet whose IP header was parsed. Fragments have none that can be relied on. */
export function parseTransport(view: DataView, header: PacketHeader): number {
  if (isFragment(header.fragment)) return FAULT.fragment;
  if (header.protocol === PROTOCOL_TCP) return parseTcp(view, header);
  if (header.protocol === PROTOCOL_UDP) return parseUdp(view, header);
  return FAULT.unsupported_protocol;
}

/**
 * Ports of a first fragment of TCP or UDP, whose packet's rest is elsewhere. Its transport header must be whole: in pieces it is an
 * attack on whoever looks at ports (RFC 1858). In IPv6 it comes right behind the fragment header: behind options it would lie where a
 * later fragment may write.
 */
export function parseFirstFragment(view: DataView, header: PacketHeader): number {
  if (header.family === 6 && header.transportOffset !== header.fragmentOffset + FRAGMENT_HEADER_BYTES)
    return FAULT.bad_extension_header;
  if (header.protocol === PROTOCOL_TCP) return parseTcp(view, header);
  return header.protocol === PROTOCOL_UDP ? parseUdpPorts(view, header) : FAULT.fragment;
}

/** As `parseUpperLayer`, of a whole packet or a first fragment. */
export const parsePorts = (view: DataView, header: PacketHeader): number =>
  isFragment(header.fragment) ? parseFirstFragment(view, header) : parseUpperLayer(view, header);

/** A fragment that is not its packet's first one. */
export const isLaterFragment = (fragment: number): boolean => (fragment & FRAGMENT_OFFSET_MASK) !== 0;

/** The protocol is ICMP of the packet's own family. */
export const isIcmp = (header: PacketHeader): boolean =>
  header.protocol === (header.family === 4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6);

/** As `parseTransport`, and ICMP of the packet's own family too. */
export function parseUpperLayer(view: DataView, header: PacketHeader): number {
  if (!isIcmp(header)) return parseTransport(view, header);
  return isFragment(header.fragment) ? FAULT.fragment : parseIcmp(view, header);
}

/** Both steps, IPv4 with TCP or UDP only. `NO_FAULT`, or the place of the fault in `PACKET_FAULTS`. */
export function parsePacket(view: DataView, offset: number, length: number, header: PacketHeader): number {
  const fault = parseIpv4Header(view, offset, length, header);
  return fault === NO_FAULT ? parseTransport(view, header) : fault;
}

/** Both steps, either family, with TCP, UDP or ICMP. */
export function parseIpPacket(view: DataView, offset: number, length: number, header: PacketHeader): number {
  const fault = parseIpHeader(view, offset, length, header);
  return fault === NO_FAULT ? parseUpperLayer(view, header) : fault;
}
