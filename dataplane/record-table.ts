/**
 * Records under keys of four words: a `WordIndex`, and a free list that hands out record numbers. The owner keeps the
 * fields of record r at place r of typed arrays of its own. For tables that the control plane writes; flows, which also
 * age, have their record numbers from an `AgedQueues`.
 */
import { mixWords } from "./flow-hash.js";
import { NOT_FOUND, WordIndex } from "./word-index.js";

export class RecordTable {
  readonly capacity: number;
  readonly #index: WordIndex;
  /** 1 for records in use. */
  readonly #used: Uint8Array;
  /** Stack of free records. */
  readonly #free: Uint32Array;
  #freeCount: number;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.#index = new WordIndex(capacity);
    this.#used = new Uint8Array(capacity);
    this.#free = new Uint32Array(capacity);
    for (let i = 0; i < capacity; i++) this.#free[i] = capacity - 1 - i;
    this.#freeCount = capacity;
  }

  get size(): number {
    return this.capacity - this.#freeCount;
  }

  find(a: number, b = 0, c = 0, d = 0): number {
    return this.#index.find(mixWords(a, b, c, d), a, b, c, d);
  }

  /** The record of this key, a new one if there was none; `NOT_FOUND` when the table is full. */
  upsert(a: number, b = 0, c = 0, d = 0): number {
    const hash = mixWords(a, b, c, d);
    const found = this.#index.find(hash, a, b, c, d);
    if (found !== NOT_FOUND) return found;
    if (this.#freeCount === 0) return NOT_FOUND;
    const record = this.#free[--this.#freeCount]!; // freeCount was > 0
    this.#used[record] = 1;
    this.#index.insert(record, hash, a, b, c, d);
    return record;
  }

  remove(record: number): void {
    this.#index.remove(record);
    this.#used[record] = 0;
    this.#free[this.#freeCount++] = record;
  }

  isUsed(record: number): boolean {
    return this.#used[record] === 1;
  }

  /** Word 0..3 of the key of a record in use, signed. */
  keyWord(record: number, word: number): number {
    return this.#index.keys[record * 4 + word]!; // record < capacity
  }
}
