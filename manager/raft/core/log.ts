/**
 * The log in memory: everything after the compaction point, with the marks that cut it up (Raft §5.3, §7).
 *
 *     base          applied   commit     stable    handed     last
 *  ----|---------------|--------|-----------|---------|---------|
 *  compacted             (commit may also lie beyond stable)
 *
 * - `base`     index and term of the entry just before the first one kept;
 * - `stable`   durable here; `handed`: given to storage, perhaps still under way (one batch at a time);
 * - a leader sends only what it has handed to its own storage, so batches on the wire and on disk are the same.
 *
 * (I3) base <= applied <= commit <= last, and stable <= handed <= last; commit and applied never go back.
 * (I4) What is committed is never replaced (State Machine Safety).
 */
import { assert } from "../../../core/assert.js";
import type { LogIndex, Term } from "../../../core/brands.js";
import { entryBytes, type Entry } from "./types.js";

const asIndex = (value: number): LogIndex => value as LogIndex;

export class RaftLog {
  #baseIndex: LogIndex;
  #baseTerm: Term;
  #entries: Entry[] = [];
  #commit: LogIndex;
  #applied: LogIndex;
  #handed: LogIndex;
  #stable: LogIndex;
  /** Last index of the batch under way whose content still stands; null when none is. */
  #underWay: LogIndex | null = null;
  #memo: { readonly from: number; readonly to: number; readonly entries: readonly Entry[] } | null = null;

  /** `entries` follow the base and are durable already. */
  constructor(base: { readonly index: LogIndex; readonly term: Term }, entries: readonly Entry[]) {
    this.#baseIndex = base.index;
    this.#baseTerm = base.term;
    this.#commit = base.index;
    this.#applied = base.index;
    this.#handed = base.index;
    this.#stable = base.index;
    this.append(entries);
    this.#handed = this.lastIndex;
    this.#stable = this.lastIndex;
  }

  get firstIndex(): LogIndex {
    return asIndex(this.#baseIndex + 1);
  }

  get lastIndex(): LogIndex {
    return asIndex(this.#baseIndex + this.#entries.length);
  }

  get lastTerm(): Term {
    return this.#entries.length === 0 ? this.#baseTerm : this.#entries[this.#entries.length - 1]!.term; // not empty
  }

  get commitIndex(): LogIndex {
    return this.#commit;
  }

  get appliedIndex(): LogIndex {
    return this.#applied;
  }

  get handedIndex(): LogIndex {
    return this.#handed;
  }

  get stableIndex(): LogIndex {
    return this.#stable;
  }

  /** Null when compacted away or beyond the end. Index 0 has term 0. */
  termAt(index: number): Term | null {
    if (index === this.#baseIndex) return this.#baseTerm;
    return this.#entries[index - this.#baseIndex - 1]?.term ?? null;
  }

  entryAt(index: number): Entry | undefined {
    return this.#entries[index - this.#baseIndex - 1];
  }

  /** Raft §5.4.1: is a log ending like this at least as up to date as ours? */
  isUpToDate(lastIndex: LogIndex, lastTerm: Term): boolean {
    return lastTerm > this.lastTerm || (lastTerm === this.lastTerm && lastIndex >= this.lastIndex);
  }

  append(entries: readonly Entry[]): void {
    let next = this.lastIndex + 1;
    let term = this.lastTerm;
    for (const entry of entries) {
      // The message is made only when it is needed: this runs once per entry.
      if (entry.index !== next) assert(false, `entries are contiguous: ${entry.index} follows ${next - 1}`);
      assert(entry.term >= term, "terms never fall along the log");
      this.#entries.push(entry);
      term = entry.term;
      next++;
    }
  }

  /** Drops `index` and everything after it. */
  truncateFrom(index: LogIndex): void {
    assert(index > this.#commit, `a committed entry is never replaced: ${index} <= ${this.#commit}`); // (I4)
    assert(index <= this.lastIndex, "what is cut off exists");
    this.#entries.length = index - this.#baseIndex - 1;
    const last = this.lastIndex;
    if (this.#handed > last) this.#handed = last;
    if (this.#stable > last) this.#stable = last;
    // A batch under way may finish with the old content: its completion must not make the new content stable.
    if (this.#underWay !== null && this.#underWay > last) this.#underWay = last;
    this.#memo = null;
  }

  /**
   * Entries from `from` (within the log) up to `to` and about `bytesMax`, at least one if `from <= to`. The same range
   * gives the same array, which is how one encoding serves disk and all followers.
   */
  slice(from: number, to: number, bytesMax: number): readonly Entry[] {
    if (from > to) return [];
    if (this.#memo !== null && this.#memo.from === from && this.#memo.to === to + 1) return this.#memo.entries;
    assert(from > this.#baseIndex && to <= this.lastIndex, "the range lies in the log");
    let end = from;
    let bytes = 0;
    while (end <= to) {
      const size = entryBytes(this.#entries[end - this.#baseIndex - 1]!); // end is within (base, last]
      if (end > from && bytes + size > bytesMax) break;
      bytes += size;
      end++;
    }
    if (this.#memo !== null && this.#memo.from === from && this.#memo.to === end) return this.#memo.entries;
    const entries = this.#entries.slice(from - this.#baseIndex - 1, end - this.#baseIndex - 1);
    this.#memo = { from, to: end, entries };
    return entries;
  }

  /** The last index <= `index` whose term is <= `term`: where two logs may still agree. Stops at the compaction point. */
  lastIndexWithTermAtMost(index: LogIndex, term: Term): LogIndex {
    let at: number = Math.min(index, this.lastIndex);
    while (at > this.#baseIndex && this.termAt(at)! > term) at--; // within [base, last]: the term is known
    return asIndex(at);
  }

  /** Returns true when the commit index moved. */
  commitTo(index: LogIndex): boolean {
    if (index <= this.#commit) return false;
    assert(index <= this.lastIndex, "the commit index lies within the log");
    this.#commit = index;
    return true;
  }

  /** Committed and not yet applied, at least one if there is any, then up to `bytesMax`; the caller applies them. */
  takeCommitted(bytesMax: number): readonly Entry[] {
    const first = this.#applied - this.#baseIndex;
    const end = this.#commit - this.#baseIndex;
    let at = first;
    for (let bytes = 0; at < end; at++) {
      bytes += entryBytes(this.#entries[at]!); // below the commit index
      if (bytes > bytesMax && at > first) break;
    }
    this.#applied = Math.max(this.#applied, this.#baseIndex + at) as LogIndex;
    return this.#entries.slice(first, at);
  }

  /** At start: the state machine was restored up to here. */
  appliedUpTo(index: LogIndex): void {
    assert(index >= this.#applied && index <= this.#commit, "what a snapshot holds is committed");
    this.#applied = index;
  }

  /** Notes that everything up to `to` is being written. */
  handOver(to: LogIndex): void {
    assert(this.#underWay === null, "one batch is under way at a time");
    this.#handed = to;
    this.#underWay = to;
  }

  /** The batch under way is durable. */
  handedOverIsStable(): void {
    assert(this.#underWay !== null, "a batch was under way");
    if (this.#underWay > this.#stable) this.#stable = this.#underWay;
    this.#underWay = null;
  }

  /** Forgets entries up to and including `index`; they are applied and inside a durable snapshot. */
  compactTo(index: LogIndex): void {
    if (index <= this.#baseIndex) return;
    assert(index <= this.#applied && index <= this.#stable, "only what is applied and durable is compacted");
    const term = this.termAt(index)!; // base < index <= applied <= last
    this.#entries = this.#entries.slice(index - this.#baseIndex);
    this.#baseIndex = index;
    this.#baseTerm = term;
    this.#memo = null;
  }

  /** Raft §7: a snapshot that our log does not reach replaces all of it. */
  restore(index: LogIndex, term: Term): void {
    assert(index > this.#commit, "a snapshot never takes the state back");
    this.#entries = [];
    this.#memo = null;
    this.#baseIndex = index;
    this.#baseTerm = term;
    this.#commit = index;
    this.#applied = index;
    this.#handed = index;
    // Stable once the batch with the snapshot is: a batch under way (of the old log) must not move it.
    this.#stable = index;
    if (this.#underWay !== null) this.#underWay = index;
  }
}
