/**
 * Heavy hitters in fixed memory: Space-Saving (Metwally, Agrawal, El Abbadi, 2005) over sampled packets, by VIP and client. Any
 * pair with more than total / capacity of all samples is in the sketch, and its count is too high by at most `error`.
 *
 * It sits on the packet path, so it is typed arrays that are sized once, and adding allocates nothing. One packet in a thousand
 * is added: a walk over a few hundred entries costs it less than an index would cost the reader.
 */
import type { IpAddress, VipId } from "../../core/brands.js";
import { formatWords } from "../../packet/address-words.js";

export interface HeavyHitter {
  readonly vipId: VipId;
  readonly client: IpAddress;
  /** Upper bound of the pair's count; the true one is at least `count - error`. */
  readonly count: number;
  readonly error: number;
}

/** VIP id and the four words of the client's address. */
const WORDS = 5;

export class HeavyHitters {
  readonly #keys: Int32Array;
  // Floats: a counter that outgrows 31 bits in a field of its own would be a new heap number with every step.
  readonly #counts: Float64Array;
  readonly #errors: Float64Array;
  readonly #total = new Float64Array(1);
  /** Entries [0, used) are taken. */
  #used = 0;

  constructor(capacity: number) {
    this.#keys = new Int32Array(capacity * WORDS);
    this.#counts = new Float64Array(capacity);
    this.#errors = new Float64Array(capacity);
  }

  /** Samples added, those that faded left out. */
  get total(): number {
    return this.#total[0]!;
  }

  add(vipId: number, word0: number, word1: number, word2: number, word3: number): void {
    this.#total[0]!++;
    const keys = this.#keys;
    const counts = this.#counts;
    let least = 0;
    for (let entry = 0; entry < this.#used; entry++) {
      const at = entry * WORDS;
      if (
        keys[at + 4] === word3 &&
        keys[at] === vipId &&
        keys[at + 3] === word2 &&
        keys[at + 2] === word1 &&
        keys[at + 1] === word0
      ) {
        counts[entry]!++;
        return;
      }
      if (counts[entry]! < counts[least]!) least = entry; // entry < used
    }
    const isFull = this.#used === counts.length;
    const entry = isFull ? least : this.#used++;
    const error = isFull ? counts[entry]! : 0;
    const at = entry * WORDS;
    keys[at] = vipId;
    keys[at + 1] = word0;
    keys[at + 2] = word1;
    keys[at + 3] = word2;
    keys[at + 4] = word3;
    counts[entry] = error + 1;
    this.#errors[entry] = error;
  }

  /** Largest first. */
  top(limit: number): readonly HeavyHitter[] {
    const keys = this.#keys;
    return Array.from({ length: this.#used }, (_, entry): HeavyHitter => {
      const at = entry * WORDS;
      return {
        vipId: keys[at]! as VipId, // entry < used, as below
        client: formatWords(keys[at + 1]!, keys[at + 2]!, keys[at + 3]!, keys[at + 4]!),
        count: this.#counts[entry]!,
        error: this.#errors[entry]!,
      };
    })
      .sort((a, b) => b.count - a.count || a.vipId - b.vipId || (a.client < b.client ? -1 : 1))
      .slice(0, limit);
  }

  /** Old counts fade: half of every count is forgotten, and who had only one. */
  fade(): void {
    this.#total[0] = Math.floor(this.total / 2);
    let kept = 0;
    for (let entry = 0; entry < this.#used; entry++) {
      const count = this.#counts[entry]!;
      if (count < 2) continue;
      this.#keys.copyWithin(kept * WORDS, entry * WORDS, (entry + 1) * WORDS);
      this.#counts[kept] = Math.floor(count / 2);
      this.#errors[kept] = Math.floor(this.#errors[entry]! / 2);
      kept++;
    }
    this.#used = kept;
  }
}
