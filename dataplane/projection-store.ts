/**
 * The items in force, under their keys: what a delta means against them, worked out before anything changes.
 *
 *     plan(delta)    -> what would go and what would change       nothing is touched: the caller checks room and support
 *     commit(plan)   -> items and digest follow
 *
 * Between the two the caller puts the same plan into its packed tables. Both happen between two packets, so packets see all
 * of a delta or none (D1): in one thread that is the flip of the generation.
 *
 * A snapshot is compared with what is in force and becomes a plan of the differences. So flows, counters and untouched
 * tables live on, and a snapshot equal to what is there changes nothing. A large one comes in parts over many turns of the
 * event loop: `compare` does its share of the work as each arrives, and `plan` only what is left.
 */
import { digestOf, EMPTY_DIGEST, formatDigest, sameItem, xorDigests, type Digest } from "./digest.js";
import type { TableDelta } from "./contract.js";
import type { HostItem } from "./host-items.js";
import type { MuxItem } from "./mux-items.js";

export interface PlanStep<Item> {
  readonly key: string;
  /** In force now; null: none. */
  readonly before: Item | null;
  /** In force afterwards; null: none. Never both null. */
  readonly after: Item | null;
}

export type Change<Item> =
  { readonly op: "upsert"; readonly item: Item } | { readonly op: "remove"; readonly key: string };

interface Held<Item> {
  readonly item: Item;
  /** The last comparison that met it. */
  comparison: number;
}

/** How far a snapshot was compared; worthless once something else was put in force. */
interface Comparison<Item> {
  readonly number: number;
  readonly items: readonly Item[];
  readonly changes: number;
  /** By key; of several items of one key the last one counts. */
  readonly steps: Map<string, PlanStep<Item>>;
  compared: number;
  /** Items in force that the snapshot has too. */
  met: number;
}

export class ProjectionStore<Item extends MuxItem | HostItem> {
  readonly #keyOf: (item: Item) => string;
  readonly #items = new Map<string, Held<Item>>();
  readonly #counts = new Map<Item["kind"], number>();
  #digest: Digest = EMPTY_DIGEST;
  #comparison: Comparison<Item> | null = null;
  #comparisons = 0;
  /** Plans that were put in force. */
  #changes = 0;

  constructor(keyOf: (item: Item) => string) {
    this.#keyOf = keyOf;
  }

  plan(delta: TableDelta<Item, Change<Item>>): readonly PlanStep<Item>[] {
    if (delta.kind === "snapshot")
      return this.#planSnapshot(Array.isArray(delta.items) ? delta.items : [...delta.items]);
    // Of several changes to a key the last one counts.
    const wanted = new Map<string, Item | null>();
    for (const change of delta.changes) {
      if (change.op === "remove") wanted.set(change.key, null);
      else wanted.set(this.#keyOf(change.item), change.item);
    }
    const steps: PlanStep<Item>[] = [];
    for (const [key, after] of wanted) {
      const before = this.get(key) ?? null;
      if (before === null && after === null) continue;
      if (before !== null && after !== null && sameItem(before, after)) continue;
      steps.push({ key, before, after });
    }
    return steps;
  }

  /** The items of a snapshot that is still arriving: a list that only grows. Compares those that are new in it. */
  compare(items: readonly Item[]): void {
    let comparison = this.#comparison;
    if (comparison === null || comparison.items !== items || comparison.changes !== this.#changes) {
      const number = ++this.#comparisons;
      comparison = { number, items, changes: this.#changes, steps: new Map(), compared: 0, met: 0 };
      this.#comparison = comparison;
    }
    const { number, steps } = comparison;
    for (; comparison.compared < items.length; comparison.compared++) {
      const after = items[comparison.compared]!; // below length
      const key = this.#keyOf(after);
      const held = this.#items.get(key);
      if (held !== undefined && held.comparison !== number) {
        held.comparison = number;
        comparison.met++;
      }
      if (held !== undefined && sameItem(held.item, after)) steps.delete(key);
      else steps.set(key, { key, before: held?.item ?? null, after });
    }
  }

  /** What the items compared so far would add: nothing that is in force differs from them. */
  additions(): readonly PlanStep<Item>[] {
    return [...(this.#comparison?.steps.values() ?? [])].filter(({ before }) => before === null);
  }

  /** Puts some of the `additions` in force ahead of the rest; the comparison goes on. */
  commitAhead(steps: readonly PlanStep<Item>[]): void {
    const comparison = this.#comparison;
    if (comparison === null) return;
    for (const { key, after } of steps) {
      if (after === null) continue;
      this.#put(key, after, 1, comparison.number);
      comparison.steps.delete(key);
      comparison.met++;
    }
  }

  #planSnapshot(items: readonly Item[]): readonly PlanStep<Item>[] {
    this.compare(items);
    const { number, steps, met } = this.#comparison!; // made by `compare`
    this.#comparison = null;
    const planned = [...steps.values()];
    if (met < this.#items.size)
      for (const [key, held] of this.#items)
        if (held.comparison !== number) planned.push({ key, before: held.item, after: null });
    return planned;
  }

  /** Items of one kind once `steps` are in force. */
  countAfter(kind: Item["kind"], steps: readonly PlanStep<Item>[]): number {
    let count = this.#counts.get(kind) ?? 0;
    for (const step of steps) {
      if (step.before?.kind === kind) count--;
      if (step.after?.kind === kind) count++;
    }
    return count;
  }

  commit(steps: readonly PlanStep<Item>[]): void {
    this.#changes++;
    for (const { key, before, after } of steps) {
      if (before !== null) this.#put(key, before, -1);
      if (after !== null) this.#put(key, after, 1);
    }
  }

  #put(key: string, item: Item, count: 1 | -1, comparison = 0): void {
    if (count === 1) this.#items.set(key, { item, comparison });
    else this.#items.delete(key);
    this.#digest = xorDigests(this.#digest, digestOf(key, item));
    this.#counts.set(item.kind, (this.#counts.get(item.kind) ?? 0) + count);
  }

  get(key: string): Item | undefined {
    return this.#items.get(key)?.item;
  }

  *items(): Iterable<Item> {
    for (const { item } of this.#items.values()) yield item;
  }

  digest(): string {
    return formatDigest(this.#digest);
  }
}
