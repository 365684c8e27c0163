/**
 * What the agent tells its own machines when a packet of theirs leads nowhere, so that they do not wait for retransmissions:
 * a reset for TCP (RFC 9293 §3.10.7.1), "port unreachable" for the rest, both in the name of the destination. Never to the
 * outside: it could be used against somebody. "Too big" alone is told to whoever sent it, a few per second.
 */
import type { PacketBatch } from "../../dataplane/packet-batch.js";
import { MAPPED_WORD } from "../../packet/header.js";
import {
  ICMPV6_PACKET_TOO_BIG,
  icmpv6ErrorBytes,
  isIcmpError,
  UNREACHABLE_FRAGMENTATION_NEEDED,
  UNREACHABLE_PORT,
  unreachableBytes,
  writeIcmpv6Error,
  writeUnreachable,
} from "../../packet/icmp.js";
import {
  FLAG_DONT_FRAGMENT,
  IPV4_DESTINATION,
  IPV4_SOURCE,
  PROTOCOL_TCP,
  type PacketHeader,
} from "../../packet/ipv4.js";
import { IPV6_DESTINATION, IPV6_MTU_MIN_BYTES, IPV6_SOURCE } from "../../packet/ipv6.js";
import { isIcmp, isLaterFragment } from "../../packet/parse.js";
import { TCP_ACK, TCP_ACKNOWLEDGEMENT, TCP_FIN, TCP_RST, TCP_SEQUENCE, TCP_SYN } from "../../packet/tcp.js";
import { buildSegment } from "./segment.js";

/** RFC 4443 §3.1. */
const ICMPV6_UNREACHABLE = 1;
const ICMPV6_CODE_PORT = 4;

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
  const packet = buildSegment({
    source: wordsOf(batch.view, header, false),
    destination: wordsOf(batch.view, header, true),
    sourcePort: header.destinationPort,
    destinationPort: header.sourcePort,
    flags: acknowledges ? TCP_RST : TCP_RST | TCP_ACK,
    sequence: acknowledges ? batch.view.getUint32(at + TCP_ACKNOWLEDGEMENT) : 0,
    acknowledgement: acknowledges ? 0 : (batch.view.getUint32(at + TCP_SEQUENCE) + segmentBytes) >>> 0,
    window: 0,
  });
  out.append(packet, link);
}

function answerPortUnreachable(batch: PacketBatch, header: PacketHeader, link: number, out: PacketBatch): void {
  if (header.family === 6) {
    const offset = out.reserve(icmpv6ErrorBytes(header.totalBytes), link);
    if (offset < 0) return;
    const fields = {
      source: wordsOf(batch.view, header, false),
      destination: wordsOf(batch.view, header, true),
      type: ICMPV6_UNREACHABLE,
      code: ICMPV6_CODE_PORT,
      parameter: 0,
    };
    writeIcmpv6Error(out.arena, offset, fields, batch.arena, header.offset, header.totalBytes);
    return;
  }
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

/**
 * Tells the sender of the parsed packet how long one may be (RFC 1191, RFC 8201), in the name of its destination. Nothing is said of an
 * ICMP error or a later fragment, to an IPv4 sender that lets its packets be fragmented, or to an IPv6 one of less than 1,280.
 */
export function answerTooBig(
  batch: PacketBatch,
  header: PacketHeader,
  mtu: number,
  link: number,
  out: PacketBatch,
): void {
  const { family, totalBytes, offset, headerBytes, fragment } = header;
  if ((isIcmp(header) && isIcmpError(header)) || isLaterFragment(fragment)) return;
  if (family === 6) {
    if (totalBytes <= IPV6_MTU_MIN_BYTES) return;
    const at = out.reserve(icmpv6ErrorBytes(totalBytes), link);
    if (at < 0) return;
    const fields = {
      source: wordsOf(batch.view, header, false),
      destination: wordsOf(batch.view, header, true),
      type: ICMPV6_PACKET_TOO_BIG,
      code: 0,
      parameter: Math.max(mtu, IPV6_MTU_MIN_BYTES),
    };
    writeIcmpv6Error(out.arena, at, fields, batch.arena, offset, totalBytes);
    return;
  }
  if ((fragment & FLAG_DONT_FRAGMENT) === 0) return;
  const at = out.reserve(unreachableBytes(headerBytes, totalBytes), link);
  if (at < 0) return;
  const code = UNREACHABLE_FRAGMENTATION_NEEDED;
  const fields = { source: header.destination, destination: header.source, code, nextHopMtu: mtu };
  writeUnreachable(out.arena, at, fields, batch.arena, offset, headerBytes, totalBytes);
}

/** Source or destination of the parsed packet: from its bytes, since the header may have numbers in the place of words. */
function wordsOf(view: DataView, { family, offset }: PacketHeader, isSource: boolean): Int32Array {
  if (family === 4)
    return Int32Array.of(0, 0, MAPPED_WORD, view.getInt32(offset + (isSource ? IPV4_SOURCE : IPV4_DESTINATION)));
  const at = offset + (isSource ? IPV6_SOURCE : IPV6_DESTINATION);
  return Int32Array.from({ length: 4 }, (_, word) => view.getInt32(at + word * 4));
}
