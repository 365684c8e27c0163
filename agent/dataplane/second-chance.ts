/**
 * Second chance: a segment that meets no state here may belong to a former owner of its slot. It is passed on from owner to owner
 * until one has the flow; the last one delivers it, so that its machine resets what nobody knows.
 *
 *     no NAT entry, no SYN -> rule -> owners of the slot, newest first
 *         came from a MUX      -> the newest owner but ourselves
 *         came from an owner   -> the next that is older than ourselves, but the sender
 *         nobody is left       -> here
 *
 * What a MUX sends starts at the front even when this host is not the newest owner by its own view: the MUX may be ahead of us or
 * behind, and the flow with any of them. So the sender may be older than we are: it had the segment from such a MUX, and the owners
 * between us have not seen it. A host that does not know of itself goes on behind the sender. ICMP errors go by the flow that they quote.
 *
 * Invariants
 *  (C1) Between hosts with one view a segment goes to the front once, and from there to older owners only: it is passed on eight times
 *       at most, and comes twice at most to the owner that the MUX chose. Between views that differ it may go round, and the outer
 *       TTL, which is decremented and never reset, ends it.
 *  (C2) The outer source of what is passed on is the locator of the machine it came to; it is accepted from the owners of its pool
 *       alone, and only a TCP segment that is no SYN, or an ICMP error.
 *  (C3) What was inside stays as it was: no host on the way translates, tracks or answers, but for what is too long for its path.
 *  (C4) Per packet this allocates nothing.
 *  (C5) A host that does not know all flows of its machines keeps what comes: after a restart everything, and after its table refused
 *       a flow what MUXes send. For as long as MUXes remember a silent flow: what talks meanwhile gets its entry.
 */
import type { PoolId } from "../../core/brands.js";
import { DROP } from "../../dataplane/drop-reasons.js";
import { distributionPorts, distributionProtocol, type FlowHasher } from "../../dataplane/flow-hash.js";
import { MUX_TIMEOUTS } from "../../dataplane/layouts.js";
import { type PacketBatch, WIRE_LINK } from "../../dataplane/packet-batch.js";
import { isShortest, PATH_MTU_LEAST } from "../../dataplane/path-mtu.js";
import { TokenBucket } from "../../dataplane/token-bucket.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import { updateDoubleWord, updateWord } from "../../packet/checksum.js";
import { NO_FAULT } from "../../packet/fault.js";
import { createPacketHeader, MAPPED_WORD, type PacketHeader } from "../../packet/header.js";
import { OUTER_BYTES, OUTER_IPV6_BYTES } from "../../packet/ip-in-ip.js";
import { IPV4_CHECKSUM, IPV4_DESTINATION, IPV4_SOURCE, IPV4_TTL, isFragment, PROTOCOL_TCP } from "../../packet/ipv4.js";
import { IPV6_DESTINATION, IPV6_HOP_LIMIT, IPV6_SOURCE } from "../../packet/ipv6.js";
import { isIcmp, parseIpHeader } from "../../packet/parse.js";
import { isIcmpError } from "../../packet/icmp.js";
import { isIpv6Number, NO_ADDRESS } from "./addresses.js";
import { answerTooBig } from "./answers.js";
import type { FlowLife } from "./flow-life.js";
import { type HostParts, startsTcpFlow } from "./host-parts.js";

/** Nobody is left to pass it on to: it is this host's. */
export const STAYS_HERE = -7;

/** How long (C5) holds: a flow that is silent for longer comes as new to everybody. */
const KEEPS_MS = MUX_TIMEOUTS.trustedMs;

/** Answers per second, all to the outside: enough for path MTU discovery, too few to be used against somebody. */
const TOO_BIG_PER_SECOND = 100;

/** Since the start. */
export interface SecondChanceCounts {
  /** Passed on to another host. */
  readonly passed: number;
  /** Came from another host, and how many of them met their flow. */
  readonly received: number;
  readonly found: number;
  /** Flows looked up whose slot had more owners than are asked. */
  readonly ownersLeftOut: number;
  /** Tables, rules and owners that this host had no room for: their flows are not found. */
  readonly forgotten: number;
}

// Places in the counts.
const PASSED = 0;
const RECEIVED = 1;
const FOUND = 2;

// Of the outer header of the packet at hand.
const AT = 0;
const BYTES = 1;
const FAMILY = 2;
const TTL = 3;
/** DIP of the owner that passed it on; 0: it is a MUX's. */
const SENDER = 4;

export class SecondChance {
  readonly #parts: HostParts;
  readonly #life: FlowLife;
  readonly #counts = new Float64Array(3);
  /** 32-bit words: a field would be a heap number. */
  readonly #outer = new Int32Array(5);
  /** A flow's addresses as they are on the wire, for its hash. */
  readonly #wire = createPacketHeader();
  /** An IPv4 locator as words. */
  readonly #to = Int32Array.of(0, 0, MAPPED_WORD, 0);
  readonly #tooBig = new TokenBucket(TOO_BIG_PER_SECOND, TOO_BIG_PER_SECOND);
  #isRestarted = false;
  /** Of a restarted host; known from its first tick on. */
  #keepsUntilMs = Infinity;

  constructor(parts: HostParts, life: FlowLife) {
    this.#parts = parts;
    this.#life = life;
  }

  counts(): SecondChanceCounts {
    const [passed = 0, received = 0, found = 0] = this.#counts;
    const { overflowed: ownersLeftOut, forgotten } = this.#parts.tables.owners;
    return { passed, received, found, ownersLeftOut, forgotten };
  }

  tick(nowMs: number): void {
    if (this.#keepsUntilMs === Infinity) this.#keepsUntilMs = nowMs + KEEPS_MS;
  }

  /** Before the first tick: this host had an agent before, whose flows its machines may still know. */
  restarted(): void {
    this.#isRestarted = true;
  }

  /** The outer header is in `header`, its addresses numbers. `sender`: the owner whose locator is its source; 0: a MUX. */
  arrived(sender: number): void {
    const { header } = this.#parts;
    const outer = this.#outer;
    outer[AT] = header.offset;
    outer[BYTES] = header.totalBytes;
    outer[FAMILY] = header.family;
    outer[TTL] = header.ttl;
    outer[SENDER] = sender;
  }

  /** The packet at hand comes from the locator of an owner. */
  get isOfOwner(): boolean {
    return this.#outer[SENDER] !== 0;
  }

  /** Puts the outer header into `header` again, its addresses as they are on the wire. */
  parseOuter(batch: PacketBatch): void {
    parseIpHeader(batch.view, this.#outer[AT]!, this.#outer[BYTES]!, this.#parts.header); // it was good before
  }

  /** False: not what the owner that sent the decapsulated packet in `header` may pass on (C2). */
  mayCome(): boolean {
    const sender = this.#outer[SENDER]!;
    if (sender === 0) return true;
    const { header, tables } = this.#parts;
    const { owners } = tables;
    if (isFragment(header.fragment)) return false;
    let mayCome = isIcmp(header) && isIcmpError(header);
    if (header.protocol === PROTOCOL_TCP && !startsTcpFlow(header)) {
      const rule = this.#ruleOf(header.destination3, header.destinationPort, NOT_FOUND);
      mayCome = rule !== NOT_FOUND && owners.locatorOf(owners.poolId(rule), sender) !== NO_ADDRESS;
    }
    if (mayCome) this.#counts[RECEIVED]!++;
    return mayCome;
  }

  /** The packet at hand has met its flow. */
  met(): void {
    if (this.#outer[SENDER] !== 0) this.#counts[FOUND]!++;
  }

  /** The decapsulated packet in `header`, for the machine in `slot`, has no state here. `STAYS_HERE`, or what became of it. */
  segment(batch: PacketBatch, slot: number, nowMs: number, out: PacketBatch): number {
    const { header } = this.#parts;
    if (header.protocol !== PROTOCOL_TCP || startsTcpFlow(header) || isFragment(header.fragment)) return STAYS_HERE;
    const { source3, destination3, sourcePort, destinationPort } = header;
    return this.#pass(batch, slot, source3, sourcePort, destination3, destinationPort, nowMs, out);
  }

  /** Likewise for an ICMP error, by the packet from VIP to client that it quotes; its addresses are numbers. */
  error(batch: PacketBatch, quoted: PacketHeader, slot: number, nowMs: number, out: PacketBatch): number {
    if (quoted.protocol !== PROTOCOL_TCP) return STAYS_HERE;
    const { source3, destination3, sourcePort, destinationPort } = quoted;
    return this.#pass(batch, slot, destination3, destinationPort, source3, sourcePort, nowMs, out);
  }

  #pass(
    batch: PacketBatch,
    slot: number,
    client: number,
    clientPort: number,
    vip: number,
    vipPort: number,
    nowMs: number,
    out: PacketBatch,
  ): number {
    const { tables } = this.#parts;
    if (this.#isRestarted && nowMs < this.#keepsUntilMs) return STAYS_HERE; // (C5)
    const sender = this.#outer[SENDER]!;
    if (sender === 0 && this.#life.refused(nowMs, KEEPS_MS)) return STAYS_HERE; // (C5)
    const { owners, hasher } = tables;
    const own = tables.dipId(slot);
    const rule = this.#ruleOf(vip, vipPort, own);
    if (rule === NOT_FOUND || hasher === null) return STAYS_HERE;
    const poolId = owners.poolId(rule);
    const ports = (clientPort << 16) | vipPort;
    const count = owners.lookUp(poolId, this.#hash(hasher, client, vip, ports, owners.distribution(rule)));
    let at = 0;
    if (sender !== 0) {
      const ownPlace = owners.placeOf(own, count);
      at = (ownPlace >= 0 ? ownPlace : owners.placeOf(sender, count)) + 1; // (C1)
    }
    for (; at < count; at++) {
      const owner = owners.owners[at]!; // at < count
      if (owner === own || owner === sender) continue;
      const to = owners.locatorOf(poolId, owner);
      if (isIpv6Number(to) !== tables.hasIpv6Locator(slot)) continue; // no outer source to send from
      return this.#send(batch, tables.locator(slot), to, poolId, nowMs, out);
    }
    return STAYS_HERE;
  }

  /** As MUXes look up: a port of its own before the rule for all others; inbound NAT has a port of its own. */
  #ruleOf(vip: number, port: number, dipId: number): number {
    const { owners, endpoints } = this.#parts.tables;
    const exact = owners.findRule(vip, port);
    if (exact !== NOT_FOUND || endpoints.hasExact(vip, PROTOCOL_TCP, port, dipId)) return exact;
    return owners.findRule(vip, 0);
  }

  /** Of the flow as MUXes see it; addresses are numbers. */
  #hash(hasher: FlowHasher, source: number, destination: number, ports: number, distribution: number): number {
    const selected = distributionPorts(ports, distribution);
    const protocol = distributionProtocol(PROTOCOL_TCP, distribution);
    if (!isIpv6Number(source)) return hasher.ipv4(source, destination, selected, protocol, distribution);
    const { words } = this.#parts.addresses;
    const from = this.#parts.addresses.wordsAt(source);
    const to = this.#parts.addresses.wordsAt(destination);
    const wire = this.#wire;
    wire.source0 = words[from]!; // of numbers in use, as below
    wire.source1 = words[from + 1]!;
    wire.source2 = words[from + 2]!;
    wire.source3 = words[from + 3]!;
    wire.destination0 = words[to]!;
    wire.destination1 = words[to + 1]!;
    wire.destination2 = words[to + 2]!;
    wire.destination3 = words[to + 3]!;
    return hasher.header(wire, selected, protocol, distribution);
  }

  /** Longest packet to the locator; one of `bytes` that fits counts as sent. */
  #mtuTo(to: number, bytes: number, nowMs: number): number {
    const { paths, addresses } = this.#parts;
    if (isIpv6Number(to)) return paths.admit(addresses.words, addresses.wordsAt(to), bytes, nowMs);
    this.#to[3] = to;
    return paths.admit(this.#to, 0, bytes, nowMs);
  }

  /** The packet as it came, with other outer addresses (C2, C3). */
  #send(batch: PacketBatch, from: number, to: number, poolId: PoolId, nowMs: number, out: PacketBatch): number {
    const { counters, addresses, tables, header } = this.#parts;
    const outer = this.#outer;
    if (outer[TTL]! <= 1) return DROP.ttl_expired; // (C1)
    if (!tables.owners.mayPass(poolId, nowMs)) return DROP.second_chance_limit;
    const bytes = outer[BYTES]!;
    const isIpv6 = outer[FAMILY] === 6;
    if (bytes > PATH_MTU_LEAST && !isShortest(header)) {
      const mtu = this.#mtuTo(to, bytes, nowMs);
      if (bytes > mtu) {
        // Nobody translates it on the way, so its sender is the outside, and we speak for the VIP.
        const outerBytes = isIpv6 ? OUTER_IPV6_BYTES : OUTER_BYTES;
        if (this.#tooBig.take(nowMs)) answerTooBig(batch, header, mtu - outerBytes, WIRE_LINK, out);
        return DROP.too_big;
      }
    }
    const at = out.reserve(bytes, WIRE_LINK);
    if (at < 0) return DROP.output_full;
    out.copyIn(batch, outer[AT]!, at, bytes);
    const { view } = out;
    if (isIpv6) {
      const { words } = addresses;
      const fromAt = addresses.wordsAt(from);
      const toAt = addresses.wordsAt(to);
      for (let word = 0; word < 4; word++) {
        view.setInt32(at + IPV6_SOURCE + word * 4, words[fromAt + word]!);
        view.setInt32(at + IPV6_DESTINATION + word * 4, words[toAt + word]!);
      }
      view.setUint8(at + IPV6_HOP_LIMIT, outer[TTL]! - 1);
    } else {
      const ttlAndProtocol = view.getUint16(at + IPV4_TTL);
      let sum = view.getUint16(at + IPV4_CHECKSUM);
      sum = updateWord(sum, ttlAndProtocol, ttlAndProtocol - 0x100);
      sum = updateDoubleWord(sum, view.getInt32(at + IPV4_SOURCE), from);
      sum = updateDoubleWord(sum, view.getInt32(at + IPV4_DESTINATION), to);
      view.setUint16(at + IPV4_TTL, ttlAndProtocol - 0x100);
      view.setUint16(at + IPV4_CHECKSUM, sum);
      view.setInt32(at + IPV4_SOURCE, from);
      view.setInt32(at + IPV4_DESTINATION, to);
    }
    counters.sentPackets++;
    counters.sentBytes += bytes;
    this.#counts[PASSED]!++;
    return NO_FAULT;
  }
}
