/**
 * A captured state as the consensus module takes it: chunks, written in slices while entries are applied. Dropped half way
 * (`return`, which `break` in a `for await` calls) or before its first chunk, it gives up the capture.
 */
import type { Clock } from "../runtime/env.js";
import { nextTurn, runSlice } from "./slices.js";
import type { StateCapture } from "./state/snapshot/snapshot-writer.js";

export class StateChunks implements AsyncIterableIterator<Uint8Array> {
  readonly #clock: Clock;
  readonly #capture: StateCapture;
  readonly #steps: Iterator<readonly Uint8Array[], void>;
  readonly #ready: Uint8Array[] = [];
  #isOver = false;

  constructor(clock: Clock, capture: StateCapture) {
    this.#clock = clock;
    this.#capture = capture;
    this.#steps = capture.steps();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    for (;;) {
      const chunk = this.#ready.shift();
      if (chunk !== undefined) return { done: false, value: chunk };
      if (this.#isOver) return { done: true, value: undefined };
      this.#isOver = runSlice(this.#clock, this.#steps, (chunks) => this.#ready.push(...chunks));
      if (!this.#isOver) await nextTurn(this.#clock);
    }
  }

  return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#isOver = true;
    this.#ready.length = 0;
    this.#capture.end();
    return Promise.resolve({ done: true, value: undefined });
  }
}
