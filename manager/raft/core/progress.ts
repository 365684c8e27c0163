/**
 * What the leader knows of one peer's log, and how fast it may send (Raft §5.3 `nextIndex`, `matchIndex`).
 *
 *   probe      --(an append was accepted)-->   replicate
 *   replicate  --(rejection, unreachable)-->   probe
 *   probe      --(entries compacted)------->   snapshot  --(installed or failed)--> probe
 *
 * - probe: where the logs agree is a guess; one append, then wait for its answer or for the next heartbeat's.
 * - replicate: optimistic; appends follow one another without waiting, within the window.
 * - snapshot: the state travels beside the log; no appends.
 *
 * (I6) matchIndex < nextIndex. matchIndex never falls, except to 0 when the peer restarts (it may have lost its disk).
 */
import { assert } from "../../../core/assert.js";
import type { LogIndex, NodeId } from "../../../core/brands.js";
import { Inflights } from "./inflights.js";

const asIndex = (value: number): LogIndex => value as LogIndex;

export class Progress {
  readonly id: NodeId;
  readonly inflights: Inflights;
  state: "probe" | "replicate" | "snapshot" = "probe";
  matchIndex: LogIndex = asIndex(0);
  nextIndex: LogIndex;
  /** Probe: an append was sent and no answer has come yet. */
  probeSent = false;
  /** Snapshot: which one is being sent. */
  snapshotIndex: LogIndex = asIndex(0);
  /** The highest commit index this peer was told of. */
  toldCommitIndex: LogIndex = asIndex(0);
  /** The highest heartbeat round it answered. */
  ackedRound = 0;
  /** Core tick of its last answer of any kind; null before the first. */
  lastHeardTick: number | null = null;
  /** False when the peer lost its hard state: its answers count towards no quorum. */
  counts = true;
  /** It was removed from the membership, at this active tick: it gets what tells it so, and is then forgotten. */
  departingSince: number | null = null;

  constructor(id: NodeId, nextIndex: LogIndex, window: { readonly appendsMax: number; readonly bytesMax: number }) {
    this.id = id;
    this.nextIndex = nextIndex;
    this.inflights = new Inflights(window.appendsMax, window.bytesMax);
  }

  get paused(): boolean {
    switch (this.state) {
      case "probe":
        return this.probeSent;
      case "replicate":
        return this.inflights.full;
      case "snapshot":
        return true;
    }
  }

  becomeProbe(): void {
    // A snapshot that was sent completely may have arrived although its answer was lost: probing after it costs nothing.
    this.nextIndex = asIndex(Math.max(this.matchIndex, this.state === "snapshot" ? this.snapshotIndex : 0) + 1);
    this.state = "probe";
    this.probeSent = false;
    this.inflights.clear();
  }

  becomeReplicate(): void {
    this.state = "replicate";
    this.nextIndex = asIndex(this.matchIndex + 1);
    this.inflights.clear();
  }

  becomeSnapshot(snapshotIndex: LogIndex): void {
    this.state = "snapshot";
    this.snapshotIndex = snapshotIndex;
    this.inflights.clear();
  }

  /** The snapshot could not be delivered: what the peer holds is as unknown as before. */
  snapshotFailed(): void {
    this.snapshotIndex = asIndex(0);
    this.becomeProbe();
    this.probeSent = true; // wait for a sign of life before trying again
  }

  /** A new process answers for this peer: nothing acknowledged by the old one is taken for granted. */
  restarted(lastIndex: LogIndex): void {
    this.matchIndex = asIndex(0);
    this.snapshotIndex = asIndex(0);
    this.toldCommitIndex = asIndex(0);
    this.state = "probe";
    this.probeSent = false;
    this.nextIndex = asIndex(lastIndex + 1);
    this.inflights.clear();
  }

  /** An append up to `lastIndex` has been sent. */
  sent(lastIndex: LogIndex, bytes: number): void {
    if (this.state === "probe") {
      this.probeSent = true;
      return;
    }
    if (lastIndex >= this.nextIndex) {
      this.inflights.add(lastIndex, bytes);
      this.nextIndex = asIndex(lastIndex + 1);
    }
  }

  /** Returns true when the acknowledgement is news. */
  acknowledged(matchIndex: LogIndex): boolean {
    this.inflights.freeUpTo(matchIndex);
    if (matchIndex >= this.nextIndex) this.nextIndex = asIndex(matchIndex + 1);
    if (matchIndex <= this.matchIndex) return false;
    this.matchIndex = matchIndex;
    assert(this.matchIndex < this.nextIndex, "matchIndex < nextIndex"); // (I6)
    return true;
  }

  /** Returns false when the rejection is an old one and changes nothing. */
  rejected(rejectedIndex: LogIndex, agreeIndex: LogIndex): boolean {
    if (this.state === "replicate") {
      if (rejectedIndex <= this.matchIndex) return false;
      this.becomeProbe();
      return true;
    }
    if (this.state === "snapshot" || this.nextIndex - 1 !== rejectedIndex) return false;
    this.nextIndex = asIndex(Math.max(Math.min(rejectedIndex, agreeIndex + 1), this.matchIndex + 1));
    this.probeSent = false;
    return true;
  }
}
