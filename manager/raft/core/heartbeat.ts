/**
 * Heartbeat rounds. One idea carries four uses: a leader numbers its heartbeats, and once a quorum has answered round r,
 * it is proven that nobody else led when round r was *sent*. From that follow
 *   - check-quorum: no confirmed round for an election timeout -> the leader steps down (dissertation §6.2);
 *   - ReadIndex: reads that came before round r was sent may be served (read-index.ts);
 *   - "quorum seen": every message of the leader says how long ago the newest confirmed round was sent;
 *   - leases, where they are on: for a while after round r was sent nobody else can be elected (read-index.ts).
 *
 * (H1) A round is counted from when it was sent, never from when it was answered.
 */
import type { NodeId } from "../../../core/brands.js";
import type { Heartbeat, HeartbeatResponse } from "./messages.js";
import { silenceEnded } from "./patience.js";
import type { Progress } from "./progress.js";
import { answerByLease, attachReadsToRound, confirmReads } from "./read-index.js";
import { reachedByQuorum } from "./quorum.js";
import { countsTowardsQuorum, send, type LeaderRole, type State } from "./state.js";

export function quorumAgeTicks(s: State): number | null {
  // Both ends of the interval are rounded down to ticks, so one tick more is the safe side.
  return s.quorumSeenTick === null ? null : s.tick - s.quorumSeenTick + 1;
}

export function noteQuorumAge(s: State, ageTicks: number | null): void {
  if (ageTicks === null) return;
  const seen = s.tick - ageTicks;
  if (s.quorumSeenTick === null || seen > s.quorumSeenTick) s.quorumSeenTick = seen;
}

export function startRound(s: State, leader: LeaderRole): void {
  leader.round++;
  leader.heartbeatElapsed = 0;
  leader.roundsSent.set(leader.round, { tick: s.tick, activeTick: s.activeTick });
  attachReadsToRound(leader);
  for (const peer of leader.peers.values()) sendHeartbeat(s, leader, peer, leader.round);
  confirmRounds(s, leader); // a cluster of one needs nobody's answer
}

/** Starts a round for waiting questions; while one such round is under way the next batch grows. */
export function startReadRound(s: State, leader: LeaderRole): void {
  answerByLease(s, leader);
  if (leader.nextReads.length > 0 && leader.roundReads.length === 0) startRound(s, leader);
}

/** `round` 0 asks for no answer: it only tells the peer that more is committed. */
export function sendHeartbeat(s: State, leader: LeaderRole, peer: Progress, round: number): void {
  const commitIndex = Math.min(peer.matchIndex, s.log.commitIndex) as typeof peer.matchIndex;
  const age = quorumAgeTicks(s);
  const last = leader.lastHeartbeat;
  const reusable =
    last !== null && last.round === round && last.commitIndex === commitIndex && last.quorumAgeTicks === age;
  const message: Heartbeat = reusable
    ? last
    : { kind: "heartbeat", from: s.id, term: s.term, round, commitIndex, quorumAgeTicks: age };
  leader.lastHeartbeat = message;
  if (commitIndex > peer.toldCommitIndex) peer.toldCommitIndex = commitIndex;
  send(s, peer.id, message);
}

export function handleHeartbeatResponse(s: State, leader: LeaderRole, peer: Progress, m: HeartbeatResponse): void {
  peer.lastHeardTick = s.tick;
  peer.counts = m.counts;
  if (m.round > peer.ackedRound && m.round <= leader.round) peer.ackedRound = m.round;
  confirmRounds(s, leader);
}

function confirmRounds(s: State, leader: LeaderRole): void {
  const reached = (voter: NodeId): number => {
    if (voter === s.id) return countsTowardsQuorum(s) ? leader.round : 0;
    const peer = leader.peers.get(voter);
    return peer !== undefined && peer.counts ? peer.ackedRound : 0;
  };
  const confirmed = reachedByQuorum(s.membership, reached);
  if (confirmed <= leader.confirmedRound) return;
  leader.confirmedRound = confirmed;
  for (const [round, sent] of leader.roundsSent) {
    if (round > confirmed) break; // rounds are in the map in ascending order
    if (round === confirmed) {
      silenceEnded(s, s.activeTick - leader.quorumActiveTick);
      leader.quorumActiveTick = sent.activeTick;
      leader.leaseTick = sent.tick;
      if (s.quorumSeenTick === null || sent.tick > s.quorumSeenTick) s.quorumSeenTick = sent.tick; // (H1)
    }
    leader.roundsSent.delete(round);
  }
  confirmReads(s, leader);
}
