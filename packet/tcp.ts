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
import type { PacketHeader } from "./ipv4.js";
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
 * Lowers the MSS option to `mssMax` where it is larger, and updates the checksum. For SYN segments of a parsed packet.
 * Answers whether it changed anything. Options that make no sense end the search: the receiver judges them, not we.
 *
 * Some senders place the option at an odd offset (after one NOP); its bytes then straddle two words of the checksum,
 * and swapping them gives the same sum (RFC 1071 §2B).
 */
export function clampMss(view: DataView, transportOffset: number, payloadOffset: number, mssMax: number): boolean {
  let at = transportOffset + TCP_HEADER_BYTES;
  while (at < payloadOffset) {
    const kind = view.getUint8(at);
    if (kind === OPTION_END) return false;
    if (kind === OPTION_NOP) {
      at++;
      continue;
    }
    if (at + 1 >= payloadOffset) return false;
    const bytes = view.getUint8(at + 1);
    if (bytes < 2 || at + bytes > payloadOffset) return false;
    if (kind === OPTION_MSS && bytes === OPTION_MSS_BYTES) {
      const offered = view.getUint16(at + 2);
      if (offered <= mssMax) return false;
      view.setUint16(at + 2, mssMax);
      const odd = ((at - transportOffset) & 1) === 1;
      const sum = view.getUint16(transportOffset + TCP_CHECKSUM);
      const updated = odd ? updateWord(sum, swapBytes(offered), swapBytes(mssMax)) : updateWord(sum, offered, mssMax);
      view.setUint16(transportOffset + TCP_CHECKSUM, updated);
      return true;
    }
    at += bytes;
  }
  return false;
}

const swapBytes = (word: number): number => ((word & 0xff) << 8) | (word >>> 8);

/** MSS option of a parsed SYN segment, or null. */
export function readMss(view: DataView, transportOffset: number, payloadOffset: number): number | null {
  let at = transportOffset + TCP_HEADER_BYTES;
  while (at + 1 < payloadOffset) {
    const kind = view.getUint8(at);
    if (kind === OPTION_END) return null;
    if (kind === OPTION_NOP) {
      at++;
      continue;
    }
    const bytes = view.getUint8(at + 1);
    if (bytes < 2 || at + bytes > payloadOffset) return null;
    if (kind === OPTION_MSS && bytes === OPTION_MSS_BYTES) return view.getUint16(at + 2);
    at += bytes;
  }
  return null;
}
