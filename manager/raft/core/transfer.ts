/**
 * Handing leadership over (dissertation §3.10): stop accepting proposals, bring the target's log up to date, tell it to
 * campaign at once. Given up after an election timeout, and then the old leader goes on as before.
 */
import type { NodeId } from "../../../core/brands.js";
import type { Progress } from "./progress.js";
import { diskIsStalled, note, send, type LeaderRole, type State } from "./state.js";

/** The voter that is heard, counts, and holds most of the log; null when there is none. Ties go to the lowest id. */
export function bestSuccessor(s: State, leader: LeaderRole): NodeId | null {
  let best: Progress | null = null;
  for (const peer of leader.peers.values()) {
    if (!s.membership.voters.includes(peer.id) || !peer.counts || !isHeard(s, peer)) continue;
    if (peer.state === "snapshot") continue;
    if (best === null || peer.matchIndex > best.matchIndex) best = peer;
  }
  return best?.id ?? null;
}

/** It answered something within the longest election timeout. */
export const isHeard = (s: State, peer: Progress): boolean =>
  peer.lastHeardTick !== null && s.tick - peer.lastHeardTick <= s.config.electionTimeoutMaxTicks;

export type TransferResult = "started" | "not-leader" | "already-leader" | "not-a-voter" | "another-under-way";

export function startTransfer(s: State, target: NodeId): TransferResult {
  if (s.role.kind !== "leader") return "not-leader";
  if (target === s.id) return "already-leader";
  const peer = s.role.peers.get(target);
  if (peer === undefined || !s.membership.voters.includes(target)) return "not-a-voter";
  if (s.role.transfer !== null && s.role.transfer.target !== target) return "another-under-way";
  // Asked again, its time still runs from the first: otherwise nothing could be written for as long as somebody asks.
  if (s.role.transfer === null) {
    s.role.transfer = { target, startedActiveTick: s.activeTick };
    note(s, "info", "transfer started", { target, term: s.term, match: peer.matchIndex, last: s.log.lastIndex });
  }
  continueTransfer(s, s.role, peer);
  return "started";
}

/** Called whenever a peer acknowledged something. */
export function continueTransfer(s: State, leader: LeaderRole, peer: Progress): void {
  if (leader.transfer?.target !== peer.id) return;
  // What a hung disk keeps from being handed over is nowhere but here: it cannot be waited for.
  const needed = diskIsStalled(s) ? s.log.handedIndex : s.log.lastIndex;
  if (peer.matchIndex < needed) return;
  leader.leaseVoid = true;
  send(s, peer.id, { kind: "timeout-now", from: s.id, term: s.term });
}
