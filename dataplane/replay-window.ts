/**
 * Each message of a MUX is good once (F2 of `fastpath-message.ts`). Messages may overtake each other a little: of the newest
 * incarnation of each MUX the last `WINDOW` sequence numbers are remembered, as IPsec does (RFC 4303 §3.4.3).
 *
 * Bounded: one record per MUX of the pool.
 */
const WINDOW = 1_024;

interface Seen {
  incarnation: number;
  highest: number;
  /** Sequence numbers in (highest - WINDOW, highest], by remainder. */
  readonly marks: Float64Array;
}

export class ReplayWindow {
  readonly #seen = new Map<number, Seen>();

  /**
   * "stale": of an incarnation that is over, or too old to be told from a repetition. Ask only about messages whose signature
   * is good, or anybody could move the window.
   */
  admit(muxId: number, incarnation: number, sequence: number): "fresh" | "replayed" | "stale" {
    let seen = this.#seen.get(muxId);
    if (seen !== undefined && incarnation < seen.incarnation) return "stale";
    if (seen === undefined || incarnation > seen.incarnation) {
      seen = { incarnation, highest: 0, marks: new Float64Array(WINDOW) };
      this.#seen.set(muxId, seen);
    }
    if (sequence < 1 || sequence <= seen.highest - WINDOW) return "stale";
    const place = sequence % WINDOW;
    if (seen.marks[place] === sequence) return "replayed";
    seen.marks[place] = sequence;
    seen.highest = Math.max(seen.highest, sequence);
    return "fresh";
  }

  /** Forgets the MUXes that have left for good: their ids do not come again. */
  keepOnly(isKnown: (muxId: number) => boolean): void {
    for (const muxId of this.#seen.keys()) if (!isKnown(muxId)) this.#seen.delete(muxId);
  }
}
