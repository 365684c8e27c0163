/** Questions to whoever is at the other end of a stream, told apart by their numbers; one that gets no answer in time gets null. */
import type { Clock, Timer } from "../../runtime/env.js";

export class Questions<Answer> {
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  #asked = 0;
  readonly #open = new Map<number, { readonly timer: Timer; readonly resolve: (answer: Answer | null) => void }>();

  constructor(clock: Clock, timeoutMs: number) {
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  /** `send` puts the question with its number on the stream. */
  ask(send: (id: number) => void): Promise<Answer | null> {
    const id = ++this.#asked;
    return new Promise((resolve) => {
      const timer = this.#clock.setTimer(this.#timeoutMs, () => this.answered(id, null));
      this.#open.set(id, { timer, resolve });
      send(id);
    });
  }

  /** Late and unknown ones are nobody's. */
  answered(id: number, answer: Answer | null): void {
    const question = this.#open.get(id);
    if (question === undefined) return;
    this.#open.delete(id);
    question.timer.cancel();
    question.resolve(answer);
  }

  /** The stream is over. */
  close(): void {
    for (const id of [...this.#open.keys()]) this.answered(id, null);
  }
}
