/**
 * [pure] Carries out probes by packets of the host's own, to the machine's virtual network card and back: so a probe takes
 * the way that traffic takes, needs no address in the tenant's network, and works where tenants' addresses overlap.
 *
 * Every probe comes from the one of `PROBE_SOURCES` of its family, which never appears on a wire; each attempt has a port of its own, so that it is a
 * fresh connection (a kept one would hide a service that drains).
 *
 *     start --> packets --> machine --> packets --> receive --> outcome
 */
import type { DipId } from "../../core/brands.js";
import type { Random } from "../../core/random.js";
import type { HostProbeItem } from "../../dataplane/host-items.js";
import type { PacketBatch } from "../../dataplane/packet-batch.js";
import { addressWords, isIpv4Words } from "../../packet/address-words.js";
import { NO_FAULT } from "../../packet/fault.js";
import type { PacketHeader } from "../../packet/header.js";
import { createPacketHeader, PROTOCOL_TCP, PROTOCOL_UDP } from "../../packet/ipv4.js";
import { isIcmp, parseIpPacket } from "../../packet/parse.js";
import { parseQuoted } from "../../packet/quoted.js";
import { httpRequest, judgeHttp } from "./http-check.js";
import type { ProbeOutcome } from "./monitor.js";
import { TcpAttempt } from "./tcp-attempt.js";
import { PROBE_SOURCES } from "../dataplane/reserved.js";
import { buildDatagram } from "../dataplane/segment.js";

/** Bytes in and out of an encrypted connection, as `tls-session.ts` makes it. */
export interface TlsSession {
  /** From the machine. */
  received(bytes: Uint8Array): void;
  send(bytes: Uint8Array): void;
  end(): void;
}

export interface TlsEvents {
  /** To the machine. */
  transmit(bytes: Uint8Array): void;
  secured(): void;
  plain(bytes: Uint8Array): void;
  failed(reason: string): void;
}

export interface ProberOptions {
  readonly random: Random;
  /** Hands a packet to the machine of a DIP. */
  readonly transmit: (dipId: DipId, packet: Uint8Array) => void;
  readonly finished: (probe: HostProbeItem, attempt: number, outcome: ProbeOutcome) => void;
  readonly openTls: (serverName: string | null, events: TlsEvents) => TlsSession;
}

interface Attempt {
  readonly probe: HostProbeItem;
  readonly attempt: number;
  readonly port: number;
  readonly deadlineMs: number;
  readonly tcp: TcpAttempt | null;
  readonly tls: TlsSession | null;
  /** Bytes of `tcp.received` that were handed on. */
  taken: number;
  plain: Uint8Array;
  isSecured: boolean;
  failure: string | null;
}

const PORT_FIRST = 1_024;
const PORTS = 65_536 - PORT_FIRST;

/** Destination unreachable, of either family; the code does not matter. */
const isPortUnreachable = ({ family, icmpType }: PacketHeader): boolean => icmpType === (family === 6 ? 1 : 3);

export class Prober {
  readonly #options: ProberOptions;
  readonly #attempts = new Map<number, Attempt>();
  readonly #header = createPacketHeader();
  readonly #quoted = createPacketHeader();
  #nextPort: number;

  constructor(options: ProberOptions) {
    this.#options = options;
    this.#nextPort = options.random.below(PORTS);
  }

  get openCount(): number {
    return this.#attempts.size;
  }

  start(probe: HostProbeItem, attempt: number, address: string, nowMs: number): void {
    const { random, transmit, openTls } = this.#options;
    const destination = addressWords(address);
    if (destination === null || this.#attempts.size >= PORTS) {
      this.#options.finished(probe, attempt, { ok: false, reason: "this host has too many probes under way" });
      return;
    }
    const [a, b, c] = destination as unknown as readonly [number, number, number];
    const source = addressWords(isIpv4Words(a, b, c) ? PROBE_SOURCES.ipv4 : PROBE_SOURCES.ipv6)!; // an address
    const port = this.#freePort();
    const path = { source, sourcePort: port, destination, destinationPort: probe.port };
    const send = (packet: Uint8Array): void => transmit(probe.dipId, packet);
    const deadlineMs = nowMs + probe.timeoutSeconds * 1_000;
    let tcp: TcpAttempt | null = null;
    if (probe.protocol === "udp") send(buildDatagram({ ...path, payload: fromHex(probe.send ?? "") }));
    else tcp = new TcpAttempt(path, random.below(0x1_0000_0000), send, nowMs);
    const tls =
      probe.protocol === "https"
        ? openTls(probe.host ?? null, {
            transmit: (bytes) => tcp?.send(bytes, nowMs),
            secured: () => {
              made.isSecured = true;
              made.tls?.send(httpRequest(probe, address));
            },
            plain: (bytes) => {
              made.plain = joined(made.plain, bytes);
              this.#look(made);
            },
            failed: (reason) => {
              made.failure ??= reason;
              this.#look(made);
            },
          })
        : null;
    const made: Attempt = {
      probe,
      attempt,
      port,
      deadlineMs,
      tcp,
      tls,
      taken: 0,
      plain: new Uint8Array(0),
      isSecured: false,
      failure: null,
    };
    if (probe.protocol === "http") tcp?.send(httpRequest(probe, address), nowMs);
    this.#attempts.set(port, made);
  }

  /** A packet that the machine of `dipId` sent to the source of probes. */
  receive(batch: PacketBatch, index: number, dipId: number, nowMs: number): void {
    const header = this.#header;
    if (parseIpPacket(batch.view, batch.offsets[index]!, batch.lengths[index]!, header) !== NO_FAULT) return;
    if (isIcmp(header)) {
      this.#receiveError(batch, dipId);
      return;
    }
    const made = this.#attempts.get(header.destinationPort);
    if (made?.probe.dipId !== dipId || made.probe.port !== header.sourcePort) return;
    if (header.protocol === PROTOCOL_TCP && made.tcp !== null) {
      made.tcp.receive(batch.view, header, nowMs);
      this.#look(made);
    } else if (header.protocol === PROTOCOL_UDP && made.tcp === null) {
      const payload = batch.arena.subarray(header.payloadOffset, header.offset + header.totalBytes);
      this.#end(made, judgeDatagram(made.probe, payload));
    }
  }

  tick(nowMs: number): void {
    for (const made of this.#attempts.values()) {
      if (nowMs >= made.deadlineMs) this.#end(made, { ok: false, reason: timeoutReason(made) });
      else made.tcp?.tick(nowMs);
    }
  }

  stop(): void {
    for (const made of this.#attempts.values()) made.tls?.end();
    this.#attempts.clear();
  }

  /** A machine without a listener on a UDP port says so by ICMP. */
  #receiveError(batch: PacketBatch, dipId: number): void {
    const header = this.#header;
    if (!isPortUnreachable(header) || parseQuoted(batch.view, header, this.#quoted) !== NO_FAULT) return;
    const made = this.#attempts.get(this.#quoted.sourcePort);
    if (made?.probe.dipId === dipId && made.probe.protocol === "udp")
      this.#end(made, { ok: false, reason: "port unreachable" });
  }

  #look(made: Attempt): void {
    const { probe, tcp, tls } = made;
    if (tcp === null || !this.#attempts.has(made.port)) return;
    if (tcp.state === "refused") {
      this.#end(made, { ok: false, reason: "connection refused" });
      return;
    }
    if (probe.protocol === "tcp") {
      if (tcp.state === "open") this.#end(made, { ok: true });
      return;
    }
    if (tls !== null && made.taken < tcp.received.length) {
      const fresh = tcp.received.slice(made.taken);
      made.taken = tcp.received.length;
      tls.received(fresh);
    }
    if (made.failure !== null) {
      this.#end(made, { ok: false, reason: made.failure });
      return;
    }
    const outcome = judgeHttp(probe, tls === null ? tcp.received : made.plain);
    if (outcome !== null) {
      this.#end(made, outcome);
      return;
    }
    // An encrypted answer comes out of the session a turn later than it arrived.
    if (tcp.state === "closed" && tls === null) this.#end(made, { ok: false, reason: "closed without an answer" });
  }

  #end(made: Attempt, outcome: ProbeOutcome): void {
    if (!this.#attempts.delete(made.port)) return;
    made.tls?.end();
    made.tcp?.end();
    this.#options.finished(made.probe, made.attempt, outcome);
  }

  #freePort(): number {
    for (;;) {
      this.#nextPort = (this.#nextPort + 1) % PORTS;
      const port = PORT_FIRST + this.#nextPort;
      if (!this.#attempts.has(port)) return port;
    }
  }
}

function timeoutReason({ probe, tcp, isSecured }: Attempt): string {
  if (tcp === null) return "no reply to a datagram";
  if (tcp.state === "opening") return "timed out: no answer to SYN";
  if (probe.protocol === "https" && !isSecured) return "timed out in the TLS handshake";
  return "timed out: connected, but no answer";
}

function judgeDatagram(probe: HostProbeItem, payload: Uint8Array): ProbeOutcome {
  const expected = fromHex(probe.expect ?? "");
  const matches = expected.every((byte, at) => payload[at] === byte);
  return matches ? { ok: true } : { ok: false, reason: "unexpected reply" };
}

const fromHex = (digits: string): Uint8Array =>
  Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));

function joined(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
