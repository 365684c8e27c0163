/**
 * The window of appends under way to one follower, bounded in count and in bytes: a ring of (last index, bytes).
 * Bounding both keeps a slow follower from filling memory with a few huge or very many small appends.
 *
 * (I5) `bytes` is the sum over the ring; `count` never exceeds the capacity.
 */
import { assert } from "../../../core/assert.js";

export class Inflights {
  readonly #capacity: number;
  readonly #bytesMax: number;
  readonly #index: number[];
  readonly #size: number[];
  #start = 0;
  #count = 0;
  #bytes = 0;

  constructor(capacity: number, bytesMax: number) {
    assert(capacity >= 1 && bytesMax >= 1, "a window has room for one append");
    this.#capacity = capacity;
    this.#bytesMax = bytesMax;
    this.#index = new Array<number>(capacity).fill(0);
    this.#size = new Array<number>(capacity).fill(0);
  }

  get count(): number {
    return this.#count;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** An append larger than the window is let through when nothing else is under way. */
  get full(): boolean {
    return this.#count === this.#capacity || this.#bytes >= this.#bytesMax;
  }

  /** `lastIndex` ascends from call to call. */
  add(lastIndex: number, bytes: number): void {
    assert(this.#count < this.#capacity, "the window has room");
    const at = (this.#start + this.#count) % this.#capacity;
    this.#index[at] = lastIndex;
    this.#size[at] = bytes;
    this.#count++;
    this.#bytes += bytes;
  }

  /** Frees everything acknowledged by `matchIndex`. */
  freeUpTo(matchIndex: number): void {
    while (this.#count > 0 && this.#index[this.#start]! <= matchIndex) this.freeFirst(); // start < capacity
  }

  /** Lets one more through although nothing was acknowledged: acknowledgements may have been lost. */
  freeFirst(): void {
    if (this.#count === 0) return;
    this.#bytes -= this.#size[this.#start]!; // start < capacity
    this.#start = (this.#start + 1) % this.#capacity;
    this.#count--;
    assert(
      this.#bytes >= 0 && (this.#count > 0 || this.#bytes === 0),
      "the window's bytes are the sum over its appends",
    ); // (I5)
  }

  clear(): void {
    this.#start = 0;
    this.#count = 0;
    this.#bytes = 0;
  }
}
