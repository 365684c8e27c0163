/**
 * The digest of a view, kept from the changes, but only while somebody asks for it: a hash per port range is dearer than
 * granting the range, and a replica that feeds no MUX is never asked. Since the digest is an XOR, putting an item and
 * removing it are the same step, steps may wait in any order, and two with the same item are none: of a pool that changed
 * ten times only the first and the last version are hashed.
 *
 *     known --too many steps since anybody asked--> stale --a walk begins--> counting --it is over--> known
 *
 * While a walk over the view as it was is under way, the steps since are kept apart, and added to what it finds.
 */
import { type Digest, EMPTY_DIGEST, digestOf, digestOfRange, xorDigests } from "../../../dataplane/digest.js";
import type { HostItem } from "../../../dataplane/host-items.js";
import type { MuxItem } from "../../../dataplane/mux-items.js";

/** Steps that wait to be hashed together: about 2 ms of work. */
const WAITING_MAX = 4_096;
/** So many times the waiting steps are hashed without anybody having asked: a minute of 4,000 grants/s. */
const UNASKED_MAX = 64;

export class ViewDigest<Item extends MuxItem | HostItem> {
  private digest: Digest = EMPTY_DIGEST;
  private waiting: Item[] = [];
  private unasked = 0;
  /** True when steps were dropped and the digest has to be computed from all items. */
  private isStale = false;
  /** The walk that will complete `digest`, which has only the steps since; null: none is awaited. */
  private count: object | null = null;
  private readonly keyOf: (item: Item) => string;

  /** `isWanted`: false where most views are never asked for their digest; the first question walks over all items then. */
  constructor(keyOf: (item: Item) => string, isWanted: boolean) {
    this.keyOf = keyOf;
    this.isStale = !isWanted;
  }

  put(item: Item, before: Item | null): void {
    if (before !== null) this.step(before);
    this.step(item);
  }

  remove(item: Item): void {
    this.step(item);
  }

  /** Null: only a walk over all items can tell. */
  known(): Digest | null {
    this.unasked = 0;
    if (this.isStale || this.count !== null) return null;
    this.settle();
    return this.digest;
  }

  /** `items`: the whole view, walked only when needed. */
  value(items: () => Iterable<Item>): Digest {
    const known = this.known();
    if (known !== null) return known;
    this.restart(null);
    for (const item of items()) this.add(item);
    return this.digest;
  }

  /** A walk over all items as they are now begins. Null when there is no need. Of several walks the last one counts. */
  beginCount(): object | null {
    if (this.known() !== null) return null;
    const count = {};
    this.restart(count);
    return count;
  }

  counted(count: object, digest: Digest): void {
    if (this.count !== count) return;
    this.count = null;
    this.digest = xorDigests(this.digest, digest);
  }

  private restart(count: object | null): void {
    this.digest = EMPTY_DIGEST;
    this.waiting = [];
    this.isStale = false;
    this.count = count;
  }

  private step(item: Item): void {
    if (this.isStale) return;
    this.waiting.push(item);
    if (this.waiting.length < WAITING_MAX) return;
    if (++this.unasked <= UNASKED_MAX) this.settle();
    else {
      this.restart(null);
      this.isStale = true;
    }
  }

  private settle(): void {
    const large = new Set<Item>();
    for (const item of this.waiting) {
      if (item.kind !== "pool" && item.kind !== "table") this.add(item);
      else if (!large.delete(item)) large.add(item);
    }
    for (const item of large) this.add(item);
    this.waiting = [];
  }

  private add(item: Item): void {
    this.digest = xorDigests(this.digest, digestOfRange(item) ?? digestOf(this.keyOf(item), item));
  }
}
