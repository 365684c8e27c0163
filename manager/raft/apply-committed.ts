/** Committed entries on their way to the state machine, as fast as it takes them. */
import type { RaftCore } from "./core/raft.js";
import type { Entry } from "./core/types.js";
import type { ReplicatedStateMachine } from "./raft-node.js";

/** `goOn` is called when there is room again after a time without. */
export function applyCommitted(
  core: RaftCore,
  stateMachine: ReplicatedStateMachine,
  committed: readonly Entry[],
  goOn: () => void,
): void {
  const shown = committed.every(isCommand) ? committed : committed.filter(isCommand);
  const room = shown.length === 0 ? undefined : stateMachine.apply(shown);
  if (room === undefined) return;
  core.setRoom(false);
  void room.then(() => {
    core.setRoom(true);
    goOn();
  });
}

/** Not a no-op, not a membership: something for the state machine. */
const isCommand = (entry: Entry): boolean => entry.payload.length > 0 && entry.membership === undefined;
