/**
 * What is known of each of a space's 8,192 ranges: its state, its owner and the entry that granted it. Kept in pages that come into
 * being with the first range that is not plainly free: most spaces lend a few ranges from where their cursor stands, and
 * a site has thousands of spaces, which at their full size would be 100 KiB each.
 */
import type { DipId, LogIndex } from "../../../core/brands.js";
import { END_RANGE } from "./port-ranges.js";

/** States of a range. */
export const RANGE_FREE = 0;
export const RANGE_OWNED = 1;
export const RANGE_QUARANTINED = 2;
export const RANGE_EXCLUDED = 3;
export type RangeState = typeof RANGE_FREE | typeof RANGE_OWNED | typeof RANGE_QUARANTINED | typeof RANGE_EXCLUDED;

const PAGE_BITS = 8;
const PAGE_RANGES = 1 << PAGE_BITS;
const WITHIN = PAGE_RANGES - 1;

interface Page {
  readonly state: Uint8Array;
  /** DIP that owns, or while quarantined last owned, the range; 0 for none. */
  readonly owner: Uint32Array;
  /** Entry that granted it, 0 for none; a float holds every log index exactly. */
  readonly granted: Float64Array;
}

export class RangeRecords {
  private readonly pages: (Page | null)[] = Array<null>(END_RANGE >>> PAGE_BITS).fill(null);

  stateOf(range: number): RangeState {
    return (this.pages[range >>> PAGE_BITS]?.state[range & WITHIN] ?? RANGE_FREE) as RangeState; // only `set` writes it
  }

  /** Owner, or last owner while quarantined; 0 for none. */
  ownerOf(range: number): DipId {
    return (this.pages[range >>> PAGE_BITS]?.owner[range & WITHIN] ?? 0) as DipId;
  }

  grantedIndexOf(range: number): LogIndex {
    return (this.pages[range >>> PAGE_BITS]?.granted[range & WITHIN] ?? 0) as LogIndex;
  }

  /** The state alone; owner and grant stay. */
  setState(range: number, state: RangeState): void {
    this.pageOf(range).state[range & WITHIN] = state;
  }

  set(range: number, state: RangeState, owner: DipId | 0, granted: LogIndex | 0): void {
    const page = this.pageOf(range);
    page.state[range & WITHIN] = state;
    page.owner[range & WITHIN] = owner;
    page.granted[range & WITHIN] = granted;
  }

  /** First range at or after `range` of which anything is known, below `end`; `end` for none. */
  nextKnown(range: number, end: number): number {
    while (range < end && this.pages[range >>> PAGE_BITS] === null) range = ((range >>> PAGE_BITS) + 1) << PAGE_BITS;
    return Math.min(range, end);
  }

  copy(): RangeRecords {
    const copy = new RangeRecords();
    this.pages.forEach((page, at) => {
      if (page === null) return;
      const { state, owner, granted } = copy.pageOf(at << PAGE_BITS);
      state.set(page.state);
      owner.set(page.owner);
      granted.set(page.granted);
    });
    return copy;
  }

  private pageOf(range: number): Page {
    return (this.pages[range >>> PAGE_BITS] ??= {
      state: new Uint8Array(PAGE_RANGES),
      owner: new Uint32Array(PAGE_RANGES),
      granted: new Float64Array(PAGE_RANGES),
    });
  }
}
