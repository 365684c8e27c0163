/**
 * FastPath, a host's end (Ananta §3.2.4): what MUXes say about flows between VIPs, and the packets of such flows from host to host.
 *
 *     MUX --redirect--> host A --ready?--> host B <--redirect-- MUX
 *                       host A <--ready--- host B
 *     DIP1 --SNAT to VIP1--> outer header A -> B --DNAT from VIP2--> DIP2, and back alike
 *
 * Between the two hosts a packet is inside what it would be behind a MUX, so both ends translate it as ever. The rest of the
 * rules is in `dataplane/fastpath-message.ts` (F1-F4) and `direct-flows.ts` (X1-X3).
 *
 * Messages come a few per flow, signed and rate-limited by MUXes; handling one may allocate. Packets of flows allocate nothing.
 */
import { DROP } from "../../dataplane/drop-reasons.js";
import {
  FASTPATH_ADDRESS,
  FASTPATH_PORT,
  FASTPATH_READY_BYTES,
  type FastpathFlow,
  type FastpathMessage,
  INITIATOR,
  readFastpathMessage,
  readFastpathReady,
  REDIRECT,
  RESPONDER,
  writeFastpathReady,
} from "../../dataplane/fastpath-message.js";
import { type PacketBatch, WIRE_LINK } from "../../dataplane/packet-batch.js";
import { ReplayWindow } from "../../dataplane/replay-window.js";
import { TokenBucket } from "../../dataplane/token-bucket.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import type { Ipv4 } from "../../core/brands.js";
import { isIpv4Words } from "../../packet/address-words.js";
import { buildUdpPacket } from "../../packet/build.js";
import { NO_FAULT } from "../../packet/fault.js";
import type { PacketHeader } from "../../packet/header.js";
import { OUTER_BYTES, OUTER_IPV6_BYTES } from "../../packet/ip-in-ip.js";
import { PROTOCOL_TCP, PROTOCOL_UDP } from "../../packet/ipv4.js";
import type { AddressWords } from "../../packet/ipv6.js";
import { parseIpHeader, parseTransport } from "../../packet/parse.js";
import { NO_ADDRESS } from "./addresses.js";
import { answerTooBig } from "./answers.js";
import { hasTcpData, type HostParts, startsTcpFlow } from "./host-parts.js";
import { INBOUND, OUTBOUND } from "./nat-state.js";
import { NOT_DIRECT, PATH_TOO_NARROW, type WayOut } from "./way-out.js";

/** The packet is the peer's, of the flow in `entry`: it goes on as one from a MUX. */
export const OF_PEER = -6;

/** Since the start. */
export interface FastpathCounts {
  /** Redirects and revocations that were believed. */
  readonly redirected: number;
  readonly revoked: number;
  /** Flows that went back to MUXes because the peer was silent. */
  readonly fellBack: number;
  /** Packets of flows, straight from host to host. */
  readonly sent: number;
  readonly received: number;
}

/** Answers per second: enough for path MTU discovery. */
const TOO_BIG_PER_SECOND = 100;

// Places in the counts.
const REDIRECTED = 0;
const REVOKED = 1;
const SENT = 2;
const RECEIVED = 3;

export class HostFastpath {
  readonly #parts: HostParts;
  readonly #wayOut: WayOut;
  readonly #window = new ReplayWindow();
  readonly #counts = new Float64Array(4);
  readonly #tooBig = new TokenBucket(TOO_BIG_PER_SECOND, TOO_BIG_PER_SECOND);
  /** NAT entry that `fromPeer` found. */
  entry = NOT_FOUND;
  #generation = 0;

  constructor(parts: HostParts, wayOut: WayOut) {
    this.#parts = parts;
    this.#wayOut = wayOut;
  }

  counts(): FastpathCounts {
    const [redirected = 0, revoked = 0, sent = 0, received = 0] = this.#counts;
    return { redirected, revoked, fellBack: this.#parts.direct.fellBack, sent, received };
  }

  // ---- packets of flows ----

  /** The packet of the machine in `slot`, of a flow that goes directly. `NOT_DIRECT`: it must go by the VIP. */
  send(batch: PacketBatch, slot: number, entry: number, nowMs: number, out: PacketBatch): number {
    const { header, nat, direct } = this.#parts;
    const counter = nat.counter[entry]!;
    const { peers } = direct;
    const vip = nat.vip(entry);
    const port = nat.vipPort(entry);
    const result = this.#wayOut.toPeer(batch, slot, vip, port, counter, peers, entry * 4, nowMs, out);
    if (result === PATH_TOO_NARROW) return this.#tellTooBig(batch, slot, entry, nowMs, out);
    if (result !== NO_FAULT) return result;
    this.#counts[SENT]!++;
    if (hasTcpData(header)) direct.asked(entry, nowMs);
    return NO_FAULT;
  }

  /** The machine is told what fits, so that its next packets go directly; this one goes by the VIP, where it may fit. */
  #tellTooBig(batch: PacketBatch, slot: number, entry: number, nowMs: number, out: PacketBatch): number {
    const { header, tables, direct, paths } = this.#parts;
    const outerBytes = tables.hasIpv6Locator(slot) ? OUTER_IPV6_BYTES : OUTER_BYTES;
    if (!this.#tooBig.take(nowMs)) return NOT_DIRECT;
    const mtu = paths.of(direct.peers, entry * 4, nowMs) - outerBytes;
    answerTooBig(batch, header, mtu, tables.dipId(slot), out);
    return NOT_DIRECT;
  }

  /**
   * From an outer source that is no MUX, with that outer header in `header`, for the machine in `slot`: `OF_PEER`, and
   * `header` is the inner one, its addresses named; or what `process` answers.
   */
  fromPeer(batch: PacketBatch, family: number, slot: number, nowMs: number, out: PacketBatch): number {
    const { header, addresses } = this.#parts;
    const outerAt = header.offset;
    const outerFamily = header.family;
    const innerBytes = header.totalBytes - header.headerBytes;
    const isGood =
      parseIpHeader(batch.view, header.transportOffset, innerBytes, header) === NO_FAULT &&
      header.family === family &&
      parseTransport(batch.view, header) === NO_FAULT;
    if (!isGood || !addresses.name(header)) return DROP.unknown_encapsulator;
    const result =
      header.destination3 === FASTPATH_ADDRESS
        ? this.#ready(batch, slot, outerAt, outerFamily, nowMs, out)
        : this.#ofFlow(batch, slot, outerAt, outerFamily, nowMs);
    if (result !== OF_PEER) addresses.unname(header);
    return result;
  }

  #ofFlow(batch: PacketBatch, slot: number, outerAt: number, outerFamily: number, nowMs: number): number {
    const { header, nat, direct } = this.#parts;
    const { source3, destination3, sourcePort, destinationPort, protocol } = header;
    if (protocol !== PROTOCOL_TCP || startsTcpFlow(header)) return DROP.unknown_encapsulator;
    const entry = nat.findOutside(source3, destination3, sourcePort, destinationPort, protocol, slot);
    if (entry === NOT_FOUND || !direct.isFromPeer(entry, batch.view, outerAt, outerFamily, nowMs))
      return DROP.unknown_encapsulator;
    direct.heard(entry, nowMs);
    this.#counts[RECEIVED]!++;
    this.entry = entry;
    return OF_PEER;
  }

  // ---- messages ----

  /** From a MUX, to `FASTPATH_ADDRESS`. */
  message(batch: PacketBatch, slot: number, nowMs: number, out: PacketBatch): number {
    const { header, tables, direct, nat } = this.#parts;
    const key = tables.fastpathKey(slot);
    const message = key === null || !isToUs(header) ? null : readFastpathMessage(payloadOf(batch, header), key);
    if (message === null) return DROP.fastpath_forged;
    this.#forgetGoneMuxes();
    if (!tables.knowsMux(message.muxId)) return DROP.fastpath_stale;
    const admitted = this.#window.admit(message.muxId, message.incarnation, message.sequence);
    if (admitted !== "fresh") return admitted === "replayed" ? DROP.fastpath_replayed : DROP.fastpath_stale;
    if (message.dipId !== tables.dipId(slot)) return DROP.fastpath_stale;
    const entry = this.#entryOf(message, slot);
    if (entry === NOT_FOUND || nat.isClosed(entry)) return DROP.fastpath_stale;
    if (message.kind === REDIRECT) return this.#redirect(message, slot, entry, nowMs, out);
    if (!direct.revoke(entry, message.index)) return DROP.fastpath_stale;
    this.#counts[REVOKED]!++;
    return NO_FAULT;
  }

  #redirect(message: FastpathMessage, slot: number, entry: number, nowMs: number, out: PacketBatch): number {
    const { tables, nat, direct } = this.#parts;
    const { endpoints } = tables;
    if (message.end === RESPONDER) {
      const endpoint = endpoints.find(nat.vip(entry), PROTOCOL_TCP, nat.vipPort(entry), tables.dipId(slot));
      if (endpoint !== NOT_FOUND && endpoints.staysOnMuxes(endpoint)) return DROP.fastpath_off;
    }
    if (!canReach(message.peerLocator, tables.hasIpv6Locator(slot))) return DROP.fastpath_unreachable;
    if (!direct.redirect(entry, message.peerLocator, message.lifetimeMs, message.index, nowMs))
      return DROP.fastpath_stale;
    this.#counts[REDIRECTED]!++;
    if (direct.isTold(entry)) this.#sayReady(message, slot, entry, true, out);
    return NO_FAULT;
  }

  /** A host says that it was told about a flow. */
  #ready(
    batch: PacketBatch,
    slot: number,
    outerAt: number,
    outerFamily: number,
    nowMs: number,
    out: PacketBatch,
  ): number {
    const { header, direct } = this.#parts;
    const ready = isToUs(header) ? readFastpathReady(payloadOf(batch, header)) : null;
    const entry = ready === null ? NOT_FOUND : this.#entryOf(ready.flow, slot);
    if (ready === null || entry === NOT_FOUND) return DROP.unknown_encapsulator;
    if (!direct.isFromPeer(entry, batch.view, outerAt, outerFamily, nowMs)) return DROP.fastpath_early;
    direct.heard(entry, nowMs);
    if (ready.asks && direct.isDirect(entry, nowMs)) this.#sayReady(ready.flow, slot, entry, false, out);
    return NO_FAULT;
  }

  /** To the peer of the entry, about the flow of which this host has the end in `own`. A full `out` loses it. */
  #sayReady(own: FastpathFlow, slot: number, entry: number, asks: boolean, out: PacketBatch): void {
    const { tables, direct, counters } = this.#parts;
    const payload = new Uint8Array(FASTPATH_READY_BYTES);
    writeFastpathReady(payload, { ...own, end: own.end === INITIATOR ? RESPONDER : INITIATOR }, asks);
    const nobody = (FASTPATH_ADDRESS >>> 0) as Ipv4;
    const packet = buildUdpPacket({
      source: nobody,
      destination: nobody,
      sourcePort: FASTPATH_PORT,
      destinationPort: FASTPATH_PORT,
      payload,
    });
    const outerBytes = tables.hasIpv6Locator(slot) ? OUTER_IPV6_BYTES : OUTER_BYTES;
    const at = out.reserve(outerBytes + packet.length, WIRE_LINK);
    if (at < 0) return;
    out.arena.set(packet, at + outerBytes);
    this.#wayOut.writeOuter(out.view, at, slot, direct.peers, entry * 4, 0, 4, packet.length);
    counters.sentPackets++;
    counters.sentBytes += outerBytes + packet.length;
  }

  /** NAT entry of the flow, whose named end the machine in `slot` has; or `NOT_FOUND`. */
  #entryOf(flow: FastpathFlow, slot: number): number {
    const { nat } = this.#parts;
    const [source, destination] = [this.#find(flow.source), this.#find(flow.destination)];
    if (flow.protocol !== PROTOCOL_TCP || source === NO_ADDRESS || destination === NO_ADDRESS) return NOT_FOUND;
    const { sourcePort, destinationPort } = flow;
    const entry =
      flow.end === INITIATOR
        ? nat.findOutside(destination, source, destinationPort, sourcePort, PROTOCOL_TCP, slot)
        : nat.findOutside(source, destination, sourcePort, destinationPort, PROTOCOL_TCP, slot);
    if (entry === NOT_FOUND) return NOT_FOUND;
    return nat.direction[entry] === (flow.end === INITIATOR ? OUTBOUND : INBOUND) ? entry : NOT_FOUND;
  }

  #find(words: AddressWords): number {
    const [a = 0, b = 0, c = 0, d = 0] = words;
    return this.#parts.addresses.findWords(a, b, c, d);
  }

  /** Bounds the window: a MUX that starts again has another id. */
  #forgetGoneMuxes(): void {
    const { tables } = this.#parts;
    if (this.#generation === tables.generation()) return;
    this.#generation = tables.generation();
    this.#window.keepOnly((muxId) => tables.knowsMux(muxId));
  }
}

const isToUs = ({ protocol, destinationPort }: PacketHeader): boolean =>
  protocol === PROTOCOL_UDP && destinationPort === FASTPATH_PORT;

const payloadOf = (batch: PacketBatch, { offset, totalBytes, payloadOffset }: PacketHeader): Uint8Array =>
  batch.arena.subarray(payloadOffset, offset + totalBytes);

/** An outer header has one family, and both ends have their locators in it. */
function canReach(locator: AddressWords, isIpv6: boolean): boolean {
  const [a = 0, b = 0, c = 0, d = 0] = locator;
  return isIpv4Words(a, b, c) ? !isIpv6 && d !== 0 : isIpv6;
}
