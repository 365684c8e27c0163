/**
 * Heavy hitters in fixed memory: Space-Saving (Metwally, Agrawal, El Abbadi, 2005) over sampled packets. Any key with more than
 * total / capacity of all samples is in the sketch, and its count is too high by at most `error`.
 */
export interface HeavyHitter {
  readonly key: string;
  /** Upper bound of the key's count; the true one is at least `count - error`. */
  readonly count: number;
  readonly error: number;
}

export class HeavyHitters {
  total = 0;
  readonly #capacity: number;
  readonly #counters = new Map<string, { count: number; error: number }>();

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  add(key: string, count = 1): void {
    this.total += count;
    const found = this.#counters.get(key);
    if (found !== undefined) {
      found.count += count;
      return;
    }
    if (this.#counters.size < this.#capacity) {
      this.#counters.set(key, { count, error: 0 });
      return;
    }
    let least = "";
    let leastCount = Infinity;
    for (const [other, { count: n }] of this.#counters) {
      if (n < leastCount) [least, leastCount] = [other, n];
    }
    this.#counters.delete(least);
    this.#counters.set(key, { count: leastCount + count, error: leastCount });
  }

  /** Largest first. */
  top(limit: number): readonly HeavyHitter[] {
    return [...this.#counters]
      .map(([key, { count, error }]) => ({ key, count, error }))
      .sort((a, b) => b.count - a.count || (a.key < b.key ? -1 : 1))
      .slice(0, limit);
  }

  /** Old counts fade: half of every count is forgotten. */
  fade(): void {
    this.total = Math.floor(this.total / 2);
    for (const [key, counter] of this.#counters) {
      counter.count = Math.floor(counter.count / 2);
      counter.error = Math.floor(counter.error / 2);
      if (counter.count === 0) this.#counters.delete(key);
    }
  }
}
