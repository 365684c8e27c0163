/**
 * The follower's side: appends, heartbeats and snapshots of the present leader (Raft §5.3, §7).
 *
 * (F1) An acknowledgement says "durable up to here", so it waits for the batch that makes it true.
 * (F2) Entries that are held already are never cut off, however late or often an append comes: only a real conflict is.
 * (F3) The commit index follows the leader's no further than the end of what was just checked against its log.
 */
import type { LogIndex, NodeId } from "../../../core/brands.js";
import { leaderHeard } from "./election.js";
import { noteQuorumAge } from "./heartbeat.js";
import { sameMembership } from "./membership.js";
import type { AppendRequest, Heartbeat, InstallSnapshot } from "./messages.js";
import { membershipReplaced, membershipTookForce } from "./reconfiguration.js";
import {
  countsTowardsQuorum,
  hardStateSettled,
  isInstalling,
  note,
  send,
  sendAfterDurable,
  type State,
} from "./state.js";

function acknowledge(s: State, leader: NodeId, matchIndex: LogIndex): void {
  const response = {
    kind: "append-response",
    from: s.id,
    term: s.term,
    matchIndex,
    counts: countsTowardsQuorum(s),
  } as const;
  if (matchIndex <= s.log.stableIndex && !isInstalling(s) && hardStateSettled(s)) {
    send(s, leader, response);
  } else sendAfterDurable(s, leader, response); // (F1)
}

function commitTo(s: State, index: LogIndex): void {
  if (s.log.commitTo(index)) note(s, "debug", "committed", { index, term: s.term });
}

export function handleAppend(s: State, m: AppendRequest): void {
  leaderHeard(s, m.from);
  noteQuorumAge(s, m.quorumAgeTicks);
  // What is committed here equals the leader's log, so a late append is checked from the commit index on.
  let { prevIndex, prevTerm, entries } = m;
  const commitIndex = s.log.commitIndex;
  if (prevIndex < commitIndex) {
    entries = entries.slice(commitIndex - prevIndex);
    prevIndex = commitIndex;
    prevTerm = s.log.termAt(commitIndex)!; // the commit index is never compacted away: its term is known
  }
  if (s.log.termAt(prevIndex) !== prevTerm) {
    const hintIndex = s.log.lastIndexWithTermAtMost(Math.min(prevIndex, s.log.lastIndex) as LogIndex, prevTerm);
    const hintTerm = s.log.termAt(hintIndex) ?? prevTerm;
    note(s, "debug", "rejected an append", { from: m.from, prev: prevIndex, prevTerm, hint: hintIndex, hintTerm });
    send(s, m.from, {
      kind: "append-rejection",
      from: s.id,
      term: s.term,
      rejectedIndex: prevIndex,
      hintIndex,
      hintTerm,
      counts: countsTowardsQuorum(s),
    });
    return;
  }
  let held = 0;
  while (held < entries.length && s.log.termAt(entries[held]!.index) === entries[held]!.term) held++; // held < length
  const fresh = held === 0 ? entries : entries.slice(held);
  const firstNew = fresh[0];
  if (firstNew !== undefined) {
    if (firstNew.index <= s.log.lastIndex) {
      note(s, "info", "replaced conflicting entries", {
        from: firstNew.index,
        to: s.log.lastIndex,
        term: firstNew.term,
      });
      s.log.truncateFrom(firstNew.index); // (F2)
    }
    s.log.append(fresh);
    membershipReplaced(s, firstNew.index, fresh);
  }
  const lastChecked = (prevIndex + entries.length) as LogIndex;
  commitTo(s, Math.min(m.commitIndex, lastChecked) as LogIndex); // (F3)
  acknowledge(s, m.from, lastChecked);
}

export function handleHeartbeat(s: State, m: Heartbeat): void {
  leaderHeard(s, m.from);
  noteQuorumAge(s, m.quorumAgeTicks);
  if (m.commitIndex <= s.log.lastIndex) commitTo(s, m.commitIndex);
  else note(s, "info", "leader believes that more was acknowledged", { commit: m.commitIndex, last: s.log.lastIndex });
  if (m.round !== 0) {
    send(s, m.from, {
      kind: "heartbeat-response",
      from: s.id,
      term: s.term,
      round: m.round,
      counts: countsTowardsQuorum(s),
    });
  }
}

/** The chunks have arrived and are staged; this makes them the state, unless the log holds as much already. */
export function handleInstallSnapshot(s: State, m: InstallSnapshot): void {
  leaderHeard(s, m.from);
  const { index, term } = m.snapshot;
  if (index <= s.log.commitIndex) {
    note(s, "info", "snapshot is not needed", { index, commit: s.log.commitIndex });
    acknowledge(s, m.from, s.log.commitIndex);
    return;
  }
  if (s.log.termAt(index) === term) {
    note(s, "info", "snapshot is held as log", { index });
    commitTo(s, index);
    acknowledge(s, m.from, index);
    return;
  }
  s.log.restore(index, term);
  const before = s.membership;
  s.memberships.restore(index, m.snapshot.membership);
  if (!sameMembership(before, s.membership)) membershipTookForce(s);
  s.snapshot = m.snapshot;
  s.snapshotToPersist = m.snapshot;
  note(s, "info", "installing a snapshot", { index, term: s.term });
  acknowledge(s, m.from, index);
}
