/**
 * The state's digest for whoever asks, in slices: it walks all of the state. One at a time; who asks meanwhile shares it where
 * the state is still the same, and otherwise gets none: asking often must not slow the replica down.
 */
import type { LogIndex } from "../core/brands.js";
import type { Clock } from "../runtime/env.js";
import { inSlices } from "./slices.js";
import { ByteDigest } from "./state/state-digest.js";
import type { StateMachine } from "./state/state-machine.js";

export class StateDigests {
  readonly #clock: Clock;
  readonly #state: Pick<StateMachine, "appliedIndex" | "capture">;
  #last: { readonly index: LogIndex; readonly digest: Promise<string> } | null = null;
  #isBusy = false;

  constructor(clock: Clock, state: Pick<StateMachine, "appliedIndex" | "capture">) {
    this.#clock = clock;
    this.#state = state;
  }

  /** Of the state at the moment of the call, 16 hex digits; empty when another one is under way. */
  ask(): Promise<string> {
    const index = this.#state.appliedIndex;
    if (this.#last?.index === index) return this.#last.digest;
    if (this.#isBusy) return Promise.resolve("");
    const digest = this.#compute();
    this.#last = { index, digest };
    return digest;
  }

  async #compute(): Promise<string> {
    this.#isBusy = true;
    const digest = new ByteDigest();
    await inSlices(this.#clock, this.#state.capture().steps(), (chunks) => {
      for (const chunk of chunks) digest.add(chunk);
    });
    this.#isBusy = false;
    return digest.finish();
  }
}
