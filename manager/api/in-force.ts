/**
 * Waits until a change of configuration is used by every live MUX: its second entry is applied (objects are active) and
 * muxSafeIndex has reached it. Works on any replica, because both are known everywhere.
 */
import type { ReplicaView } from "../replica-view.js";
import type { ObjectOutcome } from "../state/results.js";

const LOOK_MS = 2;

/** False when it took longer than `deadlineMs`, or no MUX is live. The change stands all the same. */
export async function whenInForce(
  replica: ReplicaView,
  outcomes: readonly ObjectOutcome[],
  deadlineMs: number,
): Promise<boolean> {
  const { clock } = replica.env;
  const untilMs = clock.nowMs() + deadlineMs;
  while (!inForce(replica, outcomes)) {
    if (clock.nowMs() >= untilMs) return false;
    await new Promise<void>((resolve) => clock.setTimer(LOOK_MS, resolve));
  }
  return replica.state.muxes().some((mux) => mux.state === "live");
}

function inForce(replica: ReplicaView, outcomes: readonly ObjectOutcome[]): boolean {
  const { state, muxSafeIndex } = replica;
  if (state.muxes().every((mux) => mux.state !== "live")) return true; // nobody to wait for; the caller is told
  return outcomes.every(({ ref, generation, change }) => {
    const object = state.object(ref);
    if (object === null) return change === "deleted" && muxSafeIndex.value >= state.appliedIndex;
    if (object.deleting) return false;
    if (object.generation > generation) return true; // changed again since: that one is waited for by its own caller
    return (
      object.active !== null && object.activeIndex >= object.updatedIndex && muxSafeIndex.value >= object.activeIndex
    );
  });
}
