/** The caller who waits for leadership to be handed over. There is one at most: the core admits one transfer at a time. */
import type { NodeId } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import type { State } from "./core/state.js";

export class PendingTransfer {
  #waiting: { readonly target: NodeId; resolve(): void; reject(error: AnantaError): void } | null = null;

  wait(target: NodeId): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting = { target, resolve, reject };
    });
  }

  settle({ id, role, leader }: Readonly<State>): void {
    const waiting = this.#waiting;
    if (waiting === null) return;
    const { target } = waiting;
    if (leader === target) waiting.resolve();
    else if (role.kind === "leader" && role.transfer === null) {
      waiting.reject(
        new AnantaError("UNAVAILABLE", `Node ${target} did not take over in time; this replica still leads.`),
      );
    } else if (leader !== null && leader !== id) {
      waiting.reject(
        new AnantaError("UNAVAILABLE", `Node ${leader} leads instead of node ${target}.`, { leaderHint: leader }),
      );
    } else return;
    this.#waiting = null;
  }

  abandon(reason: string): void {
    this.#waiting?.reject(new AnantaError("CANCELLED", `The transfer was not finished: ${reason}.`));
    this.#waiting = null;
  }
}
