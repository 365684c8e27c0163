/**
 * [pure] How many events a batch holds, so that it is through soon. What is more urgent waits for a batch under way to end, and
 * so does another tenant's event: a batch that takes 350 ms, because the machine is busy, makes both wait for as long, however
 * their priorities are. Larger batches make better use of the log, so they grow as long as they are through in time.
 */

/** Two batches are under way at most: what is urgent waits for one of them and then takes its own time. */
const TARGET_MS = 25;
/** The price of a batch is the same whatever is in it; below this the log would be busy with itself. */
const SIZE_MIN = 128;
/** Of the present limit, after a full batch that was through in time. */
const GROWTH = 1 / 8;
/** A single slow batch, a slow disk say, halves the limit at most. */
const CUT_MAX = 1 / 2;

export class BatchPace {
  private readonly sizeMax: number;
  private size: number;

  constructor(sizeMax: number) {
    this.sizeMax = sizeMax;
    this.size = sizeMax;
  }

  /** Events that the next batch may hold. */
  get limit(): number {
    return this.size;
  }

  /** A batch of `events` was through `tookMs` after it was handed over. */
  took(events: number, tookMs: number): void {
    // What a small batch took says nothing about large ones: then it is the disk, or others.
    if (tookMs > TARGET_MS && events * 2 >= this.size)
      this.size = Math.max(
        Math.min(SIZE_MIN, this.sizeMax),
        Math.floor(this.size * Math.max(CUT_MAX, TARGET_MS / tookMs)),
      );
    else if (tookMs <= TARGET_MS && events >= this.size)
      this.size = Math.min(this.sizeMax, Math.ceil(this.size * (1 + GROWTH)));
  }
}
