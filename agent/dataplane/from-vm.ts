/**
 * Packets from a machine (Ananta §3.4.1, §3.4.2):
 *
 *     its own source? -> to the host itself: an answer to a probe; to the hairpin address: back to itself, as from the VIP
 *                     -> NAT entry                                              -> VIP as source  -> to the wire, or, told by a
 *                                                                                   MUX, encapsulated to the peer's host
 *                     -> security groups -> internal destination: as it is                        -> to the wire
 *                                        -> new flow: a SNAT port, or it waits  -> VIP as source  -> to the wire
 */
import { DROP } from "../../dataplane/drop-reasons.js";
import { FASTPATH_ADDRESS } from "../../dataplane/fastpath-message.js";
import { HOST_LINK, type PacketBatch, WIRE_LINK } from "../../dataplane/packet-batch.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import { NO_FAULT } from "../../packet/fault.js";
import { isEcho, isEchoReply, isIcmpError } from "../../packet/icmp.js";
import { innerFamily } from "../../packet/ip-in-ip.js";
import { ECN_MASK, isFragment, PROTOCOL_TCP, PROTOCOL_UDP } from "../../packet/ipv4.js";
import { isIcmp, parseIpHeader, parsePorts } from "../../packet/parse.js";
import { TCP_RST } from "../../packet/tcp.js";
import { isIpv6Number } from "./addresses.js";
import { answerUnreachable } from "./answers.js";
import { NO_COUNTER } from "./counters.js";
import type { EchoNat } from "./snat/echo-nat.js";
import { type HostFragments, isLaterPart } from "./fragments.js";
import type { HostFastpath } from "./fastpath.js";
import type { FlowLife } from "./flow-life.js";
import { CONFLICT, type HostParts, NEW_FLOW, startsTcpFlow } from "./host-parts.js";
import type { IcmpErrors } from "./icmp-errors.js";
import { HALF_OPEN, OUTBOUND, UDP_ACTIVE } from "./nat-state.js";
import type { Outbound } from "./snat/outbound.js";
import { mayReuse, restartTcp } from "./tcp-track.js";
import { NOT_DIRECT, type WayOut } from "./way-out.js";

export interface FromVmStages {
  readonly wayOut: WayOut;
  readonly life: FlowLife;
  readonly icmp: IcmpErrors;
  readonly echo: EchoNat;
  readonly outbound: Outbound;
  readonly fastpath: HostFastpath;
  readonly fragments: HostFragments;
}

export class FromVm {
  readonly #parts: HostParts;
  readonly #stages: FromVmStages;

  constructor(parts: HostParts, stages: FromVmStages) {
    this.#parts = parts;
    this.#stages = stages;
  }

  /** `NO_FAULT` when the packet left, `HELD` when it waits, else the drop reason's number. */
  process(
    batch: PacketBatch,
    offset: number,
    length: number,
    link: number,
    mayHold: boolean,
    nowMs: number,
    out: PacketBatch,
  ): number {
    const { header, tables, addresses } = this.#parts;
    const slot = tables.findDip(link);
    if (slot === NOT_FOUND) return DROP.unknown_link;
    const fault = parseIpHeader(batch.view, offset, length, header);
    if (fault !== NO_FAULT) return fault;
    const isPart = isFragment(header.fragment);
    const { fragments } = this.#stages;
    if (isPart) fragments.look(header);
    if (!addresses.name(header)) return DROP.bad_ip_address;
    const result = this.#named(batch, slot, link, mayHold, nowMs, out);
    if (isPart && result === NO_FAULT) this.#note(slot, nowMs);
    addresses.unname(header);
    if (isPart) fragments.release(slot, true, out);
    return result;
  }

  /** A fragment left: if it is a first one, the others follow it. */
  #note(slot: number, nowMs: number): void {
    const { header, nat, tables } = this.#parts;
    const { source3, destination3, sourcePort, destinationPort, protocol } = header;
    if (sourcePort === 0 && destinationPort === 0) return; // a later one, or of a protocol without ports
    const entry = nat.findInside(source3, destination3, sourcePort, destinationPort, protocol, slot);
    const isUntranslated = tables.isInternal(destination3, slot) && source3 === tables.address[slot];
    if (entry !== NOT_FOUND || isUntranslated) this.#stages.fragments.note(slot, true, entry, nowMs);
  }

  #named(batch: PacketBatch, slot: number, link: number, mayHold: boolean, nowMs: number, out: PacketBatch): number {
    const { header, tables, nat, reserved } = this.#parts;
    const { source3, destination3, protocol } = header;
    const isOwnAddress = source3 === tables.address[slot];
    if (!isOwnAddress && !tables.endpoints.isFloatingVip(source3, link)) return DROP.foreign_source; // (P2)
    if (innerFamily(protocol) !== 0) return DROP.forbidden_protocol;
    if (destination3 === FASTPATH_ADDRESS) return DROP.reserved_address;
    if (reserved.isProbe(destination3)) return this.#toHost(batch, link, out);
    if (isLaterPart(header)) return this.#stages.fragments.later(batch, slot, true, header.tos & ECN_MASK, nowMs, out);
    const transportFault = parsePorts(batch.view, header);
    if (transportFault !== NO_FAULT) return this.#unjudged(batch, slot, transportFault, out);
    if (isIcmp(header)) return this.#icmp(batch, slot, nowMs, out);
    const { sourcePort, destinationPort } = header;
    const entry = nat.findInside(source3, destination3, sourcePort, destinationPort, protocol, slot);
    if (entry !== NOT_FOUND) {
      if (!(startsTcpFlow(header) && nat.isClosed(entry))) return this.#ofEntry(batch, slot, entry, nowMs, out);
      // The machine uses its port again towards the same destination, and the old flow's port may still be on hold.
      if (nat.direction[entry] === OUTBOUND && mayReuse(nat, entry, batch.view, header)) {
        restartTcp(nat, entry, nowMs);
        return this.#ofEntry(batch, slot, entry, nowMs, out);
      }
      nat.detach(entry);
    }
    return this.#withoutFlow(batch, slot, link, mayHold, isOwnAddress, nowMs, out);
  }

  #ofEntry(batch: PacketBatch, slot: number, entry: number, nowMs: number, out: PacketBatch): number {
    const { nat, direct, reserved } = this.#parts;
    const { life, wayOut, fastpath } = this.#stages;
    life.track(entry, batch, true, nowMs);
    if (direct.isDirect(entry, nowMs)) {
      const result = fastpath.send(batch, slot, entry, nowMs, out);
      if (result !== NOT_DIRECT) return result; // else MUXes know what to do with it
    }
    const counter = nat.counter[entry]!;
    if (reserved.isHairpin(nat.remote(entry)))
      return wayOut.hairpinOut(batch, slot, nat.vip(entry), nat.vipPort(entry), counter, out);
    return wayOut.toWire(batch, slot, nat.vip(entry), nat.vipPort(entry), counter, out);
  }

  #withoutFlow(
    batch: PacketBatch,
    slot: number,
    link: number,
    mayHold: boolean,
    isOwnAddress: boolean,
    nowMs: number,
    out: PacketBatch,
  ): number {
    const { header, tables, reserved } = this.#parts;
    if (reserved.isHairpin(header.destination3)) return DROP.no_flow;
    const isInternal = tables.isInternal(header.destination3, slot);
    if (!startsTcpFlow(header) && !(isInternal && isOwnAddress)) {
      const result = this.#replyOfEndpoint(batch, slot, link, nowMs, out);
      if (result !== NEW_FLOW) return result;
    }
    if (!isOwnAddress) return DROP.foreign_source; // a VIP that the machine holds answers; it begins nothing
    const groups = tables.groupsOf(slot);
    if (groups.length > 0 && !this.#isAllowed(groups, header.destinationPort)) return DROP.security_group;
    if (isInternal) return this.#startInternal(batch, slot, groups.length > 0, nowMs, out);
    if (header.protocol === PROTOCOL_TCP && !startsTcpFlow(header)) {
      answerUnreachable(batch, header, link, out);
      return DROP.no_flow;
    }
    return this.#stages.outbound.start(batch, slot, link, mayHold, nowMs, out);
  }

  /** Untranslated. With security groups it gets an entry all the same, so that its answers pass. */
  #startInternal(batch: PacketBatch, slot: number, isGuarded: boolean, nowMs: number, out: PacketBatch): number {
    const { header, nat } = this.#parts;
    const { life, wayOut } = this.#stages;
    if (isGuarded) {
      const { source3, destination3, sourcePort, destinationPort, protocol } = header;
      const queue = protocol === PROTOCOL_TCP ? HALF_OPEN : UDP_ACTIVE;
      if (nat.findOutside(destination3, source3, destinationPort, sourcePort, protocol, slot) === NOT_FOUND) {
        const entry = nat.create(
          OUTBOUND,
          queue,
          protocol,
          slot,
          source3,
          sourcePort,
          destination3,
          destinationPort,
          source3,
          sourcePort,
          nowMs,
        );
        if (entry === NOT_FOUND) return DROP.nat_table_full;
        nat.counter[entry] = NO_COUNTER;
        life.track(entry, batch, true, nowMs);
      }
    }
    return wayOut.plain(batch, slot, WIRE_LINK, out);
  }

  /**
   * In mid-stream, and no entry: after a restart of the agent, or beyond the table's size. A packet from the port of exactly
   * one endpoint is a reply of that endpoint.
   */
  #replyOfEndpoint(batch: PacketBatch, slot: number, link: number, nowMs: number, out: PacketBatch): number {
    const { header, tables, nat, counters } = this.#parts;
    const { source3, destination3, sourcePort, destinationPort, protocol } = header;
    const { life, wayOut } = this.#stages;
    const { endpoints } = tables;
    const isFloating = source3 !== tables.address[slot];
    const endpoint = isFloating
      ? endpoints.find(source3, protocol, sourcePort, link)
      : endpoints.findOnlyByDipPort(link, protocol, sourcePort);
    if (endpoint === NOT_FOUND) return NEW_FLOW;
    const vip = endpoints.vip(endpoint);
    if (isIpv6Number(vip) !== isIpv6Number(source3)) return NEW_FLOW;
    const port = endpoints.portFor(endpoint, sourcePort);
    // The outside tuple may still be that of a flow to a former port of the DIP (N2).
    if (nat.findOutside(destination3, vip, destinationPort, port, protocol, slot) !== NOT_FOUND)
      return DROP.flow_conflict;
    const counter = counters.vipPlace(endpoints.vipId(endpoint));
    const entry = life.createInbound(
      slot,
      source3,
      sourcePort,
      destination3,
      destinationPort,
      vip,
      port,
      counter,
      UDP_ACTIVE,
      nowMs,
    );
    if (entry === CONFLICT) return DROP.flow_conflict;
    if (entry !== NOT_FOUND) {
      endpoints.applyIdle(endpoint, nat, entry);
      life.track(entry, batch, true, nowMs);
    } else if ((header.tcpFlags & TCP_RST) === 0) counters.untracked++;
    return wayOut.toWire(batch, slot, vip, port, counter, out);
  }

  #isAllowed(groups: readonly string[], port: number): boolean {
    const { header, tables } = this.#parts;
    const { protocol, destination3: peer } = header;
    return tables.security.allows(groups, { direction: "out", protocol, port, peer, through: [], isProbe: false });
  }

  #icmp(batch: PacketBatch, slot: number, nowMs: number, out: PacketBatch): number {
    const { header, tables } = this.#parts;
    const { wayOut, icmp, echo } = this.#stages;
    const isError = isIcmpError(header);
    if (isError) {
      const result = icmp.fromVm(batch, slot, out);
      if (result !== DROP.icmp_unmatched) return result;
    } else if (isEcho(header) && !isEchoReply(header)) {
      const groups = tables.groupsOf(slot);
      if (groups.length > 0 && !this.#isAllowed(groups, 0)) return DROP.security_group;
    }
    if (tables.isInternal(header.destination3, slot)) return wayOut.plain(batch, slot, WIRE_LINK, out);
    return isError ? DROP.icmp_unmatched : echo.fromVm(batch, slot, nowMs, out);
  }

  /** Without ports, so no flow: other protocols, and ICMP in pieces, pass inside only, and past no security group. */
  #unjudged(batch: PacketBatch, slot: number, fault: number, out: PacketBatch): number {
    const { header, tables } = this.#parts;
    const { protocol, fragment, destination3 } = header;
    const hasPorts =
      (protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP || isIcmp(header)) && !isFragment(fragment);
    if (hasPorts || !tables.isInternal(destination3, slot) || tables.groupsOf(slot).length > 0) return fault;
    return this.#stages.wayOut.plain(batch, slot, WIRE_LINK, out);
  }

  /** The host's own: an answer to a probe. */
  #toHost(batch: PacketBatch, link: number, out: PacketBatch): number {
    if (this.#stages.wayOut.copy(batch, HOST_LINK, out) < 0) return DROP.output_full;
    out.sources[out.count - 1] = link;
    return NO_FAULT;
  }
}
