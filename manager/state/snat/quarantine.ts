/**
 * Released ranges rest before another DIP gets them (RFC 6888 REQ-8): until 120 s of cluster time have passed
 * *and* every live MUX has acknowledged the entry that released them. Cluster time and log index only grow, so the queue
 * is first in, first out in both respects: when its head may not end, nothing behind it may.
 */
import type { DipId, LogIndex } from "../../../core/brands.js";
import type { PortSpace } from "./port-space.js";

/** RFC 6888 REQ-8 B: 120 s after last use. Halving it risks a late segment of the last owner reaching the next one. */
export const QUARANTINE_MS = 120_000;

export interface Quarantine {
  readonly space: PortSpace;
  readonly range: number;
  readonly count: number;
  /** The last owner. */
  readonly dip: DipId;
  readonly releasedAtMs: number;
  readonly releaseIndex: LogIndex;
  /** Next quarantine of the same space. */
  nextInSpace: Quarantine | null;
}

export class QuarantineQueue {
  private entries: Quarantine[] = [];
  private head = 0;

  get size(): number {
    return this.entries.length - this.head;
  }

  /** `releasedAtMs` and `releaseIndex` are not below those of any earlier push. */
  push(quarantine: Quarantine): void {
    this.entries.push(quarantine);
    const { space } = quarantine;
    if (space.lastQuarantine === null) space.firstQuarantine = quarantine;
    else space.lastQuarantine.nextInSpace = quarantine;
    space.lastQuarantine = quarantine;
  }

  peek(): Quarantine | null {
    return this.entries[this.head] ?? null;
  }

  shift(): void {
    const quarantine = this.entries[this.head];
    if (quarantine === undefined) return;
    this.head += 1;
    const { space } = quarantine;
    space.firstQuarantine = quarantine.nextInSpace;
    if (space.firstQuarantine === null) space.lastQuarantine = null;
    // Moving the rest down only when half is spent keeps a shift O(1) on average.
    if (this.head > 1024 && this.head * 2 > this.entries.length) {
      this.entries = this.entries.slice(this.head);
      this.head = 0;
    }
  }

  /** Takes one range out, wherever in the queue it rests. Walks the whole queue: only after a restore. */
  remove(space: PortSpace, range: number): void {
    const rest = [...this].flatMap((entry): Quarantine[] => {
      if (entry.space !== space || range < entry.range || range >= entry.range + entry.count) return [entry];
      const before = { ...entry, count: range - entry.range };
      const after = { ...entry, range: range + 1, count: entry.range + entry.count - range - 1 };
      return [before, after].filter(({ count }) => count > 0);
    });
    for (const entry of this) {
      entry.space.firstQuarantine = null;
      entry.space.lastQuarantine = null;
    }
    this.entries = [];
    this.head = 0;
    for (const entry of rest) this.push({ ...entry, nextInSpace: null });
  }

  *[Symbol.iterator](): Iterator<Quarantine> {
    for (let at = this.head; at < this.entries.length; at++) yield this.entries[at]!; // at < length
  }
}

/** Whether the head of the queue may end now. `muxEverJoined` false: no MUX ever held the range. */
export function quarantineIsOver(
  quarantine: Quarantine,
  nowMs: number,
  muxSafeIndex: LogIndex,
  muxEverJoined: boolean,
): boolean {
  return (
    nowMs >= quarantine.releasedAtMs + QUARANTINE_MS && (!muxEverJoined || muxSafeIndex >= quarantine.releaseIndex)
  );
}
