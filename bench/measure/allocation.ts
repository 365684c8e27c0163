/** What a piece of code costs the JavaScript heap, as V8 reports it. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { spreadOf } from "./statistics.js";

const LOOKS = 51;

setFlagsFromString("--expose-gc");
/** Collects all garbage now, so that what is measured after it is not charged for what was before. */
export const collectGarbage = runInNewContext("gc") as () => void;

/**
 * Bytes of JavaScript heap that `body` costs each time: median growth between two looks, what looking itself costs taken off. A
 * median, because V8 compiles in the background and puts what it learns on the same heap; what `body` allocates is in every look.
 *
 * @param times how often `body` runs between two looks: few enough that what it allocates does not fill the young generation
 */
export function bytesAllocated(body: () => void, times: number): number {
  collectGarbage();
  const growth = (turn: () => void): number => {
    const grown: number[] = [];
    for (let look = 0; look < LOOKS; look++) {
      const before = process.memoryUsage().heapUsed;
      turn();
      grown.push(process.memoryUsage().heapUsed - before);
    }
    return spreadOf(grown).median;
  };
  const idle = growth(() => undefined);
  const busy = growth(() => {
    for (let i = 0; i < times; i++) body();
  });
  return Math.max(0, busy - idle) / times;
}
