/**
 * Keys in the log's store. Numbers are big-endian, so order on disk is order of index.
 *
 *   "B" first index u64                    a block of entries
 *   "C" index u64 origin u8 number u32     a snapshot chunk; origin 0: taken here, 1: received
 *   "M"  whose folder this is, what happened to it      "H"  copy of term and vote       "S"  the present snapshot
 *   "T"  where the log ends (one per batch)             "R"  the snapshot being received
 */
import { setUint64, getUint64 } from "../entry-block.js";

const tag = (letter: string): number => letter.charCodeAt(0);

export const META_KEY = Uint8Array.of(tag("M"));
export const HARD_STATE_KEY = Uint8Array.of(tag("H"));
export const SNAPSHOT_KEY = Uint8Array.of(tag("S"));
export const TAIL_KEY = Uint8Array.of(tag("T"));
export const RECEIVING_KEY = Uint8Array.of(tag("R"));

export interface KeyRange {
  readonly gte: Uint8Array;
  readonly lt: Uint8Array;
}

/** [lo, hi) of all blocks, and of all chunks. */
export const BLOCK_RANGE: KeyRange = { gte: Uint8Array.of(tag("B")), lt: Uint8Array.of(tag("B") + 1) };
export const CHUNK_RANGE: KeyRange = { gte: Uint8Array.of(tag("C")), lt: Uint8Array.of(tag("C") + 1) };

export function blockKey(firstIndex: number): Uint8Array {
  const key = new Uint8Array(9);
  key[0] = tag("B");
  setUint64(new DataView(key.buffer), 1, firstIndex);
  return key;
}

/** Null when the key is not a block's. */
export function blockKeyIndex(key: Uint8Array): number | null {
  return key.length === 9 ? getUint64(new DataView(key.buffer, key.byteOffset, key.byteLength), 1) : null;
}

/** Which set of chunks: a snapshot taken here and one received never share chunks, even at the same index. */
export interface ChunkSet {
  readonly index: number;
  readonly origin: "own" | "received";
}

export function chunkKey({ index, origin }: ChunkSet, number: number): Uint8Array {
  const key = new Uint8Array(14);
  key[0] = tag("C");
  const view = new DataView(key.buffer);
  setUint64(view, 1, index);
  view.setUint8(9, origin === "own" ? 0 : 1);
  view.setUint32(10, number);
  return key;
}

/** [lo, hi) of one set's chunks from `number` on. */
export const chunkRangeOf = (set: ChunkSet, number = 0): KeyRange => ({
  gte: chunkKey(set, number),
  lt:
    set.origin === "own"
      ? chunkKey({ ...set, origin: "received" }, 0)
      : chunkKey({ index: set.index + 1, origin: "own" }, 0),
});
