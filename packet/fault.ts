/**
 * What can be wrong with the bytes of a packet, as numbers that the packet path can return: a fault is its place in
 * `PACKET_FAULTS`, `NO_FAULT` is -1. The data planes' drop reasons begin with this list, so a fault is a drop counter too.
 */
export const PACKET_FAULTS = [
  "truncated", // shorter than its headers, or than its own length field says
  "bad_ip_header", // version, header length or total length cannot be
  "bad_ip_checksum",
  "bad_transport_header", // TCP data offset or UDP length cannot be
  "fragment", // not a whole packet
  "unsupported_protocol", // no ports that we know of
  "bad_extension_header", // IPv6: too many, longer than the packet, or of a kind that is refused (RFC 5095)
  "bad_ip_address", // never valid on a wire: of 0.0.0.0/8, or an IPv4-mapped one of IPv6, which is our tables' form of IPv4
] as const;

export type PacketFault = (typeof PACKET_FAULTS)[number];

export const NO_FAULT = -1;

export const FAULT: Readonly<Record<PacketFault, number>> = Object.freeze(
  Object.fromEntries(PACKET_FAULTS.map((fault, index) => [fault, index])) as Record<PacketFault, number>,
);
