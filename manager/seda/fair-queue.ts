/**
 * A bounded queue that takes turns between keys: round robin over the keys that have something waiting, first in first
 * out within a key. One key that floods the queue delays itself, not the others, and fills it for itself alone: in a full queue a
 * newcomer takes the place of the newest item of the longest lane. All operations are O(1), but O(keys) in a full queue.
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

  readonly #dropOldest: boolean;

  /** `dropOldest`: a key that fills the queue by itself loses its oldest item to a newcomer, not the newcomer. */
  constructor(lengthMax: number, { dropOldest = false }: { readonly dropOldest?: boolean } = {}) {
    assert(lengthMax >= 1, "a queue holds at least one event");
    this.#lengthMax = lengthMax;
    this.#dropOldest = dropOldest;
  }

  get length(): number {
    return this.#length;
  }

  /**
   * What does not fit: null when all does; when its own key fills the queue `item` itself, or the key's oldest item with
   * `dropOldest`; else another key's newest item.
   */
  offer(key: string, item: T): T | null {
    if (this.#length < this.#lengthMax) {
      this.#append(key, item);
      return null;
    }
    const longest = this.#longest();
    const waiting = this.#lanes.get(key);
    if (longest === null || lengthOf(longest) <= (waiting === undefined ? 0 : lengthOf(waiting)) + 1) {
      if (!this.#dropOldest || waiting === undefined) return item;
      const oldest = replaceOldest(waiting, item);
      this.#compact(waiting);
      return oldest;
    }
    const evicted = longest.items.pop(); // at least one is left: the lane keeps its turn
    assert(evicted !== undefined, "the longest lane has items");
    this.#length--;
    this.#append(key, item);
    return evicted;
  }

  /** Items of this key that wait. */
  lengthOf(key: string): number {
    const lane = this.#lanes.get(key);
    return lane === undefined ? 0 : lengthOf(lane);
  }

  #longest(): Lane<T> | null {
    let longest: Lane<T> | null = null;
    for (const lane of this.#lanes.values()) if (longest === null || lengthOf(lane) > lengthOf(longest)) longest = lane;
    return longest;
  }

  #append(key: string, item: T): void {
    let lane = this.#lanes.get(key);
    if (lane === undefined) {
      lane = { key, items: [], head: 0 };
      this.#lanes.set(key, lane);
      this.#turns.push(lane);
    }
    lane.items.push(item);
    this.#length++;
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

function replaceOldest<T>(lane: Lane<T>, item: T): T {
  const oldest = lane.items[lane.head];
  assert(oldest !== undefined, "a lane that waits has items");
  lane.items.push(item);
  lane.head++;
  return oldest;
}

const lengthOf = <T>(lane: Lane<T>): number => lane.items.length - lane.head;
