/**
 * UDP (RFC 768): source port, destination port, length, checksum, two bytes each. A checksum of 0 means "none"; a computed
 * checksum that comes out as 0 is sent as 0xffff, which is the same number in one's complement.
 */
import { FAULT, NO_FAULT } from "./fault.js";
import type { PacketHeader } from "./header.js";

export const UDP_HEADER_BYTES = 8;

export const UDP_SOURCE_PORT = 0;
export const UDP_DESTINATION_PORT = 2;
export const UDP_LENGTH = 4;
export const UDP_CHECKSUM = 6;

/** Second half of parsing: `header` has the IP part. */
export function parseUdp(view: DataView, header: PacketHeader): number {
  const fault = parseUdpPorts(view, header);
  if (fault !== NO_FAULT) return fault;
  const length = view.getUint16(header.transportOffset + UDP_LENGTH);
  return length > header.totalBytes - header.headerBytes ? FAULT.bad_transport_header : NO_FAULT;
}

/** Of a datagram that may go on in other fragments. */
export function parseUdpPorts(view: DataView, header: PacketHeader): number {
  const at = header.transportOffset;
  if (header.totalBytes - header.headerBytes < UDP_HEADER_BYTES) return FAULT.truncated;
  if (view.getUint16(at + UDP_LENGTH) < UDP_HEADER_BYTES) return FAULT.bad_transport_header;
  header.sourcePort = view.getUint16(at + UDP_SOURCE_PORT);
  header.destinationPort = view.getUint16(at + UDP_DESTINATION_PORT);
  header.payloadOffset = at + UDP_HEADER_BYTES;
  return NO_FAULT;
}
