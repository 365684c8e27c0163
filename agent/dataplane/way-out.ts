/** The last step of every packet that passes: a copy with the addresses it leaves with, and its counters. */
import { DROP } from "../../dataplane/drop-reasons.js";
import { mixWords } from "../../dataplane/flow-hash.js";
import { type PacketBatch, WIRE_LINK } from "../../dataplane/packet-batch.js";
import { PATH_MTU_LEAST } from "../../dataplane/path-mtu.js";
import { NO_FAULT } from "../../packet/fault.js";
import {
  innerProtocol,
  OUTER_BYTES,
  OUTER_IPV6_BYTES,
  writeEcn,
  writeOuterHeader,
  writeOuterIpv6Header,
} from "../../packet/ip-in-ip.js";
import { IPV4_HEADER_BYTES, isFragment, PROTOCOL_TCP } from "../../packet/ipv4.js";
import { IPV6_HEADER_BYTES } from "../../packet/ipv6.js";
import { clampMss, TCP_HEADER_BYTES, TCP_SYN } from "../../packet/tcp.js";
import {
  rewriteDestination,
  rewriteDestinationIpv6,
  rewriteSource,
  rewriteSourceIpv6,
  translateDestination,
  translateDestinationIpv6,
  translateSource,
  translateSourceIpv6,
} from "../../packet/translate.js";
import type { HostParts } from "./host-parts.js";
import { NO_COUNTER } from "./counters.js";
import { isIpv6Number, NO_ADDRESS } from "./addresses.js";

/** Of `toPeer`: it is a fragment, or does not fit with an outer header; nothing has left. */
export const NOT_DIRECT = -5;
/** Likewise: it would fit the fabric, but not the path to the peer. */
export const PATH_TOO_NARROW = -9;

export class WayOut {
  readonly #parts: HostParts;

  constructor(parts: HostParts) {
    this.#parts = parts;
  }

  /** Offset of the packet's copy in `out`, or -1 when full. */
  copy(batch: PacketBatch, link: number, out: PacketBatch): number {
    const { header, counters } = this.#parts;
    const { offset, totalBytes } = header;
    const at = out.reserve(totalBytes, link);
    if (at < 0) return at;
    out.copyIn(batch, offset, at, totalBytes);
    counters.sentPackets++;
    counters.sentBytes += totalBytes;
    return at;
  }

  /** As it is, between machines inside. */
  plain(batch: PacketBatch, slot: number, link: number, out: PacketBatch): number {
    if (this.copy(batch, link, out) < 0) return DROP.output_full;
    this.#parts.counters.count(slot, NO_COUNTER, this.#parts.header.totalBytes);
    return NO_FAULT;
  }

  /** To the machine of `slot`, as its entry says. `ecn`: what decapsulation made of it. */
  toVm(
    batch: PacketBatch,
    slot: number,
    address: number,
    port: number,
    ecn: number,
    counter: number,
    out: PacketBatch,
  ): number {
    const { header, tables, counters } = this.#parts;
    const at = this.copy(batch, tables.dipId(slot), out);
    if (at < 0) return DROP.output_full;
    this.#setDestination(out.view, at, address, port);
    this.#clamp(out, at, slot);
    writeEcn(out.view, at, ecn);
    counters.count(slot, counter, header.totalBytes);
    return NO_FAULT;
  }

  /** To the wire with VIP:port as source, straight to the router. */
  toWire(batch: PacketBatch, slot: number, vip: number, port: number, counter: number, out: PacketBatch): number {
    const { header, counters } = this.#parts;
    const at = this.copy(batch, WIRE_LINK, out);
    if (at < 0) return DROP.output_full;
    this.#setSource(out.view, at, vip, port);
    this.#clamp(out, at, slot);
    counters.count(slot, counter, header.totalBytes);
    return NO_FAULT;
  }

  /**
   * As `toWire`, and with an outer header from the machine's locator to the one in the four words at `peerAt` of `peers`, of the
   * same family: straight to the host of the other end (FastPath).
   */
  toPeer(
    batch: PacketBatch,
    slot: number,
    vip: number,
    port: number,
    counter: number,
    peers: Int32Array,
    peerAt: number,
    nowMs: number,
    out: PacketBatch,
  ): number {
    const { header, counters, tables, fabricMtuBytes, paths } = this.#parts;
    const outerBytes = tables.hasIpv6Locator(slot) ? OUTER_IPV6_BYTES : OUTER_BYTES;
    const innerBytes = header.totalBytes;
    const totalBytes = innerBytes + outerBytes;
    if (totalBytes > fabricMtuBytes || isFragment(header.fragment)) return NOT_DIRECT;
    if (totalBytes > PATH_MTU_LEAST && totalBytes > paths.admit(peers, peerAt, totalBytes, nowMs))
      return PATH_TOO_NARROW;
    const at = out.reserve(totalBytes, WIRE_LINK);
    if (at < 0) return DROP.output_full;
    const inner = at + outerBytes;
    out.copyIn(batch, header.offset, inner, innerBytes);
    this.#setSource(out.view, inner, vip, port);
    this.#clamp(out, inner, slot);
    this.writeOuter(out.view, at, slot, peers, peerAt, header.tos, header.family, innerBytes);
    counters.sentPackets++;
    counters.sentBytes += totalBytes;
    counters.count(slot, counter, innerBytes);
    return NO_FAULT;
  }

  /** The outer header of a packet of `family` from the machine in `slot` to a peer. */
  writeOuter(
    view: DataView,
    at: number,
    slot: number,
    peers: Int32Array,
    peerAt: number,
    tos: number,
    family: number,
    innerBytes: number,
  ): void {
    const { tables, addresses, header } = this.#parts;
    const locator = tables.locator(slot);
    const protocol = innerProtocol(family);
    if (!isIpv6Number(locator)) {
      writeOuterHeader(view, at, locator, peers[peerAt + 3]!, tos, innerBytes, protocol);
      return;
    }
    const label = mixWords(header.sourcePort, header.destinationPort, 0, 0);
    const from = addresses.wordsAt(locator);
    writeOuterIpv6Header(view, at, addresses.words, from, peers, peerAt, tos, innerBytes, protocol, label);
  }

  /** A later fragment, of which only addresses change; `NO_ADDRESS`: as it is. */
  part(
    batch: PacketBatch,
    slot: number,
    link: number,
    source: number,
    destination: number,
    ecn: number,
    counter: number,
    out: PacketBatch,
  ): number {
    const { header, addresses, counters } = this.#parts;
    const at = this.copy(batch, link, out);
    if (at < 0) return DROP.output_full;
    const { view } = out;
    const { words } = addresses;
    if (header.family === 4) {
      if (source !== NO_ADDRESS) rewriteSource(view, at, source);
      if (destination !== NO_ADDRESS) rewriteDestination(view, at, destination);
    } else {
      if (source !== NO_ADDRESS) rewriteSourceIpv6(view, at, words, addresses.wordsAt(source));
      if (destination !== NO_ADDRESS) rewriteDestinationIpv6(view, at, words, addresses.wordsAt(destination));
    }
    writeEcn(view, at, ecn);
    counters.count(slot, counter, header.totalBytes);
    return NO_FAULT;
  }

  /** A flow of a machine to itself, through a VIP: it must not see its own address as the other end. */
  hairpinIn(batch: PacketBatch, slot: number, dipPort: number, ecn: number, counter: number, out: PacketBatch): number {
    const { header, tables, reserved } = this.#parts;
    const own = tables.address[slot]!;
    const result = this.toVm(batch, slot, own, dipPort, ecn, counter, out);
    if (result !== NO_FAULT) return result;
    const at = out.offsets[out.count - 1]!; // the packet just written
    this.#setSource(out.view, at, reserved.hairpinFor(own), header.sourcePort);
    return NO_FAULT;
  }

  /** And its answer: from VIP:port, to where the flow began. */
  hairpinOut(batch: PacketBatch, slot: number, vip: number, port: number, counter: number, out: PacketBatch): number {
    const { header, tables } = this.#parts;
    const ecn = header.tos & 3;
    const result = this.toVm(batch, slot, tables.address[slot]!, header.destinationPort, ecn, counter, out);
    if (result !== NO_FAULT) return result;
    const at = out.offsets[out.count - 1]!; // the packet just written
    this.#setSource(out.view, at, vip, port);
    return NO_FAULT;
  }

  /** In the copy at `at` of the packet at hand; likewise for the destination. */
  #setSource(view: DataView, at: number, address: number, port: number): void {
    const { header, addresses } = this.#parts;
    const { protocol } = header;
    const transport = at + header.headerBytes;
    if (!isIpv6Number(address)) translateSource(view, at, transport, protocol, address, port);
    else {
      const wordsAt = addresses.wordsAt(address);
      translateSourceIpv6(view, at, transport, protocol, addresses.words, wordsAt, port);
    }
  }

  #setDestination(view: DataView, at: number, address: number, port: number): void {
    const { header, addresses } = this.#parts;
    const { protocol } = header;
    const transport = at + header.headerBytes;
    if (!isIpv6Number(address)) translateDestination(view, at, transport, protocol, address, port);
    else {
      const wordsAt = addresses.wordsAt(address);
      translateDestinationIpv6(view, at, transport, protocol, addresses.words, wordsAt, port);
    }
  }

  /**
   * SYN and SYN-ACK, either way: no segment shall be too long for the tunnel to the DIP (Ananta §6): of 1,500 bytes, 1,440
   * remain with IPv4 in IPv4, 1,420 mixed, 1,400 with IPv6 in IPv6.
   */
  #clamp(out: PacketBatch, at: number, slot: number): void {
    const { header, tables, fabricMtuBytes } = this.#parts;
    if (header.protocol !== PROTOCOL_TCP || (header.tcpFlags & TCP_SYN) === 0) return;
    const outerBytes = tables.hasIpv6Locator(slot) ? OUTER_IPV6_BYTES : OUTER_BYTES;
    const innerBytes = header.family === 6 ? IPV6_HEADER_BYTES : IPV4_HEADER_BYTES;
    const mssMax = fabricMtuBytes - outerBytes - innerBytes - TCP_HEADER_BYTES;
    clampMss(out.view, at + header.headerBytes, at + (header.payloadOffset - header.offset), mssMax);
  }
}
