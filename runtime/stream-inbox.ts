/**
 * The receiving half of a `MessageStream`, shared by the real and the virtual network: one listener, events that came
 * before it kept in order, `closed` exactly once and nothing after it. The listener is never called from inside `listen`,
 * `send` or `end` of the same stream.
 */
import type { AnantaError } from "../core/errors.js";
import type { StreamListener } from "./env.js";

type StreamEvent<In> =
  | { readonly kind: "message"; readonly message: In }
  | { readonly kind: "closed"; readonly error: AnantaError | null }
  | { readonly kind: "drained" };

export class StreamInbox<In> {
  readonly #later: (run: () => void) => void;
  #listener: StreamListener<In> | null = null;
  /** Non-null while events wait: for a listener, or for the turn in which they are handed over. */
  #kept: StreamEvent<In>[] | null = [];
  #closed = false;

  /** `later` runs a function in a turn of its own. */
  constructor(later: (run: () => void) => void) {
    this.#later = later;
  }

  /** True once `closed` has been taken in: whatever comes then is ignored. */
  get closed(): boolean {
    return this.#closed;
  }

  listen(listener: StreamListener<In>): void {
    this.#listener = listener;
    if (this.#kept === null) return;
    if (this.#kept.length === 0) this.#kept = null;
    else this.#later(() => this.#handOver());
  }

  message(message: In): void {
    if (!this.#closed) this.#take({ kind: "message", message });
  }

  drained(): void {
    if (!this.#closed) this.#take({ kind: "drained" });
  }

  close(error: AnantaError | null): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#take({ kind: "closed", error });
  }

  /** As `close`, but the listener hears of it in a later turn: for ends that our own side makes. */
  closeLater(error: AnantaError | null): void {
    if (this.#closed) return;
    this.#closed = true;
    const waiting = this.#kept !== null && this.#kept.length > 0;
    this.#kept ??= [];
    this.#kept.push({ kind: "closed", error });
    if (this.#listener !== null && !waiting) this.#later(() => this.#handOver());
  }

  #take(event: StreamEvent<In>): void {
    if (this.#kept !== null) this.#kept.push(event);
    else this.#give(event);
  }

  #handOver(): void {
    const kept = this.#kept;
    if (kept === null || this.#listener === null) return;
    // The listener may cause further events while it handles one: they go to the end of `kept`.
    for (let next = kept.shift(); next !== undefined; next = kept.shift()) this.#give(next);
    if (this.#kept === kept) this.#kept = null;
  }

  #give(event: StreamEvent<In>): void {
    const listener = this.#listener;
    if (listener === null) return;
    switch (event.kind) {
      case "message": {
        listener.message(event.message);
        return;
      }
      case "closed": {
        listener.closed(event.error);
        return;
      }
      case "drained":
        return listener.drained?.();
    }
  }
}
