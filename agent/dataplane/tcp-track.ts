/**
 * How far a TCP connection is, told from the segments that pass, so that its entry lives neither too short nor too long, and
 * its SNAT port is not used again before the remote would accept it.
 *
 *     half-open --both sides seen, no SYN--> established --FIN--> closing --both FINs acknowledged--> hold --> gone
 *          \________________________ RST ________\_________________/------------------------------> hold-reset
 *
 * Who closes first matters: that side keeps TIME-WAIT (RFC 9293 §3.6.1). Was it our machine, then it will not use its port
 * soon, and the remote accepts a new connection at once: 5 s. Was it the remote, it refuses one for its TIME-WAIT: 65 s.
 * Both at once: as the remote.
 *
 * A RST may be forged, or outside the window: its receiver alone knows. So when the side that received it goes on talking,
 * the connection is established again.
 */
import { type PacketHeader } from "../../packet/ipv4.js";
import {
  readTimestamp,
  TCP_ACK,
  TCP_ACKNOWLEDGEMENT,
  TCP_FIN,
  TCP_RST,
  TCP_SEQUENCE,
  TCP_SYN,
} from "../../packet/tcp.js";
import { CLOSING, HALF_OPEN, HOLD_OWN, HOLD_REMOTE, HOLD_RESET, KEEPALIVE, type NatState } from "./nat-state.js";

// Bits of NatState.tcpFlags.
const SEEN_INSIDE = 0x01;
const SEEN_OUTSIDE = 0x02;
const FIN_INSIDE = 0x04;
const FIN_OUTSIDE = 0x08;
const FIN_INSIDE_ACKED = 0x10;
const FIN_OUTSIDE_ACKED = 0x20;
/** The remote closed first, or both at once; meaningful with a FIN bit. */
const REMOTE_CLOSED_FIRST = 0x40;
/** The newest RST came from the remote; meaningful in HOLD_RESET. */
const RESET_BY_REMOTE = 0x80;

// Bits of NatState.acks.
const ACK_INSIDE = 1;
const ACK_OUTSIDE = 2;

/** Both sides' newest acknowledgements are known. */
export const knowsSequences = (nat: NatState, entry: number): boolean => nat.acks[entry] === (ACK_INSIDE | ACK_OUTSIDE);

/** Of an entry on hold after a RST. */
export const wasResetByRemote = (nat: NatState, entry: number): boolean =>
  (nat.tcpFlags[entry]! & RESET_BY_REMOTE) !== 0;

/** True when acknowledgement number `ack` covers `end`, modulo 2^32. */
const covers = (ack: number, end: number): boolean => ((ack - end) | 0) >= 0;

/** A segment of the entry's connection passes; `fromInside`: sent by our machine. */
export function trackTcp(
  nat: NatState,
  entry: number,
  view: DataView,
  header: PacketHeader,
  fromInside: boolean,
  nowMs: number,
): void {
  const queues = nat.queues;
  const queue = queues.queueOf[entry]!;
  const segment = header.tcpFlags;
  let flags = nat.tcpFlags[entry]!;
  if ((segment & TCP_RST) !== 0) {
    nat.tcpFlags[entry] = fromInside ? flags & ~RESET_BY_REMOTE : flags | RESET_BY_REMOTE;
    if (queue !== HOLD_OWN && queue !== HOLD_REMOTE) queues.move(entry, HOLD_RESET, nowMs);
    return;
  }
  flags |= fromInside ? SEEN_INSIDE : SEEN_OUTSIDE;
  const at = header.transportOffset;
  const hasAck = (segment & TCP_ACK) !== 0;
  const ack = hasAck ? view.getInt32(at + TCP_ACKNOWLEDGEMENT) : 0;
  const isFin = (segment & TCP_FIN) !== 0;
  if (isFin) flags = noteFin(nat, entry, view, header, fromInside, flags, hasAck, ack);
  if (hasAck) {
    if (fromInside) {
      nat.ackInside[entry] = ack;
      nat.acks[entry]! |= ACK_INSIDE;
      if ((flags & FIN_OUTSIDE) !== 0 && covers(ack, nat.finOutside[entry]!)) flags |= FIN_OUTSIDE_ACKED;
    } else {
      nat.ackOutside[entry] = ack;
      nat.acks[entry]! |= ACK_OUTSIDE;
      if ((flags & FIN_INSIDE) !== 0 && covers(ack, nat.finInside[entry]!)) flags |= FIN_INSIDE_ACKED;
    }
  }
  nat.tcpFlags[entry] = flags;

  const isClosed = (flags & FIN_INSIDE_ACKED) !== 0 && (flags & FIN_OUTSIDE_ACKED) !== 0;
  if (isClosed) {
    const hold = (flags & REMOTE_CLOSED_FIRST) !== 0 ? HOLD_REMOTE : HOLD_OWN;
    // A retransmitted FIN says that the last ACK was lost: the side in TIME-WAIT starts its wait again, so do we.
    if (queue !== hold || isFin) queues.move(entry, hold, nowMs);
    return;
  }
  if ((flags & (FIN_INSIDE | FIN_OUTSIDE)) !== 0) {
    if (queue !== CLOSING) queues.move(entry, CLOSING, nowMs);
    else queues.touch(entry, nowMs);
    return;
  }
  if (queue === HOLD_RESET) {
    const resetByRemote = (flags & RESET_BY_REMOTE) !== 0;
    if (resetByRemote === fromInside && (segment & TCP_SYN) === 0) queues.move(entry, nat.idleQueue[entry]!, nowMs);
    return;
  }
  const bothSeen = (flags & (SEEN_INSIDE | SEEN_OUTSIDE)) === (SEEN_INSIDE | SEEN_OUTSIDE);
  if (queue === HALF_OPEN && bothSeen && (segment & TCP_SYN) === 0) queues.move(entry, nat.idleQueue[entry]!, nowMs);
  else if (queue === KEEPALIVE) queues.move(entry, nat.idleQueue[entry]!, nowMs);
  else queues.touch(entry, nowMs);
}

/** Notes a FIN of one side: which acknowledgement will cover it, and who closed first. Answers the new flags. */
function noteFin(
  nat: NatState,
  entry: number,
  view: DataView,
  header: PacketHeader,
  fromInside: boolean,
  flags: number,
  hasAck: boolean,
  ack: number,
): number {
  const payloadBytes = header.offset + header.totalBytes - header.payloadOffset;
  const end = (view.getInt32(header.transportOffset + TCP_SEQUENCE) + payloadBytes + 1) | 0;
  if (fromInside) {
    nat.finInside[entry] = end;
    const timestamp = readTimestamp(view, header.transportOffset, header.payloadOffset);
    if (timestamp >= 0) nat.timestamp[entry] = timestamp;
    if ((flags & FIN_INSIDE) !== 0) return flags;
    // Both at once: our FIN does not acknowledge the remote's, or the other way round.
    const crossed = (flags & FIN_OUTSIDE) !== 0 && !(hasAck && covers(ack, nat.finOutside[entry]!));
    return flags | FIN_INSIDE | (crossed ? REMOTE_CLOSED_FIRST : 0);
  }
  nat.finOutside[entry] = end;
  if ((flags & FIN_OUTSIDE) !== 0) return flags;
  const isFirst = (flags & FIN_INSIDE) === 0;
  const crossed = !isFirst && !(hasAck && covers(ack, nat.finInside[entry]!));
  return flags | FIN_OUTSIDE | (isFirst || crossed ? REMOTE_CLOSED_FIRST : 0);
}

/** The entry starts again with a SYN of its initiator, and takes nothing over: neither FINs nor who closed. */
export function restartTcp(nat: NatState, entry: number, nowMs: number): void {
  nat.tcpFlags[entry] = 0;
  nat.acks[entry] = 0;
  nat.queues.move(entry, HALF_OPEN, nowMs);
}

/**
 * May a SYN of the machine take the place of its own closed connection on the same port at once? Yes when the machine closed
 * first (then it has judged its own TIME-WAIT), or when its timestamps show the remote that this is newer (RFC 6191).
 */
export function mayReuse(nat: NatState, entry: number, view: DataView, header: PacketHeader): boolean {
  const queue = nat.queues.queueOf[entry];
  if (queue === HOLD_OWN) return true;
  if (queue !== HOLD_REMOTE) return false;
  const timestamp = readTimestamp(view, header.transportOffset, header.payloadOffset);
  const before = nat.timestamp[entry]!;
  return timestamp >= 0 && before !== 0 && ((timestamp - before) | 0) > 0;
}
