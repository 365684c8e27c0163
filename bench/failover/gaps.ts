/** How a failover is measured: the longest time without an answer, as one client process sees it. */
import { longestGapMs } from "../../fabric/ownership.js";
import { percentile } from "../measure/statistics.js";
import { print } from "../measure/benchmark.js";

/** The gap may have begun with the last answer before the blow. */
const BEFORE_MS = 100;
/** Answers have to go on for so long after the first one: a second gap counts as well. */
export const WATCH_MS = 1_500;
const RECOVERY_MS_MAX = 30_000;
const POLL_MS = 5;

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Watches from a blow at `atMs` on; `answeredMs` grows meanwhile. Throws when nothing is answered any more. */
export async function gapAfter(answeredMs: readonly number[], atMs: number, blow: string): Promise<number> {
  while ((answeredMs.at(-1) ?? 0) <= atMs + WATCH_MS) {
    if (performance.now() - atMs > RECOVERY_MS_MAX)
      throw new Error(`no answer for ${RECOVERY_MS_MAX} ms after ${blow}`);
    await pause(POLL_MS);
  }
  return longestGapMs(answeredMs, lastBefore(answeredMs, atMs), answeredMs.at(-1) ?? atMs);
}

function lastBefore(answeredMs: readonly number[], atMs: number): number {
  return Math.max(answeredMs.findLast((time) => time <= atMs) ?? atMs, atMs - BEFORE_MS);
}

export interface Gaps {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

export function gapsOf(values: readonly number[]): Gaps {
  const sorted = [...values];
  return { p50: percentile(sorted, 0.5), p99: percentile(sorted, 0.99), max: percentile(sorted, 1) };
}

export function printGaps(name: string, values: readonly number[]): void {
  if (values.length === 0) return;
  const { p50, p99, max } = gapsOf(values);
  const text = (ms: number): string => ms.toFixed(0).padStart(6);
  print(`  ${name.padEnd(58)} p50 ${text(p50)}  p99 ${text(p99)}  max ${text(max)}   (${values.length})`);
}
