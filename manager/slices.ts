/**
 * Long work in slices, so that heartbeats, acknowledgements and requests are never held up by it: a slice, then whatever
 * else the event loop has, then the next slice. The work itself is an iterator of short steps and knows nothing of this.
 */
import type { Clock } from "../runtime/env.js";

/** A slice ends after this long: a tenth of the shortest time in which anybody is missed (heartbeats come every 30 ms). */
const SLICE_MS = 3;
/** And after so many steps, so that slices are short on virtual time too. */
const SLICE_STEPS = 32;

/** Runs all steps. `each` is handed what they give. Rejects with what a step throws. */
export async function inSlices<Step>(
  clock: Clock,
  steps: Iterator<Step, void>,
  each?: (step: Step) => void,
): Promise<void> {
  while (!runSlice(clock, steps, each)) await nextTurn(clock);
}

/** One slice. True when that was the last one. */
export function runSlice<Step>(
  clock: Clock,
  steps: Iterator<Step, void>,
  each: (step: Step) => void = () => undefined,
): boolean {
  const endMs = clock.nowMs() + SLICE_MS;
  for (let count = 0; count < SLICE_STEPS; count++) {
    const step = steps.next();
    if (step.done === true) return true;
    each(step.value);
    if (clock.nowMs() >= endMs) return false;
  }
  return false;
}

export const nextTurn = (clock: Clock): Promise<void> =>
  new Promise((resolve) => {
    clock.nextTurn(resolve);
  });
