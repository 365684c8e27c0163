/** When a MUX that the Managers no longer reach stops announcing, and when not. */
import { describe, expect, it } from "vitest";
import { createRandom } from "../../../core/random.js";
import { type PeerWord, Staleness, STALE_MS, WORD_MS } from "../../../mux/peers/staleness.js";
import { SEED } from "../../packet/packet-kit.js";

const at = (index: number, clusterEpoch = 1) => ({ clusterEpoch, index });

/** One MUX and its peers, who tell twice a second what their indexes are. */
class Pool {
  readonly staleness = new Staleness();
  nowMs = 0;
  own = at(10);
  holdsLease = false;
  readonly peers = new Map<number, Partial<PeerWord> | null>();

  constructor(peers: number) {
    for (let id = 1; id <= peers; id++) this.peers.set(id, at(10));
  }

  get isStale(): boolean {
    return this.staleness.isStale;
  }

  peer(id: number, word: Partial<PeerWord> | null): void {
    this.peers.set(id, word === null ? null : { ...this.peers.get(id), ...word });
  }

  elapse(ms: number): boolean {
    const untilMs = this.nowMs + ms;
    for (; this.nowMs < untilMs; this.nowMs += 50) {
      for (const [id, word] of this.peers) {
        if (word === null || this.nowMs % 500 !== 0) continue;
        const said = { clusterEpoch: 1, index: 10, isLeased: true, isAnnouncing: true, ...word, heardAtMs: this.nowMs };
        this.staleness.told(id, said, this.own);
      }
      this.staleness.step({ own: this.own, holdsLease: this.holdsLease, poolSize: this.peers.size + 1 }, this.nowMs);
    }
    return this.isStale;
  }
}

describe("a MUX that stands still", () => {
  it("is stale when half of the pool has left it behind for 3 s, and no longer once it has caught up", () => {
    const pool = new Pool(3);
    expect(pool.elapse(10_000)).toBe(false);
    for (const id of [1, 2, 3]) pool.peer(id, at(11));
    expect(pool.elapse(STALE_MS)).toBe(false);
    expect(pool.elapse(600)).toBe(true);
    expect(pool.elapse(60_000)).toBe(true);
    pool.own = at(11);
    expect(pool.elapse(50)).toBe(false);
  });

  it("is not while it gets there, however late it always is", () => {
    const pool = new Pool(3);
    for (let index = 11; index < 200; index++) {
      for (const id of [1, 2, 3]) pool.peer(id, at(index));
      pool.own = at(index - 20); // 2 s behind
      expect(pool.elapse(100)).toBe(false);
    }
  });

  it.each([
    ["whose lease is over", { isLeased: false }],
    ["that do not announce", { isAnnouncing: false }],
  ])("does not mind peers %s", (_, word) => {
    const pool = new Pool(3);
    for (const id of [1, 2, 3]) pool.peer(id, { ...at(20), ...word });
    expect(pool.elapse(20_000)).toBe(false);
  });

  it("serves again when those who left it behind fall silent: nobody else may be left", () => {
    const pool = new Pool(3);
    for (const id of [1, 2, 3]) pool.peer(id, at(20));
    expect(pool.elapse(5_000)).toBe(true);
    for (const id of [1, 2, 3]) pool.peer(id, null);
    expect(pool.elapse(WORD_MS - 500)).toBe(true);
    expect(pool.elapse(1_000)).toBe(false);
  });

  it("counts an epoch before an index: a restore may go back", () => {
    const pool = new Pool(1);
    pool.peer(1, at(3, 2));
    expect(pool.elapse(5_000)).toBe(true);
    pool.own = at(900, 1);
    expect(pool.elapse(500)).toBe(true);
    pool.own = at(3, 2);
    expect(pool.elapse(500)).toBe(false);
  });
});

describe("one peer's word", () => {
  it("is not enough in a pool of three and more", () => {
    for (const peers of [2, 3, 7]) {
      const pool = new Pool(peers);
      pool.peer(1, at(1_000_000));
      expect(pool.elapse(60_000), `${peers + 1} MUXes`).toBe(false);
    }
  });

  it("is enough in a pool of two only against a MUX that has no lease", () => {
    const pool = new Pool(1);
    pool.holdsLease = true;
    pool.peer(1, at(20));
    expect(pool.elapse(10_000)).toBe(false);
    pool.holdsLease = false;
    expect(pool.elapse(100)).toBe(true);
  });
});

// All hear each other; each has an index of its own, which stands still or grows, and announces unless it is stale.
it("however MUXes lag, at least half of the pool announces", () => {
  const random = createRandom(SEED);
  for (let round = 0; round < 60; round++) {
    const count = 2 + random.below(8);
    const muxes = Array.from({ length: count }, () => ({ index: 1 + random.below(4), staleness: new Staleness() }));
    for (let nowMs = 0; nowMs < 20_000; nowMs += 500) {
      for (const mux of muxes) if (random.below(6) === 0) mux.index += random.below(3);
      // Each tells what is so now, and hears the others in any order: some already know better, some do not yet.
      for (const [from, teller] of muxes.entries()) {
        const word = { ...at(teller.index), isLeased: true, isAnnouncing: !teller.staleness.isStale, heardAtMs: nowMs };
        for (const [to, mux] of muxes.entries()) if (to !== from) mux.staleness.told(from, word, at(mux.index));
      }
      for (const mux of muxes) mux.staleness.step({ own: at(mux.index), holdsLease: false, poolSize: count }, nowMs);
      const announcing = muxes.filter(({ staleness }) => !staleness.isStale).length;
      expect(announcing * 2, `seed ${SEED}, round ${round}, ${nowMs} ms`).toBeGreaterThanOrEqual(count);
    }
  }
});
