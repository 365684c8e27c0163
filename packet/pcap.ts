/**
 * Captures for tcpdump and Wireshark: the classic pcap file with raw IP packets (LINKTYPE_RAW 101), microsecond times.
 * Bytes in, bytes out; who writes them to a file is somebody else's business.
 */
const MAGIC_MICROSECONDS = 0xa1b2c3d4;
const LINKTYPE_RAW = 101;
const SNAP_BYTES = 65_535;

/** The 24 bytes that open a file. */
export function pcapFileHeader(): Uint8Array {
  const bytes = new Uint8Array(24);
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
  const bytes = new Uint8Array(16 + captured);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, Math.floor(timeMs / 1_000));
  view.setUint32(4, Math.floor((timeMs % 1_000) * 1_000));
  view.setUint32(8, captured);
  view.setUint32(12, packet.length);
  bytes.set(packet.subarray(0, captured), 16);
  return bytes;
}
