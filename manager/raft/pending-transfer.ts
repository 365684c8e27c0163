/**
 * The caller who waits for leadership to be handed over. There is one at most: the core admits one transfer at a time. It
 * waits for a bounded time: a leader that loses its quorum meanwhile hears of no other leader.
 */
import type { NodeId } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import type { Clock, Timer } from "../../runtime/env.js";
import type { State } from "./core/state.js";

export class PendingTransfer {
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  #waiting: {
    readonly target: NodeId;
    readonly timer: Timer;
    resolve(): void;
    reject(error: AnantaError): void;
  } | null = null;

  constructor(clock: Clock, timeoutMs: number) {
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  wait(target: NodeId): Promise<void> {
    this.abandon("another was asked for");
    return new Promise((resolve, reject) => {
      const timer = this.#clock.setTimer(this.#timeoutMs, () => {
        this.#waiting = null;
        reject(
          new AnantaError("UNAVAILABLE", `Nobody is known to lead ${this.#timeoutMs} ms after the transfer began.`),
        );
      });
      this.#waiting = { target, timer, resolve, reject };
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
    waiting.timer.cancel();
    this.#waiting = null;
  }

  abandon(reason: string): void {
    this.#waiting?.timer.cancel();
    this.#waiting?.reject(new AnantaError("CANCELLED", `The transfer was not finished: ${reason}.`));
    this.#waiting = null;
  }
}
