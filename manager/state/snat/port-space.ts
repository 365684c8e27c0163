/**
 * The 8,064 port ranges of one VIP address and protocol: who owns each, which rest in quarantine, which a rule holds.
 * The invariant of the whole project lives here: a range has at most one owner.
 *
 * Every range is in exactly one of four states:
 *
 *   free ── grant ──> owned ── release ──> quarantined ── end ──> free        excluded (a rule's port lies in it)
 *
 * What a rule wants while it is free becomes excluded at once; what it wants while it is owned or rests, when the rest ends.
 *
 * A bitmap of the free ranges finds blocks a word (32 ranges) at a time; the search goes on where the last grant ended
 * (next fit), so that what was just freed is handed out last. Made when first needed.
 */
import { assert } from "../../../core/assert.js";
import type { DipId, IpAddress, LogIndex } from "../../../core/brands.js";
import { BeforeImages } from "../snapshot/before-images.js";
import { END_RANGE, FIRST_RANGE, RANGES_PER_SPACE, type SnatProtocol } from "./port-ranges.js";
import type { Quarantine } from "./quarantine.js";
import {
  RANGE_EXCLUDED,
  RANGE_FREE,
  RANGE_OWNED,
  RANGE_QUARANTINED,
  RangeRecords,
  type RangeState,
} from "./range-records.js";

const WORDS = END_RANGE / 32;
/** Bits at which an aligned block of 1, 2, 4, 8, 16, 32 ranges may start inside a word. */
const ALIGNED: readonly number[] = [0xffffffff, 0x55555555, 0x11111111, 0x01010101, 0x00010001, 0x00000001];

const NOBODY: ReadonlySet<DipId> = new Set();
const NOTHING: ReadonlySet<number> = new Set();

/** Neighbouring ranges of one grant. */
export interface GrantRun {
  readonly first: number;
  readonly count: number;
  readonly grantedIndex: LogIndex;
}

/** Ranges that a DIP waits for; see `snat-claims`. */
export interface Claim {
  readonly dip: DipId;
  /** That it has asked for. */
  readonly wanted: number;
  /** Of these, what it lacks of its fair share. */
  readonly ranges: number;
  /** Cluster time of the first request that found nothing, and until when it counts. */
  readonly sinceMs: number;
  readonly untilMs: number;
}

export class PortSpace {
  readonly vip: IpAddress;
  readonly protocol: SnatProtocol;
  ownedCount = 0;
  quarantinedCount = 0;
  excludedCount = 0;
  freeCount = RANGES_PER_SPACE;
  /** Where the next search starts: FIRST_RANGE..END_RANGE - 1. */
  cursor = FIRST_RANGE;
  /** Ranges owned, per DIP; no entry for none. */
  readonly ownedByDip = new Map<DipId, number>();
  /** DIPs that may own ranges here by configuration, and what each is to have at least; see `snat-share`. */
  members: ReadonlySet<DipId> = NOBODY;
  minRanges = 0;
  /** Ranges that members lack up to `minRanges`, in sum. */
  shortfall = 0;
  readonly claims = new Map<DipId, Claim>();
  /** Computed from the rest; null: not known any more. */
  knownLevel: { readonly stock: number; readonly level: number } | null = null;
  /** Ends of the list of this space's quarantines, oldest first. */
  firstQuarantine: Quarantine | null = null;
  lastQuarantine: Quarantine | null = null;

  /** Ranges that hold a port of a rule. */
  private wanted: ReadonlySet<number> = NOTHING;
  private records = new RangeRecords();
  private readonly free = new Int32Array(WORDS);
  private readonly images: BeforeImages;

  constructor(vip: IpAddress, protocol: SnatProtocol, images = new BeforeImages()) {
    this.vip = vip;
    this.protocol = protocol;
    this.images = images;
    this.free.fill(-1, FIRST_RANGE / 32);
  }

  stateOf(range: number): RangeState {
    return this.records.stateOf(range);
  }

  /** Owner, or last owner while quarantined; 0 for none. */
  ownerOf(range: number): DipId {
    return this.records.ownerOf(range);
  }

  grantedIndexOf(range: number): LogIndex {
    return this.records.grantedIndexOf(range);
  }

  ownedBy(dip: DipId): number {
    return this.ownedByDip.get(dip) ?? 0;
  }

  isOwnedBy(range: number, dip: DipId): boolean {
    return this.records.stateOf(range) === RANGE_OWNED && this.records.ownerOf(range) === dip;
  }

  /** First range of a free, aligned block of `count` (a power of two) at or after the cursor, wrapping; -1 for none. */
  findBlock(count: number): number {
    if (count > this.freeCount) return -1;
    return count <= 32 ? this.findInWords(count) : this.findWholeWords(count >>> 5);
  }

  private findInWords(count: number): number {
    const aligned = ALIGNED[31 - Math.clz32(count)]!; // count is 1, 2, 4, 8, 16 or 32
    const start = this.cursor >>> 5;
    // The cursor's word is looked at twice: first from the cursor on, at the end as a whole.
    let mask = -1 << (this.cursor & 31);
    for (let step = 0; step <= WORDS; step++) {
      const word = (start + step) & (WORDS - 1);
      let bits = this.free[word]!; // word < WORDS
      if (bits !== 0) {
        for (let width = 1; width < count; width <<= 1) bits &= bits >>> width;
        bits &= aligned & mask;
        if (bits !== 0) return (word << 5) + (31 - Math.clz32(bits & -bits));
      }
      mask = -1;
    }
    return -1;
  }

  private findWholeWords(words: number): number {
    const blocks = WORDS / words;
    const start = Math.ceil(this.cursor / (words << 5));
    for (let step = 0; step < blocks; step++) {
      const first = ((start + step) % blocks) * words;
      let whole = true;
      for (let word = first; word < first + words && whole; word++) whole = this.free[word] === -1;
      if (whole) return first << 5;
    }
    return -1;
  }

  /** Who owns what since when, and the cursor: all that a snapshot needs of a space. At most 100 KiB, 20 us. */
  private ownership(): PortSpace {
    const copy = new PortSpace(this.vip, this.protocol);
    copy.records = this.records.copy();
    copy.ownedCount = this.ownedCount;
    copy.quarantinedCount = this.quarantinedCount;
    copy.cursor = this.cursor;
    return copy;
  }

  private changes(): void {
    this.images.keep<PortSpace>(this, (space) => space.ownership());
  }

  grant(first: number, count: number, dip: DipId, index: LogIndex): void {
    this.changes();
    for (let range = first; range < first + count; range++) {
      assert(this.stateOf(range) === RANGE_FREE && this.isFree(range), "a range is free when it is granted");
      this.records.set(range, RANGE_OWNED, dip, index);
      this.clearFree(range);
    }
    this.ownedCount += count;
    this.freeCount -= count;
    this.setOwned(dip, this.ownedBy(dip) + count);
  }

  moveCursor(after: number): void {
    this.cursor = after >= END_RANGE ? FIRST_RANGE : after;
  }

  /** Owned by `dip` -> quarantined. The caller keeps the quarantine's record. */
  quarantine(first: number, count: number, dip: DipId): void {
    this.changes();
    for (let range = first; range < first + count; range++) {
      assert(this.isOwnedBy(range, dip), "only an owned range goes into quarantine, from its owner");
      this.records.setState(range, RANGE_QUARANTINED);
    }
    this.ownedCount -= count;
    this.quarantinedCount += count;
    this.setOwned(dip, this.ownedBy(dip) - count);
  }

  /** The configuration has changed: who may own ranges here, and how many each is to have at least. */
  setMembers(members: ReadonlySet<DipId>, minRanges: number): void {
    this.members = members;
    this.minRanges = minRanges;
    this.shortfall = 0;
    if (minRanges > 0) for (const dip of members) this.shortfall += this.lackOf(dip);
    this.knownLevel = null;
  }

  /** Ranges that the DIP lacks up to what it is to have at least. */
  lackOf(dip: DipId): number {
    if (this.minRanges === 0 || !this.members.has(dip)) return 0;
    return Math.max(0, this.minRanges - this.ownedBy(dip));
  }

  private setOwned(dip: DipId, count: number): void {
    this.shortfall -= this.lackOf(dip);
    if (count === 0) this.ownedByDip.delete(dip);
    else this.ownedByDip.set(dip, count);
    this.shortfall += this.lackOf(dip);
    this.knownLevel = null;
  }

  endQuarantine(first: number, count: number): void {
    this.changes();
    for (let range = first; range < first + count; range++) {
      assert(this.stateOf(range) === RANGE_QUARANTINED, "a range whose quarantine ends is in quarantine");
      if (this.wanted.has(range)) {
        this.records.set(range, RANGE_EXCLUDED, 0, 0);
        this.excludedCount += 1;
        continue;
      }
      this.records.set(range, RANGE_FREE, 0, 0);
      this.setFree(range);
      this.freeCount += 1;
    }
    this.quarantinedCount -= count;
  }

  /** Rules want exactly `ranges`: those that are free are excluded now, the others when their rest ends. */
  setWanted(ranges: ReadonlySet<number>): void {
    this.wanted = ranges;
    for (let range = FIRST_RANGE; range < END_RANGE && this.excludedCount > 0; range++) {
      if (this.stateOf(range) !== RANGE_EXCLUDED || ranges.has(range)) continue;
      this.records.setState(range, RANGE_FREE);
      this.setFree(range);
      this.excludedCount -= 1;
      this.freeCount += 1;
    }
    for (const range of ranges) {
      if (range < FIRST_RANGE || this.stateOf(range) !== RANGE_FREE) continue;
      this.records.setState(range, RANGE_EXCLUDED);
      this.clearFree(range);
      this.excludedCount += 1;
      this.freeCount -= 1;
    }
  }

  isWanted(range: number): boolean {
    return this.wanted.has(range);
  }

  /** In order. */
  wantedAndOwned(): readonly number[] {
    return [...this.wanted].filter((range) => this.stateOf(range) === RANGE_OWNED).sort((a, b) => a - b);
  }

  /** True when a rule for a port of the range has to wait: it is lent out, or rests. */
  isLent(range: number): boolean {
    const state = this.stateOf(range);
    return state === RANGE_OWNED || state === RANGE_QUARANTINED;
  }

  /** Calls `visit` for every run of ranges that `dip` owns by one grant, in order of range. */
  visitOwned(dip: DipId, visit: (first: number, count: number, grantedIndex: LogIndex) => void): void {
    let left = this.ownedBy(dip);
    for (let range = FIRST_RANGE; left > 0; range++) {
      range = this.records.nextKnown(range, END_RANGE);
      assert(range < END_RANGE, "the count of a DIP's ranges is exact");
      if (!this.isOwnedBy(range, dip)) continue;
      const count = this.runLength(range, END_RANGE);
      visit(range, count, this.grantedIndexOf(range));
      left -= count;
      range += count - 1;
    }
  }

  /** As `visitOwned`, over all DIPs. */
  visitAllOwned(visit: (first: number, count: number, dip: DipId, grantedIndex: LogIndex) => void): void {
    let left = this.ownedCount;
    for (let range = FIRST_RANGE; left > 0; range++) {
      range = this.records.nextKnown(range, END_RANGE);
      assert(range < END_RANGE, "the count of owned ranges is exact");
      if (this.stateOf(range) !== RANGE_OWNED) continue;
      const count = this.runLength(range, END_RANGE);
      visit(range, count, this.ownerOf(range), this.grantedIndexOf(range));
      left -= count;
      range += count - 1;
    }
  }

  /** The block cut where ranges come from different grants. */
  grantRuns(first: number, count: number): readonly GrantRun[] {
    const runs: GrantRun[] = [];
    for (let range = first; range < first + count;) {
      const length = this.runLength(range, first + count);
      runs.push({ first: range, count: length, grantedIndex: this.grantedIndexOf(range) });
      range += length;
    }
    return runs;
  }

  /** How many ranges from `first` on, below `end`, are in the same state, of the same DIP, by the same grant. */
  private runLength(first: number, end: number): number {
    let range = first + 1;
    while (
      range < end &&
      this.stateOf(range) === this.stateOf(first) &&
      this.ownerOf(range) === this.ownerOf(first) &&
      this.grantedIndexOf(range) === this.grantedIndexOf(first)
    ) {
      range++;
    }
    return range - first;
  }

  /** True when the bitmap says free; for the invariant checker, which compares it with `stateOf`. */
  isFree(range: number): boolean {
    return (this.free[range >>> 5]! & (1 << (range & 31))) !== 0;
  }

  private setFree(range: number): void {
    this.free[range >>> 5]! |= 1 << (range & 31);
  }

  private clearFree(range: number): void {
    this.free[range >>> 5]! &= ~(1 << (range & 31));
  }
}
