/**
 * Waits until a change of configuration is used by every live MUX: its second entry is applied (objects are active) and
 * muxSafeIndex has reached it. Works on any replica, because both are known everywhere.
 */
import type { LogIndex } from "../../core/brands.js";
import type { ReplicaView } from "../replica-view.js";
import { objectKey } from "../state/objects.js";
import type { ObjectOutcome } from "../state/commands/results.js";

const LOOK_MS = 2;

/** False when it took longer than `deadlineMs`, or no MUX is live. The change stands all the same. */
export async function whenInForce(
  replica: ReplicaView,
  outcomes: readonly ObjectOutcome[],
  deadlineMs: number,
): Promise<boolean> {
  const { clock } = replica.env;
  const untilMs = clock.nowMs() + deadlineMs;
  /** Where the state stood when an object was first seen to be gone: MUXes must have that index, not a moving target. */
  const goneAt = new Map<string, number>();
  while (!inForce(replica, outcomes, goneAt)) {
    if (clock.nowMs() >= untilMs) return false;
    await new Promise<void>((resolve) => clock.setTimer(LOOK_MS, resolve));
  }
  return replica.state.muxes().some((mux) => mux.state === "live");
}

/** Every live MUX has the entry in force. False when it took longer than `deadlineMs`. */
export async function whenMuxesHave(replica: ReplicaView, index: LogIndex, deadlineMs: number): Promise<boolean> {
  const { clock } = replica.env;
  const untilMs = clock.nowMs() + deadlineMs;
  while (replica.muxSafeIndex.value < index) {
    if (clock.nowMs() >= untilMs) return false;
    await new Promise<void>((resolve) => clock.setTimer(LOOK_MS, resolve));
  }
  return true;
}

function inForce(replica: ReplicaView, outcomes: readonly ObjectOutcome[], goneAt: Map<string, number>): boolean {
  const { state, muxSafeIndex } = replica;
  if (state.muxes().every((mux) => mux.state !== "live")) return true; // nobody to wait for; the caller is told
  return outcomes.every(({ ref, generation }) => {
    const object = state.object(ref);
    if (object === null) {
      if (!state.isWhole) return false; // it goes with an entry that does not count as applied yet
      const index = goneAt.get(objectKey(ref)) ?? state.appliedIndex;
      goneAt.set(objectKey(ref), index);
      return muxSafeIndex.value >= index;
    }
    if (object.deleting) return false;
    if (object.generation > generation) return true; // changed again since: that one is waited for by its own caller
    return (
      object.active !== null && object.activeIndex >= object.updatedIndex && muxSafeIndex.value >= object.activeIndex
    );
  });
}
