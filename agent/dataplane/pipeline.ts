/**
 * The life of a packet in a Host Agent (Ananta §3.4, DATAPATH §5). Two ways in, told apart by the packet's link:
 *
 *     from the wire, encapsulated:   known MUX? -> our DIP? -> NAT entry, or endpoint -> new entry      -> to the VM
 *                    plain:          from an internal address to a DIP of ours                          -> to the VM
 *     from a VM:  its own source? -> NAT entry                                        -> VIP as source  -> to the wire
 *                                 -> internal destination: as it is                                     -> to the wire
 *                                 -> new flow: a SNAT port, or held until one comes   -> VIP as source  -> to the wire
 *
 * Replies go straight to the router, not through a MUX: direct server return (Ananta §3.4.1).
 *
 * Invariants
 *  (P1) Nothing leaves for the outside with a DIP as its source: a packet without translation is held or dropped.
 *  (P2) A packet from a VM has the VM's own address as its source, and is no encapsulation of the VM's making.
 *  (P3) Only MUXes that the control plane named may encapsulate to us.
 */
import { DROP } from "../../dataplane/drop-reasons.js";
import {
  EVENT_CONFLICT,
  EVENT_FLOW_ENDED,
  EVENT_HOLD,
  EVENT_SNAT_MISS,
  type EventRing,
} from "../../dataplane/event-ring.js";
import { RANGE_SHIFT } from "../../dataplane/layouts.js";
import { HOST_LINK, type PacketBatch, WIRE_LINK } from "../../dataplane/packet-batch.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import { NO_FAULT } from "../../packet/fault.js";
import { decapsulatedEcn, writeEcn } from "../../packet/ip-in-ip.js";
import {
  createPacketHeader,
  isFragment,
  type PacketHeader,
  parseIpv4Header,
  PROTOCOL_IP_IN_IP,
  PROTOCOL_IPV6_IN_IP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
} from "../../packet/ipv4.js";
import { parsePacket, parseTransport } from "../../packet/parse.js";
import { clampMss, TCP_ACK, TCP_RST, TCP_SYN } from "../../packet/tcp.js";
import { translateDestination, translateSource } from "../../packet/translate.js";
import { answerUnreachable } from "./answers.js";
import type { HostCounters } from "./counters.js";
import type { HeldPackets } from "./held-packets.js";
import {
  CLOSING,
  HALF_OPEN,
  INBOUND,
  NatState,
  OUTBOUND,
  UDP_ACTIVE,
  UDP_ANSWERED,
  UDP_UNANSWERED,
} from "./nat-state.js";
import { PROBE_SOURCE } from "./reserved.js";
import type { SnatPorts } from "./snat-ports.js";
import type { HostTables } from "./tables.js";
import { mayReuse, restartTcp, trackTcp } from "./tcp-track.js";

/** Answers of `#fromVm`, beside `NO_FAULT` and drop reasons: the packet waits for a port. */
const HELD = -2;

/** Well-known ports carry question and answer; see `NatTimeouts.udpAnsweredMs`. */
const WELL_KNOWN_PORT_MAX = 1_023;

export interface HostParts {
  readonly tables: HostTables;
  readonly nat: NatState;
  readonly ports: SnatPorts;
  readonly held: HeldPackets;
  readonly counters: HostCounters;
  readonly events: EventRing;
  readonly mssMax: number;
}

export class HostPipeline {
  readonly #tables: HostTables;
  readonly #nat: NatState;
  readonly #ports: SnatPorts;
  readonly #held: HeldPackets;
  readonly #counters: HostCounters;
  readonly #events: EventRing;
  readonly #mssMax: number;
  /** Half-open inbound flows may fill half of the table: beyond it they are served without an entry. */
  readonly #halfOpenMax: number;
  /** Inbound UDP that nobody answered, likewise: a quarter, so that both floods together leave a quarter. */
  readonly #unansweredMax: number;
  readonly #header = createPacketHeader();
  #generation = 0;

  constructor(parts: HostParts) {
    this.#tables = parts.tables;
    this.#nat = parts.nat;
    this.#ports = parts.ports;
    this.#held = parts.held;
    this.#counters = parts.counters;
    this.#events = parts.events;
    this.#mssMax = parts.mssMax;
    this.#halfOpenMax = parts.nat.capacity >>> 1;
    this.#unansweredMax = parts.nat.capacity >>> 2;
  }

  /** `link`: where all packets came from; -1: each from its own link in the batch. */
  process(batch: PacketBatch, link: number, nowMs: number, out: PacketBatch): void {
    if (this.#generation !== this.#tables.generation()) this.#retryHeld(nowMs, out);
    const count = batch.count;
    for (let i = 0; i < count; i++) {
      const offset = batch.offsets[i]!; // i < count
      const length = batch.lengths[i]!;
      this.#counters.receivedPackets++;
      this.#counters.receivedBytes += length;
      const from = link < 0 ? batch.links[i]! : link;
      const result =
        from === WIRE_LINK
          ? this.#fromWire(batch, offset, length, nowMs, out)
          : this.#fromVm(batch, offset, length, from, true, nowMs, out);
      if (result >= 0) this.#counters.drops[result]!++;
    }
  }

  /** The host's own packets, each for the machine of its link: probes. */
  processFromHost(batch: PacketBatch, out: PacketBatch): void {
    for (let i = 0; i < batch.count; i++) {
      const header = this.#header;
      const slot = this.#tables.findDip(batch.links[i]!); // i < count, as below
      const fault = parsePacket(batch.view, batch.offsets[i]!, batch.lengths[i]!, header);
      const reason =
        slot === NOT_FOUND
          ? DROP.unknown_link
          : fault !== NO_FAULT
            ? fault
            : this.#copy(batch, batch.links[i]!, out) < 0
              ? DROP.output_full
              : NO_FAULT;
      if (reason >= 0) this.#counters.drops[reason]!++;
    }
  }

  tick(nowMs: number, out: PacketBatch): void {
    for (let budget = NatState.expireMax; budget > 0; budget--) {
      const entry = this.#nat.nextExpired(nowMs);
      if (entry === NOT_FOUND) break;
      this.endFlow(entry, nowMs);
    }
    // What has waited its time is given up, even if a port came free just now: its sender has counted on the answer.
    for (let held = this.#held.expired(nowMs); held !== NOT_FOUND; held = this.#held.expired(nowMs)) {
      this.#giveUp(held, out);
    }
    this.#retryHeld(nowMs, out);
  }

  /** Removes a NAT entry, and gives back its port. */
  endFlow(entry: number, nowMs: number): void {
    const nat = this.#nat;
    const isOutbound = nat.direction[entry] === OUTBOUND;
    if (isOutbound) this.#ports.release(nat.range[entry]!, nat.use[entry]!, nowMs);
    const vipId = this.#counters.vipId(nat.counter[entry]!);
    const dipId = this.#tables.dipId(nat.dipSlot(entry));
    const protocol = nat.protocol(entry);
    const [remote, remotePort] = [nat.remote(entry), nat.remotePort(entry)];
    const [vip, vipPort] = [nat.vip(entry), nat.vipPort(entry)];
    if (isOutbound) {
      this.#events.push(EVENT_FLOW_ENDED, nowMs, protocol, vip, vipPort, remote, remotePort, vipId, dipId);
    } else this.#events.push(EVENT_FLOW_ENDED, nowMs, protocol, remote, remotePort, vip, vipPort, vipId, dipId);
    nat.remove(entry);
  }

  // ---- from the wire ----

  #fromWire(batch: PacketBatch, offset: number, length: number, nowMs: number, out: PacketBatch): number {
    const header = this.#header;
    const outerFault = parseIpv4Header(batch.view, offset, length, header);
    if (outerFault !== NO_FAULT) return outerFault;
    if (header.protocol !== PROTOCOL_IP_IN_IP) return this.#plainFromWire(batch, out);
    if (!this.#tables.isMux(header.source)) return DROP.unknown_encapsulator; // (P3)
    if (isFragment(header.fragment)) return DROP.fragment;
    const slot = this.#tables.findLocator(header.destination);
    if (slot === NOT_FOUND) return DROP.not_our_dip;
    const outerTos = header.tos;
    const innerLength = header.totalBytes - header.headerBytes;
    const fault = parsePacket(batch.view, offset + header.headerBytes, innerLength, header);
    if (fault !== NO_FAULT) return fault;
    if (header.ttl === 0) return DROP.ttl_expired;
    const ecn = decapsulatedEcn(outerTos, header.tos);
    if (ecn < 0) return DROP.bad_encapsulation;
    return this.#toVm(batch, slot, ecn, nowMs, out);
  }

  /** Not encapsulated: from machine to machine inside, untranslated. */
  #plainFromWire(batch: PacketBatch, out: PacketBatch): number {
    const header = this.#header;
    const slot = this.#tables.findLocator(header.destination);
    if (slot === NOT_FOUND || !this.#tables.internal.contains(header.source)) return DROP.not_encapsulated;
    return this.#copy(batch, this.#tables.dipId(slot), out) < 0 ? DROP.output_full : this.#sent(slot);
  }

  /** The decapsulated packet in `header`, for the DIP in `slot`. */
  #toVm(batch: PacketBatch, slot: number, ecn: number, nowMs: number, out: PacketBatch): number {
    const { source, destination, sourcePort, destinationPort, protocol } = this.#header;
    const nat = this.#nat;
    let entry = nat.findOutside(source, destination, sourcePort, destinationPort, protocol, slot);
    if (entry !== NOT_FOUND) {
      if (nat.isDetached(entry) && !this.#takeBackInside(entry))
        return this.#conflict(slot, nat.counter[entry]!, nowMs);
      this.#track(entry, batch, false, nowMs);
      return this.#deliver(batch, slot, nat.dipPort(entry), ecn, nat.counter[entry]!, out);
    }
    const dipId = this.#tables.dipId(slot);
    const endpoint = this.#tables.endpoints.find(destination, protocol, destinationPort, dipId);
    if (endpoint === NOT_FOUND) return this.#whyNoEndpoint(dipId);
    if (source === this.#tables.address[slot]) return DROP.hairpin;
    const dipPort = this.#tables.endpoints.dipPort(endpoint);
    const counter = this.#counters.vipPlace(this.#tables.endpoints.vipId(endpoint));
    entry = this.#createInbound(
      slot,
      dipPort,
      source,
      sourcePort,
      destination,
      destinationPort,
      counter,
      UDP_UNANSWERED,
      nowMs,
    );
    if (entry === CONFLICT) return this.#conflict(slot, counter, nowMs);
    if (entry !== NOT_FOUND) this.#track(entry, batch, false, nowMs);
    // Without an entry the reply finds its way by the endpoint, if only one leads to this port.
    else if (this.#tables.endpoints.findOnlyByDipPort(dipId, protocol, dipPort) === NOT_FOUND)
      return DROP.nat_table_full;
    return this.#deliver(batch, slot, dipPort, ecn, counter, out);
  }

  /**
   * A detached entry may have the machine's packets back once no other flow has them: for a closed one, with a SYN. Else the
   * machine's answer would leave with the other flow's VIP.
   */
  #takeBackInside(entry: number): boolean {
    const nat = this.#nat;
    const holder = nat.holderOfInside(entry);
    if (holder !== NOT_FOUND) {
      if (!nat.isClosed(holder) || !startsTcpFlow(this.#header)) return false;
      nat.detach(holder);
    }
    nat.attach(entry);
    return true;
  }

  /** The client uses one port towards two VIPs that lead to one DIP port: the machine cannot tell the flows apart. */
  #conflict(slot: number, counter: number, nowMs: number): number {
    const { source, sourcePort, destination, destinationPort, protocol } = this.#header;
    const [vipId, dipId] = [this.#counters.vipId(counter), this.#tables.dipId(slot)];
    this.#events.push(EVENT_CONFLICT, nowMs, protocol, source, sourcePort, destination, destinationPort, vipId, dipId);
    return DROP.flow_conflict;
  }

  /** Why a packet from a MUX for a port without endpoint or flow is dropped. */
  #whyNoEndpoint(dipId: number): number {
    const { destination, destinationPort, protocol } = this.#header;
    const range = this.#ports.findRange(destination, protocol, destinationPort >>> RANGE_SHIFT);
    if (range !== NOT_FOUND && this.#ports.ownerOf(range) === dipId) return DROP.no_snat_flow;
    if (destinationPort <= WELL_KNOWN_PORT_MAX) return DROP.no_endpoint; // never a SNAT port
    for (const { vip } of this.#tables.outboundVips(dipId)) if (vip === destination) return DROP.not_owned_port;
    return DROP.no_endpoint;
  }

  /** Copies the packet out with DIP:dipPort as destination. */
  #deliver(batch: PacketBatch, slot: number, dipPort: number, ecn: number, counter: number, out: PacketBatch): number {
    const header = this.#header;
    const at = this.#copy(batch, this.#tables.dipId(slot), out);
    if (at < 0) return DROP.output_full;
    const transport = at + header.headerBytes;
    translateDestination(out.view, at, transport, header.protocol, this.#tables.address[slot]!, dipPort);
    this.#clampMss(out, at);
    writeEcn(out.view, at, ecn);
    this.#counters.count(slot, counter, header.totalBytes);
    return NO_FAULT;
  }

  // ---- from a VM ----

  /** `NO_FAULT` when the packet left, `HELD` when it waits, else the drop reason's number. */
  #fromVm(
    batch: PacketBatch,
    offset: number,
    length: number,
    link: number,
    mayHold: boolean,
    nowMs: number,
    out: PacketBatch,
  ): number {
    const header = this.#header;
    const slot = this.#tables.findDip(link);
    if (slot === NOT_FOUND) return DROP.unknown_link;
    const fault = parseIpv4Header(batch.view, offset, length, header);
    if (fault !== NO_FAULT) return fault;
    if (header.source !== this.#tables.address[slot]) return DROP.foreign_source; // (P2)
    const protocol = header.protocol;
    if (protocol === PROTOCOL_IP_IN_IP || protocol === PROTOCOL_IPV6_IN_IP) return DROP.forbidden_protocol;
    if (header.destination3 === PROBE_SOURCE) {
      // The host's own: answers to its probes. The link tells it whose.
      const at = this.#copy(batch, HOST_LINK, out);
      if (at < 0) return DROP.output_full;
      out.sources[out.count - 1] = link;
      return NO_FAULT;
    }
    const isInternal = this.#tables.internal.contains(header.destination);
    const transportFault = parseTransport(batch.view, header);
    if (transportFault !== NO_FAULT) {
      const hasPorts = (protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP) && !isFragment(header.fragment);
      if (!isInternal || hasPorts) return transportFault; // fragments and ICMP pass inside only
      return this.#copy(batch, WIRE_LINK, out) < 0 ? DROP.output_full : this.#sent(slot);
    }
    const nat = this.#nat;
    const { source, destination, sourcePort, destinationPort } = header;
    const startsFlow = startsTcpFlow(header);
    const entry = nat.findInside(source, destination, sourcePort, destinationPort, protocol, slot);
    if (entry !== NOT_FOUND && !(startsFlow && nat.isClosed(entry))) {
      this.#track(entry, batch, true, nowMs);
      return this.#leave(batch, slot, nat.vip(entry), nat.vipPort(entry), nat.counter[entry]!, out);
    }
    if (entry !== NOT_FOUND) {
      // The machine uses its port again towards the same destination, and the old flow's port may still be on hold.
      if (nat.direction[entry] === OUTBOUND && mayReuse(nat, entry, batch.view, header)) {
        restartTcp(nat, entry, nowMs);
        this.#track(entry, batch, true, nowMs);
        return this.#leave(batch, slot, nat.vip(entry), nat.vipPort(entry), nat.counter[entry]!, out);
      }
      nat.detach(entry);
    }
    if (isInternal) return this.#copy(batch, WIRE_LINK, out) < 0 ? DROP.output_full : this.#sent(slot);
    if (!startsFlow) {
      const result = this.#withoutEntry(batch, slot, link, nowMs, out);
      if (result !== NEW_FLOW) return result;
    }
    return this.#startOutbound(batch, slot, link, mayHold, nowMs, out);
  }

  /**
   * In mid-stream, and no entry: after a restart of the agent, or beyond the table's size. A packet from the port of exactly
   * one endpoint is a reply of that endpoint; other TCP belongs to a flow that nobody can know any more.
   */
  #withoutEntry(batch: PacketBatch, slot: number, link: number, nowMs: number, out: PacketBatch): number {
    const { destination, sourcePort, destinationPort, protocol } = this.#header;
    const endpoints = this.#tables.endpoints;
    const endpoint = endpoints.findOnlyByDipPort(this.#tables.dipId(slot), protocol, sourcePort);
    if (endpoint === NOT_FOUND) {
      if (protocol !== PROTOCOL_TCP) return NEW_FLOW;
      answerUnreachable(batch, this.#header, link, out);
      return DROP.no_flow;
    }
    const vip = endpoints.vip(endpoint);
    const port = endpoints.port(endpoint);
    // The outside tuple may still be that of a flow to a former port of the DIP (N2).
    if (this.#nat.findOutside(destination, vip, destinationPort, port, protocol, slot) !== NOT_FOUND) {
      return DROP.flow_conflict;
    }
    const counter = this.#counters.vipPlace(endpoints.vipId(endpoint));
    const entry = this.#createInbound(
      slot,
      sourcePort,
      destination,
      destinationPort,
      vip,
      port,
      counter,
      UDP_ACTIVE,
      nowMs,
    );
    if (entry === CONFLICT) return DROP.flow_conflict;
    if (entry !== NOT_FOUND) this.#track(entry, batch, true, nowMs);
    return this.#leave(batch, slot, vip, port, counter, out);
  }

  /** A new flow to the outside: it gets a port, or waits for one. */
  #startOutbound(
    batch: PacketBatch,
    slot: number,
    link: number,
    mayHold: boolean,
    nowMs: number,
    out: PacketBatch,
  ): number {
    const { source, destination, sourcePort, destinationPort, protocol } = this.#header;
    const vips = this.#tables.outboundVips(link);
    if (vips.length === 0) return DROP.no_outbound_vip;
    if (mayHold && this.#held.size > 0 && this.#held.isHeld(this.#header, slot)) return DROP.already_held;
    for (let i = 0; i < vips.length; i++) {
      const { vip, vipId } = vips[i]!; // i < length
      const port = this.#ports.allocate(this.#nat, link, slot, vip, protocol, destination, destinationPort, nowMs);
      if (port < 0) continue;
      const { allocatedRange, allocatedUse } = this.#ports;
      const queue = protocol === PROTOCOL_TCP ? HALF_OPEN : UDP_ACTIVE;
      const nat = this.#nat;
      const entry = nat.create(
        OUTBOUND,
        queue,
        protocol,
        slot,
        source,
        sourcePort,
        destination,
        destinationPort,
        vip,
        port,
        nowMs,
      );
      if (entry === NOT_FOUND) {
        this.#ports.release(allocatedRange, allocatedUse, nowMs);
        return DROP.nat_table_full;
      }
      nat.range[entry] = allocatedRange;
      nat.use[entry] = allocatedUse;
      nat.counter[entry] = this.#counters.vipPlace(vipId);
      this.#track(entry, batch, true, nowMs);
      return this.#leave(batch, slot, vip, port, nat.counter[entry], out);
    }
    if (!mayHold) return HELD;
    const vipId = vips[0]!.vipId;
    this.#events.push(EVENT_SNAT_MISS, nowMs, protocol, source, sourcePort, destination, destinationPort, vipId, link);
    if (!this.#held.hold(batch, this.#header, slot, nowMs)) {
      answerUnreachable(batch, this.#header, link, out);
      return DROP.snat_hold_full;
    }
    this.#events.push(EVENT_HOLD, nowMs, protocol, source, sourcePort, destination, destinationPort, vipId, link);
    return HELD;
  }

  /** Copies the packet out with VIP:port as source, straight to the router. */
  #leave(batch: PacketBatch, slot: number, vip: number, port: number, counter: number, out: PacketBatch): number {
    const header = this.#header;
    const at = this.#copy(batch, WIRE_LINK, out);
    if (at < 0) return DROP.output_full;
    translateSource(out.view, at, at + header.headerBytes, header.protocol, vip, port);
    this.#clampMss(out, at);
    this.#counters.count(slot, counter, header.totalBytes);
    return NO_FAULT;
  }

  // ---- held packets ----

  /** Sends what found a port meanwhile, oldest first. */
  #retryHeld(nowMs: number, out: PacketBatch): void {
    this.#generation = this.#tables.generation();
    let record = this.#held.oldest();
    while (record !== NOT_FOUND) {
      const next = this.#held.newer(record);
      const slot = this.#held.dipSlot[record]!;
      const link = this.#tables.dipId(slot);
      const offset = this.#held.offset(record);
      const result = this.#fromVm(this.#held.store, offset, this.#held.lengths[record]!, link, false, nowMs, out);
      if (result !== HELD) {
        if (result >= 0) this.#counters.drops[result]!++;
        this.#held.remove(record);
      }
      record = next;
    }
  }

  #giveUp(record: number, out: PacketBatch): void {
    const header = this.#header;
    const { store } = this.#held;
    // It was parsed when it was held, so it has no fault.
    parsePacket(store.view, this.#held.offset(record), this.#held.lengths[record]!, header);
    answerUnreachable(store, header, this.#tables.dipId(this.#held.dipSlot[record]!), out);
    this.#counters.drops[DROP.snat_hold_expired]!++;
    this.#held.remove(record);
  }

  // ---- shared ----

  /** An inbound entry, `NOT_FOUND` when it goes without one, or `CONFLICT`. `udpQueue`: where it begins if it is UDP. */
  #createInbound(
    slot: number,
    dipPort: number,
    remote: number,
    remotePort: number,
    vip: number,
    vipPort: number,
    counter: number,
    udpQueue: number,
    nowMs: number,
  ): number {
    const nat = this.#nat;
    const { protocol, tcpFlags } = this.#header;
    const dip = this.#tables.address[slot]!;
    const other = nat.findInside(dip, remote, dipPort, remotePort, protocol, slot);
    if (other !== NOT_FOUND) {
      if (!nat.isClosed(other)) return CONFLICT;
      nat.detach(other);
    }
    if (protocol === PROTOCOL_TCP) {
      if ((tcpFlags & TCP_RST) !== 0 || nat.queues.sizes[HALF_OPEN]! >= this.#halfOpenMax) return NOT_FOUND;
    } else if (udpQueue === UDP_UNANSWERED && nat.queues.sizes[UDP_UNANSWERED]! >= this.#unansweredMax)
      return NOT_FOUND;
    const queue = protocol === PROTOCOL_TCP ? HALF_OPEN : udpQueue;
    const entry = nat.create(INBOUND, queue, protocol, slot, dip, dipPort, remote, remotePort, vip, vipPort, nowMs);
    if (entry !== NOT_FOUND) nat.counter[entry] = counter;
    return entry;
  }

  /** The packet in `header` belongs to the entry: its state and lifetime follow. */
  #track(entry: number, batch: PacketBatch, fromInside: boolean, nowMs: number): void {
    const nat = this.#nat;
    const header = this.#header;
    if (header.protocol === PROTOCOL_TCP) {
      // Whoever began the flow uses its port again: the old connection is over, whatever we had seen of its end.
      const isOfInitiator = fromInside === (nat.direction[entry] === OUTBOUND);
      const isEnding = nat.isClosed(entry) || nat.queues.queueOf[entry] === CLOSING;
      if (isOfInitiator && isEnding && startsTcpFlow(header)) restartTcp(nat, entry, nowMs);
      trackTcp(nat, entry, batch.view, header, fromInside, nowMs);
      return;
    }
    if (nat.direction[entry] === INBOUND) nat.countUdp(entry, fromInside);
    const isAnswer = !fromInside && nat.direction[entry] === OUTBOUND && header.sourcePort <= WELL_KNOWN_PORT_MAX;
    const wasAnswered = fromInside || nat.queues.queueOf[entry] !== UDP_UNANSWERED;
    const queue = isAnswer ? UDP_ANSWERED : wasAnswered ? UDP_ACTIVE : UDP_UNANSWERED;
    if (nat.queues.queueOf[entry] === queue) nat.queues.touch(entry, nowMs);
    else nat.queues.move(entry, queue, nowMs);
  }

  /** SYN and SYN-ACK, either way: no segment shall be too long for the tunnel (Ananta §6). */
  #clampMss(out: PacketBatch, at: number): void {
    const header = this.#header;
    if (header.protocol !== PROTOCOL_TCP || (header.tcpFlags & TCP_SYN) === 0) return;
    const transport = at + header.headerBytes;
    clampMss(out.view, transport, at + (header.payloadOffset - header.offset), this.#mssMax);
  }

  /** Offset of the packet's copy in `out`, or -1 when full. */
  #copy(batch: PacketBatch, link: number, out: PacketBatch): number {
    const { offset, totalBytes } = this.#header;
    const at = out.reserve(totalBytes, link);
    if (at < 0) return at;
    out.copyIn(batch, offset, at, totalBytes);
    this.#counters.sentPackets++;
    this.#counters.sentBytes += totalBytes;
    return at;
  }

  #sent(slot: number): number {
    this.#counters.dipPackets[slot]!++;
    this.#counters.dipBytes[slot]! += this.#header.totalBytes;
    return NO_FAULT;
  }
}

/** The packet in `header` is a SYN without ACK. */
const startsTcpFlow = ({ protocol, tcpFlags }: PacketHeader): boolean =>
  protocol === PROTOCOL_TCP && (tcpFlags & (TCP_SYN | TCP_ACK)) === TCP_SYN;

/** Answers of `#createInbound` and `#withoutEntry`, outside of entries and drop reasons. */
const CONFLICT = -3;
const NEW_FLOW = -4;
