/**
 * A whole view, held as it was at one index, handed out in parts while later entries change it; its digest comes of the
 * walk. To be ended, also when nobody wants the rest.
 */
import { type Digest, EMPTY_DIGEST, digestOf, formatDigest, xorDigests } from "../../../dataplane/digest.js";
import type { LogIndex } from "../../../core/brands.js";
import type { HostItem } from "../../../dataplane/host-items.js";
import type { MuxItem } from "../../../dataplane/mux-items.js";
import { itemBytes } from "./item-bytes.js";

/** Of the items of one part, on the wire: a few milliseconds of work here, some more at the receiver. */
const PART_BYTES = 100_000;
/** An item that is shorter takes as much work as one of so many bytes. */
const ITEM_BYTES_MIN = 50;

/** A pool makes a MUX build a Maglev table: 100 slots per member, a hundred times the work of a port range. */
const costOf = (item: MuxItem | HostItem): number =>
  Math.max(itemBytes(item), ITEM_BYTES_MIN * (item.kind === "pool" ? 1 + item.maxMembers : 1));

interface CapturedItems<Item> {
  readonly index: LogIndex;
  readonly keyOf: (item: Item) => string;
  /** Each element any number of items; none of them changes. */
  readonly groups: Iterator<Iterable<Item>, void>;
  /** All items have been handed out. */
  readonly counted?: (digest: Digest) => void;
  readonly ended?: () => void;
}

export class ViewCapture<Item extends MuxItem | HostItem> {
  private readonly source: CapturedItems<Item>;
  private readonly items: Iterator<Item, void>;
  private sum = EMPTY_DIGEST;
  private isOver = false;

  constructor(source: CapturedItems<Item>) {
    this.source = source;
    this.items = itemsOf(source.groups);
  }

  get index(): LogIndex {
    return this.source.index;
  }

  /** The next part, at least one item; null: that was all. */
  next(): readonly Item[] | null {
    if (this.isOver) return null;
    const part: Item[] = [];
    for (let cost = 0; cost < PART_BYTES;) {
      const { value: item, done } = this.items.next();
      if (done === true) {
        this.source.counted?.(this.sum);
        this.end();
        break;
      }
      this.sum = xorDigests(this.sum, digestOf(this.source.keyOf(item), item));
      part.push(item);
      cost += costOf(item);
    }
    return part.length === 0 ? null : part;
  }

  /** Of the whole view, once `next` has given null. */
  digest(): string {
    return formatDigest(this.sum);
  }

  /** Safe to call twice. */
  end(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.source.ended?.();
  }
}

function* itemsOf<Item>(groups: Iterator<Iterable<Item>, void>): Generator<Item, void> {
  for (let group = groups.next(); group.done !== true; group = groups.next()) yield* group.value;
}
