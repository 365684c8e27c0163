/**
 * The callers that wait for their entries to be applied, in log order.
 *
 * (W1) A caller is told "applied" only when the very entry it proposed, same index and same term, was applied here.
 * (W2) Everything else is LEADERSHIP_LOST: the entry may still be committed by another leader. Never "failed".
 */
import { AnantaError } from "../../core/errors.js";
import type { LogIndex, Term } from "../../core/brands.js";
import type { Entry } from "./core/types.js";

interface Waiting {
  readonly index: LogIndex;
  readonly term: Term;
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: AnantaError) => void;
}

export class PendingProposals {
  #waiting: Waiting[] = [];
  #head = 0;

  /** `index` ascends from call to call within a term. */
  add(index: LogIndex, term: Term): Promise<void> {
    let resolve: () => void = ignore;
    let reject: (error: AnantaError) => void = ignore;
    const promise = new Promise<void>((onResolve, onReject) => {
      resolve = onResolve;
      reject = onReject;
    });
    this.#waiting.push({ index, term, promise, resolve, reject });
    return promise;
  }

  /** These entries have just been applied. */
  applied(entries: readonly Entry[]): void {
    const last = entries[entries.length - 1];
    if (last === undefined || this.#head === this.#waiting.length) return;
    const first = entries[0]!; // there is a last one
    while (this.#head < this.#waiting.length) {
      const waiting = this.#waiting[this.#head]!; // head < length
      if (waiting.index > last.index) break;
      this.#head++;
      const entry = entries[waiting.index - first.index];
      if (entry?.term === waiting.term)
        waiting.resolve(); // (W1)
      else lose(waiting, "another entry took its place");
    }
    if (this.#head === this.#waiting.length || this.#head > 4_096) {
      this.#waiting = this.#waiting.slice(this.#head);
      this.#head = 0;
    }
  }

  /** This node does not lead `term` any more, or stops: nobody here will learn what becomes of these entries. */
  abandon(reason: string): void {
    const left = this.#waiting.slice(this.#head);
    this.#waiting = [];
    this.#head = 0;
    for (const waiting of left) lose(waiting, reason); // (W2)
  }

  get count(): number {
    return this.#waiting.length - this.#head;
  }
}

function ignore(): void {
  // The caller's own handlers, if any, see the rejection.
}

function lose(waiting: Waiting, reason: string): void {
  waiting.promise.catch(ignore); // a caller that does not look at the outcome must not end the process
  waiting.reject(
    new AnantaError("LEADERSHIP_LOST", `The outcome of the proposal is unknown: ${reason}. It may still be committed.`),
  );
}
