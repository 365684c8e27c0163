/**
 * [pure] When a MUX that its Managers no longer reach must stop announcing: its peers go on, so there are Managers that work, and
 * grants and rules that it does not know. Its own lease cannot tell: cut off from all Managers, it looks to the MUX as if they were gone.
 *
 *     peer A     index 7 ..... 9 ....... 12 ...        told twice a second
 *     this MUX   index 7 ----- stands still
 *                              |<-- 3 s -->| 9 was not reached: A has left this MUX behind
 *
 *  (S1) A peer has left this MUX behind when an index that it told of is not in force here 3 s later, its lease is held and it
 *       announces, as it said a moment ago. A MUX that is slow, but gets there within that time, is not stale.
 *  (S2) This MUX withdraws only if the peers that have left it behind are at least half of the pool that announces, itself
 *       counted: so whoever withdraws with it, the pool keeps half. For of those who withdraw, look at the one that has come furthest:
 *       half of the pool was ahead of it, hence of all of them.
 *  (S3) One peer's word is not enough against the Managers' own: while this MUX holds its lease, it takes two peers.
 *  (S4) It announces again when it has caught up with those peers, or they are no longer half of the pool.
 */

/** How far somebody has come: order is epoch, then index. */
export interface Progress {
  readonly clusterEpoch: number;
  readonly index: number;
}

const isAhead = (a: Progress, b: Progress): boolean =>
  a.clusterEpoch !== b.clusterEpoch ? a.clusterEpoch > b.clusterEpoch : a.index > b.index;

/** What a peer told last. */
export interface PeerWord extends Progress {
  readonly isLeased: boolean;
  readonly isAnnouncing: boolean;
  readonly heardAtMs: number;
}

/** Our choice: thirty times what a change may take to reach all MUXes under load, and about what a lost lease costs. */
export const STALE_MS = 3_000;
/** A peer that has been silent for so long says nothing: four messages were lost, or it is dead. */
export const WORD_MS = 2_000;

interface PoolFacts {
  readonly own: Progress;
  readonly holdsLease: boolean;
  /** MUXes that are to announce, this one among them: live, and not drained. */
  readonly poolSize: number;
}

interface Seen {
  word: PeerWord;
  /** Told so long ago, and not in force here yet. */
  ahead: (Progress & { readonly sinceMs: number }) | null;
}

export class Staleness {
  readonly #seen = new Map<number, Seen>();
  #isStale = false;

  get isStale(): boolean {
    return this.#isStale;
  }

  /** A peer has told. Words come in order. */
  told(muxId: number, word: PeerWord, own: Progress): void {
    const seen = this.#seen.get(muxId);
    if (seen === undefined) this.#seen.set(muxId, { word, ahead: null });
    else seen.word = word;
    this.#compare(this.#seen.get(muxId)!, own);
  }

  /** Peers that have left the pool say nothing any more. */
  keepOnly(isPeer: (muxId: number) => boolean): void {
    for (const muxId of this.#seen.keys()) if (!isPeer(muxId)) this.#seen.delete(muxId);
  }

  /** What a peer told last, unless that was too long ago. */
  wordOf(muxId: number, nowMs: number): PeerWord | null {
    const word = this.#seen.get(muxId)?.word;
    return word === undefined || nowMs - word.heardAtMs > WORD_MS ? null : word;
  }

  /** Call at least every 100 ms. */
  step({ own, holdsLease, poolSize }: PoolFacts, nowMs: number): boolean {
    let behind = 0;
    let ahead = 0;
    for (const seen of this.#seen.values()) {
      this.#compare(seen, own);
      const { word } = seen;
      if (!word.isLeased || !word.isAnnouncing || nowMs - word.heardAtMs > WORD_MS) continue;
      if (isAhead(word, own)) ahead++;
      if (seen.ahead !== null && nowMs - seen.ahead.sinceMs > STALE_MS) behind++; // (S1)
    }
    const enough = Math.max(Math.ceil(poolSize / 2), holdsLease ? 2 : 1); // (S2), (S3)
    this.#isStale = (this.#isStale ? ahead : behind) >= enough; // (S4)
    return this.#isStale;
  }

  #compare(seen: Seen, own: Progress): void {
    if (seen.ahead !== null && !isAhead(seen.ahead, own)) seen.ahead = null;
    const { word } = seen;
    if (seen.ahead === null && isAhead(word, own))
      seen.ahead = { clusterEpoch: word.clusterEpoch, index: word.index, sinceMs: word.heardAtMs };
  }
}
