/**
 * A closed loop: N requesters, each with one request open, asking again as soon as it is answered. What a rate at N and a
 * latency at N mean everywhere in bench/.
 */
import { percentile } from "./statistics.js";

export interface ClosedLoop {
  readonly requesters: number;
  /** Not counted; requests go on from here into the measured time. */
  readonly warmUpMs: number;
  readonly measureMs: number;
  /** One request; a rejection ends the run. `round` counts each requester's requests from 0. */
  readonly request: (requester: number, round: number) => Promise<void>;
}

export interface LoopResult {
  /** Answers within the measured time. */
  readonly answers: number;
  /** All answers of the run, for checks against what the other side counted. */
  readonly total: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export async function closedLoop(loop: ClosedLoop): Promise<LoopResult> {
  const startMs = performance.now() + loop.warmUpMs;
  const endMs = startMs + loop.measureMs;
  const latenciesMs: number[] = [];
  let total = 0;
  let failed = false;
  const requester = async (id: number): Promise<void> => {
    for (let round = 0; !failed; round++) {
      const sentMs = performance.now();
      if (sentMs >= endMs) return;
      await loop.request(id, round);
      total++;
      const nowMs = performance.now();
      if (nowMs >= startMs && nowMs < endMs) latenciesMs.push(nowMs - sentMs);
    }
  };
  try {
    await Promise.all(Array.from({ length: loop.requesters }, (_, id) => requester(id)));
  } catch (caught) {
    failed = true;
    throw caught;
  }
  return {
    answers: latenciesMs.length,
    total,
    perSecond: (latenciesMs.length * 1_000) / loop.measureMs,
    p50Ms: percentile(latenciesMs, 0.5),
    p99Ms: percentile(latenciesMs, 0.99),
    maxMs: latenciesMs.at(-1) ?? Number.NaN, // sorted by now
  };
}
