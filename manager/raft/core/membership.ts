/**
 * Membership as a value, and how it may change (Raft §6, dissertation §4.3).
 *
 *   add-learner   simple -> simple    (voters do not change)
 *   promote       simple -> joint  -> simple   a learner becomes a voter, another voter may go in the same step
 *   remove        simple -> joint  -> simple   of a voter; of a learner: simple -> simple
 *
 * Every change of voters is joint, even of a single one: the shorter way for single changes has rules of its own that are
 * easily broken (dissertation §4.1, and the correction of 2015 that followed it).
 *
 * (M1) Nobody becomes a voter who was not a learner first: a new voter without the log would cost availability.
 * (M2) An id that was removed never comes back.
 */
import { assert, assertNever } from "../../../core/assert.js";
import type { NodeId } from "../../../core/brands.js";
import type { Member, Membership } from "./types.js";

/** More voters make every commit slower and hardly safer; the same bound as for the founders. */
export const VOTERS_MAX = 9;
export const LEARNERS_MAX = 9;

export type MembershipChange =
  | { readonly kind: "add-learner"; readonly member: Omit<Member, "folder"> }
  /** The learner's data folder was heard of for the first time. */
  | { readonly kind: "name-folder"; readonly id: NodeId; readonly folder: string }
  | { readonly kind: "promote"; readonly id: NodeId; readonly replacing: NodeId | null }
  | { readonly kind: "remove"; readonly id: NodeId };

export type ChangedMembership =
  | { readonly kind: "next"; readonly membership: Membership }
  /** It is as asked for already. */
  | { readonly kind: "done" }
  | { readonly kind: "refused"; readonly reason: string };

const ascending = (ids: Iterable<NodeId>): readonly NodeId[] => [...new Set(ids)].sort((a, b) => a - b);

export function simpleMembership(
  voters: Iterable<NodeId>,
  learners: Iterable<NodeId> = [],
  members: readonly Member[] = [],
): Membership {
  const membership = {
    voters: ascending(voters),
    outgoing: [],
    learners: ascending(learners),
    members: [...members].sort((a, b) => a.id - b.id),
    removed: [],
  };
  assert(membership.voters.length > 0, "a membership has at least one voter");
  assert(
    membership.learners.every((id) => !membership.voters.includes(id)),
    "nobody is voter and learner at once",
  );
  return membership;
}

export const isJoint = (membership: Membership): boolean => membership.outgoing.length > 0;

export const isVoter = (membership: Membership, id: NodeId): boolean =>
  membership.voters.includes(id) || membership.outgoing.includes(id);

/** Everyone who gets the log, ascending. */
export const membersOf = (membership: Membership): readonly NodeId[] =>
  ascending([...membership.voters, ...membership.outgoing, ...membership.learners]);

export const isMember = (membership: Membership, id: NodeId): boolean =>
  isVoter(membership, id) || membership.learners.includes(id);

/** Keys stand in one order wherever a membership is made, so equal ones are equal as text. */
export const sameMembership = (a: Membership, b: Membership): boolean =>
  a === b ||
  JSON.stringify([a.voters, a.outgoing, a.learners, a.members, a.removed]) ===
    JSON.stringify([b.voters, b.outgoing, b.learners, b.members, b.removed]);

const refused = (reason: string): ChangedMembership => ({ kind: "refused", reason });

/** What `change` makes of a simple membership. */
export function changedMembership(before: Membership, change: MembershipChange): ChangedMembership {
  assert(!isJoint(before), "one change at a time");
  switch (change.kind) {
    case "add-learner":
      return withLearner(before, { ...change.member, folder: "" });
    case "name-folder": {
      const member = before.members.find(({ id }) => id === change.id);
      if (member === undefined || !before.learners.includes(change.id))
        return refused(`node ${change.id} is no learner`);
      if (member.folder !== "") return member.folder === change.folder ? { kind: "done" } : refused("another folder");
      return next({ ...before, members: replaceMember(before.members, { ...member, folder: change.folder }) });
    }
    case "promote":
      return withVoter(before, change.id, change.replacing);
    case "remove":
      return without(before, change.id);
    default:
      return assertNever(change);
  }
}

/** The second half of a joint change: the outgoing voters count no more, and those who are nothing else leave. */
export function leftJoint(joint: Membership): Membership {
  assert(isJoint(joint), "only a joint membership is left");
  const stays = (id: NodeId): boolean => joint.voters.includes(id) || joint.learners.includes(id);
  return {
    ...joint,
    outgoing: [],
    members: joint.members.filter(({ id }) => stays(id)),
    removed: ascending([...joint.removed, ...joint.outgoing.filter((id) => !stays(id))]),
  };
}

const next = (membership: Membership): ChangedMembership => ({ kind: "next", membership });

const replaceMember = (members: readonly Member[], member: Member): readonly Member[] =>
  [...members.filter(({ id }) => id !== member.id), member].sort((a, b) => a.id - b.id);

function withLearner(before: Membership, member: Member): ChangedMembership {
  if (before.removed.includes(member.id)) {
    return refused(`node id ${member.id} was removed before; an id is never used again, take a new one`); // (M2)
  }
  const known = before.members.find(({ id }) => id === member.id);
  if (isMember(before, member.id)) {
    return known?.address === member.address && known.service === member.service && before.learners.includes(member.id)
      ? { kind: "done" }
      : refused(`node ${member.id} is a member already${known === undefined ? "" : `, at ${known.address}`}`);
  }
  const taken = before.members.find(({ address, service }) => address === member.address || service === member.service);
  if (taken !== undefined) {
    return refused(
      `node ${taken.id} has the address ${taken.address === member.address ? member.address : member.service}`,
    );
  }
  if (before.learners.length >= LEARNERS_MAX) return refused(`there are ${LEARNERS_MAX} learners, the most allowed`);
  return next({
    ...before,
    learners: ascending([...before.learners, member.id]),
    members: replaceMember(before.members, member),
  });
}

function withVoter(before: Membership, id: NodeId, replacing: NodeId | null): ChangedMembership {
  if (before.voters.includes(id)) {
    return replacing === null || !before.voters.includes(replacing)
      ? { kind: "done" }
      : refused(`node ${id} votes already; remove node ${replacing} by itself`);
  }
  if (!before.learners.includes(id)) return refused(`node ${id} is no learner of this cluster; add it first`); // (M1)
  if (replacing !== null && !before.voters.includes(replacing)) return refused(`node ${replacing} is no voter`);
  const voters = ascending([...before.voters.filter((voter) => voter !== replacing), id]);
  if (voters.length > VOTERS_MAX) return refused(`there are ${VOTERS_MAX} voters, the most allowed`);
  return next({
    ...before,
    voters,
    outgoing: before.voters,
    learners: before.learners.filter((learner) => learner !== id),
  });
}

function without(before: Membership, id: NodeId): ChangedMembership {
  if (before.learners.includes(id)) {
    return next({
      ...before,
      learners: before.learners.filter((learner) => learner !== id),
      members: before.members.filter((member) => member.id !== id),
      removed: ascending([...before.removed, id]),
    });
  }
  if (!before.voters.includes(id)) {
    return before.removed.includes(id) ? { kind: "done" } : refused(`node ${id} is no member of this cluster`);
  }
  if (before.voters.length === 1) return refused(`node ${id} is the only voter`);
  return next({ ...before, voters: before.voters.filter((voter) => voter !== id), outgoing: before.voters });
}
