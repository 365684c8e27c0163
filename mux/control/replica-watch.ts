/**
 * [pure] A replica may beat happily and yet be cut off from the rest: then the other one, or a third, serves the MUX better. Judged
 * by what replicas tell of themselves: what they have applied, and when they last knew of a quorum that works.
 */
import type { LogIndex } from "../../core/brands.js";

/** The active replica has stood still, and the other one was ahead, for so long: it is cut off from the rest. */
const BEHIND_MS = 300;
/** A replica without a quorum for so long is exchanged for another one, which may have it. */
const CUT_OFF_MS = 1_000;

/** What a replica has last told of itself. */
interface ReplicaProgress {
  readonly applied: LogIndex;
  readonly quorumAgeMs: number;
}

type ReplicaAdvice = "switch-over" | "exchange-standby" | null;

/** By stream: a replica that is dialled anew tells anew. */
export class ReplicaWatch<Stream extends object> {
  readonly #progress = new WeakMap<Stream, ReplicaProgress>();
  #behindSinceMs: number | null = null;
  #lastExchangeMs = Number.NEGATIVE_INFINITY;

  told(stream: Stream, progress: ReplicaProgress): void {
    this.#progress.set(stream, progress);
  }

  /** 0: it has not said. */
  appliedOf(stream: Stream): LogIndex {
    return this.#progress.get(stream)?.applied ?? (0 as LogIndex);
  }

  activated(): void {
    this.#behindSinceMs = null;
  }

  /** Call with every beat of the active replica. */
  advise(active: Stream, standby: Stream | null, nowMs: number): ReplicaAdvice {
    const own = this.#progress.get(active);
    const other = standby === null ? undefined : this.#progress.get(standby);
    if (own === undefined) return null;
    if (
      other !== undefined &&
      other.applied > own.applied &&
      own.quorumAgeMs > BEHIND_MS &&
      other.quorumAgeMs < own.quorumAgeMs
    ) {
      this.#behindSinceMs ??= nowMs;
      if (nowMs - this.#behindSinceMs >= BEHIND_MS) return "switch-over";
    } else this.#behindSinceMs = null;
    const cutOff = own.quorumAgeMs >= CUT_OFF_MS && other !== undefined && other.quorumAgeMs >= CUT_OFF_MS;
    if (!cutOff || nowMs - this.#lastExchangeMs < CUT_OFF_MS) return null;
    this.#lastExchangeMs = nowMs;
    return "exchange-standby";
  }
}
