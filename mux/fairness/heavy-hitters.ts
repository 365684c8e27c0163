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
  readonly #slots = new Map<string, number>();
  // One slot per key, dense from 0; typed, so that looking for the least allocates nothing.
  readonly #keys: string[] = [];
  readonly #counts: Float64Array;
  readonly #errors: Float64Array;

  constructor(capacity: number) {
    this.#counts = new Float64Array(capacity);
    this.#errors = new Float64Array(capacity);
  }

  add(key: string, count = 1): void {
    this.total += count;
    const found = this.#slots.get(key);
    if (found !== undefined) {
      this.#counts[found]! += count;
      return;
    }
    if (this.#keys.length < this.#counts.length) {
      this.#put(this.#keys.length, key, count, 0);
      return;
    }
    const least = this.#least();
    const error = this.#counts[least]!;
    this.#slots.delete(this.#keys[least]!);
    this.#put(least, key, error + count, error);
  }

  #least(): number {
    let least = 0;
    for (let slot = 1; slot < this.#counts.length; slot++) {
      if (this.#counts[slot]! < this.#counts[least]!) least = slot;
    }
    return least;
  }

  #put(slot: number, key: string, count: number, error: number): void {
    this.#slots.set(key, slot);
    this.#keys[slot] = key;
    this.#counts[slot] = count;
    this.#errors[slot] = error;
  }

  /** Largest first. */
  top(limit: number): readonly HeavyHitter[] {
    return this.#keys
      .map((key, slot) => ({ key, count: this.#counts[slot]!, error: this.#errors[slot]! }))
      .sort((a, b) => b.count - a.count || (a.key < b.key ? -1 : 1))
      .slice(0, limit);
  }

  /** Old counts fade: half of every count is forgotten. */
  fade(): void {
    this.total = Math.floor(this.total / 2);
    const kept = this.top(Infinity);
    this.#slots.clear();
    this.#keys.length = 0;
    for (const { key, count, error } of kept) {
      if (count >= 2) this.#put(this.#keys.length, key, Math.floor(count / 2), Math.floor(error / 2));
    }
  }
}
