/** The core's state as `RaftStatus` shows it. */
import type { LogIndex, NodeId, Term } from "../../core/brands.js";
import { isJoint, membersOf } from "./core/membership.js";
import type { State } from "./core/state.js";
import type { Membership } from "./core/types.js";
import type { RaftMember, RaftNodeConfig, RaftStatus } from "./raft-node.js";

/** `removedSays`: the replica that told this one that it was removed; null when none did. */
export function statusOf(
  s: Readonly<State>,
  tickMs: number,
  own: Pick<RaftStatus, "snapshotMs" | "restoreMs"> & { readonly removedSays: NodeId | null },
): RaftStatus {
  const peers = s.role.kind === "leader" ? [...s.role.peers.values()] : [];
  return {
    id: s.id,
    role: s.role.kind,
    term: s.term,
    leader: s.leader,
    commitIndex: s.log.commitIndex,
    appliedIndex: s.log.appliedIndex,
    lastIndex: s.log.lastIndex,
    firstIndex: s.log.firstIndex,
    snapshotIndex: s.snapshot?.index ?? (0 as LogIndex),
    voters: s.membership.voters,
    members: shownMembers(s.membership),
    membershipIndex: s.memberships.inForceIndex,
    changing: isJoint(s.membership),
    peers: peers.map((peer) => ({
      id: peer.id,
      state: peer.state,
      matchIndex: peer.matchIndex,
      lastHeardMsAgo: peer.lastHeardTick === null ? null : (s.tick - peer.lastHeardTick) * tickMs,
    })),
    snapshotMs: own.snapshotMs,
    restoreMs: own.restoreMs,
    notVoting: reasonNotToVote(s, own.removedSays),
  };
}

function reasonNotToVote(s: Readonly<State>, removedSays: NodeId | null): string | null {
  if (s.membership.removed.includes(s.id)) return "removed from the cluster";
  if (removedSays !== null && s.leader === null) return `removed from the cluster, as node ${removedSays} says`;
  return s.voting.kind === "full" ? null : s.voting.reason;
}

/** A membership is a value that seldom changes, and the status is read with every heartbeat. */
const shown = new WeakMap<Membership, readonly RaftMember[]>();

function shownMembers(membership: Membership): readonly RaftMember[] {
  const known = shown.get(membership);
  if (known !== undefined) return known;
  const members = membersOf(membership).map((id): RaftMember => {
    const member = membership.members.find((one) => one.id === id);
    const role = membership.voters.includes(id) ? "voter" : membership.learners.includes(id) ? "learner" : "leaving";
    return { id, address: member?.address ?? "", service: member?.service ?? "", role };
  });
  shown.set(membership, members);
  return members;
}

export function notStarted(config: RaftNodeConfig): RaftStatus {
  const zero = 0 as LogIndex;
  return {
    id: config.id,
    role: "follower",
    term: 0 as Term,
    leader: null,
    commitIndex: zero,
    appliedIndex: zero,
    lastIndex: zero,
    firstIndex: zero,
    snapshotIndex: zero,
    voters: [...config.voters.keys()],
    members: [],
    membershipIndex: zero,
    changing: false,
    peers: [],
    snapshotMs: 0,
    restoreMs: 0,
    notVoting: "not started",
  };
}
