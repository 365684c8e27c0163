/**
 * Reads of the replicated state: linearizable by ReadIndex (Raft dissertation §6.4), or stale from what this replica has
 * applied, with the age of its newest proof of being in step.
 */
import type { LogIndex } from "../../core/brands.js";
import type { ReplicaView } from "../replica-view.js";

export interface ReadPoint {
  readonly index: LogIndex;
  /** Ms; 0 for a linearizable read. */
  readonly ageMs: number;
}

/** Resolves when the state may be read. Rejects with UNAVAILABLE when no quorum answers in time, with BEHIND when
 * what it knows of is not applied here in time. */
export async function readPoint(replica: ReplicaView, stale: boolean, deadlineMs: number): Promise<ReadPoint> {
  if (!stale) {
    const { clock } = replica.env;
    const untilMs = clock.nowMs() + deadlineMs;
    await replica.raft().readIndex(deadlineMs);
    await replica.whenCaughtUp(Math.max(0, untilMs - clock.nowMs()));
  }
  return { index: replica.state.appliedIndex, ageMs: stale ? replica.quorumAgeMs() : 0 };
}
