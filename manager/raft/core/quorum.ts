/**
 * Majorities, simple and joint (Raft §5.2, §6). Two questions are asked everywhere: "what have enough voters reached?"
 * (commit index, heartbeat round) and "have enough voters said yes, or can they no longer?" (elections).
 *
 * (I2) Any two quorums of one membership share a voter; a quorum of a joint membership is one of each half.
 */
import type { NodeId } from "../../../core/brands.js";
import type { Membership } from "./types.js";

export type VoteOutcome = "won" | "lost" | "pending";

export const majorityOf = (voterCount: number): number => Math.floor(voterCount / 2) + 1;

/** The largest value that a majority of `voters` has reached; +Infinity for no voters (it then binds nothing). */
export function reachedByMajority(voters: readonly NodeId[], valueOf: (voter: NodeId) => number): number {
  if (voters.length === 0) return Number.POSITIVE_INFINITY;
  const values: number[] = [];
  // Insertion sort, descending: voters are few (3..9) and this runs on every acknowledgement.
  for (const voter of voters) {
    const value = valueOf(voter);
    let at = values.length;
    values.push(value);
    while (at > 0 && values[at - 1]! < value) {
      values[at] = values[at - 1]!; // in range: at - 1 >= 0
      at--;
    }
    values[at] = value;
  }
  return values[majorityOf(voters.length) - 1]!; // a majority is between 1 and voters.length
}

/** As `reachedByMajority`, of both halves when the membership is joint. */
export function reachedByQuorum(membership: Membership, valueOf: (voter: NodeId) => number): number {
  return Math.min(reachedByMajority(membership.voters, valueOf), reachedByMajority(membership.outgoing, valueOf));
}

function majorityOutcome(voters: readonly NodeId[], votes: ReadonlyMap<NodeId, boolean>): VoteOutcome {
  if (voters.length === 0) return "won";
  let granted = 0;
  let refused = 0;
  for (const voter of voters) {
    const vote = votes.get(voter);
    if (vote === true) granted++;
    else if (vote === false) refused++;
  }
  const needed = majorityOf(voters.length);
  if (granted >= needed) return "won";
  return voters.length - refused < needed ? "lost" : "pending";
}

/** Votes of those who are not voters are ignored. */
export function voteOutcome(membership: Membership, votes: ReadonlyMap<NodeId, boolean>): VoteOutcome {
  const incoming = majorityOutcome(membership.voters, votes);
  const outgoing = majorityOutcome(membership.outgoing, votes);
  if (incoming === "lost" || outgoing === "lost") return "lost";
  return incoming === "won" && outgoing === "won" ? "won" : "pending";
}
