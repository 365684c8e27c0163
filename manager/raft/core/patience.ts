/**
 * How long silence is borne. The configured election timeout is right while everybody gets the processor when he needs it. On a
 * machine that is busy a live leader is silent for longer than that now and then, and an election takes nothing off the
 * load: the next leader is as slow, everything that was asked of the last one is asked again, and replicas elect one another
 * for as long as the load lasts.
 *
 * So what a live leader's silences were is remembered, and twice the longest one is borne, up to three times the configured
 * minimum; a leader bears as much of its quorum before it gives up. It is forgotten within seconds: on a machine at rest
 * silences are shorter than half a timeout, and the timeout is the configured one. A leader whose process has died is noticed
 * without any timeout (`unreachable`). Cf. Hayashibara et al., "The phi accrual failure detector" (2004).
 *
 * (P1) Never less than configured: leases and votes refused for a fresh leader count on that.
 */
import type { CoreConfig } from "./types.js";

interface Patience {
  longestSilenceTicks: number;
  readonly config: Pick<CoreConfig, "electionTimeoutMinTicks" | "electionTimeoutMaxTicks">;
}

/** What was silence once is silence again, and somewhat longer. */
const MARGIN = 2;
/** Of the shortest configured timeout: 450 ms. A leader that hangs is missed for so long at most, and half a timeout. */
const PATIENCE_MAX = 3;
/** The longest silence counts for a third of itself after so many of the longest configured timeouts: 10 s. */
const FORGET_TIMEOUTS = 40;

/** A leader, or for a leader its quorum, was heard again, so many active ticks after the last time. */
export function silenceEnded(s: Patience, silenceTicks: number): void {
  const forgotten = silenceTicks / (FORGET_TIMEOUTS * s.config.electionTimeoutMaxTicks);
  const longest = (PATIENCE_MAX * s.config.electionTimeoutMinTicks) / MARGIN; // what is longer was no leader's: a cut, say
  s.longestSilenceTicks = Math.min(longest, Math.max(silenceTicks, s.longestSilenceTicks * Math.max(0, 1 - forgotten)));
}

/** (P1) Silence borne beyond what is configured. */
export function extraPatienceTicks(s: Patience): number {
  const { electionTimeoutMinTicks: min } = s.config;
  return Math.max(0, Math.min(Math.ceil(MARGIN * s.longestSilenceTicks), PATIENCE_MAX * min) - min);
}
