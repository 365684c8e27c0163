/**
 * Items of a view that are recomputed together, say a VIP and all its rules: `replace` finds what differs from before.
 * They are kept without their keys, which are made again when they are compared: a site has millions of items.
 */
import { isEqual } from "../equal.js";

/** Where differences go. */
export interface ItemSink<Item> {
  /** `before` is what the key held, null when it is new. */
  put(item: Item, before: Item | null): void;
  remove(item: Item, key: string): void;
}

export class ItemGroup<Item> {
  private items: readonly Item[] = [];
  private readonly keyOf: (item: Item) => string;

  constructor(keyOf: (item: Item) => string) {
    this.keyOf = keyOf;
  }

  /** Makes the group exactly `items`; when two have one key, the first counts. Removals are told before upserts. */
  replace(items: readonly Item[], sink: ItemSink<Item>): void {
    if (this.items.length === 0) {
      this.fill(items, sink);
      return;
    }
    const next = new Map<string, Item>();
    for (const item of items) {
      const key = this.keyOf(item);
      if (!next.has(key)) next.set(key, item);
    }
    const held = new Map<string, Item>();
    for (const before of this.items) {
      const key = this.keyOf(before);
      held.set(key, before);
      if (!next.has(key)) sink.remove(before, key);
    }
    for (const [key, item] of next) {
      const before = held.get(key);
      if (before !== undefined && isEqual(before, item)) next.set(key, before);
      else sink.put(item, before ?? null);
    }
    this.items = [...next.values()];
  }

  /** As `replace`, where there was nothing before. */
  private fill(items: readonly Item[], sink: ItemSink<Item>): void {
    const keys = new Set<string>();
    const kept: Item[] = [];
    for (const item of items) {
      const key = this.keyOf(item);
      if (keys.has(key)) continue;
      keys.add(key);
      kept.push(item);
    }
    this.items = kept;
    for (const item of kept) sink.put(item, null);
  }

  get isEmpty(): boolean {
    return this.items.length === 0;
  }

  /** As they are now: later replacements leave what was given out alone. */
  values(): Iterable<Item> {
    return this.items;
  }
}
