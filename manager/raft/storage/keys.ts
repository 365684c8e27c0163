/**
 * Keys in the log's store. Numbers are big-endian, so order on disk is order of index.
 *
 *   "B" first index u64      a block of entries        "M"  meta: whose folder this is, what happened to it
 *   "C" index u64 number u32 a snapshot chunk          "H"  copy of term and vote     "S"  the present snapshot
 */
import { setUint64, getUint64 } from "../entry-block.js";

const tag = (letter: string): number => letter.charCodeAt(0);

export const META_KEY = Uint8Array.of(tag("M"));
export const HARD_STATE_KEY = Uint8Array.of(tag("H"));
export const SNAPSHOT_KEY = Uint8Array.of(tag("S"));

/** [lo, hi) of all blocks, and of all chunks. */
export const BLOCK_RANGE = { gte: Uint8Array.of(tag("B")), lt: Uint8Array.of(tag("B") + 1) };
export const CHUNK_RANGE = { gte: Uint8Array.of(tag("C")), lt: Uint8Array.of(tag("C") + 1) };

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

export function chunkKey(snapshotIndex: number, number: number): Uint8Array {
  const key = new Uint8Array(13);
  key[0] = tag("C");
  const view = new DataView(key.buffer);
  setUint64(view, 1, snapshotIndex);
  view.setUint32(9, number);
  return key;
}

/** [lo, hi) of one snapshot's chunks. */
export const chunkRangeOf = (snapshotIndex: number): { readonly gte: Uint8Array; readonly lt: Uint8Array } => ({
  gte: chunkKey(snapshotIndex, 0),
  lt: chunkKey(snapshotIndex + 1, 0),
});
