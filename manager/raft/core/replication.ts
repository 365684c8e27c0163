/**
 * The leader's side of log replication (Raft §5.3, §5.4.2; dissertation §10.2).
 *
 * Steps: proposals are appended in memory; when storage is free, everything new is handed over as one batch and sent to
 * every follower whose window has room, the same message for all; acknowledgements move matchIndex; when a quorum holds an
 * entry of this term durably, it and everything before it is committed.
 *
 * (L1) The leader counts itself only up to what its own disk holds: it writes in parallel with its followers.
 * (L2) Only entries of the present term are committed by counting (Figure 8).
 * (L3) A leader never overwrites or deletes entries of its own log (Leader Append-Only).
 */
import { assert } from "../../../core/assert.js";
import type { LogIndex, NodeId } from "../../../core/brands.js";
import { quorumAgeTicks, sendHeartbeat } from "./heartbeat.js";
import type { AppendRejection, AppendRequest, AppendResponse, InstallSnapshot } from "./messages.js";
import type { Progress } from "./progress.js";
import { admitEarlyReads } from "./read-index.js";
import type { ProposeResult } from "./ready.js";
import { continueReconfiguration } from "./reconfiguration.js";
import { reachedByQuorum } from "./quorum.js";
import { countsTowardsQuorum, diskIsStalled, note, send, type LeaderRole, type State } from "./state.js";
import { bestSuccessor, continueTransfer } from "./transfer.js";
import { entryBytes, type Entry } from "./types.js";

/** Appends one entry to the leader's log in memory. The payload belongs to the log from here on. */
export function propose(s: State, payload: Uint8Array): ProposeResult {
  const leader = s.role;
  if (leader.kind !== "leader") return { kind: "not-leader", leader: s.leader };
  if (leader.transfer !== null) return { kind: "transferring", target: leader.transfer.target };
  // Its removal is on the way: what it would still accept it could not answer for.
  if (!s.membership.voters.includes(s.id)) return { kind: "transferring", target: bestSuccessor(s, leader) };
  const entry: Entry = { index: (s.log.lastIndex + 1) as LogIndex, term: s.term, payload };
  const bytes = entryBytes(entry);
  if (leader.uncommittedBytes > 0 && leader.uncommittedBytes + bytes > s.config.uncommittedBytesMax) {
    return { kind: "overloaded", uncommittedBytes: leader.uncommittedBytes };
  }
  leader.uncommittedBytes += bytes;
  s.log.append([entry]);
  return { kind: "accepted", index: entry.index, term: entry.term };
}

/** Sends what has just been handed to the own storage. */
export function broadcastAppends(s: State, leader: LeaderRole): void {
  for (const peer of leader.peers.values()) appendWhileRoom(s, leader, peer);
}

/**
 * Is it time for messages of their own about the newest commit index? Not while entries wait for the write under way: the
 * append that takes them out in a moment says it too, and spares every follower a message and a turn.
 */
export function commitNoticeIsDue(s: State, leader: LeaderRole): boolean {
  const appendIsNear = s.persisting !== null && s.log.handedIndex < s.log.lastIndex && !diskIsStalled(s);
  return leader.commitNoticeDue && !appendIsNear;
}

/** Followers that were not told of the newest commit index by an append are told now: they apply at once. */
export function broadcastCommit(s: State, leader: LeaderRole): void {
  if (!commitNoticeIsDue(s, leader)) return;
  leader.commitNoticeDue = false;
  for (const peer of leader.peers.values()) {
    if (peer.toldCommitIndex < Math.min(peer.matchIndex, s.log.commitIndex)) sendHeartbeat(s, leader, peer, 0);
  }
}

function appendWhileRoom(s: State, leader: LeaderRole, peer: Progress): void {
  while (appendIfWanted(s, leader, peer, { evenEmpty: false }));
}

/** The peer has answered a heartbeat, so it lives: what was held back may go on. */
export function resumeAppends(s: State, leader: LeaderRole, peer: Progress): void {
  if (peer.state === "probe") peer.probeSent = false;
  // Every acknowledgement of a full window may have been lost: one more append a round finds out.
  if (peer.state === "replicate" && peer.inflights.full) peer.inflights.freeFirst();
  if (peer.matchIndex < s.log.handedIndex) appendIfWanted(s, leader, peer, { evenEmpty: true });
}

/** Sends one append if the window allows and there is something to send. Returns whether it did. */
function appendIfWanted(
  s: State,
  leader: LeaderRole,
  peer: Progress,
  options: { readonly evenEmpty: boolean },
): boolean {
  if (peer.paused) return false;
  const prevIndex = (peer.nextIndex - 1) as LogIndex;
  const prevTerm = s.log.termAt(prevIndex);
  if (prevTerm === null) {
    if (peer.departingSince === null) sendSnapshot(s, peer);
    return false;
  }
  const entries = s.log.slice(peer.nextIndex, s.log.handedIndex, s.config.appendBytesMax);
  if (entries.length === 0 && !options.evenEmpty) return false;
  const age = quorumAgeTicks(s);
  const last = leader.lastAppend;
  const reusable =
    last !== null &&
    last.message.prevIndex === prevIndex &&
    last.message.entries === entries &&
    last.message.commitIndex === s.log.commitIndex &&
    last.message.quorumAgeTicks === age;
  const append = reusable ? last : newAppend(s, { prevIndex, prevTerm, entries, quorumAgeTicks: age });
  leader.lastAppend = append;
  send(s, peer.id, append.message);
  const lastSent = (prevIndex + entries.length) as LogIndex;
  const told = Math.min(s.log.commitIndex, lastSent) as LogIndex;
  if (told > peer.toldCommitIndex) peer.toldCommitIndex = told;
  peer.sent(lastSent, append.bytes);
  return true;
}

function newAppend(
  s: State,
  parts: Pick<AppendRequest, "prevIndex" | "prevTerm" | "entries" | "quorumAgeTicks">,
): { readonly message: AppendRequest; readonly bytes: number } {
  return {
    message: { kind: "append-request", from: s.id, term: s.term, commitIndex: s.log.commitIndex, ...parts },
    bytes: parts.entries.reduce((sum, entry) => sum + entryBytes(entry), 0),
  };
}

function sendSnapshot(s: State, peer: Progress): void {
  const snapshot = s.snapshot;
  assert(snapshot !== null, "a log that was compacted has a snapshot");
  peer.becomeSnapshot(snapshot.index);
  note(s, "info", "sending a snapshot", { to: peer.id, index: snapshot.index, term: s.term });
  const message: InstallSnapshot = { kind: "install-snapshot", from: s.id, term: s.term, snapshot };
  send(s, peer.id, message);
}

export function handleAppendResponse(s: State, leader: LeaderRole, peer: Progress, m: AppendResponse): void {
  assert(m.matchIndex <= s.log.lastIndex, "a follower acknowledges only what the leader has");
  peer.lastHeardTick = s.tick;
  peer.counts = m.counts;
  const news = peer.acknowledged(m.matchIndex);
  if (peer.state === "probe" && (news || m.matchIndex === peer.matchIndex)) peer.becomeReplicate();
  else if (
    peer.state === "snapshot" &&
    s.log.termAt(peer.matchIndex) !== null &&
    peer.matchIndex >= peer.snapshotIndex
  ) {
    peer.becomeReplicate();
    note(s, "info", "snapshot arrived", { at: peer.id, index: peer.matchIndex });
  }
  if (news) {
    advanceCommit(s, leader);
    // Also when others had committed it before: the slower half of the followers is not left waiting for a heartbeat.
    if (peer.toldCommitIndex < s.log.commitIndex) leader.commitNoticeDue = true;
    if (s.role !== leader) return; // what was committed removed it
  }
  appendWhileRoom(s, leader, peer);
  continueTransfer(s, leader, peer);
}

export function handleAppendRejection(s: State, leader: LeaderRole, peer: Progress, m: AppendRejection): void {
  peer.lastHeardTick = s.tick;
  peer.counts = m.counts;
  const agreeIndex = s.log.lastIndexWithTermAtMost(m.hintIndex, m.hintTerm);
  if (!peer.rejected(m.rejectedIndex, agreeIndex)) return;
  note(s, "debug", "append was rejected", {
    by: peer.id,
    at: m.rejectedIndex,
    hint: m.hintIndex,
    hintTerm: m.hintTerm,
    next: peer.nextIndex,
  });
  appendIfWanted(s, leader, peer, { evenEmpty: true });
}

/** Called when a follower acknowledged something new, and when the own disk has. */
export function advanceCommit(s: State, leader: LeaderRole): void {
  const reached = (voter: NodeId): number => {
    if (voter === s.id) return countsTowardsQuorum(s) ? s.log.stableIndex : 0; // (L1)
    const peer = leader.peers.get(voter);
    return peer !== undefined && peer.counts ? peer.matchIndex : 0;
  };
  const index = reachedByQuorum(s.membership, reached) as LogIndex;
  const before = s.log.commitIndex;
  if (index <= before || s.log.termAt(index) !== s.term) return; // (L2)
  s.log.commitTo(index);
  leader.commitNoticeDue = true;
  for (let at = before + 1; at <= index; at++) leader.uncommittedBytes -= entryBytes(s.log.entryAt(at)!); // in the log
  note(s, "debug", "committed", { index, term: s.term });
  if (before < leader.noOpIndex && index >= leader.noOpIndex) admitEarlyReads(s, leader);
  continueReconfiguration(s, leader);
}

/** The connection dropped messages, or cannot be made: what was optimistically sent may be lost. */
export function peerUnreachable(leader: LeaderRole, peerId: NodeId): void {
  const peer = leader.peers.get(peerId);
  if (peer?.state === "replicate") peer.becomeProbe();
}

export function snapshotFinished(s: State, leader: LeaderRole, peerId: NodeId, delivered: boolean): void {
  const peer = leader.peers.get(peerId);
  if (peer?.state !== "snapshot") return;
  if (delivered) {
    peer.becomeProbe();
    peer.probeSent = true; // its acknowledgement, or the next heartbeat, sets it going
  } else peer.snapshotFailed();
  note(s, "info", delivered ? "snapshot was delivered" : "snapshot was not delivered", { to: peerId });
}
