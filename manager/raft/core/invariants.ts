/**
 * What must hold between any two steps, checked in production too: O(peers), no allocation. A breach ends the process
 * before it can be written down or sent. Checks that need both old and new values stand where the change is made.
 */
import { assert } from "../../../core/assert.js";
import { hardStateSettled, type State } from "./state.js";

export function checkInvariants(s: State): void {
  const { log } = s;
  assert(log.appliedIndex <= log.commitIndex && log.commitIndex <= log.lastIndex, "applied <= commit <= last");
  assert(log.stableIndex <= log.handedIndex && log.handedIndex <= log.lastIndex, "stable <= handed <= last");
  assert(log.firstIndex - 1 <= log.appliedIndex, "only applied entries are compacted");
  assert(s.memberships.inForceIndex <= log.lastIndex, "the membership in force is in the log");
  assert(s.term >= s.durable.term, "the term never goes back");
  assert(s.term >= log.lastTerm, "no entry is of a later term than ours");
  switch (s.role.kind) {
    case "follower":
      assert(s.leader !== s.id, "a follower does not lead");
      break;
    case "pre-candidate":
      assert(s.leader === null, "a pre-candidate knows no leader");
      break;
    case "candidate":
      assert(s.leader === null && s.votedFor === s.id, "a candidate votes for itself");
      break;
    case "leader":
      assert(s.leader === s.id && s.votedFor === s.id && hardStateSettled(s), "a leader's own vote is durable");
      assert(s.role.uncommittedBytes >= 0, "uncommitted bytes are counted once");
      for (const voters of [s.membership.voters, s.membership.outgoing]) {
        for (const id of voters) assert(id === s.id || s.role.peers.has(id), "a leader knows every voter's progress");
      }
      for (const peer of s.role.peers.values()) {
        assert(peer.matchIndex < peer.nextIndex && peer.matchIndex <= log.lastIndex, "match < next, match <= last");
      }
      break;
  }
}
