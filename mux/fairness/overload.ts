/**
 * Is this MUX overloaded? Once per interval it looks at what came and what was lost before the pipeline saw it (Ananta §3.6.2:
 * each MUX watches its own drops). Hysteresis: in after two bad intervals, out after ten good ones, so that a moment is no
 * state and an attack that pauses does not flap.
 */

export interface OverloadInput {
  /** Packets that the pipeline got in the interval. */
  readonly packets: number;
  /** Packets lost on the way in: full sockets and queues. */
  readonly lost: number;
  readonly intervalMs: number;
}

export interface OverloadOptions {
  /** What this MUX can do; 0: not known, losses alone tell. */
  readonly packetsPerSecondMax: number;
}

const INTERVALS_IN = 2;
const INTERVALS_OUT = 10;
/** Of the capacity: below this share an interval is good. */
const GOOD_SHARE = 0.8;

export class OverloadDetector {
  isOverloaded = false;
  /** Packets per second that may be let through: the configured limit, or what got through when losses began. */
  capacity: number;
  readonly #configured: number;
  #bad = 0;
  #good = 0;

  constructor({ packetsPerSecondMax }: OverloadOptions) {
    this.#configured = packetsPerSecondMax;
    this.capacity = packetsPerSecondMax;
  }

  /** Answers whether the state changed. */
  observe({ packets, lost, intervalMs }: OverloadInput): boolean {
    const perSecond = ((packets + lost) * 1_000) / intervalMs;
    const isBad = lost > 0 || (this.#configured > 0 && perSecond > this.#configured);
    const isGood = lost === 0 && (this.capacity === 0 || perSecond < this.capacity * GOOD_SHARE);
    this.#bad = isBad ? this.#bad + 1 : 0;
    this.#good = isGood ? this.#good + 1 : 0;
    if (isBad && this.#configured === 0) this.capacity = Math.max(1, (packets * 1_000) / intervalMs);
    const next = this.isOverloaded ? this.#good < INTERVALS_OUT : this.#bad >= INTERVALS_IN;
    const isChange = next !== this.isOverloaded;
    this.isOverloaded = next;
    return isChange;
  }
}
