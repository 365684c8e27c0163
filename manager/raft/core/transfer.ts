/**
 * Handing leadership over (dissertation §3.10): stop accepting proposals, bring the target's log up to date, tell it to
 * campaign at once. Given up after an election timeout, and then the old leader goes on as before.
 */
import type { NodeId } from "../../../core/brands.js";
import { isVoter } from "./membership.js";
import type { Progress } from "./progress.js";
import { note, send, type LeaderRole, type State } from "./state.js";

export type TransferResult = "started" | "not-leader" | "already-leader" | "not-a-voter" | "another-under-way";

export function startTransfer(s: State, target: NodeId): TransferResult {
  if (s.role.kind !== "leader") return "not-leader";
  if (target === s.id) return "already-leader";
  const peer = s.role.peers.get(target);
  if (peer === undefined || !isVoter(s.membership, target)) return "not-a-voter";
  if (s.role.transfer !== null && s.role.transfer.target !== target) return "another-under-way";
  s.role.transfer = { target, startedActiveTick: s.activeTick };
  note(s, "info", "transfer started", { target, term: s.term, match: peer.matchIndex, last: s.log.lastIndex });
  continueTransfer(s, s.role, peer);
  return "started";
}

/** Called whenever a peer acknowledged something. */
export function continueTransfer(s: State, leader: LeaderRole, peer: Progress): void {
  if (leader.transfer?.target !== peer.id || peer.matchIndex < s.log.lastIndex) return;
  send(s, peer.id, { kind: "timeout-now", from: s.id, term: s.term });
}
