/**
 * Captures for tcpdump and Wireshark: the classic pcap file with raw IP packets (LINKTYPE_RAW 101), microsecond times. The
 * reader also takes files of other tools: either byte order, micro- or nanoseconds, any link type. Bytes in, bytes out; who
 * reads and writes files is somebody else's business.
 */
const MAGIC_MICROSECONDS = 0xa1b2c3d4;
const MAGIC_NANOSECONDS = 0xa1b23c4d;
export const LINKTYPE_RAW = 101;
const SNAP_BYTES = 65_535;
const FILE_HEADER_BYTES = 24;
const RECORD_HEADER_BYTES = 16;

/** The 24 bytes that open a file. */
export function pcapFileHeader(): Uint8Array {
  const bytes = new Uint8Array(FILE_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC_MICROSECONDS);
  view.setUint16(4, 2); // version 2.4
  view.setUint16(6, 4);
  view.setUint32(16, SNAP_BYTES);
  view.setUint32(20, LINKTYPE_RAW);
  return bytes;
}

/** One packet with its 16-byte record header; `timeMs` since 1970, or on any clock that starts small. */
export function pcapRecord(packet: Uint8Array, timeMs: number): Uint8Array {
  const captured = Math.min(packet.length, SNAP_BYTES);
  const bytes = new Uint8Array(RECORD_HEADER_BYTES + captured);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, Math.floor(timeMs / 1_000));
  view.setUint32(4, Math.floor((timeMs % 1_000) * 1_000));
  view.setUint32(8, captured);
  view.setUint32(12, packet.length);
  bytes.set(packet.subarray(0, captured), RECORD_HEADER_BYTES);
  return bytes;
}

export interface CapturedPacket {
  readonly timeMs: number;
  /** What was captured: a view into the file. */
  readonly bytes: Uint8Array;
  /** Length that the packet had. */
  readonly originalBytes: number;
}

export interface PcapFile {
  readonly linkType: number;
  readonly packets: readonly CapturedPacket[];
  /** Why reading ended before the end of the file, or null. What was read before is good. */
  readonly problem: string | null;
}

/** Reads a whole file; never throws. */
export function readPcap(file: Uint8Array): PcapFile {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const bad = (problem: string): PcapFile => ({ linkType: 0, packets: [], problem });
  if (file.length < FILE_HEADER_BYTES) return bad("shorter than the 24 bytes that open a pcap file");
  const magic = view.getUint32(0);
  const little = view.getUint32(0, true);
  const isLittle = little === MAGIC_MICROSECONDS || little === MAGIC_NANOSECONDS;
  if (!isLittle && magic !== MAGIC_MICROSECONDS && magic !== MAGIC_NANOSECONDS) return bad("not a pcap file");
  const perMs = (isLittle ? little : magic) === MAGIC_NANOSECONDS ? 1_000_000 : 1_000;
  const linkType = view.getUint32(20, isLittle) & 0xffff;
  const packets: CapturedPacket[] = [];
  let at = FILE_HEADER_BYTES;
  while (at < file.length) {
    if (at + RECORD_HEADER_BYTES > file.length) return { linkType, packets, problem: "ends within a record header" };
    const timeMs = view.getUint32(at, isLittle) * 1_000 + view.getUint32(at + 4, isLittle) / perMs;
    const captured = view.getUint32(at + 8, isLittle);
    const originalBytes = view.getUint32(at + 12, isLittle);
    at += RECORD_HEADER_BYTES;
    if (captured > file.length - at) return { linkType, packets, problem: "ends within a packet" };
    packets.push({ timeMs, bytes: file.subarray(at, at + captured), originalBytes });
    at += captured;
  }
  return { linkType, packets, problem: null };
}
