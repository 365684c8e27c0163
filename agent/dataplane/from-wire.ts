/**
 * Packets from the wire (Ananta §3.4.1): encapsulated by a MUX, or plain from machine to machine inside.
 *
 *     known MUX? -> our locator? -> NAT entry, or: endpoint -> security groups -> new entry     -> to the VM
 *                                   ICMP error: by the flow it quotes                           -> to the VM
 *                                   a segment without either: to an owner of its slot before (second chance)  -> to the wire
 *     a flow's peer? (FastPath)  -> its NAT entry                                               -> to the VM
 *     an owner of a slot? (second chance) -> as from a MUX, what it may pass on
 *     plain, a router's error about what we encapsulated                                          -> learned, or dropped
 *     plain, from inside, to a DIP of ours -> security groups, if it has any                    -> to the VM
 */
import { DROP } from "../../dataplane/drop-reasons.js";
import { FASTPATH_ADDRESS } from "../../dataplane/fastpath-message.js";
import { RANGE_SHIFT } from "../../dataplane/layouts.js";
import type { PacketBatch } from "../../dataplane/packet-batch.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import { NO_FAULT } from "../../packet/fault.js";
import { isEcho, isEchoReply, isIcmpError } from "../../packet/icmp.js";
import { decapsulatedEcn, innerFamily } from "../../packet/ip-in-ip.js";
import { ECN_MASK, isFragment, PROTOCOL_TCP } from "../../packet/ipv4.js";
import { isIcmp, parseIpHeader, parsePorts } from "../../packet/parse.js";
import { isIpv6Number } from "./addresses.js";
import { TCP_RST } from "../../packet/tcp.js";
import { NO_COUNTER } from "./counters.js";
import type { EchoNat } from "./snat/echo-nat.js";
import { type HostFragments, isLaterPart } from "./fragments.js";
import { type HostFastpath, OF_PEER } from "./fastpath.js";
import type { FlowLife } from "./flow-life.js";
import { CONFLICT, hasTcpData, type HostParts, startsTcpFlow, WELL_KNOWN_PORT_MAX } from "./host-parts.js";
import type { IcmpErrors } from "./icmp-errors.js";
import { UDP_UNANSWERED } from "./nat-state.js";
import { type SecondChance, STAYS_HERE } from "./second-chance.js";
import { NO_TUNNEL_ERROR, TunnelErrors } from "./tunnel-errors.js";
import type { WayOut } from "./way-out.js";

export interface FromWireStages {
  readonly wayOut: WayOut;
  readonly life: FlowLife;
  readonly icmp: IcmpErrors;
  readonly echo: EchoNat;
  readonly fastpath: HostFastpath;
  readonly fragments: HostFragments;
  readonly chance: SecondChance;
}

export class FromWire {
  readonly #parts: HostParts;
  readonly #wayOut: WayOut;
  readonly #life: FlowLife;
  readonly #icmp: IcmpErrors;
  readonly #echo: EchoNat;
  readonly #fastpath: HostFastpath;
  readonly #fragments: HostFragments;
  readonly #chance: SecondChance;
  readonly #tunnelErrors: TunnelErrors;

  constructor(parts: HostParts, { wayOut, life, icmp, echo, fastpath, fragments, chance }: FromWireStages) {
    this.#parts = parts;
    this.#wayOut = wayOut;
    this.#life = life;
    this.#icmp = icmp;
    this.#echo = echo;
    this.#fastpath = fastpath;
    this.#fragments = fragments;
    this.#chance = chance;
    this.#tunnelErrors = new TunnelErrors(parts);
  }

  /** `NO_FAULT` when the packet left, else the drop reason's number. */
  process(batch: PacketBatch, offset: number, length: number, nowMs: number, out: PacketBatch): number {
    const { header, addresses } = this.#parts;
    const fault = parseIpHeader(batch.view, offset, length, header);
    if (fault !== NO_FAULT) return fault;
    const family = innerFamily(header.protocol);
    if (family === 0) {
      const told = this.#tunnelErrors.take(batch, nowMs);
      if (told !== NO_TUNNEL_ERROR) return told;
    }
    const isPart = family === 0 && isFragment(header.fragment);
    if (isPart) this.#fragments.look(header);
    if (!addresses.name(header)) return DROP.bad_ip_address;
    if (family === 0) {
      const to = header.destination3;
      const result = this.#plain(batch, nowMs, out);
      addresses.unname(header);
      if (isPart) this.#fragments.release(this.#parts.tables.findLocator(to), false, out); // a number of ours stays
      return result;
    }
    const { tables } = this.#parts;
    const isOfMux = tables.isMux(header.source3);
    const sender = isOfMux ? 0 : tables.owners.dipAt(header.source3);
    const slot = this.#locate(isOfMux);
    this.#chance.arrived(sender);
    addresses.unname(header);
    if (slot < 0) return ~slot;
    return isOfMux ? this.#inside(batch, family, slot, nowMs, out) : this.#insidePeers(batch, family, slot, nowMs, out);
  }

  /** Slot of the DIP that the packet with the outer header at hand is for; or the complement of a drop reason's number. */
  #locate(isOfMux: boolean): number {
    const { header, tables } = this.#parts;
    const isPart = isFragment(header.fragment);
    const slot = tables.findLocator(header.destination3);
    if (!isOfMux) return isPart || slot === NOT_FOUND ? ~DROP.unknown_encapsulator : slot; // (P3)
    if (isPart) return ~DROP.fragment;
    return slot === NOT_FOUND ? ~DROP.not_our_dip : slot;
  }

  /** The packet behind the outer header at hand. */
  #inside(batch: PacketBatch, family: number, slot: number, nowMs: number, out: PacketBatch): number {
    const { header, addresses, reserved } = this.#parts;
    const outerTos = header.tos;
    const innerLength = header.totalBytes - header.headerBytes;
    const headerFault = parseIpHeader(batch.view, header.transportOffset, innerLength, header);
    if (headerFault !== NO_FAULT) return headerFault;
    if (header.family !== family) return DROP.bad_encapsulation;
    const isPart = isFragment(header.fragment);
    if (isPart) this.#fragments.look(header);
    const fault = isLaterPart(header) ? NO_FAULT : parsePorts(batch.view, header);
    if (fault !== NO_FAULT) return fault;
    if (header.ttl === 0) return DROP.ttl_expired;
    const ecn = decapsulatedEcn(outerTos, header.tos);
    if (ecn < 0) return DROP.bad_encapsulation;
    if (!addresses.name(header)) return DROP.bad_ip_address;
    const result = reserved.isReserved(header.source3)
      ? DROP.reserved_address
      : this.#decapsulated(batch, slot, ecn, nowMs, out);
    addresses.unname(header);
    if (isPart) this.#fragments.release(slot, false, out);
    return result;
  }

  #decapsulated(batch: PacketBatch, slot: number, ecn: number, nowMs: number, out: PacketBatch): number {
    const { header } = this.#parts;
    if (!this.#chance.mayCome()) return DROP.unknown_encapsulator; // (P3)
    if (header.destination3 === FASTPATH_ADDRESS) return this.#fastpath.message(batch, slot, nowMs, out);
    if (isLaterPart(header)) return this.#fragments.later(batch, slot, false, ecn, nowMs, out);
    if (!isIcmp(header)) return this.#toVm(batch, slot, ecn, nowMs, out);
    return isIcmpError(header)
      ? this.#icmp.fromWire(batch, slot, nowMs, out)
      : this.#echo.fromWire(batch, slot, ecn, nowMs, out);
  }

  /** As `#inside`, of a packet that another host encapsulated: of a flow that goes so (FastPath), or passed on to us. */
  #insidePeers(batch: PacketBatch, family: number, slot: number, nowMs: number, out: PacketBatch): number {
    const { header, addresses } = this.#parts;
    const outerTos = header.tos;
    const result = this.#fastpath.fromPeer(batch, family, slot, nowMs, out);
    if (result === DROP.unknown_encapsulator && this.#chance.isOfOwner) {
      this.#chance.parseOuter(batch);
      return this.#inside(batch, family, slot, nowMs, out);
    }
    if (result !== OF_PEER) return result;
    const ecn = decapsulatedEcn(outerTos, header.tos);
    const passed =
      header.ttl === 0
        ? DROP.ttl_expired
        : ecn < 0
          ? DROP.bad_encapsulation
          : this.#byEntry(batch, slot, this.#fastpath.entry, true, false, ecn, nowMs, out);
    addresses.unname(header);
    return passed;
  }

  /** Not encapsulated: from machine to machine inside, untranslated. */
  #plain(batch: PacketBatch, nowMs: number, out: PacketBatch): number {
    const { header, tables, nat, reserved } = this.#parts;
    const slot = tables.findLocator(header.destination3);
    if (slot === NOT_FOUND || !tables.isInternal(header.source3, slot)) return DROP.not_encapsulated;
    if (reserved.isReserved(header.source3)) return DROP.reserved_address;
    const groups = tables.groupsOf(slot);
    const dipId = tables.dipId(slot);
    if (groups.length === 0) return this.#wayOut.plain(batch, slot, dipId, out);
    if (isLaterPart(header)) return this.#fragments.later(batch, slot, false, header.tos & ECN_MASK, nowMs, out);
    const fault = parsePorts(batch.view, header);
    if (fault !== NO_FAULT) return fault; // without ports it cannot be judged
    if (isIcmp(header)) {
      // Errors and answers are about what was let out.
      const isQuestion = isEcho(header) && !isEchoReply(header);
      if (isQuestion && !this.#isAllowed(groups, header.protocol, 0, header.source3, [])) return DROP.security_group;
      return this.#wayOut.plain(batch, slot, dipId, out);
    }
    const { source3, destination3, sourcePort, destinationPort, protocol } = header;
    let entry = nat.findOutside(source3, destination3, sourcePort, destinationPort, protocol, slot);
    if (entry === NOT_FOUND) {
      if (!this.#isAllowed(groups, protocol, destinationPort, source3, [])) return DROP.security_group;
      entry = this.#life.createInbound(
        slot,
        destination3,
        destinationPort,
        source3,
        sourcePort,
        destination3,
        destinationPort,
        NO_COUNTER,
        UDP_UNANSWERED,
        nowMs,
      );
      if (entry === CONFLICT) return this.#life.conflict(slot, NO_COUNTER, nowMs);
    }
    if (entry !== NOT_FOUND) this.#follow(slot, entry, batch, nowMs);
    return this.#wayOut.plain(batch, slot, dipId, out);
  }

  /** The decapsulated packet in `header`, for the DIP in `slot`. */
  #toVm(batch: PacketBatch, slot: number, ecn: number, nowMs: number, out: PacketBatch): number {
    const { header, tables, nat, counters, reserved } = this.#parts;
    const { source3, destination3: vip, sourcePort, destinationPort, protocol } = header;
    const isHairpin = source3 === tables.address[slot]!;
    const remote = isHairpin ? reserved.hairpinFor(source3) : source3;
    let entry = nat.findOutside(remote, vip, sourcePort, destinationPort, protocol, slot);
    if (entry !== NOT_FOUND) {
      this.#chance.met();
      return this.#byEntry(batch, slot, entry, false, isHairpin, ecn, nowMs, out);
    }
    const passed = this.#chance.segment(batch, slot, nowMs, out);
    if (passed !== STAYS_HERE) return passed;
    const dipId = tables.dipId(slot);
    const { endpoints } = tables;
    const endpoint = endpoints.find(vip, protocol, destinationPort, dipId);
    if (endpoint === NOT_FOUND) return this.#whyNoEndpoint(dipId);
    // In mid-stream, the machine is to reset what it does not know either.
    if (endpoints.isEnded(endpoint) && (protocol !== PROTOCOL_TCP || startsTcpFlow(header))) return DROP.drain_ended;
    if (isIpv6Number(vip) !== isIpv6Number(tables.address[slot]!)) return DROP.no_endpoint; // no translation between families
    if (isHairpin && endpoints.dropsHairpin(endpoint)) return DROP.hairpin;
    const dipPort = endpoints.dipPortFor(endpoint, destinationPort);
    const vipGroups = endpoints.groups(endpoint);
    const isAllowed =
      (vipGroups.length === 0 || this.#isAllowed(vipGroups, protocol, destinationPort, source3, [])) &&
      this.#isAllowed(tables.groupsOf(slot), protocol, dipPort, source3, vipGroups);
    if (!isAllowed) return DROP.security_group;
    const dip = endpoints.isFloating(endpoint) ? vip : tables.address[slot]!;
    const counter = counters.vipPlace(endpoints.vipId(endpoint));
    entry = this.#life.createInbound(
      slot,
      dip,
      dipPort,
      remote,
      sourcePort,
      vip,
      destinationPort,
      counter,
      UDP_UNANSWERED,
      nowMs,
    );
    if (entry === CONFLICT) return this.#life.conflict(slot, counter, nowMs);
    if (entry !== NOT_FOUND) {
      endpoints.applyIdle(endpoint, nat, entry);
      this.#follow(slot, entry, batch, nowMs);
    } else if (
      (header.tcpFlags & TCP_RST) === 0 &&
      (isHairpin || endpoints.findOnlyByDipPort(dipId, protocol, dipPort) === NOT_FOUND)
    ) {
      // Without an entry the reply finds its way by the endpoint, if only one leads to this port. A reset has none.
      return DROP.nat_table_full;
    }
    if (entry === NOT_FOUND && (header.tcpFlags & TCP_RST) === 0) counters.untracked++;
    if (isHairpin) return this.#wayOut.hairpinIn(batch, slot, dipPort, ecn, counter, out);
    return this.#wayOut.toVm(batch, slot, dip, dipPort, ecn, counter, out);
  }

  /** The packet in `header`, of a flow that is known; straight from its peer's host, or by the VIP. */
  #byEntry(
    batch: PacketBatch,
    slot: number,
    entry: number,
    isFromPeer: boolean,
    isHairpin: boolean,
    ecn: number,
    nowMs: number,
    out: PacketBatch,
  ): number {
    const { nat, direct, header } = this.#parts;
    const counter = nat.counter[entry]!;
    // The other end does not go directly, and may not take what does; our machine, which only acknowledges, asks nothing (X2).
    if (!isFromPeer && hasTcpData(header)) direct.asked(entry, nowMs);
    if (nat.isDetached(entry) && !this.#life.takeBackInside(entry)) return this.#life.conflict(slot, counter, nowMs);
    this.#follow(slot, entry, batch, nowMs);
    if (isHairpin) return this.#wayOut.hairpinIn(batch, slot, nat.dipPort(entry), ecn, counter, out);
    return this.#wayOut.toVm(batch, slot, nat.dip(entry), nat.dipPort(entry), ecn, counter, out);
  }

  /** The packet in `header` goes by the entry; if it is a first fragment, the others will, too. */
  #follow(slot: number, entry: number, batch: PacketBatch, nowMs: number): void {
    this.#life.track(entry, batch, false, nowMs);
    if (isFragment(this.#parts.header.fragment)) this.#fragments.note(slot, false, entry, nowMs);
  }

  #isAllowed(
    named: readonly string[],
    protocol: number,
    port: number,
    peer: number,
    through: readonly string[],
  ): boolean {
    if (named.length === 0) return true;
    return this.#parts.tables.security.allows(named, {
      direction: "in",
      protocol,
      port,
      peer,
      through,
      isProbe: false,
    });
  }

  /** Why a packet from a MUX for a port without endpoint or flow is dropped. */
  #whyNoEndpoint(dipId: number): number {
    const { header, ports, tables } = this.#parts;
    const { destination3, destinationPort, protocol } = header;
    const range = ports.findRange(destination3, protocol, destinationPort >>> RANGE_SHIFT);
    if (range !== NOT_FOUND && ports.ownerOf(range) === dipId) return DROP.no_snat_flow;
    if (destinationPort <= WELL_KNOWN_PORT_MAX) return DROP.no_endpoint; // never a SNAT port
    for (const { vip } of tables.outboundVips(dipId)) if (vip === destination3) return DROP.not_owned_port;
    return DROP.no_endpoint;
  }
}
