/**
 * The memberships that the log holds, by the index of their entries. The newest one counts from the moment it is in the log,
 * committed or not (dissertation §4.1), and stops counting when its entry is cut off.
 *
 * (K1) The first element is committed or the founders'; at most one after it is uncommitted at any time on a leader.
 */
import { assert } from "../../../core/assert.js";
import type { LogIndex } from "../../../core/brands.js";
import type { Entry, Membership } from "./types.js";

interface Held {
  readonly index: number;
  readonly membership: Membership;
}

export class MembershipLog {
  /** Ascending; never empty. */
  #held: Held[];

  /** `index` 0: the founders; otherwise a snapshot's. */
  constructor(index: LogIndex, membership: Membership) {
    this.#held = [{ index, membership }];
  }

  get inForce(): Membership {
    return this.#last.membership;
  }

  /** Index of the entry that put it into force; 0 for the founders. */
  get inForceIndex(): LogIndex {
    return this.#last.index as LogIndex;
  }

  /** The one in force at `index`, which is not before the last compaction. */
  at(index: LogIndex): Membership {
    for (let at = this.#held.length - 1; at > 0; at--) {
      const held = this.#held[at]!; // 0 < at < length
      if (held.index <= index) return held.membership;
    }
    return this.#held[0]!.membership; // never empty
  }

  /** Returns whether the membership in force changed. */
  append(entries: readonly Entry[]): boolean {
    let changed = false;
    for (const { index, membership } of entries) {
      if (membership === undefined || index <= this.#last.index) continue; // held in the snapshot already
      this.#held.push({ index, membership });
      changed = true;
    }
    return changed;
  }

  truncateFrom(index: LogIndex): boolean {
    const before = this.#held.length;
    while (this.#last.index >= index) {
      assert(this.#held.length > 1, "a membership of the snapshot or of the founders is never cut off");
      this.#held.pop();
    }
    return this.#held.length < before;
  }

  compactTo(index: LogIndex): void {
    while (this.#held.length > 1 && this.#held[1]!.index <= index) this.#held.shift(); // length > 1
  }

  restore(index: LogIndex, membership: Membership): void {
    this.#held = [{ index, membership }];
  }

  get #last(): Held {
    return this.#held[this.#held.length - 1]!; // never empty
  }
}
