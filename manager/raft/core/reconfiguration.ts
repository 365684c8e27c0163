/**
 * Changing the membership of a running cluster (Raft §6, dissertation §4).
 *
 *   leader: append Cold,new (or, when no voter changes, the new one alone) -> in force at once, here and wherever it arrives
 *           Cold,new committed by both majorities -> append Cnew, in force at once
 *           Cnew committed -> whoever is not in it leaves; a leader not in it hands over and steps down
 *   a leader that dies in between: its successor finds Cold,new in its log and goes on once its own no-op is committed
 *
 * (V1) One change at a time: none begins while the membership in force is joint or not committed.
 * (V2) None begins before this leader's no-op is committed: an uncommitted one of an earlier term could else survive beside
 *      it (the flaw of single-server changes found in 2015).
 * (V3) What is cut off the log is out of force: the one before it holds again.
 * (V4) No change that the voters who answer now could not carry: a typing mistake must not cost the quorum.
 */
import type { LogIndex } from "../../../core/brands.js";
import { becomeFollower } from "./election.js";
import { changedMembership, isJoint, isMember, leftJoint, membersOf, type MembershipChange } from "./membership.js";
import { encodeMembership } from "./membership-codec.js";
import { Progress } from "./progress.js";
import { majorityOf } from "./quorum.js";
import type { ChangeMembershipResult } from "./ready.js";
import { note, send, type LeaderRole, type State } from "./state.js";
import { bestSuccessor, isHeard } from "./transfer.js";
import { entryBytes, type Entry, type Membership } from "./types.js";

/** A learner this close is as good as caught up: the rest travels within a few appends. */
const PROMOTION_LAG_MAX = 1_024;
/** A removed peer that does not answer is forgotten after so many election timeouts. */
const DEPARTURE_TIMEOUTS = 4;

export function changeMembership(s: State, change: MembershipChange): ChangeMembershipResult {
  const leader = s.role;
  if (leader.kind !== "leader") return { kind: "not-leader", leader: s.leader };
  if (leader.transfer !== null) return { kind: "transferring", target: leader.transfer.target };
  if (s.log.commitIndex < leader.noOpIndex) return notReady("this leader's first entry is not committed yet"); // (V2)
  if (isJoint(s.membership) || s.memberships.inForceIndex > s.log.commitIndex) {
    return notReady("another change of the membership is under way"); // (V1)
  }
  const changed = changedMembership(s.membership, change);
  if (changed.kind !== "next") return changed;
  if (change.kind === "promote") {
    const behind = promotionHindrance(s, leader, change.id);
    if (behind !== null) return notReady(behind);
  }
  if (isJoint(changed.membership)) {
    const missing = quorumHindrance(s, leader, changed.membership);
    if (missing !== null) return { kind: "refused", reason: missing }; // (V4)
  }
  return { kind: "accepted", index: appendMembership(s, leader, changed.membership), term: s.term };
}

const notReady = (reason: string): ChangeMembershipResult => ({ kind: "not-ready", reason });

function promotionHindrance(s: State, leader: LeaderRole, id: Progress["id"]): string | null {
  const peer = leader.peers.get(id);
  if (peer === undefined || !isHeard(s, peer)) return `node ${id} does not answer`;
  if (s.membership.members.some((member) => member.id === id && member.folder === "")) {
    return `node ${id}'s data folder is not known yet`;
  }
  const lag = s.log.lastIndex - peer.matchIndex;
  if (peer.state !== "replicate" || lag > PROMOTION_LAG_MAX) return `node ${id} is ${lag} entries behind`;
  return peer.counts ? null : `node ${id} has lost its state; it cannot become a voter`;
}

function quorumHindrance(s: State, leader: LeaderRole, next: Membership): string | null {
  const answering = next.voters.filter((voter) => {
    const peer = leader.peers.get(voter);
    return voter === s.id || (peer !== undefined && peer.counts && isHeard(s, peer));
  });
  const needed = majorityOf(next.voters.length);
  return answering.length >= needed
    ? null
    : `of the ${next.voters.length} voters there would be, ${answering.length} answer now; ${needed} are needed`;
}

function appendMembership(s: State, leader: LeaderRole, membership: Membership): LogIndex {
  const index = (s.log.lastIndex + 1) as LogIndex;
  const entry: Entry = { index, term: s.term, payload: encodeMembership(membership), membership };
  leader.uncommittedBytes += entryBytes(entry);
  s.log.append([entry]);
  s.memberships.append([entry]);
  membershipTookForce(s);
  return index;
}

/** Something was committed: a joint change goes on, and a leader that is no voter any more goes. */
export function continueReconfiguration(s: State, leader: LeaderRole): void {
  const { inForceIndex, inForce } = s.memberships;
  if (s.log.commitIndex < leader.noOpIndex || s.log.commitIndex < inForceIndex) return;
  if (isJoint(inForce)) {
    appendMembership(s, leader, leftJoint(inForce));
    return;
  }
  if (inForce.voters.includes(s.id)) return;
  const successor = bestSuccessor(s, leader);
  if (successor !== null) send(s, successor, { kind: "timeout-now", from: s.id, term: s.term });
  becomeFollower(s, s.term, null, "removed from the voters");
}

/** A follower cut its log off at `from` and appended. (V3) */
export function membershipReplaced(s: State, from: LogIndex, appended: readonly Entry[]): void {
  const cutOff = s.memberships.truncateFrom(from);
  if (s.memberships.append(appended) || cutOff) membershipTookForce(s);
}

export function membershipTookForce(s: State): void {
  const { voters, outgoing, learners } = s.membership;
  note(s, "info", "membership in force", {
    index: s.memberships.inForceIndex,
    voters: voters.join(","),
    ...(outgoing.length === 0 ? {} : { outgoing: outgoing.join(",") }),
    ...(learners.length === 0 ? {} : { learners: learners.join(",") }),
  });
  s.statusChanged = true;
  endUntilNamed(s);
  if (s.role.kind === "leader") meetPeers(s, s.role);
}

/** See `Member.folder`. */
export function endUntilNamed(s: State): void {
  if (s.voting.kind !== "until-named") return;
  const own = s.membership.members.find(({ id }) => id === s.id);
  if (own === undefined || own.folder === "") return;
  if (own.folder === s.voting.folder) s.voting = { kind: "full" };
  else {
    const reason = `node id ${s.id} belongs to another data folder; this one must join under a new id`;
    s.voting = { ...s.voting, reason };
    note(s, "info", "data folder is not the one that joined", { node: s.id });
  }
  s.statusChanged = true;
}

function meetPeers(s: State, leader: LeaderRole): void {
  const window = { appendsMax: s.config.inflightAppendsMax, bytesMax: s.config.inflightBytesMax };
  for (const id of membersOf(s.membership)) {
    if (id !== s.id && !leader.peers.has(id)) {
      leader.peers.set(id, new Progress(id, (s.log.lastIndex + 1) as LogIndex, window));
    }
  }
  for (const peer of leader.peers.values()) {
    if (!isMember(s.membership, peer.id)) peer.departingSince ??= s.activeTick;
  }
}

/** Drops removed peers that have been told, or do not answer. */
export function forgetDeparted(s: State, leader: LeaderRole): void {
  for (const peer of leader.peers.values()) {
    if (peer.departingSince === null) continue;
    const told = s.memberships.inForceIndex <= peer.toldCommitIndex;
    const waitedTicks = s.activeTick - peer.departingSince;
    if (!told && waitedTicks < DEPARTURE_TIMEOUTS * s.config.electionTimeoutMaxTicks) continue;
    leader.peers.delete(peer.id);
    note(s, "debug", "removed peer is forgotten", { peer: peer.id, told });
    s.statusChanged = true;
  }
}
