/** The last step of every packet that passes: a copy with the addresses it leaves with, and its counters. */
import { DROP } from "../../dataplane/drop-reasons.js";
import { type PacketBatch, WIRE_LINK } from "../../dataplane/packet-batch.js";
import { NO_FAULT } from "../../packet/fault.js";
import { writeEcn } from "../../packet/ip-in-ip.js";
import { PROTOCOL_TCP } from "../../packet/ipv4.js";
import { clampMss, TCP_SYN } from "../../packet/tcp.js";
import { translateDestination, translateSource } from "../../packet/translate.js";
import type { HostParts } from "./host-parts.js";
import { NO_COUNTER } from "./counters.js";
import { HAIRPIN_SOURCE } from "./reserved.js";

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
    const { protocol } = header;
    translateDestination(out.view, at, at + header.headerBytes, protocol, address, port);
    this.#clamp(out, at);
    writeEcn(out.view, at, ecn);
    counters.count(slot, counter, header.totalBytes);
    return NO_FAULT;
  }

  /** To the wire with VIP:port as source, straight to the router. */
  toWire(batch: PacketBatch, slot: number, vip: number, port: number, counter: number, out: PacketBatch): number {
    const { header, counters } = this.#parts;
    const at = this.copy(batch, WIRE_LINK, out);
    if (at < 0) return DROP.output_full;
    translateSource(out.view, at, at + header.headerBytes, header.protocol, vip, port);
    this.#clamp(out, at);
    counters.count(slot, counter, header.totalBytes);
    return NO_FAULT;
  }

  /** A flow of a machine to itself, through a VIP: it must not see its own address as the other end. */
  hairpinIn(batch: PacketBatch, slot: number, dipPort: number, ecn: number, counter: number, out: PacketBatch): number {
    const { header, tables } = this.#parts;
    const result = this.toVm(batch, slot, tables.address[slot]!, dipPort, ecn, counter, out);
    if (result !== NO_FAULT) return result;
    const at = out.offsets[out.count - 1]!; // the packet just written
    translateSource(out.view, at, at + header.headerBytes, header.protocol, HAIRPIN_SOURCE, header.sourcePort);
    return NO_FAULT;
  }

  /** And its answer: from VIP:port, to where the flow began. */
  hairpinOut(batch: PacketBatch, slot: number, vip: number, port: number, counter: number, out: PacketBatch): number {
    const { header, tables } = this.#parts;
    const ecn = header.tos & 3;
    const result = this.toVm(batch, slot, tables.address[slot]!, header.destinationPort, ecn, counter, out);
    if (result !== NO_FAULT) return result;
    const at = out.offsets[out.count - 1]!; // the packet just written
    translateSource(out.view, at, at + header.headerBytes, header.protocol, vip, port);
    return NO_FAULT;
  }

  /** SYN and SYN-ACK, either way: no segment shall be too long for the tunnel (Ananta §6). */
  #clamp(out: PacketBatch, at: number): void {
    const { header, mssMax } = this.#parts;
    if (header.protocol !== PROTOCOL_TCP || (header.tcpFlags & TCP_SYN) === 0) return;
    clampMss(out.view, at + header.headerBytes, at + (header.payloadOffset - header.offset), mssMax);
  }
}
