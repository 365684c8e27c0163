/**
 * How long the event loop of this process was held up, and by whom. A timer of 5 ms comes late when something else ran
 * instead of it. Of that delay the kernel says how much its main thread was computing (`schedstat`, proc(5)): that is the
 * program's own. The rest it waited for a processor, or for threads that did: other processes' doing, on a machine with fewer
 * processors than processes.
 */
import { appendFileSync, readFileSync } from "node:fs";
import { constants, type PerformanceEntry, PerformanceObserver } from "node:perf_hooks";

export const INTERVAL_MS = 5;
/** Shorter ones are not written down. */
const NOTED_MS = 10;
const PAUSE_NOTED_MS = 3;

export interface Stall {
  /** When it ended, wall clock. */
  readonly atMs: number;
  /** The same since the machine's start. */
  readonly sinceBootMs: number;
  /** By how much the timer came late. */
  readonly lateMs: number;
  /** Processor time of the main thread in it; equal to `lateMs` where the kernel does not tell. */
  readonly ownMs: number;
  /** Pauses of the garbage collector in it, with what its threads waited for processors. */
  readonly gcMs: number;
  /** The collector's longest pause in it was one of the young generation, or of the whole heap; "" when there was none. */
  readonly gcKind: GcKind | "";
}

type GcKind = "young" | "whole" | "step";

/** Of the garbage collector; wall clock. */
interface Pause {
  readonly pausedAtMs: number;
  readonly pauseMs: number;
  readonly gcKind: GcKind;
}

/** What the program itself saw of a stall. */
type Seen = Omit<Stall, "gcMs" | "gcKind">;

export function watchStalls(file: string): void {
  const note = (what: Seen | Pause): void => appendFileSync(file, `${JSON.stringify(what)}\n`);
  let dueMs = performance.now() + INTERVAL_MS;
  let computed = computedMs();
  const look = (): void => {
    const lateMs = performance.now() - dueMs;
    const computedNow = computedMs();
    if (lateMs >= NOTED_MS)
      note({
        atMs: Date.now(),
        sinceBootMs: Number(process.hrtime.bigint()) / 1e6,
        lateMs,
        ownMs: Math.min(lateMs, computedNow - computed),
      });
    computed = computedNow;
    dueMs = performance.now() + INTERVAL_MS;
    setTimeout(look, INTERVAL_MS).unref();
  };
  setTimeout(look, INTERVAL_MS).unref();
  // Node tells of a pause after it, and after the timer that came late by it.
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries())
      if (entry.duration >= PAUSE_NOTED_MS)
        note({
          pausedAtMs: performance.timeOrigin + entry.startTime,
          pauseMs: entry.duration,
          gcKind: gcKind(entry as GcEntry),
        });
  }).observe({ entryTypes: ["gc"] });
}

/** As Node describes entries about the collector; its types leave `detail` out. */
type GcEntry = PerformanceEntry & { readonly detail: { readonly kind: number } };

function gcKind({ detail: { kind } }: GcEntry): GcKind {
  if (kind === constants.NODE_PERFORMANCE_GC_MINOR) return "young";
  return kind === constants.NODE_PERFORMANCE_GC_MAJOR ? "whole" : "step";
}

/** Processor time of the main thread since it began; what a clock says where the kernel does not tell. */
function computedMs(): number {
  try {
    return Number(readFileSync("/proc/self/schedstat", "utf8").split(" ")[0]) / 1e6;
  } catch {
    return performance.now();
  }
}

/** What a process wrote down, oldest first; nothing when it never stalled. */
export function readStalls(file: string): readonly Stall[] {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch {
    return [];
  }
  // A process that was killed may have left half a line.
  const lines = text.split("\n").flatMap((line) => (line.endsWith("}") ? [JSON.parse(line) as Seen | Pause] : []));
  const pauses = lines.flatMap((line) => ("pauseMs" in line ? [line] : []));
  return lines.flatMap((line) => {
    if ("pauseMs" in line) return [];
    const fromMs = line.atMs - line.lateMs - INTERVAL_MS;
    const during = pauses.filter(({ pausedAtMs }) => pausedAtMs >= fromMs && pausedAtMs <= line.atMs);
    const longest = during.reduce<Pause | null>(
      (most, one) => (most !== null && most.pauseMs >= one.pauseMs ? most : one),
      null,
    );
    return [
      {
        ...line,
        gcKind: longest?.gcKind ?? "",
        gcMs: Math.min(
          line.ownMs,
          during.reduce((sum, { pauseMs }) => sum + pauseMs, 0),
        ),
      },
    ];
  });
}
