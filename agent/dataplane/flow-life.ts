/**
 * How NAT entries begin, live and end: one place for all of it, whichever way the packets come.
 *
 *     idle TCP: keepalive to our own machine --answer--> goes on
 *                                            \--RST or nothing--> reset to both ends, unless the rule says silence
 *
 * So an idle time ends dead connections only, and neither end is left believing in one that is gone.
 */
import { DROP } from "../../dataplane/drop-reasons.js";
import { EVENT_CONFLICT, EVENT_FLOW_ENDED } from "../../dataplane/event-ring.js";
import type { PacketBatch } from "../../dataplane/packet-batch.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import { PROTOCOL_TCP } from "../../packet/ipv4.js";
import { TCP_RST } from "../../packet/tcp.js";
import { CONFLICT, type HostParts, startsTcpFlow, WELL_KNOWN_PORT_MAX } from "./host-parts.js";
import { sendKeepalive, sendResets } from "./idle-answers.js";
import {
  END_DEAD_MACHINE,
  END_HALF_CLOSED,
  END_IDLE,
  END_OWN_CLOSE,
  END_OWN_RESET,
  END_REMOTE_CLOSE,
  END_REMOTE_RESET,
  END_UNANSWERED,
} from "./last-words.js";
import {
  CLOSING,
  HALF_OPEN,
  HOLD_OWN,
  HOLD_REMOTE,
  HOLD_RESET,
  INBOUND,
  KEEPALIVE,
  OUTBOUND,
  UDP_ANSWERED,
  UDP_UNANSWERED,
} from "./nat-state.js";
import { restartTcp, trackTcp, wasResetByRemote } from "./tcp-track.js";

export class FlowLife {
  readonly #parts: HostParts;
  /** Half-open inbound flows may fill half of the table: beyond it they are served without an entry. */
  readonly #halfOpenMax: number;
  /** Inbound UDP that nobody answered, likewise: a quarter, so that both floods together leave a quarter. */
  readonly #unansweredMax: number;
  /** When a TCP flow last went without an entry because there was no room. */
  #refusedAtMs = -Infinity;

  constructor(parts: HostParts) {
    this.#parts = parts;
    this.#halfOpenMax = parts.nat.capacity >>> 1;
    this.#unansweredMax = parts.nat.capacity >>> 2;
  }

  /**
   * An inbound entry for the packet in `header`, `NOT_FOUND` when it goes without one, or `CONFLICT`. `dip`: what the machine's
   * packets carry, the VIP with floating IP. `udpQueue`: where it begins if it is UDP.
   */
  createInbound(
    slot: number,
    dip: number,
    dipPort: number,
    remote: number,
    remotePort: number,
    vip: number,
    vipPort: number,
    counter: number,
    udpQueue: number,
    nowMs: number,
  ): number {
    const { nat, header } = this.#parts;
    const { protocol, tcpFlags } = header;
    const other = nat.findInside(dip, remote, dipPort, remotePort, protocol, slot);
    if (other !== NOT_FOUND) {
      if (!nat.isClosed(other)) return CONFLICT;
      nat.detach(other);
    }
    if (protocol === PROTOCOL_TCP) {
      if ((tcpFlags & TCP_RST) !== 0) return NOT_FOUND;
      if (nat.queues.sizes[HALF_OPEN]! >= this.#halfOpenMax) {
        this.#refusedAtMs = nowMs;
        return NOT_FOUND;
      }
    } else if (udpQueue === UDP_UNANSWERED && nat.queues.sizes[UDP_UNANSWERED]! >= this.#unansweredMax)
      return NOT_FOUND;
    const queue = protocol === PROTOCOL_TCP ? HALF_OPEN : udpQueue;
    const entry = nat.create(INBOUND, queue, protocol, slot, dip, dipPort, remote, remotePort, vip, vipPort, nowMs);
    if (entry !== NOT_FOUND) nat.counter[entry] = counter;
    else if (protocol === PROTOCOL_TCP) this.#refusedAtMs = nowMs;
    return entry;
  }

  /** Within the last `withinMs` a TCP flow went without an entry for want of room: our machines have flows that we do not know. */
  refused(nowMs: number, withinMs: number): boolean {
    return nowMs - this.#refusedAtMs < withinMs;
  }

  /** The packet in `header` belongs to the entry: its state and lifetime follow. */
  track(entry: number, batch: PacketBatch, fromInside: boolean, nowMs: number): void {
    const { nat, header, direct } = this.#parts;
    nat.countPacket(entry, fromInside);
    if (header.protocol === PROTOCOL_TCP) {
      if (startsTcpFlow(header)) {
        direct.forget(entry); // MUXes may send a new connection elsewhere
        // Whoever began the flow uses its port again: the old connection is over, whatever we had seen of its end.
        const isOfInitiator = fromInside === (nat.direction[entry] === OUTBOUND);
        const isEnding = nat.isClosed(entry) || nat.queues.queueOf[entry] === CLOSING;
        if (isOfInitiator && isEnding) restartTcp(nat, entry, nowMs);
      }
      trackTcp(nat, entry, batch.view, header, fromInside, nowMs);
      return;
    }
    if (nat.direction[entry] === INBOUND) nat.countUdp(entry, fromInside);
    const isAnswer = !fromInside && nat.direction[entry] === OUTBOUND && header.sourcePort <= WELL_KNOWN_PORT_MAX;
    const wasAnswered = fromInside || nat.queues.queueOf[entry] !== UDP_UNANSWERED;
    const queue = isAnswer ? UDP_ANSWERED : wasAnswered ? nat.idleQueue[entry]! : UDP_UNANSWERED;
    if (nat.queues.queueOf[entry] === queue) nat.queues.touch(entry, nowMs);
    else nat.queues.move(entry, queue, nowMs);
  }

  /**
   * A detached entry may have the machine's packets back once no other flow has them: for a closed one, with a SYN. Else the
   * machine's answer would leave with the other flow's VIP.
   */
  takeBackInside(entry: number): boolean {
    const { nat, header } = this.#parts;
    const holder = nat.holderOfInside(entry);
    if (holder !== NOT_FOUND) {
      if (!nat.isClosed(holder) || !startsTcpFlow(header)) return false;
      nat.detach(holder);
    }
    nat.attach(entry);
    return true;
  }

  /** The client uses one port towards two VIPs that lead to one DIP port: the machine cannot tell the flows apart. */
  conflict(slot: number, counter: number, nowMs: number): number {
    const { header, counters, tables, events } = this.#parts;
    const { source3: source, sourcePort, destination3: destination, destinationPort, protocol } = header;
    const [vipId, dipId] = [counters.vipId(counter), tables.dipId(slot)];
    events.push(EVENT_CONFLICT, nowMs, protocol, source, sourcePort, destination, destinationPort, vipId, dipId);
    return DROP.flow_conflict;
  }

  /** An entry past its lifetime: over, or, if it was idle, asked after. */
  expired(entry: number, nowMs: number, out: PacketBatch): void {
    const { nat } = this.#parts;
    const isIdleTcp = nat.protocol(entry) === PROTOCOL_TCP && nat.queues.queueOf[entry] === nat.idleQueue[entry];
    if (isIdleTcp && !nat.isDetached(entry) && sendKeepalive(this.#parts, entry, out)) {
      nat.queues.move(entry, KEEPALIVE, nowMs);
      return;
    }
    const wasAsked = nat.queues.queueOf[entry] === KEEPALIVE;
    if ((isIdleTcp || wasAsked) && nat.resetsWhenIdle(entry)) sendResets(this.#parts, entry, out);
    this.end(entry, this.#endOf(entry), nowMs);
  }

  /** Removes a NAT entry, and gives back its port. `end`: of `FLOW_ENDS`. */
  end(entry: number, end: number, nowMs: number): void {
    const { nat, ports, mappings, counters, tables, events, lastWords } = this.#parts;
    const isOutbound = nat.direction[entry] === OUTBOUND;
    if (nat.sharesPort(entry)) mappings.release(nat.use[entry]!, nowMs);
    else if (isOutbound && nat.hasPort(entry)) ports.release(nat.range[entry]!, nat.use[entry]!, nowMs);
    const vipId = counters.vipId(nat.counter[entry]!);
    const dipId = tables.dipId(nat.dipSlot(entry));
    const protocol = nat.protocol(entry);
    const [remote, remotePort] = [nat.remote(entry), nat.remotePort(entry)];
    const [vip, vipPort] = [nat.vip(entry), nat.vipPort(entry)];
    const [from, fromPort] = isOutbound ? [vip, vipPort] : [remote, remotePort];
    const [to, toPort] = isOutbound ? [remote, remotePort] : [vip, vipPort];
    events.push(EVENT_FLOW_ENDED, nowMs, protocol, from, fromPort, to, toPort, vipId, dipId);
    const [packetsOut, packetsIn] = [nat.packetsOut[entry]!, nat.packetsIn[entry]!];
    lastWords.push(end, nowMs, protocol, from, fromPort, to, toPort, vipId, dipId, packetsOut, packetsIn);
    this.#parts.direct.forget(entry);
    nat.remove(entry);
  }

  #endOf(entry: number): number {
    const { nat } = this.#parts;
    switch (nat.queues.queueOf[entry]) {
      case HALF_OPEN:
      case UDP_UNANSWERED:
        return END_UNANSWERED;
      case CLOSING:
        return END_HALF_CLOSED;
      case HOLD_OWN:
        return END_OWN_CLOSE;
      case HOLD_REMOTE:
        return END_REMOTE_CLOSE;
      case HOLD_RESET:
        return wasResetByRemote(nat, entry) ? END_REMOTE_RESET : END_OWN_RESET;
      case KEEPALIVE:
        return END_DEAD_MACHINE;
      default:
        return END_IDLE;
    }
  }
}
