/**
 * What the MUXes and hosts with an active stream to this replica have in force. The pipeline hears of it when this
 * replica leads; otherwise the link to the leader carries it there, everything again after a change of leader.
 */
import type { HostId, LogIndex } from "../../core/brands.js";
import type { MuxReport } from "../stages/mux-pool-management.js";

export interface AcknowledgementSink {
  muxReported(report: MuxReport): void;
  hostReported(host: HostId, index: LogIndex): void;
}

export class Acknowledgements {
  readonly #muxes = new Map<string, MuxReport>();
  readonly #hosts = new Map<HostId, LogIndex>();
  readonly #sink: AcknowledgementSink;

  constructor(sink: AcknowledgementSink) {
    this.#sink = sink;
  }

  mux(report: MuxReport): void {
    this.#muxes.set(report.name, report);
    this.#sink.muxReported(report);
  }

  host(host: HostId, index: LogIndex): void {
    this.#hosts.set(host, index);
    this.#sink.hostReported(host, index);
  }

  muxGone(name: string, bootId: string): void {
    if (this.#muxes.get(name)?.bootId === bootId) this.#muxes.delete(name);
  }

  hostGone(host: HostId): void {
    this.#hosts.delete(host);
  }

  muxes(): readonly MuxReport[] {
    return [...this.#muxes.values()];
  }

  hosts(): readonly (readonly [HostId, LogIndex])[] {
    return [...this.#hosts];
  }
}
