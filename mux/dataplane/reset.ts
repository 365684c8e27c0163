/** A TCP reset in answer to a segment, as RFC 9293 §3.10.7.1 says: for flows that a MUX was told to end. */
import type { Ipv4 } from "../../core/brands.js";
import { buildIpv6Packet, buildTcpPacket } from "../../packet/build.js";
import type { PacketHeader } from "../../packet/header.js";
import { IPV4_HEADER_BYTES, PROTOCOL_TCP } from "../../packet/ipv4.js";
import { TCP_ACK, TCP_ACKNOWLEDGEMENT, TCP_FIN, TCP_RST, TCP_SEQUENCE, TCP_SYN } from "../../packet/tcp.js";

/** From the segment's destination to its source; null for a reset: two resets would answer each other for ever. */
export function buildReset(view: DataView, header: PacketHeader): Uint8Array | null {
  const flags = header.tcpFlags;
  if ((flags & TCP_RST) !== 0) return null;
  const at = header.transportOffset;
  const hasAck = (flags & TCP_ACK) !== 0;
  const payloadBytes = header.offset + header.totalBytes - header.payloadOffset;
  const counted = payloadBytes + ((flags & TCP_SYN) !== 0 ? 1 : 0) + ((flags & TCP_FIN) !== 0 ? 1 : 0);
  const packet = buildTcpPacket({
    source: header.destination as Ipv4,
    destination: header.source as Ipv4,
    sourcePort: header.destinationPort,
    destinationPort: header.sourcePort,
    flags: hasAck ? TCP_RST : TCP_RST | TCP_ACK,
    sequence: hasAck ? view.getUint32(at + TCP_ACKNOWLEDGEMENT) : 0,
    acknowledgement: hasAck ? 0 : (view.getUint32(at + TCP_SEQUENCE) + counted) >>> 0,
    window: 0,
  });
  if (header.family === 4) return packet;
  return buildIpv6Packet({
    source: [header.destination0, header.destination1, header.destination2, header.destination3],
    destination: [header.source0, header.source1, header.source2, header.source3],
    protocol: PROTOCOL_TCP,
    body: packet.subarray(IPV4_HEADER_BYTES),
  });
}
