/**
 * Network address translation of one packet in place: an address and a port are rewritten, and both checksums follow by
 * RFC 1624. The caller has parsed the packet, so every offset is inside it.
 *
 * The transport checksum covers the addresses too (pseudo header), so it takes both changes. A UDP checksum of 0 means
 * "none" and stays 0; one that comes out as 0 is written as 0xffff (RFC 768).
 */
import { updateDoubleWord, updateWord } from "./checksum.js";
import { IPV4_CHECKSUM, IPV4_DESTINATION, IPV4_SOURCE, PROTOCOL_UDP } from "./ipv4.js";
import { IPV6_DESTINATION, IPV6_SOURCE } from "./ipv6.js";
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

/** As `rewrite`, for IPv6: no header checksum; the transport's takes the change of eight words. A UDP checksum is never 0. */
function rewriteIpv6(
  view: DataView,
  addressAt: number,
  portAt: number,
  checksumAt: number,
  isUdp: boolean,
  words: Int32Array,
  wordsAt: number,
  port: number,
): void {
  let sum = updateWord(view.getUint16(checksumAt), view.getUint16(portAt), port);
  for (let word = 0; word < 4; word++) {
    const at = addressAt + word * 4;
    const after = words[wordsAt + word]!; // the caller's table has four words there
    sum = updateDoubleWord(sum, view.getInt32(at), after);
    view.setInt32(at, after);
  }
  view.setUint16(portAt, port);
  view.setUint16(checksumAt, isUdp && sum === 0 ? 0xffff : sum);
}

/** IPv6: `transportOffset` of the TCP or UDP header; the address is the four words at `wordsAt`. */
export function translateSourceIpv6(
  view: DataView,
  offset: number,
  transportOffset: number,
  protocol: number,
  words: Int32Array,
  wordsAt: number,
  port: number,
): void {
  const isUdp = protocol === PROTOCOL_UDP;
  const checksumAt = transportOffset + (isUdp ? UDP_CHECKSUM : TCP_CHECKSUM);
  rewriteIpv6(view, offset + IPV6_SOURCE, transportOffset + SOURCE_PORT, checksumAt, isUdp, words, wordsAt, port);
}

export function translateDestinationIpv6(
  view: DataView,
  offset: number,
  transportOffset: number,
  protocol: number,
  words: Int32Array,
  wordsAt: number,
  port: number,
): void {
  const isUdp = protocol === PROTOCOL_UDP;
  const checksumAt = transportOffset + (isUdp ? UDP_CHECKSUM : TCP_CHECKSUM);
  const portAt = transportOffset + DESTINATION_PORT;
  rewriteIpv6(view, offset + IPV6_DESTINATION, portAt, checksumAt, isUdp, words, wordsAt, port);
}

/** The source of a packet without a transport header, a later fragment: of IPv4 with its header's checksum. */
export const rewriteSource = (view: DataView, offset: number, address: number): void =>
  rewriteAddress(view, offset, offset + IPV4_SOURCE, address);

export const rewriteDestination = (view: DataView, offset: number, address: number): void =>
  rewriteAddress(view, offset, offset + IPV4_DESTINATION, address);

function rewriteAddress(view: DataView, offset: number, addressAt: number, address: number): void {
  const sum = view.getUint16(offset + IPV4_CHECKSUM);
  view.setUint16(offset + IPV4_CHECKSUM, updateDoubleWord(sum, view.getUint32(addressAt), address));
  view.setUint32(addressAt, address);
}

/** Likewise of IPv6, which has none. The address is the four words at `wordsAt`. */
export const rewriteSourceIpv6 = (view: DataView, offset: number, words: Int32Array, wordsAt: number): void =>
  copyWords(view, offset + IPV6_SOURCE, words, wordsAt);

export const rewriteDestinationIpv6 = (view: DataView, offset: number, words: Int32Array, wordsAt: number): void =>
  copyWords(view, offset + IPV6_DESTINATION, words, wordsAt);

function copyWords(view: DataView, at: number, words: Int32Array, wordsAt: number): void {
  for (let word = 0; word < 4; word++) view.setInt32(at + word * 4, words[wordsAt + word]!); // the table has four there
}
