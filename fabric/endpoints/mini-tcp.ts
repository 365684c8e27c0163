/**
 * [pure] A minimal TCP (RFC 9293), enough to tell whether a load balancer keeps a connection alive: handshake, data in
 * order both ways, cumulative acknowledgements, retransmission with exponential back-off, FIN and RST. There is no
 * congestion control, no selective acknowledgement, no window scaling: flows here are small requests and answers.
 *
 * A connection is a plain record; these functions change it. Time enters as `nowMs`. The order of use is always
 *
 *     receive / send / close / tick  ->  events to the application  ->  flush
 *
 * because only `flush` emits segments: an answer that the application writes while it handles an event carries the
 * acknowledgement of the request, as real stacks do with delayed acknowledgements.
 *
 * Invariants
 *  (T1) sndUna <= sndNxt <= sndMax, modulo 2^32; `unacked[0]` is the byte at sndUna once the SYN is acknowledged.
 *  (T2) Bytes reach the application once and in order: segments behind a gap wait, at most a window of them, until the gap
 *       is filled; a sender whose time is up repeats everything from sndUna (go-back-N).
 *  (T3) `deadlineMs` is set exactly while something is unacknowledged, or a closed connection lingers.
 *  (T4) "broken" is reported at most once, and nothing after it.
 */
import type { Random } from "../../core/random.js";
import { assertNever } from "../../core/assert.js";

export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const PSH = 0x08;
export const ACK = 0x10;

export interface TcpSegment {
  /** Sequence number of the first byte, unsigned 32 bits. */
  readonly seq: number;
  /** Meaningful with the ACK flag. */
  readonly ack: number;
  readonly flags: number;
  readonly window: number;
  /** MSS option; only on SYN segments, null elsewhere. */
  readonly mss: number | null;
  readonly payload: Uint8Array;
}

/** RFC 9293 §3.3.2, without LISTEN (that is the endpoint's) and with CLOSED as the end only. */
export type TcpState =
  | "syn-sent"
  | "syn-received"
  | "established"
  | "fin-wait-1"
  | "fin-wait-2"
  | "closing"
  | "time-wait"
  | "close-wait"
  | "last-ack"
  | "closed";

export type BrokenReason = "reset" | "no-progress";

export type TcpEvent =
  | { readonly kind: "connected" }
  | { readonly kind: "received"; readonly payload: Uint8Array }
  | { readonly kind: "peer-closed" }
  /** Both sides closed in order; nothing follows. */
  | { readonly kind: "closed" }
  | { readonly kind: "broken"; readonly reason: BrokenReason };

export interface TcpConnection {
  state: TcpState;
  /** Initial sequence number of this side. */
  readonly iss: number;
  sndUna: number;
  sndNxt: number;
  /** One past the highest sequence number ever sent: what an acknowledgement may cover. */
  sndMax: number;
  rcvNxt: number;
  /** Segments that overtook the one at rcvNxt, in no order. */
  early: TcpSegment[];
  /** Largest payload that this side takes. */
  readonly ownMss: number;
  /** Largest payload the peer takes. */
  mss: number;
  /** Bytes from sndUna on that are not acknowledged, sent or not. */
  unacked: Uint8Array;
  finQueued: boolean;
  ackPending: boolean;
  /** Retransmission time-out now: from the estimate, doubled with each repetition. */
  rtoMs: number;
  /** Smoothed round trip and its variation (RFC 6298 §2); null before the first sample. */
  rtt: { smoothedMs: number; variationMs: number } | null;
  /** The one segment that is timed: its end and when it left; null when none is, or it was repeated (Karn). */
  timed: { readonly end: number; readonly sentMs: number } | null;
  /** When `tick` has work, or null. */
  deadlineMs: number | null;
  /** When something became outstanding, or was last acknowledged. */
  progressMs: number;
  retransmissions: number;
}

/** First value and lower bound. RFC 6298 says 1 s; here the path is one machine, and a lost packet shall not hide a failover. */
export const RTO_INITIAL_MS = 200;
/** Keeps the probe of a path that comes back after seconds within a few seconds. */
const RTO_MAX_MS = 5_000;
/** What counts as a broken connection: outstanding data and no progress for this long. */
export const GIVE_UP_MS = 30_000;
/** Shorter than RFC 9293's two MSL, since ports go round slowly here; longer than any repetition of the peer's FIN takes. */
const TIME_WAIT_MS = 2 * RTO_MAX_MS;
/** What the peer may have in flight, and the most we send ahead of an acknowledgement. */
const WINDOW_BYTES = 32_768;
/** Of segments that came too early; a full window of usual ones is less. */
const EARLY_MAX = 64;
/** IPv4 without options over a 1,500 byte link; a Host Agent clamps it on the way. */
export const MSS_BYTES = 1_460;
/** Likewise IPv6. */
export const MSS_IPV6_BYTES = 1_440;

const NO_BYTES = new Uint8Array(0);

/** a - b in sequence space, as a signed 32-bit distance (RFC 9293 §3.4). */
const distance = (a: number, b: number): number => (a - b) | 0;
const plus = (seq: number, bytes: number): number => (seq + bytes) >>> 0;

function newConnection(state: TcpState, iss: number, ownMss: number, nowMs: number): TcpConnection {
  return {
    ownMss,
    state,
    iss,
    sndUna: iss,
    sndNxt: iss,
    sndMax: iss,
    rcvNxt: 0,
    early: [],
    mss: ownMss,
    unacked: NO_BYTES,
    finQueued: false,
    ackPending: false,
    rtoMs: RTO_INITIAL_MS,
    rtt: null,
    timed: null,
    deadlineMs: null,
    progressMs: nowMs,
    retransmissions: 0,
  };
}

/** Opens actively; `flush` sends the SYN. `ownMss`: what this side offers. */
export const connect = (random: Random, nowMs: number, ownMss: number = MSS_BYTES): TcpConnection =>
  newConnection("syn-sent", random.nextUint32(), ownMss, nowMs);

/** Answers a SYN; `flush` sends the SYN-ACK. */
export function accept(syn: TcpSegment, random: Random, nowMs: number, ownMss: number = MSS_BYTES): TcpConnection {
  const connection = newConnection("syn-received", random.nextUint32(), ownMss, nowMs);
  connection.rcvNxt = plus(syn.seq, 1);
  connection.mss = Math.min(ownMss, syn.mss ?? 536);
  return connection;
}

/** The answer to a segment that meets no connection (RFC 9293 §3.10.7.1), or null when there must be none. */
export function resetFor(segment: TcpSegment): TcpSegment | null {
  if ((segment.flags & RST) !== 0) return null;
  if ((segment.flags & ACK) !== 0)
    return { seq: segment.ack, ack: 0, flags: RST, window: 0, mss: null, payload: NO_BYTES };
  return {
    seq: 0,
    ack: plus(segment.seq, segmentLength(segment)),
    flags: RST | ACK,
    window: 0,
    mss: null,
    payload: NO_BYTES,
  };
}

/** Length in sequence space: SYN and FIN count one each. */
function segmentLength(segment: TcpSegment): number {
  return segment.payload.length + ((segment.flags & SYN) !== 0 ? 1 : 0) + ((segment.flags & FIN) !== 0 ? 1 : 0);
}

const isSynchronising = (state: TcpState): boolean => state === "syn-sent" || state === "syn-received";
const maySend = (state: TcpState): boolean =>
  isSynchronising(state) || state === "established" || state === "close-wait";
const mayReceive = (state: TcpState): boolean =>
  state === "established" || state === "fin-wait-1" || state === "fin-wait-2";

/** Queues bytes; false when this side has closed already. */
export function send(connection: TcpConnection, bytes: Uint8Array): boolean {
  if (!maySend(connection.state) || connection.finQueued) return false;
  const joined = new Uint8Array(connection.unacked.length + bytes.length);
  joined.set(connection.unacked);
  joined.set(bytes, connection.unacked.length);
  connection.unacked = joined;
  return true;
}

/** Ends this side in order, after what was queued. Safe to call twice. */
export function close(connection: TcpConnection): void {
  switch (connection.state) {
    case "syn-sent":
      enterClosed(connection);
      return;
    case "syn-received":
    case "established":
      connection.finQueued = true;
      connection.state = "fin-wait-1";
      return;
    case "close-wait":
      connection.finQueued = true;
      connection.state = "last-ack";
      return;
    case "fin-wait-1":
    case "fin-wait-2":
    case "closing":
    case "time-wait":
    case "last-ack":
    case "closed":
      return;
    default:
      assertNever(connection.state);
  }
}

/** Ends the connection at once; the segment tells the peer, null when it need not know. */
export function abort(connection: TcpConnection): TcpSegment | null {
  const { state, sndMax } = connection;
  enterClosed(connection);
  return state === "syn-sent" || state === "time-wait" || state === "closed"
    ? null
    : { seq: sndMax, ack: connection.rcvNxt, flags: RST | ACK, window: 0, mss: null, payload: NO_BYTES };
}

function enterClosed(connection: TcpConnection): void {
  connection.state = "closed";
  connection.deadlineMs = null;
  connection.unacked = NO_BYTES;
  connection.early = [];
  connection.ackPending = false;
}

/** Takes one segment that belongs to this connection; appends what the application must know. */
export function receive(connection: TcpConnection, segment: TcpSegment, nowMs: number, events: TcpEvent[]): void {
  if (connection.state === "closed") return;
  if (connection.state === "syn-sent") {
    receiveInSynSent(connection, segment, nowMs, events);
    return;
  }
  const offset = distance(segment.seq, connection.rcvNxt);
  const length = segmentLength(segment);
  // An old duplicate tells the peer where we are; the handshake is repeated when it is its SYN that came again.
  if (offset >= WINDOW_BYTES || (offset < 0 && offset + length <= 0)) {
    if ((segment.flags & RST) !== 0) return;
    if (connection.state === "syn-received" && (segment.flags & SYN) !== 0) connection.sndNxt = connection.iss;
    else connection.ackPending = true;
    if (connection.state === "time-wait") connection.deadlineMs = nowMs + TIME_WAIT_MS;
    return;
  }
  if ((segment.flags & RST) !== 0) {
    // RFC 5961 §3.2: only the exact next byte resets; others are asked to confirm.
    if (offset !== 0) connection.ackPending = true;
    else if (connection.state === "time-wait" || connection.state === "last-ack" || connection.state === "closing")
      finish(connection, events);
    else breakOff(connection, "reset", events);
    return;
  }
  if ((segment.flags & SYN) !== 0) {
    connection.ackPending = true; // RFC 5961 §4.2
    return;
  }
  if ((segment.flags & ACK) === 0) return;
  if (!acknowledge(connection, segment.ack, nowMs, events)) return;
  take(connection, segment, nowMs, events);
}

function receiveInSynSent(connection: TcpConnection, segment: TcpSegment, nowMs: number, events: TcpEvent[]): void {
  const acknowledgesSyn = (segment.flags & ACK) !== 0 && segment.ack === plus(connection.iss, 1);
  if (!acknowledgesSyn) return;
  if ((segment.flags & RST) !== 0) {
    breakOff(connection, "reset", events);
    return;
  }
  if ((segment.flags & SYN) === 0) return;
  connection.rcvNxt = plus(segment.seq, 1);
  connection.mss = Math.min(connection.ownMss, segment.mss ?? 536);
  connection.state = "established";
  connection.ackPending = true;
  progress(connection, segment.ack, nowMs);
  events.push({ kind: "connected" });
}

/** Handles the acknowledgement; false when the segment must not be looked at any further. */
function acknowledge(connection: TcpConnection, ack: number, nowMs: number, events: TcpEvent[]): boolean {
  if (distance(ack, connection.sndMax) > 0) {
    connection.ackPending = true;
    return false;
  }
  const newly = distance(ack, connection.sndUna);
  if (newly <= 0) return connection.state !== "syn-received";
  const synCounts = connection.sndUna === connection.iss && isSynUnacked(connection) ? 1 : 0;
  const data = Math.min(newly - synCounts, connection.unacked.length);
  connection.unacked = connection.unacked.subarray(data);
  const finAcknowledged = newly - synCounts > data;
  if (connection.state === "syn-received") {
    connection.state = "established";
    events.push({ kind: "connected" });
  } else if (synCounts === 1) {
    events.push({ kind: "connected" }); // closed by the application before the handshake ended
  }
  progress(connection, ack, nowMs);
  if (!finAcknowledged) return true;
  if (connection.state === "fin-wait-1") {
    connection.state = "fin-wait-2";
    connection.deadlineMs = nowMs + GIVE_UP_MS; // a peer that never closes shall not stay for ever
  } else if (connection.state === "closing") {
    events.push({ kind: "closed" });
    linger(connection, nowMs);
  } else if (connection.state === "last-ack") {
    finish(connection, events);
    return false;
  }
  return true;
}

/** The SYN is unacknowledged while sndUna has not moved off it. */
const isSynUnacked = (connection: TcpConnection): boolean => connection.sndUna === connection.iss;

function progress(connection: TcpConnection, ack: number, nowMs: number): void {
  connection.sndUna = ack;
  if (distance(connection.sndNxt, ack) < 0) connection.sndNxt = ack;
  sampleRoundTrip(connection, ack, nowMs);
  connection.progressMs = nowMs;
  connection.deadlineMs = connection.sndUna === connection.sndMax ? null : nowMs + connection.rtoMs;
}

/**
 * RFC 6298 §2 and §3: only a segment that was sent once is a sample, and a time-out that was doubled stays until there is
 * one. On a machine that is too busy, answers take long; without this each of them would be asked for again and again.
 */
function sampleRoundTrip(connection: TcpConnection, ack: number, nowMs: number): void {
  const { timed, rtt } = connection;
  if (timed === null || distance(ack, timed.end) < 0) return;
  connection.timed = null;
  const sampleMs = nowMs - timed.sentMs;
  const next =
    rtt === null
      ? { smoothedMs: sampleMs, variationMs: sampleMs / 2 }
      : {
          smoothedMs: rtt.smoothedMs + (sampleMs - rtt.smoothedMs) / 8,
          variationMs: rtt.variationMs + (Math.abs(sampleMs - rtt.smoothedMs) - rtt.variationMs) / 4,
        };
  connection.rtt = next;
  connection.rtoMs = Math.min(RTO_MAX_MS, Math.max(RTO_INITIAL_MS, next.smoothedMs + 4 * next.variationMs));
}

/** Payload and FIN, in order only (T2). */
function take(connection: TcpConnection, segment: TcpSegment, nowMs: number, events: TcpEvent[]): void {
  if (segment.payload.length === 0 && (segment.flags & FIN) === 0) return;
  connection.ackPending = true;
  const { early } = connection;
  if (distance(segment.seq, connection.rcvNxt) > 0) {
    const isKnown = early.some(({ seq, payload }) => seq === segment.seq && payload.length >= segment.payload.length);
    if (!isKnown && early.length < EARLY_MAX) early.push({ ...segment, payload: segment.payload.slice() });
    return;
  }
  takeNext(connection, segment, nowMs, events);
  for (;;) {
    const at = early.findIndex(({ seq }) => distance(seq, connection.rcvNxt) <= 0);
    if (at < 0) return;
    for (const next of early.splice(at, 1)) takeNext(connection, next, nowMs, events);
  }
}

/** A segment that begins at rcvNxt or before it. */
function takeNext(connection: TcpConnection, segment: TcpSegment, nowMs: number, events: TcpEvent[]): void {
  const end = distance(plus(segment.seq, segmentLength(segment)), connection.rcvNxt);
  if (end <= 0) return; // all of it was taken meanwhile
  const offset = distance(segment.seq, connection.rcvNxt);
  const fresh = segment.payload.subarray(Math.min(-offset, segment.payload.length));
  if (fresh.length > 0) {
    connection.rcvNxt = plus(connection.rcvNxt, fresh.length);
    if (mayReceive(connection.state)) events.push({ kind: "received", payload: fresh.slice() });
  }
  if ((segment.flags & FIN) === 0) return;
  if (mayReceive(connection.state)) {
    connection.rcvNxt = plus(connection.rcvNxt, 1);
    events.push({ kind: "peer-closed" });
  }
  if (connection.state === "established") connection.state = "close-wait";
  else if (connection.state === "fin-wait-1") connection.state = "closing";
  else if (connection.state === "fin-wait-2") {
    events.push({ kind: "closed" });
    linger(connection, nowMs);
  }
}

/** TIME-WAIT: only to acknowledge a repeated FIN. The application has been told. */
function linger(connection: TcpConnection, nowMs: number): void {
  connection.state = "time-wait";
  connection.deadlineMs = nowMs + TIME_WAIT_MS;
}

function finish(connection: TcpConnection, events: TcpEvent[]): void {
  const told = connection.state === "time-wait";
  enterClosed(connection);
  if (!told) events.push({ kind: "closed" });
}

function breakOff(connection: TcpConnection, reason: BrokenReason, events: TcpEvent[]): void {
  enterClosed(connection); // (T4): a closed connection takes and emits nothing
  events.push({ kind: "broken", reason });
}

/** What is due at `nowMs`: repeats from sndUna, gives up, or ends TIME-WAIT. */
export function tick(connection: TcpConnection, nowMs: number, events: TcpEvent[]): void {
  if (connection.deadlineMs === null || nowMs < connection.deadlineMs) return;
  connection.deadlineMs = null;
  if (connection.state === "time-wait" || connection.state === "fin-wait-2") {
    const told = connection.state === "time-wait";
    enterClosed(connection);
    if (!told) events.push({ kind: "closed" });
    return;
  }
  if (nowMs - connection.progressMs >= GIVE_UP_MS) {
    breakOff(connection, "no-progress", events);
    return;
  }
  connection.sndNxt = connection.sndUna;
  connection.timed = null;
  connection.rtoMs = Math.min(connection.rtoMs * 2, RTO_MAX_MS);
  connection.retransmissions++;
}

/** Emits what may be sent now: SYN, data within the window, FIN, or a bare acknowledgement. */
export function flush(connection: TcpConnection, nowMs: number, emit: (segment: TcpSegment) => void): void {
  if (connection.state === "closed") return;
  const idle = connection.sndUna === connection.sndMax;
  const sendSegment = (flags: number, payload: Uint8Array, length: number, mss: number | null): void => {
    const acknowledging = connection.state !== "syn-sent";
    emit({
      seq: connection.sndNxt,
      ack: acknowledging ? connection.rcvNxt : 0,
      flags: flags | (acknowledging ? ACK : 0),
      window: WINDOW_BYTES,
      mss,
      payload,
    });
    connection.sndNxt = plus(connection.sndNxt, length);
    if (connection.timed === null && connection.sndNxt === plus(connection.sndMax, length)) {
      connection.timed = { end: connection.sndNxt, sentMs: nowMs };
    }
    if (distance(connection.sndNxt, connection.sndMax) > 0) connection.sndMax = connection.sndNxt;
    connection.ackPending = false;
  };
  if (isSynUnacked(connection)) {
    if (connection.sndNxt === connection.iss) sendSegment(SYN, NO_BYTES, 1, connection.ownMss);
  } else {
    for (;;) {
      const sent = distance(connection.sndNxt, connection.sndUna);
      const size = Math.min(connection.unacked.length - sent, connection.mss, WINDOW_BYTES - sent);
      if (size <= 0) break;
      sendSegment(PSH, connection.unacked.subarray(sent, sent + size), size, null);
    }
    const finAt = plus(connection.sndUna, connection.unacked.length);
    if (connection.finQueued && connection.sndNxt === finAt && !isFinAcknowledged(connection))
      sendSegment(FIN, NO_BYTES, 1, null);
  }
  if (connection.ackPending && !isSynUnacked(connection)) {
    connection.ackPending = false;
    emit({
      seq: connection.sndMax,
      ack: connection.rcvNxt,
      flags: ACK,
      window: WINDOW_BYTES,
      mss: null,
      payload: NO_BYTES,
    });
  }
  if (connection.sndUna !== connection.sndMax && connection.deadlineMs === null) {
    if (idle) connection.progressMs = nowMs;
    connection.deadlineMs = nowMs + connection.rtoMs;
  }
}

/** After its FIN is acknowledged a side is in one of these; then sndUna stands behind the FIN and nothing is sent. */
const isFinAcknowledged = (connection: TcpConnection): boolean =>
  connection.state === "fin-wait-2" || connection.state === "time-wait";
