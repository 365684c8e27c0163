/** A whole packet in two steps: the IP header, then the ports of TCP or UDP. What passes is safe to read by its offsets. */
import { FAULT } from "./fault.js";
import { NO_FAULT } from "./fault.js";
import { isFragment, parseIpv4Header, PROTOCOL_TCP, PROTOCOL_UDP, type PacketHeader } from "./ipv4.js";
import { parseTcp } from "./tcp.js";
import { parseUdp } from "./udp.js";

/** Ports of a packet whose IP header was parsed. Fragments have none that can be relied on. */
export function parseTransport(view: DataView, header: PacketHeader): number {
  if (isFragment(header.fragment)) return FAULT.fragment;
  if (header.protocol === PROTOCOL_TCP) return parseTcp(view, header);
  if (header.protocol === PROTOCOL_UDP) return parseUdp(view, header);
  return FAULT.unsupported_protocol;
}

/** Both steps. `NO_FAULT`, or the place of the fault in `PACKET_FAULTS`. */
export function parsePacket(view: DataView, offset: number, length: number, header: PacketHeader): number {
  const fault = parseIpv4Header(view, offset, length, header);
  return fault === NO_FAULT ? parseTransport(view, header) : fault;
}
