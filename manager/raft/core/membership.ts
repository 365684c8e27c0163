/**
 * Membership as a value. Changes are not offered yet; the type can already hold every state a change passes through
 * (learner, joint, left), and everything that counts goes through `quorum.ts`, so that offering them touches no counting.
 */
import { assert } from "../../../core/assert.js";
import type { NodeId } from "../../../core/brands.js";
import type { Membership } from "./types.js";

const ascending = (ids: Iterable<NodeId>): readonly NodeId[] => [...new Set(ids)].sort((a, b) => a - b);

export function simpleMembership(voters: Iterable<NodeId>, learners: Iterable<NodeId> = []): Membership {
  const membership = { voters: ascending(voters), outgoing: [], learners: ascending(learners) };
  assert(membership.voters.length > 0, "a membership has at least one voter");
  assert(
    membership.learners.every((id) => !membership.voters.includes(id)),
    "nobody is voter and learner at once",
  );
  return membership;
}

export const isVoter = (membership: Membership, id: NodeId): boolean =>
  membership.voters.includes(id) || membership.outgoing.includes(id);

/** Everyone who gets the log, ascending. */
export const membersOf = (membership: Membership): readonly NodeId[] =>
  ascending([...membership.voters, ...membership.outgoing, ...membership.learners]);
