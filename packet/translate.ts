/**
 * Network address translation of one packet in place: an address and a port are rewritten, and both checksums follow by
 * RFC 1624. The caller has parsed the packet, so every offset is inside it.
 *
 * The transport checksum covers the addresses too (pseudo header), so it takes both changes. A UDP checksum of 0 means
 * "none" and stays 0; one that comes out as 0 is written as 0xffff (RFC 768).
 */
import { updateDoubleWord, updateWord } from "./checksum.js";
import { IPV4_CHECKSUM, IPV4_DESTINATION, IPV4_SOURCE, PROTOCOL_UDP } from "./ipv4.js";
import { TCP_CHECKSUM } from "./tcp.js";
import { UDP_CHECKSUM } from "./udp.js";

const SOURCE_PORT = 0; // the same place in TCP and UDP
const DESTINATION_PORT = 2;

function rewrite(
  view: DataView,
  offset: number,
  addressAt: number,
  portAt: number,
  checksumAt: number,
  isUdp: boolean,
  address: number,
  port: number,
): void {
  const addressBefore = view.getUint32(addressAt);
  const portBefore = view.getUint16(portAt);
  view.setUint32(addressAt, address);
  view.setUint16(portAt, port);
  const ipSum = view.getUint16(offset + IPV4_CHECKSUM);
  view.setUint16(offset + IPV4_CHECKSUM, updateDoubleWord(ipSum, addressBefore, address));
  const sum = view.getUint16(checksumAt);
  if (isUdp && sum === 0) return;
  const updated = updateWord(updateDoubleWord(sum, addressBefore, address), portBefore, port);
  view.setUint16(checksumAt, isUdp && updated === 0 ? 0xffff : updated);
}

/** `offset` of the IP header, `transportOffset` of the TCP or UDP header. */
export function translateSource(
  view: DataView,
  offset: number,
  transportOffset: number,
  protocol: number,
  address: number,
  port: number,
): void {
  const isUdp = protocol === PROTOCOL_UDP;
  const checksumAt = transportOffset + (isUdp ? UDP_CHECKSUM : TCP_CHECKSUM);
  rewrite(view, offset, offset + IPV4_SOURCE, transportOffset + SOURCE_PORT, checksumAt, isUdp, address, port);
}

export function translateDestination(
  view: DataView,
  offset: number,
  transportOffset: number,
  protocol: number,
  address: number,
  port: number,
): void {
  const isUdp = protocol === PROTOCOL_UDP;
  const checksumAt = transportOffset + (isUdp ? UDP_CHECKSUM : TCP_CHECKSUM);
  rewrite(
    view,
    offset,
    offset + IPV4_DESTINATION,
    transportOffset + DESTINATION_PORT,
    checksumAt,
    isUdp,
    address,
    port,
  );
}
