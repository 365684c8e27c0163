/** What time brings to a leader: check-quorum (dissertation §6.2), a hung disk, transfers that never end, heartbeat rounds. */
import { becomeFollower } from "./election.js";
import { startRound } from "./heartbeat.js";
import { extraPatienceTicks } from "./patience.js";
import { forgetDeparted } from "./reconfiguration.js";
import { diskIsStalled, note, type LeaderRole, type State } from "./state.js";
import { bestSuccessor, startTransfer } from "./transfer.js";

/** One active tick of a leader. */
export function leaderTick(s: State, leader: LeaderRole): void {
  if (s.activeTick - leader.quorumActiveTick > s.config.electionTimeoutMaxTicks + extraPatienceTicks(s)) {
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
  if (diskIsStalled(s) && !leadsOnWithoutDisk(s, leader)) return;
  forgetDeparted(s, leader);
  leader.heartbeatElapsed++;
  if (leader.heartbeatElapsed >= s.config.heartbeatTicks) startRound(s, leader);
}

/**
 * A leader whose disk hangs keeps its followers from electing one that works, because its heartbeats need no disk. It offers
 * leadership once, and then lets go of it. Returns false when it leads no more.
 */
function leadsOnWithoutDisk(s: State, leader: LeaderRole): boolean {
  if (!leader.offeredForStall) {
    leader.offeredForStall = true;
    note(s, "info", "own disk does not answer", { ticks: s.activeTick - s.persistingSince, term: s.term });
    const successor = bestSuccessor(s, leader);
    if (successor !== null) startTransfer(s, successor);
  }
  if (leader.transfer !== null) return true;
  if (s.membership.voters.length === 1) return true; // nobody else could lead
  becomeFollower(s, s.term, null, "own disk does not answer");
  return false;
}
