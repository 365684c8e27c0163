/** What time brings to a leader: check-quorum (dissertation §6.2), transfers that never end, heartbeat rounds. */
import { becomeFollower } from "./election.js";
import { startRound } from "./heartbeat.js";
import { note, type LeaderRole, type State } from "./state.js";

/** One active tick of a leader. */
export function leaderTick(s: State, leader: LeaderRole): void {
  if (s.activeTick - leader.quorumActiveTick > s.config.electionTimeoutMaxTicks) {
    becomeFollower(s, s.term, null, "no quorum answers");
    return;
  }
  if (
    leader.transfer !== null &&
    s.activeTick - leader.transfer.startedActiveTick >= s.config.electionTimeoutMaxTicks
  ) {
    note(s, "info", "transfer given up", { target: leader.transfer.target, term: s.term });
    leader.transfer = null;
    s.statusChanged = true;
  }
  leader.heartbeatElapsed++;
  if (leader.heartbeatElapsed >= s.config.heartbeatTicks) startRound(s, leader);
}
