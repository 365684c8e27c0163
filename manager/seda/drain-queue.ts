/**
 * The queue inside the shared worker pool: drain tasks of all stages, by priority. Given to p-queue as its `queueClass`.
 *
 * A stage has at most one drain task waiting here, so the bound is the number of stages; it is enforced all the same,
 * because an unbounded queue would hide a stage that schedules twice. Each level is first in, first out; enqueue and
 * dequeue cost O(levels). p-queue's own queue is a sorted array: O(n) in the middle and without a bound.
 */
import type { Queue } from "p-queue";
import { assert } from "../../core/assert.js";

type Run = () => Promise<unknown>;
interface Options {
  readonly priority?: number;
}

/** Levels 0 (first) to LEVELS - 1 (last). */
export const DRAIN_LEVELS = 8;
/** More waiting drain tasks than this means that a stage schedules itself without need. */
const DRAIN_TASKS_MAX = 64;

export class DrainQueue implements Queue<Run, Options> {
  readonly #levels: Run[][] = Array.from({ length: DRAIN_LEVELS }, () => []);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  enqueue(run: Run, options?: Partial<Options>): void {
    assert(this.#size < DRAIN_TASKS_MAX, "a stage schedules one drain task at a time");
    const level = options?.priority ?? DRAIN_LEVELS - 1;
    const queue = this.#levels[level];
    assert(queue !== undefined, `a drain priority is in 0..${DRAIN_LEVELS - 1}, not ${level}`);
    queue.push(run);
    this.#size++;
  }

  dequeue(): Run | undefined {
    for (const queue of this.#levels) {
      const run = queue.shift();
      if (run !== undefined) {
        this.#size--;
        return run;
      }
    }
    return undefined;
  }

  filter(options: Readonly<Partial<Options>>): Run[] {
    return options.priority === undefined ? this.#levels.flat() : [...(this.#levels[options.priority] ?? [])];
  }

  setPriority(): void {
    assert(false, "drain tasks keep the priority they were scheduled with");
  }
}
