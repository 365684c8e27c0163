/**
 * The state's digest for whoever asks, in slices: it walks all of the state. One at a time; who asks meanwhile shares it where
 * the state is still the same, and otherwise gets none: asking often must not slow the replica down.
 */
import type { LogIndex } from "../core/brands.js";
import type { Clock } from "../runtime/env.js";
import { inSlices } from "./slices.js";
import type { StateCapture } from "./state/snapshot/snapshot-writer.js";
import { ByteDigest } from "./state/snapshot/state-digest.js";
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
    if (this.#last?.index === this.#state.appliedIndex) return this.#last.digest;
    if (this.#isBusy) return Promise.resolve("");
    const capture = this.#state.capture(); // may finish an entry: the index comes after
    const digest = this.#compute(capture);
    this.#last = { index: this.#state.appliedIndex, digest };
    return digest;
  }

  async #compute(capture: StateCapture): Promise<string> {
    this.#isBusy = true;
    const digest = new ByteDigest();
    await inSlices(this.#clock, capture.steps(), (chunks) => {
      for (const chunk of chunks) digest.add(chunk);
    });
    this.#isBusy = false;
    return digest.finish();
  }
}
