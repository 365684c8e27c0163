/**
 * The caller who waits for a change of the membership. There is one at most: the core admits one change at a time.
 *
 * (W3) It is told "done" when the membership that came of the change is committed and no longer joint; LEADERSHIP_LOST
 *      (outcome unknown) when this node stops leading before: its successor finishes or undoes what it finds.
 */
import { AnantaError } from "../../core/errors.js";
import type { LogIndex, Term } from "../../core/brands.js";
import { isJoint } from "./core/membership.js";
import type { State } from "./core/state.js";

export class PendingChange {
  #waiting: {
    readonly index: LogIndex;
    readonly term: Term;
    resolve(): void;
    reject(error: AnantaError): void;
  } | null = null;

  wait(index: LogIndex, term: Term): Promise<void> {
    this.abandon("another change was accepted");
    return new Promise((resolve, reject) => {
      this.#waiting = { index, term, resolve, reject };
    });
  }

  settle({ memberships, log, term }: Readonly<State>): void {
    const waiting = this.#waiting;
    if (waiting === null || waiting.term !== term) return;
    if (memberships.inForceIndex < waiting.index || isJoint(memberships.inForce)) return;
    if (log.appliedIndex < memberships.inForceIndex) return;
    this.#waiting = null;
    waiting.resolve();
  }

  abandon(reason: string): void {
    this.#waiting?.reject(
      new AnantaError("LEADERSHIP_LOST", `The outcome of the change is unknown: ${reason}. Look at the members.`),
    );
    this.#waiting = null;
  }
}
