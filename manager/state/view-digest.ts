/**
 * The digest of a view, kept from the changes but computed only when somebody asks: a hash per port range is dearer than
 * granting the range, and a replica that feeds no MUX is never asked. Since the digest is an XOR, putting an item and
 * removing it are the same step, and steps may wait in any order.
 */
import { type Digest, EMPTY_DIGEST, digestOf, xorDigests } from "../../dataplane/digest.js";
import type { HostItem } from "../../dataplane/host-items.js";
import type { MuxItem } from "../../dataplane/mux-items.js";

/** Steps that may wait; with more than that and more than the view has items, counting anew is cheaper. */
const WAITING_MIN = 4096;

export class ViewDigest<Item extends MuxItem | HostItem> {
  private digest: Digest = EMPTY_DIGEST;
  private waiting: Item[] = [];
  /** True when steps were dropped and the digest has to be computed from all items. */
  private isStale = false;
  private size = 0;
  private readonly keyOf: (item: Item) => string;

  constructor(keyOf: (item: Item) => string) {
    this.keyOf = keyOf;
  }

  put(item: Item, before: Item | null): void {
    if (before === null) this.size += 1;
    else this.step(before);
    this.step(item);
  }

  remove(item: Item): void {
    this.size -= 1;
    this.step(item);
  }

  /** `items`: the whole view, walked only when needed. */
  value(items: () => Iterable<Item>): Digest {
    if (this.isStale) {
      this.digest = EMPTY_DIGEST;
      this.waiting = [];
      for (const item of items()) this.add(item);
      this.isStale = false;
    }
    for (const item of this.waiting) this.add(item);
    this.waiting = [];
    return this.digest;
  }

  private step(item: Item): void {
    if (this.isStale) return;
    this.waiting.push(item);
    if (this.waiting.length <= Math.max(WAITING_MIN, this.size)) return;
    this.waiting = [];
    this.isStale = true;
  }

  private add(item: Item): void {
    this.digest = xorDigests(this.digest, digestOf(this.keyOf(item), item));
  }
}
