/**
 * The callers of `readIndex`, in two steps: first the core confirms an index, then that much must be applied here.
 */
import { AnantaError } from "../../core/errors.js";
import type { LogIndex } from "../../core/brands.js";
import type { Clock, Timer } from "../../runtime/env.js";
import type { ConfirmedRead } from "./core/ready.js";

interface Waiting {
  index: LogIndex | null;
  readonly timer: Timer;
  resolve(index: LogIndex): void;
  reject(error: AnantaError): void;
}

export class PendingReads {
  readonly #clock: Clock;
  /** By the core's read number. */
  readonly #waiting = new Map<number, Waiting>();
  /** Confirmed, waiting to be applied. */
  #confirmed: number[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(read: number, timeoutMs: number, gaveUp: () => void): Promise<LogIndex> {
    return new Promise((resolve, reject) => {
      const timer = this.#clock.setTimer(timeoutMs, () => {
        const index = this.#waiting.get(read)?.index ?? null;
        this.#waiting.delete(read);
        gaveUp();
        reject(
          index === null
            ? new AnantaError("UNAVAILABLE", `No quorum confirmed a read index within ${timeoutMs} ms.`)
            : new AnantaError("BEHIND", `This replica has not applied entry ${index} within ${timeoutMs} ms.`),
        );
      });
      this.#waiting.set(read, { index: null, timer, resolve, reject });
    });
  }

  confirmed(reads: readonly ConfirmedRead[]): void {
    for (const { read, index } of reads) {
      const waiting = this.#waiting.get(read);
      if (waiting === undefined) continue;
      waiting.index = index;
      this.#confirmed.push(read);
    }
  }

  applied(appliedIndex: LogIndex): void {
    if (this.#confirmed.length === 0) return;
    this.#confirmed = this.#confirmed.filter((read) => {
      const waiting = this.#waiting.get(read);
      if (waiting === undefined || waiting.index === null) return false;
      if (waiting.index > appliedIndex) return true;
      this.#waiting.delete(read);
      waiting.timer.cancel();
      waiting.resolve(waiting.index);
      return false;
    });
  }

  abandon(error: AnantaError): void {
    for (const waiting of this.#waiting.values()) {
      waiting.timer.cancel();
      waiting.reject(error);
    }
    this.#waiting.clear();
    this.#confirmed = [];
  }
}
