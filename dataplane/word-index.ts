/**
 * Finds a record by a key of four 32-bit words. The index of every table in the data planes: flows by five-tuple, rules by
 * VIP and port, ranges by VIP and number. Sized once; typed arrays only; look-up, insert and remove allocate nothing.
 *
 *     hash --> buckets [ . 3 . 1 0 . . ]        open addressing, linear probing, at most half full
 *                          |                     a bucket holds record + 1; 0 is empty
 *                          v
 *              keys    [ a b c d | a b c d | ... ]   four words per record
 *              hashes  [ h       | h       | ... ]   so that removal need not compute them again
 *
 * Removal moves later entries of the run back (no tombstones), so that look-ups stay short for ever.
 *
 * Invariants
 *  (W1) A record is in at most one bucket; `size` buckets are taken.
 *  (W2) Between a record's home bucket and its own bucket no bucket is empty.
 */
export const NOT_FOUND = -1;

export class WordIndex {
  /** Four words per record, signed: see `packet/header.ts`. Read only; valid for records that are in. */
  readonly keys: Int32Array;
  size = 0;
  readonly #hashes: Int32Array;
  readonly #buckets: Uint32Array;
  readonly #mask: number;

  /** Records are numbers in [0, capacity), chosen by the caller. */
  constructor(capacity: number) {
    let buckets = 8;
    while (buckets < capacity * 2) buckets *= 2;
    this.#mask = buckets - 1;
    this.#buckets = new Uint32Array(buckets);
    this.#hashes = new Int32Array(capacity);
    this.keys = new Int32Array(capacity * 4);
  }

  /** The record with this key, or `NOT_FOUND`. `hash` is the caller's, the same as at insert. */
  find(hash: number, a: number, b: number, c: number, d: number): number {
    const buckets = this.#buckets;
    const keys = this.keys;
    const mask = this.#mask;
    // Stored words are signed: bring the arguments to the same form once.
    const a0 = a | 0;
    const b0 = b | 0;
    const c0 = c | 0;
    const d0 = d | 0;
    let bucket = hash & mask;
    for (;;) {
      const entry = buckets[bucket]!; // masked
      if (entry === 0) return NOT_FOUND;
      const at = (entry - 1) * 4;
      if (keys[at] === a0 && keys[at + 1] === b0 && keys[at + 2] === c0 && keys[at + 3] === d0) return entry - 1;
      bucket = (bucket + 1) & mask;
    }
  }

  /** Puts `record` in under a key that is not in yet. */
  insert(record: number, hash: number, a: number, b: number, c: number, d: number): void {
    const at = record * 4;
    this.keys[at] = a;
    this.keys[at + 1] = b;
    this.keys[at + 2] = c;
    this.keys[at + 3] = d;
    this.#hashes[record] = hash;
    let bucket = hash & this.#mask;
    while (this.#buckets[bucket] !== 0) bucket = (bucket + 1) & this.#mask;
    this.#buckets[bucket] = record + 1;
    this.size++;
  }

  /** Takes out a record that is in. */
  remove(record: number): void {
    const buckets = this.#buckets;
    const mask = this.#mask;
    let hole = this.#hashes[record]! & mask;
    while (buckets[hole] !== record + 1) hole = (hole + 1) & mask;
    let bucket = hole;
    for (;;) {
      bucket = (bucket + 1) & mask;
      const entry = buckets[bucket]!;
      if (entry === 0) break;
      // An entry may fill the hole unless its home lies cyclically in (hole, bucket].
      const home = this.#hashes[entry - 1]! & mask;
      if (((bucket - home) & mask) >= ((bucket - hole) & mask)) {
        buckets[hole] = entry;
        hole = bucket;
      }
    }
    buckets[hole] = 0;
    this.size--;
  }

  clear(): void {
    this.#buckets.fill(0);
    this.size = 0;
  }
}
