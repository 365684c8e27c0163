/**
 * Ping from a machine to the outside: the identifier of an ICMP echo takes the place of a port (RFC 5508 §3), and comes from
 * the UDP ranges of the DIP, so that MUXes find the way of the reply without anything of their own.
 */
import { DROP } from "../../../dataplane/drop-reasons.js";
import { type PacketBatch, WIRE_LINK } from "../../../dataplane/packet-batch.js";
import { NOT_FOUND } from "../../../dataplane/word-index.js";
import { updateDoubleWord, updateWord } from "../../../packet/checksum.js";
import { NO_FAULT } from "../../../packet/fault.js";
import { ICMP_CHECKSUM, ICMP_ID, isEcho, isEchoReply } from "../../../packet/icmp.js";
import { writeEcn } from "../../../packet/ip-in-ip.js";
import { IPV4_CHECKSUM, IPV4_DESTINATION, IPV4_SOURCE, PROTOCOL_UDP } from "../../../packet/ipv4.js";
import { IPV6_DESTINATION, IPV6_SOURCE } from "../../../packet/ipv6.js";
import { type Addresses, isIpv6Number } from "../addresses.js";
import type { FlowLife } from "../flow-life.js";
import type { HostParts } from "../host-parts.js";
import { OUTBOUND, UDP_ACTIVE } from "../nat-state.js";
import type { WayOut } from "../way-out.js";

export class EchoNat {
  readonly #parts: HostParts;
  readonly #wayOut: WayOut;
  readonly #life: FlowLife;

  constructor(parts: HostParts, wayOut: WayOut, life: FlowLife) {
    this.#parts = parts;
    this.#wayOut = wayOut;
    this.#life = life;
  }

  /** The decapsulated reply in `header`. */
  fromWire(batch: PacketBatch, slot: number, ecn: number, nowMs: number, out: PacketBatch): number {
    const { header, nat, tables, counters, addresses } = this.#parts;
    if (!isEchoReply(header)) return DROP.icmp_unmatched;
    const entry = nat.findOutside(header.source3, header.destination3, 0, header.icmpId, header.protocol, slot);
    if (entry === NOT_FOUND) return DROP.icmp_unmatched;
    this.#life.track(entry, batch, false, nowMs);
    const at = this.#wayOut.copy(batch, tables.dipId(slot), out);
    if (at < 0) return DROP.output_full;
    rewrite(out.view, at, header.headerBytes, false, addresses, nat.dip(entry), nat.dipPort(entry));
    writeEcn(out.view, at, ecn);
    counters.count(slot, nat.counter[entry]!, header.totalBytes);
    return NO_FAULT;
  }

  /** A request of the machine in `slot` to the outside. */
  fromVm(batch: PacketBatch, slot: number, nowMs: number, out: PacketBatch): number {
    const { header, nat, tables, ports, counters, addresses } = this.#parts;
    if (!isEcho(header) || isEchoReply(header)) return DROP.icmp_unmatched;
    const { source3, destination3, icmpId, protocol } = header;
    let entry = nat.findInside(source3, destination3, icmpId, 0, protocol, slot);
    if (entry === NOT_FOUND) {
      const dipId = tables.dipId(slot);
      const vips = tables.outboundVips(dipId);
      if (vips.length === 0) return DROP.no_outbound_vip;
      for (let i = 0; i < vips.length && entry === NOT_FOUND; i++) {
        const { vip, vipId } = vips[i]!; // i < length
        if (isIpv6Number(vip) !== isIpv6Number(source3)) continue;
        const id = ports.allocate(nat, dipId, slot, vip, PROTOCOL_UDP, destination3, 0, nowMs, protocol);
        if (id < 0) continue;
        entry = nat.create(OUTBOUND, UDP_ACTIVE, protocol, slot, source3, icmpId, destination3, 0, vip, id, nowMs);
        if (entry === NOT_FOUND) {
          ports.release(ports.allocatedRange, ports.allocatedUse, nowMs);
          return DROP.nat_table_full;
        }
        nat.takePort(entry, ports.allocatedRange, ports.allocatedUse);
        nat.counter[entry] = counters.vipPlace(vipId);
      }
      if (entry === NOT_FOUND) return DROP.snat_hold_full; // a ping is lost rather than held: the next one comes in a second
    }
    this.#life.track(entry, batch, true, nowMs);
    const at = this.#wayOut.copy(batch, WIRE_LINK, out);
    if (at < 0) return DROP.output_full;
    rewrite(out.view, at, header.headerBytes, true, addresses, nat.vip(entry), nat.vipPort(entry));
    counters.count(slot, nat.counter[entry]!, header.totalBytes);
    return NO_FAULT;
  }
}

function rewrite(
  view: DataView,
  at: number,
  headerBytes: number,
  isSource: boolean,
  addresses: Addresses,
  address: number,
  id: number,
): void {
  const icmp = at + headerBytes;
  let sum = updateWord(view.getUint16(icmp + ICMP_CHECKSUM), view.getUint16(icmp + ICMP_ID), id);
  view.setUint16(icmp + ICMP_ID, id);
  if (isIpv6Number(address)) {
    // ICMPv6's checksum covers the addresses.
    const addressAt = at + (isSource ? IPV6_SOURCE : IPV6_DESTINATION);
    const from = addresses.wordsAt(address);
    for (let word = 0; word < 4; word++) {
      const after = addresses.words[from + word]!; // four per number
      sum = updateDoubleWord(sum, view.getInt32(addressAt + word * 4), after);
      view.setInt32(addressAt + word * 4, after);
    }
  } else {
    const addressAt = at + (isSource ? IPV4_SOURCE : IPV4_DESTINATION);
    const before = view.getInt32(addressAt);
    view.setInt32(addressAt, address);
    view.setUint16(at + IPV4_CHECKSUM, updateDoubleWord(view.getUint16(at + IPV4_CHECKSUM), before, address));
  }
  view.setUint16(icmp + ICMP_CHECKSUM, sum);
}
