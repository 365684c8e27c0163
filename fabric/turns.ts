/** Moments of a requester's own, a period apart, whatever the answers take. */
export class Turns {
  readonly #firstMs: number;
  readonly #periodMs: number;

  /** `periodMs` 0: always now. */
  constructor(firstMs: number, periodMs: number) {
    this.#firstMs = firstMs;
    this.#periodMs = periodMs;
  }

  /** ms until the next turn; turns that have passed are missed. */
  untilNextMs(nowMs: number): number {
    if (nowMs <= this.#firstMs) return this.#firstMs - nowMs;
    if (this.#periodMs === 0) return 0;
    const sinceLast = (nowMs - this.#firstMs) % this.#periodMs;
    return this.#periodMs - sinceLast;
  }
}
