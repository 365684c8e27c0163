/**
 * Views are cut in turns: one receiver's after the other's, a few milliseconds in each turn of the event loop, so that two
 * thousand agents that come back at once, or a MUX that needs all of a large view, hold up nothing else.
 */
import type { Clock, Timer } from "../../runtime/env.js";
import { runSlice } from "../slices.js";

/** A short piece of work. True: nothing is left to do now. */
export type Step = () => boolean;

export class Turns {
  readonly #clock: Clock;
  #waiting: Step[] = [];
  #next: Timer | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Calls `step` until it is done, after all that were added before; again and again while it is not. */
  add(step: Step): void {
    this.#waiting.push(step);
    this.#schedule();
  }

  #schedule(): void {
    this.#next ??= this.#clock.nextTurn(() => {
      this.#next = null;
      if (!runSlice(this.#clock, { next: () => this.#step() })) this.#schedule();
    });
  }

  #step(): IteratorResult<undefined, undefined> {
    const step = this.#waiting[0];
    if (step === undefined) return { done: true, value: undefined };
    if (step()) this.#waiting.shift();
    return { done: false, value: undefined };
  }
}
