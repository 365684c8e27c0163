/**
 * One view as its receiver holds it: groups of configuration items, a digest over everything, and the changes since they
 * were last collected. Port ranges are items of the view too, but are not kept here a second time: the allocator has
 * them; `rangePut` and `rangeRemoved` only tell of them.
 */
import { type Digest } from "../../../dataplane/digest.js";
import type { HostItem } from "../../../dataplane/host-items.js";
import type { MuxItem } from "../../../dataplane/mux-items.js";
import { ItemGroup, type ItemSink } from "./item-group.js";
import { ViewDigest } from "./view-digest.js";

export type ViewChange<Item> =
  { readonly op: "upsert"; readonly item: Item } | { readonly op: "remove"; readonly key: string };

export class View<Item extends MuxItem | HostItem> implements ItemSink<Item> {
  private readonly groups = new Map<string, ItemGroup<Item>>();
  private readonly viewDigest: ViewDigest<Item>;
  private readonly keyOf: (item: Item) => string;
  private changes: ViewChange<Item>[] = [];

  /** `digestIsWanted`: see `ViewDigest`. */
  constructor(keyOf: (item: Item) => string, digestIsWanted = true) {
    this.keyOf = keyOf;
    this.viewDigest = new ViewDigest(keyOf, digestIsWanted);
  }

  /** Makes the items of a group exactly `items`. */
  replaceGroup(name: string, items: readonly Item[]): void {
    let group = this.groups.get(name);
    if (group === undefined) {
      if (items.length === 0) return;
      group = new ItemGroup(this.keyOf);
      this.groups.set(name, group);
    }
    group.replace(items, this);
    if (group.isEmpty) this.groups.delete(name);
  }

  put(item: Item, before: Item | null): void {
    this.changes.push({ op: "upsert", item });
    this.viewDigest.put(item, before);
  }

  remove(item: Item, key: string): void {
    this.changes.push({ op: "remove", key });
    this.viewDigest.remove(item);
  }

  rangePut(item: Item): void {
    this.put(item, null);
  }

  rangeRemoved(item: Item): void {
    this.remove(item, this.keyOf(item));
  }

  get hasChanges(): boolean {
    return this.changes.length > 0;
  }

  /** The changes since the last call, in order. */
  takeChanges(): readonly ViewChange<Item>[] {
    const taken = this.changes;
    this.changes = [];
    return taken;
  }

  /** Of configuration and ranges; `ranges` walks the latter, only when needed. */
  digest(ranges: () => Iterable<Item>): Digest {
    return this.viewDigest.value(() => this.walk(ranges()));
  }

  /** Null: only a walk can tell; see `ViewDigest`. */
  knownDigest(): Digest | null {
    return this.viewDigest.known();
  }

  /** The groups as they are now, and how to tell what a walk over them, and over the ranges as they are now, has found. */
  capture(): { readonly groups: readonly Iterable<Item>[]; readonly counted: (digest: Digest) => void } {
    const count = this.viewDigest.beginCount();
    return {
      groups: Array.from(this.groups.values(), (group) => group.values()),
      counted: (digest) => {
        if (count !== null) this.viewDigest.counted(count, digest);
      },
    };
  }

  /** The groups alone, in order of their names: the same on every replica, restored or not. For small views. */
  *walkInOrder(): Iterable<Item> {
    for (const name of [...this.groups.keys()].sort()) yield* this.groups.get(name)!.values(); // name is a key
  }

  *walk(ranges: Iterable<Item>): Iterable<Item> {
    for (const group of this.groups.values()) yield* group.values();
    yield* ranges;
  }
}
