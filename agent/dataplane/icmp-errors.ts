/**
 * ICMP errors about flows that are translated: path MTU discovery and "port unreachable" work only if both the error's own
 * address and the packet that it quotes are those that its receiver knows (RFC 5508 §4.2).
 *
 *     from the wire   to VIP, quotes VIP:port -> remote         becomes   to DIP, quotes DIP:dipPort -> remote
 *     from a VM       from DIP, quotes remote -> DIP:dipPort    becomes   from VIP, quotes remote -> VIP:port
 *
 * A ping of the machine has an identifier in the place of its port (`echo-nat.ts`).
 *
 * Checksums are updated by what changed (RFC 1624), so damage done earlier stays visible.
 */
import { DROP } from "../../dataplane/drop-reasons.js";
import { type PacketBatch, WIRE_LINK } from "../../dataplane/packet-batch.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import { updateDoubleWord, updateWord } from "../../packet/checksum.js";
import { NO_FAULT } from "../../packet/fault.js";
import { createPacketHeader, type PacketHeader } from "../../packet/header.js";
import { ICMP_CHECKSUM, ICMP_ID } from "../../packet/icmp.js";
import {
  IPV4_CHECKSUM,
  IPV4_DESTINATION,
  IPV4_SOURCE,
  PROTOCOL_ICMP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
} from "../../packet/ipv4.js";
import { IPV6_DESTINATION, IPV6_SOURCE } from "../../packet/ipv6.js";
import { isIcmp } from "../../packet/parse.js";
import { parseQuoted } from "../../packet/quoted.js";
import { TCP_CHECKSUM } from "../../packet/tcp.js";
import { UDP_CHECKSUM } from "../../packet/udp.js";
import type { HostParts } from "./host-parts.js";
import { type SecondChance, STAYS_HERE } from "./second-chance.js";
import type { WayOut } from "./way-out.js";

export class IcmpErrors {
  readonly #parts: HostParts;
  readonly #wayOut: WayOut;
  readonly #chance: SecondChance;
  readonly #quoted = createPacketHeader();

  constructor(parts: HostParts, wayOut: WayOut, chance: SecondChance) {
    this.#parts = parts;
    this.#chance = chance;
    this.#wayOut = wayOut;
  }

  /** The decapsulated error in `header`, for the machine of `slot`. */
  fromWire(batch: PacketBatch, slot: number, nowMs: number, out: PacketBatch): number {
    return this.#withQuoted(batch, (quoted) => {
      const { header, nat, tables } = this.#parts;
      const { source3, destination3, destinationPort, protocol } = quoted;
      if (source3 !== header.destination3) return DROP.icmp_unmatched; // it would be about somebody else's packet
      const entry = nat.findOutside(destination3, source3, destinationPort, portOf(quoted), protocol, slot);
      if (entry === NOT_FOUND) {
        const passed = this.#chance.error(batch, quoted, slot, nowMs, out);
        return passed === STAYS_HERE ? DROP.icmp_unmatched : passed;
      }
      this.#chance.met();
      const at = this.#wayOut.copy(batch, tables.dipId(slot), out);
      if (at < 0) return DROP.output_full;
      this.#rewrite(out.view, at, true, nat.dip(entry), nat.dipPort(entry));
      this.#parts.counters.count(slot, nat.counter[entry]!, header.totalBytes);
      return NO_FAULT;
    });
  }

  /** An error of the machine in `slot`; `DROP.icmp_unmatched` when it is about no flow of ours. */
  fromVm(batch: PacketBatch, slot: number, out: PacketBatch): number {
    return this.#withQuoted(batch, (quoted) => {
      const { header, nat } = this.#parts;
      const { source3, destination3, sourcePort, protocol } = quoted;
      if (isIcmp(quoted)) return DROP.icmp_unmatched; // about an echo to the machine: none is let in
      const entry = nat.findInside(destination3, source3, quoted.destinationPort, sourcePort, protocol, slot);
      if (entry === NOT_FOUND || source3 !== header.destination3) return DROP.icmp_unmatched;
      const at = this.#wayOut.copy(batch, WIRE_LINK, out);
      if (at < 0) return DROP.output_full;
      this.#rewrite(out.view, at, false, nat.vip(entry), nat.vipPort(entry));
      this.#parts.counters.count(slot, nat.counter[entry]!, header.totalBytes);
      return NO_FAULT;
    });
  }

  #withQuoted(batch: PacketBatch, judge: (quoted: PacketHeader) => number): number {
    const { header, addresses } = this.#parts;
    const quoted = this.#quoted;
    const fault = parseQuoted(batch.view, header, quoted);
    if (fault !== NO_FAULT) return fault;
    if (!addresses.name(quoted)) return DROP.bad_ip_address;
    const result = judge(quoted);
    addresses.unname(quoted);
    return result;
  }

  /**
   * In the copy at `at` of the error at hand. To the machine: the error's destination, and the quoted source with its port;
   * from it: the error's source, and the quoted destination with its port.
   */
  #rewrite(view: DataView, at: number, isToMachine: boolean, address: number, port: number): void {
    const { header, addresses } = this.#parts;
    const quoted = this.#quoted;
    const isIpv6 = header.family === 6;
    const after = addresses.wordsOf(address);
    const sourceAt = isIpv6 ? IPV6_SOURCE : IPV4_SOURCE;
    const destinationAt = isIpv6 ? IPV6_DESTINATION : IPV4_DESTINATION;
    const own = at + (isToMachine ? destinationAt : sourceAt);
    const inner = at + (quoted.offset - header.offset);
    const about = inner + (isToMachine ? sourceAt : destinationAt);
    const transport = at + (quoted.transportOffset - header.offset);
    const checksumAt = transport + transportChecksumAt(quoted);
    // Of what is quoted the transport's checksum may have been cut off; of UDP it may be none.
    const quotedEnd = inner + quoted.totalBytes;
    const sumBefore = checksumAt + 2 <= quotedEnd ? view.getUint16(checksumAt) : 0;
    const hasSum = checksumAt + 2 <= quotedEnd && !(quoted.protocol === PROTOCOL_UDP && sumBefore === 0);
    let quotedSum = sumBefore;
    const sumAt = at + (header.transportOffset - header.offset) + ICMP_CHECKSUM;
    let sum = view.getUint16(sumAt);
    const words = isIpv6 ? 4 : 1;
    for (let word = 0; word < words; word++) {
      const value = after[4 - words + word]!; // of four
      const ownBefore = view.getInt32(own + word * 4);
      view.setInt32(own + word * 4, value);
      if (isIpv6) sum = updateDoubleWord(sum, ownBefore, value);
      else view.setUint16(at + IPV4_CHECKSUM, updateDoubleWord(view.getUint16(at + IPV4_CHECKSUM), ownBefore, value));
      const before = view.getInt32(about + word * 4);
      view.setInt32(about + word * 4, value);
      sum = updateDoubleWord(sum, before, value);
      if (quoted.protocol !== PROTOCOL_ICMP) quotedSum = updateDoubleWord(quotedSum, before, value);
      if (isIpv6) continue;
      const headerSum = view.getUint16(inner + IPV4_CHECKSUM);
      const headerSumAfter = updateDoubleWord(headerSum, before, value);
      view.setUint16(inner + IPV4_CHECKSUM, headerSumAfter);
      sum = updateWord(sum, headerSum, headerSumAfter);
    }
    const portAt = transport + (isIcmp(quoted) ? ICMP_ID : isToMachine ? 0 : 2);
    const portBefore = view.getUint16(portAt);
    view.setUint16(portAt, port);
    sum = updateWord(sum, portBefore, port);
    if (hasSum) {
      quotedSum = updateWord(quotedSum, portBefore, port);
      if (quotedSum === 0 && quoted.protocol === PROTOCOL_UDP) quotedSum = 0xffff;
      view.setUint16(checksumAt, quotedSum);
      sum = updateWord(sum, sumBefore, quotedSum);
    }
    view.setUint16(sumAt, sum);
  }
}

/** The port of whoever sent the quoted packet; of an echo its identifier. */
const portOf = (quoted: PacketHeader): number => (isIcmp(quoted) ? quoted.icmpId : quoted.sourcePort);

const transportChecksumAt = ({ protocol }: PacketHeader): number =>
  protocol === PROTOCOL_TCP ? TCP_CHECKSUM : protocol === PROTOCOL_UDP ? UDP_CHECKSUM : ICMP_CHECKSUM;
