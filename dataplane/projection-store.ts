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
 * tables live on, and a snapshot equal to what is there changes nothing.
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

export class ProjectionStore<Item extends MuxItem | HostItem> {
  readonly #keyOf: (item: Item) => string;
  readonly #items = new Map<string, Item>();
  readonly #counts = new Map<Item["kind"], number>();
  #digest: Digest = EMPTY_DIGEST;

  constructor(keyOf: (item: Item) => string) {
    this.#keyOf = keyOf;
  }

  plan(delta: TableDelta<Item, Change<Item>>): readonly PlanStep<Item>[] {
    // Of several changes to a key the last one counts.
    const wanted = new Map<string, Item | null>();
    if (delta.kind === "snapshot") {
      for (const item of delta.items) wanted.set(this.#keyOf(item), item);
      for (const key of this.#items.keys()) if (!wanted.has(key)) wanted.set(key, null);
    } else {
      for (const change of delta.changes) {
        if (change.op === "remove") wanted.set(change.key, null);
        else wanted.set(this.#keyOf(change.item), change.item);
      }
    }
    const steps: PlanStep<Item>[] = [];
    for (const [key, after] of wanted) {
      const before = this.#items.get(key) ?? null;
      if (before === null && after === null) continue;
      if (before !== null && after !== null && sameItem(before, after)) continue;
      steps.push({ key, before, after });
    }
    return steps;
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
    for (const { key, before, after } of steps) {
      if (before !== null) this.#put(key, before, -1);
      if (after !== null) this.#put(key, after, 1);
    }
  }

  #put(key: string, item: Item, count: 1 | -1): void {
    if (count === 1) this.#items.set(key, item);
    else this.#items.delete(key);
    this.#digest = xorDigests(this.#digest, digestOf(key, item));
    this.#counts.set(item.kind, (this.#counts.get(item.kind) ?? 0) + count);
  }

  get(key: string): Item | undefined {
    return this.#items.get(key);
  }

  items(): Iterable<Item> {
    return this.#items.values();
  }

  digest(): string {
    return formatDigest(this.#digest);
  }
}
