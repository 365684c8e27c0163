/**
 * ICMP errors about flows that are translated: path MTU discovery and "port unreachable" work only if both the error's own
 * address and the packet that it quotes are those that its receiver knows (RFC 5508 §4.2).
 *
 *     from the wire   to VIP, quotes VIP:port -> remote         becomes   to DIP, quotes DIP:dipPort -> remote
 *     from a VM       from DIP, quotes remote -> DIP:dipPort    becomes   from VIP, quotes remote -> VIP:port
 *
 * Checksums are updated by what changed (RFC 1624), so damage done earlier stays visible.
 */
import { DROP } from "../../dataplane/drop-reasons.js";
import { type PacketBatch, WIRE_LINK } from "../../dataplane/packet-batch.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import { updateDoubleWord, updateWord } from "../../packet/checksum.js";
import { NO_FAULT } from "../../packet/fault.js";
import { ICMP_CHECKSUM } from "../../packet/icmp.js";
import { createPacketHeader, IPV4_CHECKSUM, IPV4_DESTINATION, IPV4_SOURCE, PROTOCOL_UDP } from "../../packet/ipv4.js";
import { parseQuoted } from "../../packet/quoted.js";
import { UDP_CHECKSUM } from "../../packet/udp.js";
import type { HostParts } from "./host-parts.js";
import type { WayOut } from "./way-out.js";

export class IcmpErrors {
  readonly #parts: HostParts;
  readonly #wayOut: WayOut;
  readonly #quoted = createPacketHeader();

  constructor(parts: HostParts, wayOut: WayOut) {
    this.#parts = parts;
    this.#wayOut = wayOut;
  }

  /** The decapsulated error in `header`, for the machine of `slot`. */
  fromWire(batch: PacketBatch, slot: number, out: PacketBatch): number {
    const { header, nat, tables } = this.#parts;
    const quoted = this.#quoted;
    const fault = parseQuoted(batch.view, header, quoted);
    if (fault !== NO_FAULT) return fault;
    const { source3, destination3, sourcePort, destinationPort, protocol } = quoted;
    if (source3 !== header.destination3) return DROP.icmp_unmatched; // it would be about somebody else's packet
    const entry = nat.findOutside(destination3, source3, destinationPort, sourcePort, protocol, slot);
    if (entry === NOT_FOUND) return DROP.icmp_unmatched;
    const at = this.#wayOut.copy(batch, tables.dipId(slot), out);
    if (at < 0) return DROP.output_full;
    rewrite(
      out.view,
      at,
      header.offset,
      this.#quoted,
      IPV4_DESTINATION,
      IPV4_SOURCE,
      0,
      nat.dip(entry),
      nat.dipPort(entry),
      header.transportOffset,
    );
    this.#parts.counters.count(slot, nat.counter[entry]!, header.totalBytes);
    return NO_FAULT;
  }

  /** An error of the machine in `slot`; `NOT_FOUND` when it is about no flow of ours. */
  fromVm(batch: PacketBatch, slot: number, out: PacketBatch): number {
    const { header, nat } = this.#parts;
    const quoted = this.#quoted;
    const fault = parseQuoted(batch.view, header, quoted);
    if (fault !== NO_FAULT) return fault;
    const { source3, destination3, sourcePort, destinationPort, protocol } = quoted;
    const entry = nat.findInside(destination3, source3, destinationPort, sourcePort, protocol, slot);
    if (entry === NOT_FOUND || source3 !== header.destination3) return DROP.icmp_unmatched;
    const at = this.#wayOut.copy(batch, WIRE_LINK, out);
    if (at < 0) return DROP.output_full;
    rewrite(
      out.view,
      at,
      header.offset,
      this.#quoted,
      IPV4_SOURCE,
      IPV4_DESTINATION,
      2,
      nat.vip(entry),
      nat.vipPort(entry),
      header.transportOffset,
    );
    this.#parts.counters.count(slot, nat.counter[entry]!, header.totalBytes);
    return NO_FAULT;
  }
}

/**
 * In the copy at `at`: the error's own address at `outerAt`, the quoted one at `innerAt`, the quoted port at `portAt` of the
 * quoted transport header.
 */
function rewrite(
  view: DataView,
  at: number,
  from: number,
  quoted: {
    readonly offset: number;
    readonly transportOffset: number;
    readonly protocol: number;
    readonly totalBytes: number;
  },
  outerAt: number,
  innerAt: number,
  portAt: number,
  address: number,
  port: number,
  icmpOffset: number,
): void {
  const before = view.getInt32(at + outerAt);
  view.setInt32(at + outerAt, address);
  const outerSum = view.getUint16(at + IPV4_CHECKSUM);
  view.setUint16(at + IPV4_CHECKSUM, updateDoubleWord(outerSum, before, address));

  const sumAt = at + (icmpOffset - from) + ICMP_CHECKSUM;
  const inner = at + (quoted.offset - from);
  const transport = at + (quoted.transportOffset - from);
  const innerBefore = view.getInt32(inner + innerAt);
  const portBefore = view.getUint16(transport + portAt);
  const headerSum = view.getUint16(inner + IPV4_CHECKSUM);
  const headerSumAfter = updateDoubleWord(headerSum, innerBefore, address);
  let sum = view.getUint16(sumAt);
  sum = updateDoubleWord(sum, innerBefore, address);
  sum = updateWord(sum, headerSum, headerSumAfter);
  sum = updateWord(sum, portBefore, port);
  view.setInt32(inner + innerAt, address);
  view.setUint16(inner + IPV4_CHECKSUM, headerSumAfter);
  view.setUint16(transport + portAt, port);
  // Of UDP the checksum is quoted, too, and belongs to the quoted packet.
  const end = quoted.offset + quoted.totalBytes;
  if (quoted.protocol === PROTOCOL_UDP && quoted.transportOffset + UDP_CHECKSUM + 2 <= end) {
    const udpSum = view.getUint16(transport + UDP_CHECKSUM);
    if (udpSum !== 0) {
      const after = updateWord(updateDoubleWord(udpSum, innerBefore, address), portBefore, port) || 0xffff;
      view.setUint16(transport + UDP_CHECKSUM, after);
      sum = updateWord(sum, udpSum, after);
    }
  }
  view.setUint16(sumAt, sum);
}
