/** Items of a view that are recomputed together, say a VIP and all its rules: `replace` finds what differs from before. */
import { isEqual } from "./equal.js";

/** Where differences go. */
export interface ItemSink<Item> {
  /** `before` is what the key held, null when it is new. */
  put(item: Item, before: Item | null): void;
  remove(item: Item, key: string): void;
}

export class ItemGroup<Item> {
  private items: ReadonlyMap<string, Item> = new Map();
  private readonly keyOf: (item: Item) => string;

  constructor(keyOf: (item: Item) => string) {
    this.keyOf = keyOf;
  }

  /** Makes the group exactly `items`; when two have one key, the first counts. Removals are told before upserts. */
  replace(items: readonly Item[], sink: ItemSink<Item>): void {
    const next = new Map<string, Item>();
    for (const item of items) {
      const key = this.keyOf(item);
      if (!next.has(key)) next.set(key, item);
    }
    for (const [key, before] of this.items) if (!next.has(key)) sink.remove(before, key);
    for (const [key, item] of next) {
      const before = this.items.get(key);
      if (before === undefined) sink.put(item, null);
      else if (!isEqual(before, item)) sink.put(item, before);
    }
    this.items = next;
  }

  get isEmpty(): boolean {
    return this.items.size === 0;
  }

  /** As they are now: later replacements leave what was given out alone. */
  values(): Iterable<Item> {
    return this.items.values();
  }
}
