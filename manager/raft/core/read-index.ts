/**
 * Linearizable reads without the log (dissertation §6.4). Steps: the leader notes its commit index, proves by a heartbeat
 * round sent *afterwards* that it still leads, and answers with that index; whoever asked serves the read once it has
 * applied that much. All reads of a turn share one question, all questions share one round.
 *
 * (Q1) A question is answered only by a round that was sent after it came.
 * (Q2) A new leader answers nothing before its no-op is committed: until then its commit index may be behind.
 * (Q3) No question's id is ever used again, not by a retry, not after a restart.
 * (Q4) A lease answers without a round (dissertation §6.4.1), only where it was asked for, only after the no-op is committed,
 *      never once a successor was told to campaign, and only by ticks that count the time this process stood still.
 */
import type { LogIndex, NodeId } from "../../../core/brands.js";
import type { ReadRequest, ReadResponse } from "./messages.js";
import { note, send, type LeaderRole, type PendingRead, type State } from "./state.js";
import type { ReadId } from "./types.js";

/** A local read; its number comes back in `Ready.reads`. */
export function readIndex(s: State): number {
  s.reads.lastRead++;
  s.reads.waiting.push(s.reads.lastRead);
  return s.reads.lastRead;
}

/** The caller has given up. */
export function cancelRead(s: State, read: number): void {
  const at = s.reads.waiting.indexOf(read);
  if (at >= 0) s.reads.waiting.splice(at, 1);
}

/** The question in flight will not be answered (role or leader changed, or time passed): its reads wait for another. */
export function forgetAskedRead(s: State): void {
  if (s.reads.asked === null) return;
  s.reads.waiting.unshift(...s.reads.asked.reads);
  s.reads.asked = null;
}

/** Asks for everything that waits, if a leader is known and no question is under way. */
export function askForReads(s: State): void {
  const { reads } = s;
  const patienceTicks = s.config.electionTimeoutMinTicks;
  if (reads.asked !== null) {
    const stale =
      reads.asked.leader !== s.leader ||
      reads.asked.term !== s.term ||
      s.activeTick - reads.asked.activeTick >= patienceTicks;
    if (stale) forgetAskedRead(s);
  }
  if (reads.asked !== null || reads.waiting.length === 0 || s.leader === null) return;
  reads.lastSequence++;
  const id: ReadId = { nonce: s.config.readNonce, sequence: reads.lastSequence }; // (Q3)
  reads.asked = { id, reads: reads.waiting, leader: s.leader, term: s.term, activeTick: s.activeTick };
  reads.waiting = [];
  if (s.role.kind === "leader") takeQuestion(s, s.role, s.id, id);
  else send(s, s.leader, { kind: "read-request", from: s.id, term: s.term, id });
}

function takeQuestion(s: State, leader: LeaderRole, from: NodeId, id: ReadId): void {
  if (s.log.commitIndex < leader.noOpIndex)
    leader.earlyReads.push({ from, id }); // (Q2)
  else leader.nextReads.push({ from, id, index: s.log.commitIndex });
}

export function handleReadRequest(s: State, leader: LeaderRole, m: ReadRequest): void {
  takeQuestion(s, leader, m.from, m.id);
}

/** The no-op is committed. */
export function admitEarlyReads(s: State, leader: LeaderRole): void {
  for (const { from, id } of leader.earlyReads) leader.nextReads.push({ from, id, index: s.log.commitIndex });
  leader.earlyReads = [];
}

/** (Q4) The driver has just told the core how late it is. */
export function answerByLease(s: State, leader: LeaderRole): void {
  if (leader.nextReads.length === 0 || !holdsLease(s, leader)) return;
  const reads = leader.nextReads;
  leader.nextReads = [];
  note(s, "debug", "reads served under the lease", { count: reads.length, index: s.log.commitIndex });
  answerReads(s, reads);
}

function holdsLease(s: State, leader: LeaderRole): boolean {
  const { leaseMarginTicks, electionTimeoutMinTicks } = s.config;
  if (leaseMarginTicks === null || leader.leaseTick === null || leader.leaseVoid || leader.transfer !== null)
    return false;
  return s.tick - leader.leaseTick < electionTimeoutMinTicks - leaseMarginTicks;
}

/** (Q1) Called when a round is about to be sent. */
export function attachReadsToRound(leader: LeaderRole): void {
  if (leader.nextReads.length === 0) return;
  leader.roundReads.push({ round: leader.round, reads: leader.nextReads });
  leader.nextReads = [];
}

/** A quorum has answered a newer round. */
export function confirmReads(s: State, leader: LeaderRole): void {
  while (leader.roundReads.length > 0 && leader.roundReads[0]!.round <= leader.confirmedRound) {
    const { round, reads } = leader.roundReads.shift()!; // length > 0
    note(s, "debug", "reads confirmed", { round, count: reads.length, index: reads[reads.length - 1]?.index ?? null });
    answerReads(s, reads);
  }
}

function answerReads(s: State, reads: readonly PendingRead[]): void {
  for (const { from, id, index } of reads) {
    if (from === s.id) takeAnswer(s, id, index);
    else send(s, from, { kind: "read-response", from: s.id, term: s.term, id, index });
  }
}

export function handleReadResponse(s: State, m: ReadResponse): void {
  if (m.from === s.leader) takeAnswer(s, m.id, m.index);
}

function takeAnswer(s: State, id: ReadId, index: LogIndex): void {
  const asked = s.reads.asked;
  if (asked === null || asked.id.nonce !== id.nonce || asked.id.sequence !== id.sequence) return; // (Q3)
  s.reads.asked = null;
  for (const read of asked.reads) {
    if (read === s.catchUp.read) s.catchUp = { read: null, target: index };
    else s.reads.confirmed.push({ read, index });
  }
}
