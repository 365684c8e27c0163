/**
 * A bounded queue that takes turns between keys: round robin over the keys that have something waiting, first in first
 * out within a key. One key that floods the queue delays itself, not the others. All operations are O(1).
 */
import { assert } from "../../core/assert.js";

interface Lane<T> {
  readonly key: string;
  readonly items: T[];
  /** Position of the next item; what lies before it is gone. */
  head: number;
}

export class FairQueue<T> {
  readonly #lengthMax: number;
  readonly #lanes = new Map<string, Lane<T>>();
  #turns: Lane<T>[] = [];
  #turnHead = 0;
  #length = 0;

  constructor(lengthMax: number) {
    assert(lengthMax >= 1, "a queue holds at least one event");
    this.#lengthMax = lengthMax;
  }

  get length(): number {
    return this.#length;
  }

  /** False: full, and nothing was done. */
  offer(key: string, item: T): boolean {
    if (this.#length >= this.#lengthMax) return false;
    let lane = this.#lanes.get(key);
    if (lane === undefined) {
      lane = { key, items: [], head: 0 };
      this.#lanes.set(key, lane);
      this.#turns.push(lane);
    }
    lane.items.push(item);
    this.#length++;
    return true;
  }

  poll(): T | undefined {
    const lane = this.#turns[this.#turnHead];
    if (lane === undefined) return undefined;
    this.#turnHead++;
    const item = lane.items[lane.head++];
    assert(item !== undefined, "a lane with a turn has an item");
    if (lane.head < lane.items.length) this.#turns.push(lane);
    else this.#lanes.delete(lane.key);
    this.#compact(lane);
    this.#length--;
    return item;
  }

  /** Consumed slots are given back once they are the larger part: amortised O(1). */
  #compact(lane: Lane<T>): void {
    if (lane.head > 64 && lane.head * 2 > lane.items.length) {
      lane.items.splice(0, lane.head);
      lane.head = 0;
    }
    if (this.#turnHead > 64 && this.#turnHead * 2 > this.#turns.length) {
      this.#turns = this.#turns.slice(this.#turnHead);
      this.#turnHead = 0;
    }
  }
}
