/**
 * TCP (RFC 9293 §3.1): names of the header's bytes, the parser's transport part, and the one option that a load balancer
 * touches, the maximum segment size.
 *
 *     +-------------------------------+-------------------------------+
 *     |          source port          |       destination port        |
 *     +-------------------------------+-------------------------------+
 *     |                        sequence number                        |
 *     +---------------------------------------------------------------+
 *     |                     acknowledgement number                    |
 *     +-------+-------+---------------+-------------------------------+
 *     |offset |  0    |C E U A P R S F|            window             |
 *     +-------+-------+---------------+-------------------------------+
 *     |           checksum            |        urgent pointer         |
 *     +-------------------------------+-------------------------------+
 */
import { FAULT, NO_FAULT } from "./fault.js";
import type { PacketHeader } from "./header.js";
import { updateWord } from "./checksum.js";

export const TCP_HEADER_BYTES = 20;

export const TCP_SOURCE_PORT = 0;
export const TCP_DESTINATION_PORT = 2;
export const TCP_SEQUENCE = 4;
export const TCP_ACKNOWLEDGEMENT = 8;
export const TCP_DATA_OFFSET = 12;
export const TCP_FLAGS = 13;
export const TCP_WINDOW = 14;
export const TCP_CHECKSUM = 16;

export const TCP_FIN = 0x01;
export const TCP_SYN = 0x02;
export const TCP_RST = 0x04;
export const TCP_PSH = 0x08;
export const TCP_ACK = 0x10;

const OPTION_END = 0;
const OPTION_NOP = 1;
const OPTION_MSS = 2;
const OPTION_MSS_BYTES = 4;
const OPTION_TIMESTAMPS = 8;
const OPTION_TIMESTAMPS_BYTES = 10;

/** Second half of parsing: `header` has the IP part. Fills ports, flags and where the payload starts. */
export function parseTcp(view: DataView, header: PacketHeader): number {
  const at = header.transportOffset;
  const available = header.totalBytes - header.headerBytes;
  if (available < TCP_HEADER_BYTES) return FAULT.truncated;
  const headerBytes = (view.getUint8(at + TCP_DATA_OFFSET) >>> 4) * 4;
  if (headerBytes < TCP_HEADER_BYTES || headerBytes > available) return FAULT.bad_transport_header;
  header.sourcePort = view.getUint16(at + TCP_SOURCE_PORT);
  header.destinationPort = view.getUint16(at + TCP_DESTINATION_PORT);
  header.tcpFlags = view.getUint8(at + TCP_FLAGS);
  header.payloadOffset = at + headerBytes;
  return NO_FAULT;
}

/**
 * Where an option starts in the segment of a parsed packet, or -1. `bytes` is the length it must have. Options that make no
 * sense end the search: the receiver judges them, not we.
 */
function findOption(
  view: DataView,
  transportOffset: number,
  payloadOffset: number,
  kind: number,
  bytes: number,
): number {
  let at = transportOffset + TCP_HEADER_BYTES;
  while (at < payloadOffset) {
    const found = view.getUint8(at);
    if (found === OPTION_END) return -1;
    if (found === OPTION_NOP) {
      at++;
      continue;
    }
    if (at + 1 >= payloadOffset) return -1;
    const length = view.getUint8(at + 1);
    if (length < 2 || at + length > payloadOffset) return -1;
    if (found === kind && length === bytes) return at;
    at += length;
  }
  return -1;
}

/**
 * Lowers the MSS option of a SYN segment to `mssMax` where it is larger, and updates the checksum. Answers whether it
 * changed anything.
 *
 * Some senders place the option at an odd offset (after one NOP); its bytes then straddle two words of the checksum, and
 * swapping them gives the same sum (RFC 1071 §2B).
 */
export function clampMss(view: DataView, transportOffset: number, payloadOffset: number, mssMax: number): boolean {
  const at = findOption(view, transportOffset, payloadOffset, OPTION_MSS, OPTION_MSS_BYTES);
  if (at < 0) return false;
  const offered = view.getUint16(at + 2);
  if (offered <= mssMax) return false;
  view.setUint16(at + 2, mssMax);
  const isOdd = ((at - transportOffset) & 1) === 1;
  const sum = view.getUint16(transportOffset + TCP_CHECKSUM);
  const updated = isOdd ? updateWord(sum, swapBytes(offered), swapBytes(mssMax)) : updateWord(sum, offered, mssMax);
  view.setUint16(transportOffset + TCP_CHECKSUM, updated);
  return true;
}

const swapBytes = (word: number): number => ((word & 0xff) << 8) | (word >>> 8);

/** MSS option of a segment, or -1. */
export function readMss(view: DataView, transportOffset: number, payloadOffset: number): number {
  const at = findOption(view, transportOffset, payloadOffset, OPTION_MSS, OPTION_MSS_BYTES);
  return at < 0 ? -1 : view.getUint16(at + 2);
}

/** Sender's value of the timestamps option (RFC 7323), unsigned 32 bits, or -1. */
export function readTimestamp(view: DataView, transportOffset: number, payloadOffset: number): number {
  const at = findOption(view, transportOffset, payloadOffset, OPTION_TIMESTAMPS, OPTION_TIMESTAMPS_BYTES);
  return at < 0 ? -1 : view.getUint32(at + 2);
}
