/**
 * Writer of pcapng files (draft-ietf-opsawg-pcapng): as pcap, and with a comment per packet, which Wireshark shows: a capture
 * of a data plane can say for each packet what became of it.
 *
 *     section header | interface: raw IP, microseconds | packet, comment | packet, comment | ...
 */
import { LINKTYPE_RAW } from "./pcap.js";

const BLOCK_SECTION = 0x0a0d0d0a;
const BLOCK_INTERFACE = 1;
const BLOCK_ENHANCED_PACKET = 6;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
const OPTION_COMMENT = 1;
const OPTION_INTERFACE_NAME = 2;

const padded = (bytes: number): number => (bytes + 3) & ~3;

function block(type: number, bodyBytes: number, write: (view: DataView, bytes: Uint8Array) => void): Uint8Array {
  const total = 12 + bodyBytes;
  const bytes = new Uint8Array(total);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type);
  view.setUint32(4, total);
  view.setUint32(total - 4, total);
  write(new DataView(bytes.buffer, 8, bodyBytes), bytes.subarray(8, 8 + bodyBytes));
  return bytes;
}

/** Bytes of one text option and the end of options; 0 without a text. */
const optionBytes = (text: Uint8Array): number => (text.length === 0 ? 0 : 4 + padded(text.length) + 4);

function writeOption(view: DataView, bytes: Uint8Array, at: number, code: number, text: Uint8Array): void {
  if (text.length === 0) return;
  view.setUint16(at, code);
  view.setUint16(at + 2, text.length);
  bytes.set(text, at + 4); // the end of options is four zeros, which are there
}

/** What opens a file. `interfaceName` names where packets were seen, for example "mux-1". */
export function pcapngFileHeader(interfaceName: string): Uint8Array {
  const name = new TextEncoder().encode(interfaceName);
  const section = block(BLOCK_SECTION, 16, (view) => {
    view.setUint32(0, BYTE_ORDER_MAGIC);
    view.setUint16(4, 1); // version 1.0
    view.setInt32(8, -1); // length of the section: not given
    view.setInt32(12, -1);
  });
  const description = block(BLOCK_INTERFACE, 8 + optionBytes(name), (view, bytes) => {
    view.setUint16(0, LINKTYPE_RAW);
    writeOption(view, bytes, 8, OPTION_INTERFACE_NAME, name);
  });
  const bytes = new Uint8Array(section.length + description.length);
  bytes.set(section);
  bytes.set(description, section.length);
  return bytes;
}

/** One packet. `comment` may be empty; at most 65,535 bytes of it are kept. */
export function pcapngPacket(packet: Uint8Array, timeMs: number, comment = ""): Uint8Array {
  const text = new TextEncoder().encode(comment).subarray(0, 65_535);
  const bodyBytes = 20 + padded(packet.length) + optionBytes(text);
  const micros = Math.floor(timeMs * 1_000);
  return block(BLOCK_ENHANCED_PACKET, bodyBytes, (view, bytes) => {
    view.setUint32(4, Math.floor(micros / 2 ** 32));
    view.setUint32(8, micros % 2 ** 32);
    view.setUint32(12, packet.length);
    view.setUint32(16, packet.length);
    bytes.set(packet, 20);
    writeOption(view, bytes, 20 + padded(packet.length), OPTION_COMMENT, text);
  });
}
