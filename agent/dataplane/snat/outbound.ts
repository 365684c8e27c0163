/**
 * New flows of machines to the outside (Ananta §3.4.2, §3.5.1): each gets a port of one of the DIP's VIPs that is free for its
 * destination; without one, its first packet waits, bounded in number and time.
 */
import { DROP } from "../../../dataplane/drop-reasons.js";
import { EVENT_HOLD, EVENT_SNAT_MISS } from "../../../dataplane/event-ring.js";
import { mixWords } from "../../../dataplane/flow-hash.js";
import type { PacketBatch } from "../../../dataplane/packet-batch.js";
import { NOT_FOUND } from "../../../dataplane/word-index.js";
import { PROTOCOL_TCP, PROTOCOL_UDP } from "../../../packet/ipv4.js";
import { parseIpHeader, parsePorts } from "../../../packet/parse.js";
import { isIpv6Number } from "../addresses.js";
import { answerUnreachable } from "../answers.js";
import type { FlowLife } from "../flow-life.js";
import { HELD, type HostParts } from "../host-parts.js";
import { HALF_OPEN, OUTBOUND, UDP_ACTIVE } from "../nat-state.js";
import type { OutboundVip } from "../tables.js";
import type { WayOut } from "../way-out.js";

export class Outbound {
  readonly #parts: HostParts;
  readonly #wayOut: WayOut;
  readonly #life: FlowLife;

  constructor(parts: HostParts, wayOut: WayOut, life: FlowLife) {
    this.#parts = parts;
    this.#wayOut = wayOut;
    this.#life = life;
  }

  /** The packet in `header` begins a flow: it leaves with a port, or waits for one (`HELD`), or is dropped. */
  start(batch: PacketBatch, slot: number, link: number, mayHold: boolean, nowMs: number, out: PacketBatch): number {
    const { header, tables, held, nat, ports, counters, events } = this.#parts;
    const { source3, destination3, sourcePort, destinationPort, protocol } = header;
    const vips = tables.outboundVips(link);
    if (vips.length === 0) return DROP.no_outbound_vip;
    if (mayHold && held.size > 0 && held.isHeld(header, slot)) return DROP.already_held;
    const { isPaired } = vips[0]!; // not empty
    // Paired: always the same. Else by destination, so that all VIPs are in use at once; the others when that one has no port.
    const first = (isPaired ? link : mixWords(destination3, destinationPort, 0, 0) >>> 0) % vips.length;
    for (let i = 0; i < (isPaired ? 1 : vips.length); i++) {
      const leavesBy = vips[(first + i) % vips.length]!; // below length
      const { vip } = leavesBy;
      if (isIpv6Number(vip) !== isIpv6Number(source3)) continue;
      if (leavesBy.mapsEndpointIndependently && protocol === PROTOCOL_UDP) {
        const result = this.#startMapped(batch, slot, link, leavesBy, nowMs, out);
        if (result !== HELD) return result;
        continue;
      }
      const port = ports.allocate(nat, link, slot, vip, protocol, destination3, destinationPort, nowMs);
      if (port < 0) continue;
      const { allocatedRange, allocatedUse } = ports;
      const queue = protocol === PROTOCOL_TCP ? HALF_OPEN : UDP_ACTIVE;
      const entry = nat.create(
        OUTBOUND,
        queue,
        protocol,
        slot,
        source3,
        sourcePort,
        destination3,
        destinationPort,
        vip,
        port,
        nowMs,
      );
      if (entry === NOT_FOUND) {
        ports.release(allocatedRange, allocatedUse, nowMs);
        return DROP.nat_table_full;
      }
      nat.takePort(entry, allocatedRange, allocatedUse);
      nat.counter[entry] = counters.vipPlace(leavesBy.vipId);
      const idleMs = protocol === PROTOCOL_TCP ? leavesBy.tcpIdleMs : leavesBy.udpIdleMs;
      nat.setIdle(entry, idleMs, leavesBy.resetsWhenIdle);
      this.#life.track(entry, batch, true, nowMs);
      return this.#wayOut.toWire(batch, slot, vip, port, nat.counter[entry], out);
    }
    if (!mayHold) return HELD;
    const { vipId } = vips[0]!;
    events.push(EVENT_SNAT_MISS, nowMs, protocol, source3, sourcePort, destination3, destinationPort, vipId, link);
    const { holdSeconds, answersExhaustion } = vips[0]!; // not empty
    if (holdSeconds === 0) {
      if (answersExhaustion) answerUnreachable(batch, header, link, out);
      return DROP.snat_hold_expired;
    }
    if (!held.hold(batch, header, slot, holdSeconds, nowMs)) {
      answerUnreachable(batch, header, link, out);
      return DROP.snat_hold_full;
    }
    events.push(EVENT_HOLD, nowMs, protocol, source3, sourcePort, destination3, destinationPort, vipId, link);
    return HELD;
  }

  /** By the port that the VIP has for this port of the machine. `HELD`: there is none. */
  #startMapped(
    batch: PacketBatch,
    slot: number,
    link: number,
    { vip, vipId, udpIdleMs, resetsWhenIdle }: OutboundVip,
    nowMs: number,
    out: PacketBatch,
  ): number {
    const { header, nat, mappings, counters } = this.#parts;
    const { source3, destination3, sourcePort, destinationPort, protocol } = header;
    const mapping = mappings.take(link, slot, sourcePort, vip, nowMs);
    if (mapping === NOT_FOUND) return HELD;
    const port = mappings.port(mapping);
    // A flow from before the VIP was set so may have the port towards this destination.
    const isTaken = nat.isTaken(destination3, vip, destinationPort, port, protocol, slot);
    const entry = isTaken
      ? NOT_FOUND
      : nat.create(
          OUTBOUND,
          UDP_ACTIVE,
          protocol,
          slot,
          source3,
          sourcePort,
          destination3,
          destinationPort,
          vip,
          port,
          nowMs,
        );
    if (entry === NOT_FOUND) {
      mappings.release(mapping, nowMs);
      return isTaken ? DROP.flow_conflict : DROP.nat_table_full;
    }
    nat.takeMapping(entry, mappings.range(mapping), mapping);
    nat.counter[entry] = counters.vipPlace(vipId);
    nat.setIdle(entry, udpIdleMs, resetsWhenIdle);
    this.#life.track(entry, batch, true, nowMs);
    return this.#wayOut.toWire(batch, slot, vip, port, nat.counter[entry], out);
  }

  /** The held packet has waited its time: its sender is told, unless the rule says silence. */
  giveUp(record: number, out: PacketBatch): void {
    const { header, tables, held, counters } = this.#parts;
    const { store } = held;
    // It was parsed when it was held, so it has no fault.
    parseIpHeader(store.view, held.offset(record), held.lengths[record]!, header);
    parsePorts(store.view, header);
    const dipId = tables.dipId(held.dipSlot[record]!);
    if (tables.outboundVips(dipId)[0]?.answersExhaustion !== false) answerUnreachable(store, header, dipId, out);
    counters.drops[DROP.snat_hold_expired]!++;
    held.remove(record);
  }
}
