/**
 * What the agent tells its own machines when a packet of theirs leads nowhere, so that they do not wait for retransmissions:
 * a reset for TCP (RFC 9293 §3.10.7.1), "port unreachable" for the rest, both in the name of the destination. Never to the
 * outside: it could be used against somebody.
 */
import type { Ipv4 } from "../../core/brands.js";
import type { PacketBatch } from "../../dataplane/packet-batch.js";
import { tcpPacketBytes, writeTcpPacket } from "../../packet/build.js";
import { UNREACHABLE_PORT, unreachableBytes, writeUnreachable } from "../../packet/icmp.js";
import { PROTOCOL_TCP, type PacketHeader } from "../../packet/ipv4.js";
import { TCP_ACK, TCP_ACKNOWLEDGEMENT, TCP_FIN, TCP_RST, TCP_SEQUENCE, TCP_SYN } from "../../packet/tcp.js";

/** Answers the parsed packet at `header.offset` of `batch` to the machine on `link`. A full `out` loses the answer. */
export function answerUnreachable(batch: PacketBatch, header: PacketHeader, link: number, out: PacketBatch): void {
  if (header.protocol === PROTOCOL_TCP) answerReset(batch, header, link, out);
  else answerPortUnreachable(batch, header, link, out);
}

function answerReset(batch: PacketBatch, header: PacketHeader, link: number, out: PacketBatch): void {
  const flags = header.tcpFlags;
  if ((flags & TCP_RST) !== 0) return;
  const at = header.transportOffset;
  const payloadBytes = header.offset + header.totalBytes - header.payloadOffset;
  const segmentBytes = payloadBytes + ((flags & TCP_SYN) !== 0 ? 1 : 0) + ((flags & TCP_FIN) !== 0 ? 1 : 0);
  const acknowledges = (flags & TCP_ACK) !== 0;
  const fields = {
    source: header.destination as Ipv4,
    destination: header.source as Ipv4,
    sourcePort: header.destinationPort,
    destinationPort: header.sourcePort,
    flags: acknowledges ? TCP_RST : TCP_RST | TCP_ACK,
    sequence: acknowledges ? batch.view.getUint32(at + TCP_ACKNOWLEDGEMENT) : 0,
    acknowledgement: acknowledges ? 0 : (batch.view.getUint32(at + TCP_SEQUENCE) + segmentBytes) >>> 0,
    window: 0,
  };
  const offset = out.reserve(tcpPacketBytes(fields), link);
  if (offset >= 0) writeTcpPacket(out.arena, offset, fields);
}

function answerPortUnreachable(batch: PacketBatch, header: PacketHeader, link: number, out: PacketBatch): void {
  const offset = out.reserve(unreachableBytes(header.headerBytes, header.totalBytes), link);
  if (offset < 0) return;
  const fields = {
    source: header.destination,
    destination: header.source,
    code: UNREACHABLE_PORT,
    nextHopMtu: 0,
  };
  writeUnreachable(out.arena, offset, fields, batch.arena, header.offset, header.headerBytes, header.totalBytes);
}
