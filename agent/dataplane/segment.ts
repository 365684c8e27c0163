/** TCP segments and datagrams of the agent's own, in either family: answers, keepalives, probes. Rare, so they allocate. */
import type { Ipv4 } from "../../core/brands.js";
import { isIpv4Words } from "../../packet/address-words.js";
import {
  buildIpv6Packet,
  buildTcpPacket,
  buildUdpPacket,
  type FlowFields,
  type TcpFields,
} from "../../packet/build.js";
import { IPV4_HEADER_BYTES, PROTOCOL_TCP, PROTOCOL_UDP } from "../../packet/ipv4.js";

interface Ends {
  /** Four words each, see `packet/header.ts`; of one family. */
  readonly source: Int32Array;
  readonly destination: Int32Array;
}

export function buildSegment(fields: Omit<TcpFields, "source" | "destination"> & Ends): Uint8Array {
  return inFamily(fields, PROTOCOL_TCP, (source, destination) => buildTcpPacket({ ...fields, source, destination }));
}

export function buildDatagram(fields: Omit<FlowFields, "source" | "destination"> & Ends): Uint8Array {
  return inFamily(fields, PROTOCOL_UDP, (source, destination) => buildUdpPacket({ ...fields, source, destination }));
}

/** Of IPv6 the builder of IPv4 makes the part behind the header; its checksum is written anew. */
function inFamily(
  { source, destination }: Ends,
  protocol: number,
  build: (source: Ipv4, destination: Ipv4) => Uint8Array,
): Uint8Array {
  const packet = build((source[3]! >>> 0) as Ipv4, (destination[3]! >>> 0) as Ipv4); // four words
  if (isIpv4Words(source[0]!, source[1]!, source[2]!)) return packet;
  return buildIpv6Packet({ source, destination, protocol, body: packet.subarray(IPV4_HEADER_BYTES) });
}
