/**
 * Fragmentation of an IPv4 packet (RFC 791 §3.2), for packets that do not fit with an outer header and may be fragmented.
 * IPv6 packets are fragmented by their senders only.
 *
 *     [ header | data .................................... ]
 *     [ header | data, a multiple of 8 ] [ header' | data ] ...     header': only the options that are copied
 *
 * The packet may be a fragment itself: offsets go on from its own, and its last piece keeps its "more fragments".
 */
import {
  writeIpv4Checksum,
  FLAG_MORE_FRAGMENTS,
  FRAGMENT_OFFSET_MASK,
  IPV4_FRAGMENT,
  IPV4_HEADER_BYTES,
  IPV4_TOTAL_LENGTH,
} from "./ipv4.js";
import type { PacketHeader } from "./header.js";

const OPTION_END = 0;
const OPTION_NOP = 1;
/** The option's first bit: it goes into every fragment. */
const OPTION_COPIED = 0x80;

/** Data bytes of each piece but the last, so that none is longer than `mtuBytes`; 0: not even 8 bytes fit. */
export const fragmentDataBytes = (headerBytes: number, mtuBytes: number): number =>
  Math.max(0, mtuBytes - headerBytes) & ~7;

/** Number of pieces that the packet becomes; 0 when `mtuBytes` is too small. */
export function fragmentCount(header: PacketHeader, mtuBytes: number): number {
  const each = fragmentDataBytes(header.headerBytes, mtuBytes);
  return each === 0 ? 0 : Math.ceil((header.totalBytes - header.headerBytes) / each);
}

/**
 * Writes piece `piece` of the parsed IPv4 packet in `source` at `at` of `target`, where `mtuBytes` of room must be. Answers the
 * piece's length. `source` and `target` may not overlap.
 */
export function writeFragment(
  source: DataView,
  header: PacketHeader,
  piece: number,
  mtuBytes: number,
  target: DataView,
  at: number,
): number {
  const each = fragmentDataBytes(header.headerBytes, mtuBytes);
  const dataBytes = header.totalBytes - header.headerBytes;
  const start = piece * each;
  const length = Math.min(each, dataBytes - start);
  const isLast = start + length === dataBytes;
  const headerBytes = copyHeader(source, header, piece > 0, target, at);
  for (let i = 0; i < length; i++) {
    target.setUint8(at + headerBytes + i, source.getUint8(header.offset + header.headerBytes + start + i));
  }
  const more = isLast ? header.fragment & FLAG_MORE_FRAGMENTS : FLAG_MORE_FRAGMENTS;
  target.setUint16(at + IPV4_FRAGMENT, more | ((header.fragment & FRAGMENT_OFFSET_MASK) + (start >>> 3)));
  target.setUint16(at + IPV4_TOTAL_LENGTH, headerBytes + length);
  writeIpv4Checksum(target, at, headerBytes);
  return headerBytes + length;
}

/** Copies the header, later pieces with the copied options only; answers its length. */
function copyHeader(source: DataView, header: PacketHeader, isLater: boolean, target: DataView, at: number): number {
  const { offset, headerBytes } = header;
  const keep = isLater ? IPV4_HEADER_BYTES : headerBytes;
  for (let i = 0; i < keep; i++) target.setUint8(at + i, source.getUint8(offset + i));
  if (!isLater) return headerBytes;
  let written = IPV4_HEADER_BYTES;
  for (let option = offset + IPV4_HEADER_BYTES; option < offset + headerBytes;) {
    const kind = source.getUint8(option);
    if (kind === OPTION_END) break;
    if (kind === OPTION_NOP) {
      option++;
      continue;
    }
    const bytes = option + 1 < offset + headerBytes ? source.getUint8(option + 1) : 0;
    if (bytes < 2 || option + bytes > offset + headerBytes) break; // makes no sense: the receiver judges it by the first piece
    if ((kind & OPTION_COPIED) !== 0) {
      for (let i = 0; i < bytes; i++) target.setUint8(at + written + i, source.getUint8(option + i));
      written += bytes;
    }
    option += bytes;
  }
  while ((written & 3) !== 0) target.setUint8(at + written++, OPTION_END);
  target.setUint8(at, 0x40 | (written / 4));
  return written;
}
