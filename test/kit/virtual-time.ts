/** A `Clock` on virtual time, for tests of one component that needs nothing else of an `Env`. */
import type { Clock } from "../../runtime/env.js";
import { VirtualClock } from "./virtual-clock.js";

export function virtualTime(): { readonly time: VirtualClock; readonly clock: Clock } {
  const time = new VirtualClock();
  const clock: Clock = {
    nowMs: () => time.nowMs,
    wallMs: () => time.nowMs,
    setTimer: (delayMs, run) => time.schedule(delayMs, run),
    nextTurn: (run) => time.schedule(0, run),
  };
  return { time, clock };
}
