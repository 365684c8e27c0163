/**
 * One pool of workers for all stages: the first of the paper's two changes to SEDA (Ananta §3.5.1, after Welsh et al.).
 * Workers run drain tasks by priority. A task never waits for a commit or an acknowledgement: what follows is another
 * event, so a handful of workers is enough and none is ever stuck.
 */
import PQueue from "p-queue";
import { DrainQueue } from "./drain-queue.js";

/** Tasks in one JavaScript thread interleave only where they await; more workers would not add speed. */
const WORKERS = 2;

export class Executor {
  readonly #pool = new PQueue({ concurrency: WORKERS, queueClass: DrainQueue });
  readonly #failed: (error: unknown) => void;
  #stopped = false;

  /** `failed` hears of a task that threw: a defect of ours, never a refused request. */
  constructor(failed: (error: unknown) => void) {
    this.#failed = failed;
  }

  /** Runs `task` when the workers have done what is more urgent. 0 is the most urgent priority. */
  schedule(priority: number, task: () => void): void {
    if (this.#stopped) return;
    this.#pool
      .add(
        () => {
          if (!this.#stopped) task();
        },
        { priority },
      )
      .catch(this.#failed);
  }

  stop(): void {
    this.#stopped = true;
  }
}
