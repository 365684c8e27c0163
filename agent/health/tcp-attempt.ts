/**
 * [pure] One TCP connection of a probe, as packets: what a health check needs of a TCP client and no more. It sends little,
 * keeps what arrives in order up to a bound, and is always ended by a reset, so that nothing of it lives on in the machine.
 *
 *     SYN --> SYN-ACK --> open: `send` goes out, `received` grows --> FIN or RST of the machine --> ended
 *
 * Whatever was not acknowledged is sent again after `RETRY_MS`: a probe shall not fail for one lost packet.
 */
import type { PacketHeader } from "../../packet/header.js";
import { buildSegment } from "../dataplane/segment.js";
import { TCP_ACK, TCP_ACKNOWLEDGEMENT, TCP_FIN, TCP_PSH, TCP_RST, TCP_SEQUENCE, TCP_SYN } from "../../packet/tcp.js";

const RETRY_MS = 1_000;
/** The status line and headers of an answer; the rest is not read. */
const RECEIVED_MAX = 16_384;
const SEGMENT_BYTES = 1_200;

export interface TcpPath {
  /** Four words each, of one family. */
  readonly source: Int32Array;
  readonly sourcePort: number;
  readonly destination: Int32Array;
  readonly destinationPort: number;
}

export class TcpAttempt {
  state: "opening" | "open" | "refused" | "closed" = "opening";
  /** In order, from the machine. */
  received = new Uint8Array(0);
  readonly #path: TcpPath;
  readonly #transmit: (packet: Uint8Array) => void;
  #unsent = new Uint8Array(0);
  /** Sequence number of `#unsent[0]`. */
  #sendNext: number;
  #receiveNext = 0;
  #sentMs: number;

  /** `firstSequence`: unpredictable, 32 bits. */
  constructor(path: TcpPath, firstSequence: number, transmit: (packet: Uint8Array) => void, nowMs: number) {
    this.#path = path;
    this.#transmit = transmit;
    this.#sendNext = firstSequence >>> 0;
    this.#sentMs = nowMs;
    this.#put(TCP_SYN, this.#sendNext, 0);
  }

  send(bytes: Uint8Array, nowMs: number): void {
    const joined = new Uint8Array(this.#unsent.length + bytes.length);
    joined.set(this.#unsent);
    joined.set(bytes, this.#unsent.length);
    this.#unsent = joined;
    this.#flush(nowMs);
  }

  receive(view: DataView, header: PacketHeader, nowMs: number): void {
    const at = header.transportOffset;
    const sequence = view.getUint32(at + TCP_SEQUENCE);
    const acknowledgement = view.getUint32(at + TCP_ACKNOWLEDGEMENT);
    const flags = header.tcpFlags;
    if (this.state === "refused" || this.state === "closed") return;
    if (this.state === "opening") {
      const isOurs = (flags & TCP_ACK) !== 0 && acknowledgement === (this.#sendNext + 1) >>> 0;
      if (!isOurs) return;
      if ((flags & TCP_RST) !== 0) this.state = "refused";
      else if ((flags & TCP_SYN) !== 0) {
        this.state = "open";
        this.#sendNext = acknowledgement;
        this.#receiveNext = (sequence + 1) >>> 0;
        this.#put(TCP_ACK, this.#sendNext, this.#receiveNext);
        this.#flush(nowMs);
      }
      return;
    }
    if ((flags & TCP_RST) !== 0) {
      if (sequence === this.#receiveNext) this.state = "closed";
      return;
    }
    if ((flags & TCP_SYN) !== 0) {
      this.#put(TCP_ACK, this.#sendNext, this.#receiveNext); // our ACK was lost
      return;
    }
    const acknowledged = (acknowledgement - this.#sendNext) | 0;
    if (acknowledged > 0 && acknowledged <= this.#unsent.length) {
      this.#unsent = this.#unsent.slice(acknowledged);
      this.#sendNext = acknowledgement;
      this.#flush(nowMs);
    }
    this.#take(view, header, sequence, (flags & TCP_FIN) !== 0);
  }

  tick(nowMs: number): void {
    if (nowMs - this.#sentMs < RETRY_MS) return;
    this.#sentMs = nowMs;
    if (this.state === "opening") this.#put(TCP_SYN, this.#sendNext, 0);
    else if (this.state === "open") this.#flush(nowMs);
  }

  /** Nothing of it shall live on, in the machine or in its NAT state. */
  end(): void {
    if (this.state === "open") this.#put(TCP_RST | TCP_ACK, this.#sendNext, this.#receiveNext);
    else if (this.state === "opening") this.#put(TCP_RST, (this.#sendNext + 1) >>> 0, 0);
    this.state = "closed";
  }

  #take(view: DataView, header: PacketHeader, sequence: number, isLast: boolean): void {
    const bytes = header.offset + header.totalBytes - header.payloadOffset;
    if (bytes === 0 && !isLast) return;
    const skip = (this.#receiveNext - sequence) | 0; // seen already
    if (skip >= 0 && skip <= bytes) {
      const fresh = new Uint8Array(view.buffer, view.byteOffset + header.payloadOffset + skip, bytes - skip);
      const room = Math.min(fresh.length, RECEIVED_MAX - this.received.length);
      const joined = new Uint8Array(this.received.length + room);
      joined.set(this.received);
      joined.set(fresh.subarray(0, room), this.received.length);
      this.received = joined;
      this.#receiveNext = (this.#receiveNext + fresh.length + (isLast ? 1 : 0)) >>> 0;
      if (isLast) this.state = "closed";
    }
    this.#put(isLast ? TCP_RST | TCP_ACK : TCP_ACK, this.#sendNext, this.#receiveNext);
  }

  #flush(nowMs: number): void {
    if (this.state !== "open" || this.#unsent.length === 0) return;
    this.#sentMs = nowMs;
    for (let at = 0; at < this.#unsent.length; at += SEGMENT_BYTES) {
      const payload = this.#unsent.subarray(at, at + SEGMENT_BYTES);
      this.#put(TCP_ACK | TCP_PSH, (this.#sendNext + at) >>> 0, this.#receiveNext, payload);
    }
  }

  #put(flags: number, sequence: number, acknowledgement: number, payload?: Uint8Array): void {
    const mss = (flags & TCP_SYN) !== 0 ? SEGMENT_BYTES : null;
    this.#transmit(
      buildSegment({ ...this.#path, flags, sequence, acknowledgement, mss, ...(payload ? { payload } : {}) }),
    );
  }
}
