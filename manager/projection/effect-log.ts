/**
 * What the newest log entries changed in the projections, kept in memory so that a receiver which was in step a moment
 * ago (with another replica, say) catches up by deltas instead of a whole view. Bounded: a receiver further behind gets
 * a snapshot.
 */
import { assert } from "../../core/assert.js";
import type { HostId, LogIndex } from "../../core/brands.js";
import type { HostChange } from "../../dataplane/host-items.js";
import type { MuxChange } from "../../dataplane/mux-items.js";
import type { AppliedBatch } from "../state/commands/results.js";

/** Consecutive changes, and the index up to which they are all of them. */
export interface Part<Change> {
  readonly changes: readonly Change[];
  readonly upTo: LogIndex;
}

const NO_CHANGES: readonly never[] = [];

/** What is kept of an applied entry; not its answers, which may be large. */
type Effects = Pick<AppliedBatch, "index" | "muxChanges" | "hostChanges">;

/** Entries kept. At 1,000 entries/s this covers 16 s, well beyond the switch to another replica. */
const ENTRIES_MAX = 16_384;
/** Changes kept, over all entries: about 100 MB. One entry may change a hundred thousand (a large VIP, say). */
const CHANGES_MAX = 500_000;

export class EffectLog {
  #entries: Effects[] = [];
  #head = 0;
  #changes = 0;
  /** Effects of entries after this index are here. */
  #after: LogIndex;

  constructor(after: LogIndex) {
    this.#after = after;
  }

  /** A restore: everything before is unknown. */
  reset(after: LogIndex): void {
    this.#entries = [];
    this.#head = 0;
    this.#changes = 0;
    this.#after = after;
  }

  append(batch: AppliedBatch): void {
    const last = this.#entries.at(-1);
    assert(batch.index > (last?.index ?? this.#after), "effects are appended in log order");
    if (batch.muxChanges.length === 0 && batch.hostChanges.size === 0) return;
    const { index, muxChanges, hostChanges } = batch;
    this.#entries.push({ index, muxChanges, hostChanges });
    this.#changes += changesOf(batch);
    while (this.#entries.length - this.#head > ENTRIES_MAX || this.#changes > CHANGES_MAX) this.#evictOldest();
    if (this.#head > ENTRIES_MAX) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    }
  }

  #evictOldest(): void {
    const oldest = this.#entries[this.#head];
    assert(oldest !== undefined, "what is counted is kept");
    this.#after = oldest.index;
    this.#changes -= changesOf(oldest);
    this.#entries[this.#head] = { index: oldest.index, muxChanges: [], hostChanges: new Map() }; // freed now
    this.#head++;
  }

  /** True when all effects after `index` are here. */
  covers(index: LogIndex): boolean {
    return index >= this.#after;
  }

  /** Changes of the MUX view in (after, upTo], of whole entries: `most` or fewer, unless one entry alone has more. */
  muxChanges(after: LogIndex, upTo: LogIndex, most: number): Part<MuxChange> {
    return this.#part({ after, upTo, most }, ({ muxChanges }) => muxChanges);
  }

  /** Changes of one host's view, likewise. */
  hostChanges(host: HostId, after: LogIndex, upTo: LogIndex, most: number): Part<HostChange> {
    return this.#part({ after, upTo, most }, ({ hostChanges }) => hostChanges.get(host) ?? NO_CHANGES);
  }

  #part<Change>(
    { after, upTo, most }: { readonly after: LogIndex; readonly upTo: LogIndex; readonly most: number },
    of: (batch: Effects) => readonly Change[],
  ): Part<Change> {
    const changes: Change[] = [];
    let through = after;
    for (const batch of this.#between(after, upTo)) {
      const more = of(batch);
      if (changes.length > 0 && changes.length + more.length > most) return { changes, upTo: through };
      for (const change of more) changes.push(change);
      through = batch.index;
    }
    return { changes, upTo };
  }

  /** Hosts whose view changed in (after, upTo]. */
  hostsChanged(after: LogIndex, upTo: LogIndex): Set<HostId> {
    const hosts = new Set<HostId>();
    for (const batch of this.#between(after, upTo)) for (const host of batch.hostChanges.keys()) hosts.add(host);
    return hosts;
  }

  *#between(after: LogIndex, upTo: LogIndex): Iterable<Effects> {
    assert(this.covers(after), "deltas are asked for only where they are kept");
    for (let position = this.#firstAfter(after); position < this.#entries.length; position++) {
      const batch = this.#entries[position];
      if (batch === undefined || batch.index > upTo) return;
      yield batch;
    }
  }

  /** Binary search: position of the first entry beyond `index`. */
  #firstAfter(index: LogIndex): number {
    let low = this.#head;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#entries[middle]?.index ?? 0) <= index) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function changesOf({ muxChanges, hostChanges }: Effects): number {
  let count = muxChanges.length;
  for (const changes of hostChanges.values()) count += changes.length;
  return count;
}
