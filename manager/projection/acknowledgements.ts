/**
 * What the MUXes and hosts with an active stream to this replica have in force. The pipeline hears of it when this
 * replica leads; otherwise the link to the leader carries it there, everything again after a change of leader.
 *
 * Kept by stream: the end of an older stream forgets nothing that a newer one of the same MUX or host has said.
 */
import type { HostId, LogIndex } from "../../core/brands.js";
import type { MuxReport } from "../stages/mux-pool-management.js";

export interface AcknowledgementSink {
  muxReported(report: MuxReport): void;
  hostReported(host: HostId, index: LogIndex): void;
}

/** A process of a MUX: what an earlier one says late must not pass for its successor's. */
export const muxKey = ({ name, bootId }: Pick<MuxReport, "name" | "bootId">): string => `${name}/${bootId}`;

/** Who speaks: the session of one stream, known by identity. */
export type Speaker = object;

export class Acknowledgements {
  /** In order of each stream's first report. */
  readonly #muxes = new Map<Speaker, MuxReport>();
  readonly #hosts = new Map<Speaker, readonly [HostId, LogIndex]>();
  readonly #sink: AcknowledgementSink;

  constructor(sink: AcknowledgementSink) {
    this.#sink = sink;
  }

  mux(speaker: Speaker, report: MuxReport): void {
    this.#muxes.set(speaker, report);
    this.#sink.muxReported(report);
  }

  host(speaker: Speaker, host: HostId, index: LogIndex): void {
    this.#hosts.set(speaker, [host, index]);
    this.#sink.hostReported(host, index);
  }

  gone(speaker: Speaker): void {
    this.#muxes.delete(speaker);
    this.#hosts.delete(speaker);
  }

  /** One per process, that of its newest stream; a MUX's newest process last. */
  muxes(): readonly MuxReport[] {
    return [...new Map([...this.#muxes.values()].map((report) => [muxKey(report), report])).values()];
  }

  /** One per host, that of its newest stream. */
  hosts(): readonly (readonly [HostId, LogIndex])[] {
    return [...new Map(this.#hosts.values())];
  }
}
