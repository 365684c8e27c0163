/**
 * Tells the Managers what the host's SNAT ports are doing, for `ananta snat usage`: with every third beat of a replica, on either stream,
 * so that the leader knows it of all hosts. What is lost is told again.
 */
import type { ananta } from "../../proto/gen/wire.js";
import type { ReplicaStream } from "../../runtime/dual-stream.js";
import type { Clock } from "../../runtime/env.js";
import type { PortUse } from "../dataplane/snat/snat-ports.js";

type Stream = ReplicaStream<ananta.v1.AgentToManager.$Properties>;

/** Replicas beat every 3 s. The walk over all flows takes a millisecond on a busy host. */
const REPORT_MS = 8_000;
/** What the other stream has just been told is told here, too. */
const FRESH_MS = 1_000;
/** The wire's bound; a host has a line for each DIP, VIP and protocol. */
const LINES_MAX = 4_096;

export class PortReports {
  readonly #clock: Clock;
  readonly #portsInUse: () => readonly PortUse[];
  readonly #sentAtMs = new WeakMap<Stream, number>();
  #walked: { readonly atMs: number; readonly ports: readonly PortUse[] } | null = null;

  constructor(clock: Clock, portsInUse: () => readonly PortUse[]) {
    this.#clock = clock;
    this.#portsInUse = portsInUse;
  }

  /** The replica has beaten on the stream. */
  beat(stream: Stream): void {
    const nowMs = this.#clock.nowMs();
    if (stream.isBlocked || nowMs - (this.#sentAtMs.get(stream) ?? -Infinity) < REPORT_MS) return;
    this.#sentAtMs.set(stream, nowMs);
    if (this.#walked === null || nowMs - this.#walked.atMs > FRESH_MS)
      this.#walked = { atMs: nowMs, ports: this.#portsInUse().slice(0, LINES_MAX) };
    stream.send({ ports: { ports: [...this.#walked.ports] } });
  }
}
