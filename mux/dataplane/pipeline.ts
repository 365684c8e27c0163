/**
 * The life of a packet in a MUX (Ananta §3.3):
 *
 *     IP header -> VIP? -> fair share? -> fragment?  -> the MUX that keeps this packet's fragments -> DIP
 *                                      -> ICMP error? -> the flow that it quotes                   -> DIP
 *     exact rule       -> SYN: the map. Else: the flow table, then the map                         -> DIP
 *     inbound NAT      -> its DIP
 *     SNAT range       -> its DIP
 *     all-port rule    -> as an exact rule
 *     nothing          -> once to another MUX, which may be ahead of us
 *     DIP -> locator -> outer header in front, inner packet untouched -> out
 *
 * Invariants
 *  (P1) A packet is relayed to another MUX at most once: what a peer relayed is never relayed again.
 *  (P2) With second chance, a TCP flow first seen in mid-stream is not pinned: its agent may know an older owner.
 *  (P3) Per packet this allocates nothing, answers of our own apart (they are rate-limited): numbers are signed 32-bit words
 *       in typed arrays and on `header`, which is filled again for each packet.
 */
import { DROP, DROP_REASONS } from "../../dataplane/drop-reasons.js";
import { FragmentTable } from "../../dataplane/fragment-table.js";
import {
  DISTRIBUTION_FIVE_TUPLE,
  distributionPorts,
  distributionProtocol,
  FRAGMENT_HASH,
} from "../../dataplane/flow-hash.js";
import { HELD_FRAGMENT_MS, type MuxLayout } from "../../dataplane/layouts.js";
import { MEMBER_ENDED } from "../../dataplane/mux-items.js";
import type { PacketBatch } from "../../dataplane/packet-batch.js";
import { PathMtus } from "../../dataplane/path-mtu.js";
import { TokenBucket } from "../../dataplane/token-bucket.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import { FAULT, NO_FAULT } from "../../packet/fault.js";
import { createPacketHeader, MAPPED_WORD } from "../../packet/header.js";
import { isEchoReply, isIcmpError, parseIcmp } from "../../packet/icmp.js";
import { decapsulatedEcn, innerFamily } from "../../packet/ip-in-ip.js";
import { ECN_MASK, FRAGMENT_OFFSET_MASK, isFragment, PROTOCOL_TCP, PROTOCOL_UDP } from "../../packet/ipv4.js";
import { isIcmp, parseFirstFragment, parseIpHeader, parseTransport } from "../../packet/parse.js";
import { isAboutReceiver, parseQuoted, reverseFlow } from "../../packet/quoted.js";
import { parseUdp } from "../../packet/udp.js";
import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from "../../packet/tcp.js";
import { PeerChannel } from "../peers/peer-channel.js";
import { PEER_PORT } from "../peers/peer-message.js";
import { relayTarget } from "../peers/relay-target.js";
import { Encapsulator, type EncapsulatorOptions } from "./encapsulator.js";
import { Fastpath } from "./fastpath.js";
import type { FlowSamples } from "./flow-samples.js";
import type { FlowTable } from "./flow-table.js";
import { poolOf } from "./peer-table.js";
import type { MuxTables } from "./tables.js";
import { TunnelErrors } from "./tunnel-errors.js";

// Places in the counts.
const RECEIVED_PACKETS = 0;
const RECEIVED_BYTES = 1;
const RELAYED_OUT = 2;
const RELAYED_IN = 3;
/** Not a count: the time of the batch at hand, in full. */
const NOW_MS = 4;

/** Packets without an owner that are relayed per second: many more are a port scan. */
const RELAYS_PER_SECOND = 1_000;

export interface MuxPipelineOptions extends EncapsulatorOptions {
  /** Agents pass on what they have no state for. */
  readonly secondChance: boolean;
  /** Of chance: xorshift, for drops in proportion. */
  readonly seed: number;
  /** Largest packet, outer header included. */
  readonly fabricMtuBytes: number;
}

export class MuxPipeline {
  readonly drops = new Float64Array(DROP_REASONS.length);
  /** Counts in one typed array: a field that outgrows 31 bits would be a new heap number at every packet. */
  readonly #counts = new Float64Array(5);
  readonly fragments: FragmentTable;
  readonly fastpath: Fastpath;
  readonly paths: PathMtus;
  readonly peers: PeerChannel;
  readonly #isLeased: (muxId: number, nowMs: number) => boolean;
  readonly #tables: MuxTables;
  readonly #flows: FlowTable;
  readonly #samples: FlowSamples;
  readonly #encapsulator: Encapsulator;
  readonly #tunnelErrors: TunnelErrors;
  readonly #secondChance: boolean;
  readonly #relays = new TokenBucket(RELAYS_PER_SECOND, RELAYS_PER_SECOND);
  readonly #header = createPacketHeader();
  readonly #quoted = createPacketHeader();
  #chance: number;
  #hasherGeneration = 0;

  constructor(
    tables: MuxTables,
    flows: FlowTable,
    samples: FlowSamples,
    layout: MuxLayout,
    options: MuxPipelineOptions,
  ) {
    this.#tables = tables;
    this.#flows = flows;
    this.#samples = samples;
    this.paths = new PathMtus(layout.pathMtus, options.fabricMtuBytes);
    this.#encapsulator = new Encapsulator(options, this.paths);
    this.#tunnelErrors = new TunnelErrors(tables, this.#encapsulator, this.paths);
    this.fastpath = new Fastpath(tables, flows, this.#encapsulator);
    this.peers = new PeerChannel(
      poolOf(tables, this.#encapsulator),
      this.#encapsulator.address,
      this.#encapsulator.sourceMask,
    );
    this.#isLeased = (muxId, nowMs) => this.peers.isLeased(muxId, nowMs);
    this.#secondChance = options.secondChance;
    this.#chance = options.seed | 1;
    const held = { capacity: layout.heldFragments, lifetimesMs: [HELD_FRAGMENT_MS] };
    this.fragments = new FragmentTable(layout.fragments, held);
  }

  get receivedPackets(): number {
    return this.#counts[RECEIVED_PACKETS]!;
  }

  get receivedBytes(): number {
    return this.#counts[RECEIVED_BYTES]!;
  }

  get sentPackets(): number {
    return this.#encapsulator.sentPackets;
  }

  get sentBytes(): number {
    return this.#encapsulator.sentBytes;
  }

  /** Packets relayed to a peer. */
  get relayedOut(): number {
    return this.#counts[RELAYED_OUT]!;
  }

  /** Packets that a peer relayed to us. */
  get relayedIn(): number {
    return this.#counts[RELAYED_IN]!;
  }

  process(batch: PacketBatch, nowMs: number, out: PacketBatch): void {
    if (this.#hasherGeneration !== this.#tables.hasherGeneration) {
      this.#flows.clear(); // entries are found by hash: of another key they are lost
      this.#hasherGeneration = this.#tables.hasherGeneration;
    }
    const now = nowMs | 0; // modulo 2^32: ages are differences
    const counts = this.#counts;
    counts[NOW_MS] = nowMs;
    const count = batch.count;
    for (let i = 0; i < count; i++) {
      const length = batch.lengths[i]!; // i < count
      counts[RECEIVED_PACKETS]!++;
      counts[RECEIVED_BYTES]! += length;
      const drop = this.#forward(batch, batch.offsets[i]!, length, false, now, out);
      if (drop !== NO_FAULT) this.drops[drop]!++;
    }
  }

  tick(nowMs: number, out: PacketBatch): void {
    const now = nowMs | 0;
    this.peers.tick(nowMs, out); // first: its few words say whose lease is held, and redirects may fill what is left
    this.fastpath.tick(now, out);
    this.#flows.expire(now);
    this.paths.expire(now);
    this.fragments.expire(now);
    this.drops[DROP.fragment_unmatched]! += this.fragments.expireHeld(now);
  }

  /** `NO_FAULT` when the packet left, else the drop reason's number. */
  #forward(
    batch: PacketBatch,
    offset: number,
    length: number,
    isRelayed: boolean,
    now: number,
    out: PacketBatch,
  ): number {
    const tables = this.#tables;
    const hasher = tables.hasher;
    if (hasher === null) return DROP.not_ready;
    const header = this.#header;
    const outerTos = isRelayed ? header.tos : 0;
    const fault = parseIpHeader(batch.view, offset, length, header);
    if (fault !== NO_FAULT) return fault;
    if (header.ttl === 0) return DROP.ttl_expired;
    if (isRelayed) {
      const ecn = decapsulatedEcn(outerTos, header.tos);
      if (ecn < 0) return DROP.bad_encapsulation;
      header.tos = (header.tos & ~ECN_MASK) | ecn; // the inner packet stays; the agent combines what the outer one says
    }
    const vips = tables.vips;
    const vipSlot = vips.find(header.destination0, header.destination1, header.destination2, header.destination3);
    if (vipSlot === NOT_FOUND) return isRelayed ? DROP.no_vip : this.#notForVip(batch, now, out);
    vips.packets[vipSlot]!++;
    vips.bytes[vipSlot]! += header.totalBytes;
    const threshold = vips.dropThresholds[vipSlot]!;
    if (threshold !== 0 && this.#draw() < threshold) return DROP.fair_share;
    const vipId = vips.vipId(vipSlot);
    if (isFragment(header.fragment)) return this.#fragment(batch, vipId, isRelayed, now, out);
    if (isIcmp(header)) return this.#icmp(batch, vipId, isRelayed, now, out);
    const transportFault = parseTransport(batch.view, header);
    if (transportFault !== NO_FAULT && transportFault !== FAULT.unsupported_protocol) return transportFault;
    const { protocol } = header;
    const ports = (header.sourcePort << 16) | header.destinationPort; // 0 for protocols without ports
    const hash = hasher.header(header, ports, protocol, DISTRIBUTION_FIVE_TUPLE);
    const target = this.#route(batch, vipId, ports, hash, now, out);
    if (target < 0) return this.#unrouted(batch, ~target, hash, isRelayed, now, out);
    this.#samples.sample(header, vipId, target, now);
    return this.#encapsulate(batch, target, hash, now, out);
  }

  /** The number of a drop, or, for a packet whose port nobody has here, a peer's turn. */
  #unrouted(batch: PacketBatch, drop: number, hash: number, isRelayed: boolean, now: number, out: PacketBatch): number {
    if (drop !== DROP.no_rule || isRelayed) return drop; // (P1)
    return this.#relayMiss(batch, hash, now, out);
  }

  /** DIP slot for the parsed packet, or the complement of a drop reason's number. */
  #route(batch: PacketBatch, vipId: number, ports: number, hash: number, now: number, out: PacketBatch): number {
    const tables = this.#tables;
    const { protocol, destinationPort } = this.#header;
    const rule = ports === 0 ? NOT_FOUND : tables.rules.find(vipId, protocol, destinationPort);
    if (rule !== NOT_FOUND) return this.#balance(batch, rule, vipId, ports, hash, now, out);
    if (protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP) {
      const dipId =
        tables.nats.find(vipId, protocol, destinationPort) || tables.snat.find(vipId, protocol, destinationPort);
      if (dipId !== 0) return orNoDip(tables.dips.find(dipId));
    }
    const allPorts = tables.rules.findAllPorts(vipId, protocol);
    if (allPorts !== NOT_FOUND) return this.#balance(batch, allPorts, vipId, ports, hash, now, out);
    return protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP ? ~DROP.no_rule : ~FAULT.unsupported_protocol;
  }

  /** DIP slot for a packet of a rule, by flow table and map; or the complement of a drop reason's number. */
  #balance(
    batch: PacketBatch,
    rule: number,
    vipId: number,
    ports: number,
    hash: number,
    now: number,
    out: PacketBatch,
  ): number {
    const { members, rules } = this.#tables;
    const flows = this.#flows;
    const header = this.#header;
    const { protocol, tcpFlags } = header;
    const isTcp = protocol === PROTOCOL_TCP;
    const startsFlow = isTcp && (tcpFlags & (TCP_SYN | TCP_ACK)) === TCP_SYN;
    let entry = flows.find(hash, header, vipId, ports, protocol);
    if (entry !== NOT_FOUND && !startsFlow) {
      const member = flows.member(entry);
      if (flows.generation(entry) === members.generation(member, protocol)) {
        const dipSlot = members.dipSlot[member]!;
        if (dipSlot !== NOT_FOUND) {
          flows.confirm(entry, now);
          if ((tcpFlags & (TCP_ACK | TCP_RST | TCP_FIN)) === TCP_ACK && isTcp)
            this.fastpath.segment(entry, header, rule, dipSlot, now, out);
          return dipSlot;
        }
      } else if (isTcp && members.resets[member] === 1) {
        // The entry stays until a SYN or its idle time: the next segment would be one in mid-stream, and find its old DIP (P2).
        this.#encapsulator.reset(batch, header, now, out);
        return members.state[member] === MEMBER_ENDED ? ~DROP.drain_ended : ~DROP.probe_down_reset;
      }
    }
    const member = this.#select(rule, ports, protocol, hash);
    if (member === NOT_FOUND) return ~DROP.no_dip;
    const dipSlot = members.dipSlot[member]!;
    if (dipSlot === NOT_FOUND) return ~DROP.no_dip;
    if (isTcp && !startsFlow && this.#secondChance) {
      if (entry !== NOT_FOUND) flows.remove(entry); // stale
      return dipSlot; // (P2)
    }
    const generation = members.generation(member, protocol);
    if (entry === NOT_FOUND) {
      const idleClass = rules.idleClasses[rule]!;
      entry = flows.insert(hash, header, vipId, ports, protocol, member, generation, idleClass, now);
    } else if (flows.member(entry) !== member || flows.generation(entry) !== generation) {
      flows.restart(entry, member, generation, now);
    }
    // A SYN again to the same member leaves the entry as it is: repeated SYNs neither make a flow trusted nor keep it.
    return dipSlot;
  }

  /** Member slot by the map, or `NOT_FOUND`. `hash` is that of the five-tuple of `#header`. */
  #select(rule: number, ports: number, protocol: number, hash: number): number {
    const { rules, hasher } = this.#tables;
    const mode = rules.distribution(rule);
    if (mode === DISTRIBUTION_FIVE_TUPLE) return rules.pool(rule).select(hash);
    const selected = hasher!.header(
      this.#header,
      distributionPorts(ports, mode),
      distributionProtocol(protocol, mode),
      mode,
    );
    return rules.pool(rule).select(selected);
  }

  #encapsulate(batch: PacketBatch, dipSlot: number, hash: number, now: number, out: PacketBatch): number {
    const dips = this.#tables.dips;
    const header = this.#header;
    const isIpv6 = dips.isIpv6[dipSlot] === 1;
    const drop = this.#encapsulator.send(batch, header, dips.locators, dipSlot * 4, isIpv6, hash, now, out);
    if (drop !== NO_FAULT) return drop;
    dips.packets[dipSlot]!++;
    dips.bytes[dipSlot]! += header.totalBytes;
    return NO_FAULT;
  }

  // ---- what has no ports of its own ----

  /** An ICMP error goes where the flow that it quotes goes; an echo reply to who asked by SNAT. */
  #icmp(batch: PacketBatch, vipId: number, isRelayed: boolean, now: number, out: PacketBatch): number {
    const { hasher, snat, rules, dips } = this.#tables;
    const header = this.#header;
    const fault = parseIcmp(batch.view, header);
    if (fault !== NO_FAULT) return fault;
    let dipSlot: number;
    let hash: number;
    if (isIcmpError(header)) {
      const quoted = this.#quoted;
      if (parseQuoted(batch.view, header, quoted) !== NO_FAULT || !isAboutReceiver(header, quoted))
        return DROP.icmp_unmatched;
      reverseFlow(quoted);
      const quotedPorts = (quoted.sourcePort << 16) | quoted.destinationPort;
      hash = hasher!.header(quoted, quotedPorts, quoted.protocol, DISTRIBUTION_FIVE_TUPLE);
      dipSlot = this.#routeQuoted(vipId, quotedPorts, hash);
      if (dipSlot === NOT_FOUND) return isRelayed ? DROP.icmp_unmatched : this.#relayMiss(batch, hash, now, out); // (P1)
    } else {
      hash = hasher!.header(header, header.icmpId, header.protocol, DISTRIBUTION_FIVE_TUPLE);
      const dipId = isEchoReply(header) ? snat.find(vipId, PROTOCOL_UDP, header.icmpId) : 0;
      const rule = dipId === 0 ? rules.findAllPorts(vipId, header.protocol) : NOT_FOUND;
      if (dipId === 0 && rule === NOT_FOUND) return DROP.no_rule;
      const target =
        dipId === 0 ? this.#balance(batch, rule, vipId, header.icmpId, hash, now, out) : orNoDip(dips.find(dipId));
      if (target < 0) return ~target;
      dipSlot = target;
    }
    return this.#encapsulate(batch, dipSlot, hash, now, out);
  }

  /** DIP slot of the flow in `#quoted`, which changes nothing in the flow table; or `NOT_FOUND`. */
  #routeQuoted(vipId: number, ports: number, hash: number): number {
    const { rules, nats, snat, dips, members, hasher } = this.#tables;
    const quoted = this.#quoted;
    const { protocol, destinationPort } = quoted;
    if (isIcmp(quoted)) {
      const dipId = snat.find(vipId, PROTOCOL_UDP, quoted.icmpId); // our ping, which somebody on the way refused
      return dipId === 0 ? NOT_FOUND : dips.find(dipId);
    }
    let rule = rules.find(vipId, protocol, destinationPort);
    if (rule === NOT_FOUND) {
      const dipId = nats.find(vipId, protocol, destinationPort) || snat.find(vipId, protocol, destinationPort);
      if (dipId !== 0) return dips.find(dipId);
      rule = rules.findAllPorts(vipId, protocol);
      if (rule === NOT_FOUND) return NOT_FOUND;
    }
    const entry = this.#flows.find(hash, quoted, vipId, ports, protocol);
    if (entry !== NOT_FOUND) {
      const member = this.#flows.member(entry);
      if (this.#flows.generation(entry) === members.generation(member, protocol)) return members.dipSlot[member]!;
    }
    const mode = rules.distribution(rule);
    const selected =
      mode === DISTRIBUTION_FIVE_TUPLE
        ? hash
        : hasher!.header(quoted, distributionPorts(ports, mode), distributionProtocol(protocol, mode), mode);
    const member = rules.pool(rule).select(selected);
    return member === NOT_FOUND ? NOT_FOUND : members.dipSlot[member]!;
  }

  /** All fragments between two addresses meet at one MUX of the pool, named by their hash. */
  #fragment(batch: PacketBatch, vipId: number, isRelayed: boolean, now: number, out: PacketBatch): number {
    const { hasher, peers } = this.#tables;
    const header = this.#header;
    const { protocol } = header;
    if (!isRelayed && peers.count > 1) {
      const keeper = (hasher!.header(header, 0, protocol, FRAGMENT_HASH) >>> 0) % peers.count;
      const self = this.#selfPlace();
      if (self >= 0 && keeper !== self) return this.#relayTo(batch, keeper, 0, now, out); // (P1)
    }
    const hash = hasher!.header(header, header.fragmentId, protocol, FRAGMENT_HASH);
    const { fragmentId, source3 } = header;
    if ((header.fragment & FRAGMENT_OFFSET_MASK) !== 0) {
      const dipSlot = this.fragments.find(hash, vipId, fragmentId, source3);
      if (dipSlot !== NOT_FOUND) return this.#encapsulate(batch, dipSlot, hash, now, out);
      const place = this.fragments.hold(hash, vipId, fragmentId, source3, batch, header, now);
      return place === NOT_FOUND ? DROP.fragment_table_full : NO_FAULT;
    }
    const fault = parseFirstFragment(batch.view, header);
    if (fault !== NO_FAULT) return fault;
    const ports = (header.sourcePort << 16) | header.destinationPort;
    const flowHash = hasher!.header(header, ports, protocol, DISTRIBUTION_FIVE_TUPLE);
    const target = this.#route(batch, vipId, ports, flowHash, now, out);
    if (target < 0) return ~target;
    this.fragments.put(hash, vipId, fragmentId, source3, target, now);
    const drop = this.#encapsulate(batch, target, flowHash, now, out);
    this.#releaseHeld(hash, vipId, fragmentId, source3, target, now, out);
    return drop;
  }

  #releaseHeld(
    hash: number,
    vipId: number,
    fragmentId: number,
    source3: number,
    dipSlot: number,
    now: number,
    out: PacketBatch,
  ): void {
    const fragments = this.fragments;
    for (;;) {
      const place = fragments.nextHeld(hash, vipId, fragmentId, source3);
      if (place === NOT_FOUND) return;
      const at = fragments.heldOffset(place);
      parseIpHeader(fragments.store.view, at, fragments.heldLength(place), this.#header);
      const drop = this.#encapsulate(fragments.store, dipSlot, hash, now, out);
      if (drop !== NO_FAULT) this.drops[drop]!++;
      fragments.free(place);
    }
  }

  // ---- from MUX to MUX ----

  /** Not for a VIP: what a peer relays or tells, for this MUX's own address; or nothing of ours. */
  #notForVip(batch: PacketBatch, now: number, out: PacketBatch): number {
    const header = this.#header;
    const family = innerFamily(header.protocol);
    if (!this.#encapsulator.isOwn(header) || isFragment(header.fragment)) return DROP.no_vip;
    if (isIcmp(header)) return this.#tunnelErrors.take(batch.view, header, now);
    if (header.family === 6) return DROP.no_vip; // MUXes reach each other by IPv4
    const mask = this.#encapsulator.sourceMask;
    const isMessage = header.protocol === PROTOCOL_UDP && parseUdp(batch.view, header) === NO_FAULT;
    if (family === 0 && !(isMessage && header.destinationPort === PEER_PORT)) return DROP.no_vip;
    const { source0, source1, source2, source3 } = header;
    if (this.#tables.peers.find(source0, source1, source2, source3, mask) < 0) return DROP.unknown_peer;
    if (family === 0) return this.#told(batch);
    this.#counts[RELAYED_IN]!++;
    const innerOffset = header.offset + header.headerBytes;
    return this.#forward(batch, innerOffset, header.totalBytes - header.headerBytes, true, now, out);
  }

  /** What a peer tells is no traffic: where it is believed, the channel counts it. */
  #told(batch: PacketBatch): number {
    const counts = this.#counts;
    const drop = this.peers.receive(batch, this.#header, counts[NOW_MS]!);
    if (drop !== NO_FAULT) return drop;
    counts[RECEIVED_PACKETS]!--;
    counts[RECEIVED_BYTES]! -= this.#header.totalBytes;
    return NO_FAULT;
  }

  /** Nobody has the port here, but a grant or a rule may have reached another MUX first. */
  #relayMiss(batch: PacketBatch, hash: number, now: number, out: PacketBatch): number {
    const { peers } = this.#tables;
    const self = this.#selfPlace();
    if (peers.count < 2 || self < 0 || !this.#relays.take(now)) return DROP.no_rule;
    const place = relayTarget(peers, self, hash, this.#isLeased, this.#counts[NOW_MS]!);
    return place < 0 ? DROP.no_rule : this.#relayTo(batch, place, hash, now, out);
  }

  #selfPlace(): number {
    return this.#tables.peers.find(0, 0, MAPPED_WORD, this.#encapsulator.address, this.#encapsulator.sourceMask);
  }

  #relayTo(batch: PacketBatch, place: number, hash: number, now: number, out: PacketBatch): number {
    this.#counts[RELAYED_OUT]!++;
    return this.#encapsulator.send(batch, this.#header, this.#tables.peers.words, place * 4, false, hash, now, out);
  }

  /** 31 bits of chance: xorshift32 (Marsaglia). */
  #draw(): number {
    let x = this.#chance;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#chance = x;
    return x >>> 1;
  }
}

const orNoDip = (dipSlot: number): number => (dipSlot === NOT_FOUND ? ~DROP.no_dip : dipSlot);
