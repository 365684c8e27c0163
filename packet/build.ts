/**
 * Builders of whole packets, for endpoints, for answers of our own (resets) and for tests: fields in, packet with valid
 * lengths and checksums out. The data paths do not build, they rewrite.
 */
import type { Ipv4 } from "../core/brands.js";
import { foldSum, pseudoHeaderSum, sumWords } from "./checksum.js";
import {
  FLAG_DONT_FRAGMENT,
  IPV4_HEADER_BYTES,
  PROTOCOL_ICMPV6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  writeIpv4Header,
} from "./ipv4.js";
import { type AddressWords, IPV6_HEADER_BYTES, ipv6TransportChecksum, writeIpv6Header } from "./ipv6.js";
import {
  TCP_ACKNOWLEDGEMENT,
  TCP_CHECKSUM,
  TCP_DATA_OFFSET,
  TCP_DESTINATION_PORT,
  TCP_FLAGS,
  TCP_HEADER_BYTES,
  TCP_SEQUENCE,
  TCP_SOURCE_PORT,
  TCP_WINDOW,
} from "./tcp.js";
import { UDP_CHECKSUM, UDP_DESTINATION_PORT, UDP_HEADER_BYTES, UDP_LENGTH, UDP_SOURCE_PORT } from "./udp.js";

export interface FlowFields {
  readonly source: Ipv4;
  readonly destination: Ipv4;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly ttl?: number;
  readonly tos?: number;
  readonly id?: number;
  readonly dontFragment?: boolean;
  readonly payload?: Uint8Array;
}

export interface TcpFields extends FlowFields {
  readonly flags: number;
  readonly sequence?: number;
  readonly acknowledgement?: number;
  readonly window?: number;
  /** MSS option; only sensible on SYN. */
  readonly mss?: number | null;
  /** Timestamps option (RFC 7323): the sender's value; the echo is 0. */
  readonly timestamp?: number | null;
}

const MSS_OPTION_BYTES = 4;
const TIMESTAMPS_OPTION_BYTES = 12; // with two NOPs in front
const NO_PAYLOAD = new Uint8Array(0);

const tcpHeaderBytes = (fields: TcpFields): number =>
  TCP_HEADER_BYTES +
  (fields.mss === undefined || fields.mss === null ? 0 : MSS_OPTION_BYTES) +
  (fields.timestamp === undefined || fields.timestamp === null ? 0 : TIMESTAMPS_OPTION_BYTES);

/** Bytes that `writeTcpPacket` will need. */
export const tcpPacketBytes = (fields: TcpFields): number =>
  IPV4_HEADER_BYTES + tcpHeaderBytes(fields) + (fields.payload?.length ?? 0);

export const udpPacketBytes = (fields: FlowFields): number =>
  IPV4_HEADER_BYTES + UDP_HEADER_BYTES + (fields.payload?.length ?? 0);

function writeHeader(view: DataView, offset: number, fields: FlowFields, protocol: number, totalBytes: number): void {
  writeIpv4Header(view, offset, {
    source: fields.source,
    destination: fields.destination,
    protocol,
    totalBytes,
    tos: fields.tos ?? 0,
    ttl: fields.ttl ?? 64,
    id: fields.id ?? 0,
    fragment: (fields.dontFragment ?? true) ? FLAG_DONT_FRAGMENT : 0,
  });
}

const transportChecksum = (view: DataView, at: number, length: number, fields: FlowFields, protocol: number): number =>
  ~foldSum(sumWords(view, at, length) + pseudoHeaderSum(fields.source, fields.destination, protocol, length)) & 0xffff;

/** Writes an IPv4 packet with one TCP segment at `offset`; the room must be there. Answers its length in bytes. */
export function writeTcpPacket(bytes: Uint8Array, offset: number, fields: TcpFields): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerBytes = tcpHeaderBytes(fields);
  const payload = fields.payload ?? NO_PAYLOAD;
  const segmentBytes = headerBytes + payload.length;
  const at = offset + IPV4_HEADER_BYTES;
  writeHeader(view, offset, fields, PROTOCOL_TCP, IPV4_HEADER_BYTES + segmentBytes);
  view.setUint16(at + TCP_SOURCE_PORT, fields.sourcePort);
  view.setUint16(at + TCP_DESTINATION_PORT, fields.destinationPort);
  view.setUint32(at + TCP_SEQUENCE, fields.sequence ?? 0);
  view.setUint32(at + TCP_ACKNOWLEDGEMENT, fields.acknowledgement ?? 0);
  view.setUint8(at + TCP_DATA_OFFSET, (headerBytes / 4) << 4);
  view.setUint8(at + TCP_FLAGS, fields.flags);
  view.setUint16(at + TCP_WINDOW, fields.window ?? 65_535);
  view.setUint32(at + TCP_CHECKSUM, 0); // and the urgent pointer
  let option = at + TCP_HEADER_BYTES;
  if (fields.mss !== undefined && fields.mss !== null) {
    view.setUint32(option, 0x0204_0000 | fields.mss);
    option += MSS_OPTION_BYTES;
  }
  if (fields.timestamp !== undefined && fields.timestamp !== null) {
    view.setUint32(option, 0x0101_080a);
    view.setUint32(option + 4, fields.timestamp);
    view.setUint32(option + 8, 0);
  }
  bytes.set(payload, at + headerBytes);
  view.setUint16(at + TCP_CHECKSUM, transportChecksum(view, at, segmentBytes, fields, PROTOCOL_TCP));
  return IPV4_HEADER_BYTES + segmentBytes;
}

/** Writes an IPv4 packet with one UDP datagram at `offset`; the room must be there. Answers its length in bytes. */
export function writeUdpPacket(bytes: Uint8Array, offset: number, fields: FlowFields): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const payload = fields.payload ?? NO_PAYLOAD;
  const datagramBytes = UDP_HEADER_BYTES + payload.length;
  const at = offset + IPV4_HEADER_BYTES;
  writeHeader(view, offset, fields, PROTOCOL_UDP, IPV4_HEADER_BYTES + datagramBytes);
  view.setUint16(at + UDP_SOURCE_PORT, fields.sourcePort);
  view.setUint16(at + UDP_DESTINATION_PORT, fields.destinationPort);
  view.setUint16(at + UDP_LENGTH, datagramBytes);
  view.setUint16(at + UDP_CHECKSUM, 0);
  bytes.set(payload, at + UDP_HEADER_BYTES);
  const sum = transportChecksum(view, at, datagramBytes, fields, PROTOCOL_UDP);
  view.setUint16(at + UDP_CHECKSUM, sum === 0 ? 0xffff : sum);
  return IPV4_HEADER_BYTES + datagramBytes;
}

export function buildTcpPacket(fields: TcpFields): Uint8Array {
  const bytes = new Uint8Array(tcpPacketBytes(fields));
  writeTcpPacket(bytes, 0, fields);
  return bytes;
}

export function buildUdpPacket(fields: FlowFields): Uint8Array {
  const bytes = new Uint8Array(udpPacketBytes(fields));
  writeUdpPacket(bytes, 0, fields);
  return bytes;
}

export interface Ipv6Fields {
  readonly source: AddressWords;
  readonly destination: AddressWords;
  /** Of the transport behind the extension headers. */
  readonly protocol: number;
  /** Transport header and data. The checksum of TCP, UDP and ICMPv6 is written here. */
  readonly body: Uint8Array;
  /** Extension headers as bytes, the first one of this kind; each names the next, the last one `protocol`. */
  readonly extensions?: { readonly first: number; readonly bytes: Uint8Array };
  readonly hopLimit?: number;
  readonly trafficClass?: number;
  /** False: the body is a part of something, and its bytes stay as they are. Default true. */
  readonly writesChecksum?: boolean;
}

const CHECKSUM_AT: Readonly<Record<number, number>> = {
  [PROTOCOL_TCP]: TCP_CHECKSUM,
  [PROTOCOL_UDP]: UDP_CHECKSUM,
  [PROTOCOL_ICMPV6]: 2,
};

export function buildIpv6Packet(fields: Ipv6Fields): Uint8Array {
  const { body, extensions, protocol } = fields;
  const extensionBytes = extensions?.bytes.length ?? 0;
  const bytes = new Uint8Array(IPV6_HEADER_BYTES + extensionBytes + body.length);
  const view = new DataView(bytes.buffer);
  writeIpv6Header(view, 0, {
    source: fields.source,
    destination: fields.destination,
    nextHeader: extensions?.first ?? protocol,
    payloadBytes: extensionBytes + body.length,
    hopLimit: fields.hopLimit ?? 64,
    trafficClass: fields.trafficClass ?? 0,
  });
  const at = IPV6_HEADER_BYTES + extensionBytes;
  if (extensions !== undefined) bytes.set(extensions.bytes, IPV6_HEADER_BYTES);
  bytes.set(body, at);
  const checksumAt = CHECKSUM_AT[protocol];
  if (checksumAt === undefined || checksumAt + 2 > body.length || fields.writesChecksum === false) return bytes;
  view.setUint16(at + checksumAt, 0);
  const sum = ipv6TransportChecksum(view, 0, at, body.length, protocol);
  view.setUint16(at + checksumAt, sum === 0 && protocol === PROTOCOL_UDP ? 0xffff : sum);
  return bytes;
}
