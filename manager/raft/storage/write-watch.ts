/**
 * Knows how long each write has been under way, and gives up on one that hangs: the disk, or the controller before it, does
 * not answer any more. A process in that state acknowledges nothing, yet holds its place; ended, it can be replaced.
 *
 * (H1) Counted in turns of the event loop a second apart, not by the clock: a process that itself stood still for a minute
 *      (SIGSTOP, a suspended machine) finds the completion waiting, and its disk is not to blame.
 */
import { AnantaError } from "../../../core/errors.js";
import type { Clock, Timer } from "../../../runtime/env.js";

/** Far above what a disk under load takes (etcd warns at 1 s), well below a person's patience. */
export const HUNG_WRITE_MS = 20_000;
const WATCH_MS = 1_000;

interface UnderWay {
  readonly sinceMs: number;
  turns: number;
  readonly giveUp: (error: AnantaError) => void;
}

export class WriteWatch {
  readonly #clock: Clock;
  readonly #underWay = new Set<UnderWay>();
  #timer: Timer | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Settles as `write` does, or rejects with STORAGE_FAILED after HUNG_WRITE_MS. */
  watch<Result>(write: () => Promise<Result>): Promise<Result> {
    return new Promise((resolve, reject) => {
      const entry: UnderWay = { sinceMs: this.#clock.nowMs(), turns: 0, giveUp: reject };
      this.#underWay.add(entry);
      this.#timer ??= this.#clock.setTimer(WATCH_MS, () => this.#look());
      write()
        .finally(() => this.#underWay.delete(entry))
        .then(resolve, reject);
    });
  }

  /** 0 when nothing is under way. */
  oldestMs(): number {
    const [oldest] = this.#underWay; // a set keeps the order of insertion
    return oldest === undefined ? 0 : this.#clock.nowMs() - oldest.sinceMs;
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  #look(): void {
    this.#timer = null;
    if (this.#underWay.size === 0) return;
    for (const write of this.#underWay) {
      write.turns++; // (H1)
      if (write.turns * WATCH_MS < HUNG_WRITE_MS) continue;
      write.giveUp(
        new AnantaError("STORAGE_FAILED", `The disk has not answered a write for ${HUNG_WRITE_MS / 1_000} s.`),
      );
    }
    this.#timer = this.#clock.setTimer(WATCH_MS, () => this.#look());
  }
}
