/**
 * Term and vote in a file of their own with two slots, written in turn (Raft §5.2: both survive a crash, or a replica
 * votes twice). LevelDB may drop a synced record at recovery and so bring an older vote back; this file cannot.
 *
 *   slot = generation % 2, at 0 and at 4096 (two disk blocks, so that one torn write cannot reach both):
 *   magic u32 | version u8 | has vote u8 | generation u64 | term u64 | vote u16 | CRC-32 u32 of all before
 *
 * (V1) `write` resolves after fdatasync. A slot that was being written when power failed is invalid, and what it said was
 *      never told to anyone, so the other slot is the truth.
 */
import { crc32 } from "node:zlib";
import { assert } from "../../../core/assert.js";
import type { NodeId, Term } from "../../../core/brands.js";
import type { Disk, DiskFile } from "../../../runtime/env.js";
import type { HardState } from "../core/types.js";
import { getUint64, setUint64 } from "../entry-block.js";

const MAGIC = 0x414e_5648; // "ANVH"
const VERSION = 1;
const SLOT_BYTES = 28;
const SLOT_DISTANCE_BYTES = 4096;

export interface StoredHardState extends HardState {
  /** Counts writes; the level copy carries the same number. */
  readonly generation: number;
}

export function encodeSlot(state: StoredHardState): Uint8Array {
  const bytes = new Uint8Array(SLOT_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC);
  view.setUint8(4, VERSION);
  view.setUint8(5, state.votedFor === null ? 0 : 1);
  setUint64(view, 6, state.generation);
  setUint64(view, 14, state.term);
  view.setUint16(22, state.votedFor ?? 0);
  view.setUint32(24, crc32(bytes.subarray(0, 24)));
  return bytes;
}

/** Null when the bytes are not a whole, undamaged slot. */
export function decodeSlot(bytes: Uint8Array): StoredHardState | null {
  if (bytes.length < SLOT_BYTES) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(24) !== crc32(bytes.subarray(0, 24))) return null;
  if (view.getUint32(0) !== MAGIC || view.getUint8(4) !== VERSION) return null;
  return {
    generation: getUint64(view, 6),
    term: getUint64(view, 14) as Term,
    votedFor: view.getUint8(5) === 1 ? (view.getUint16(22) as NodeId) : null,
  };
}

export class HardStateFile {
  readonly #file: DiskFile;
  #newest: StoredHardState | null;
  /** Nothing readable, and nothing but (at most) the first write ever made: it was interrupted, if it began. */
  readonly unused: boolean;

  private constructor(file: DiskFile, newest: StoredHardState | null, unused: boolean) {
    this.#file = file;
    this.#newest = newest;
    this.unused = unused;
  }

  static async open(disk: Disk, path: string): Promise<HardStateFile> {
    const file = await disk.openFile(path);
    const slots = [await file.readAt(0, SLOT_BYTES), await file.readAt(SLOT_DISTANCE_BYTES, SLOT_BYTES)];
    let newest: StoredHardState | null = null;
    for (const bytes of slots) {
      const slot = decodeSlot(bytes);
      if (slot !== null && (newest === null || slot.generation > newest.generation)) newest = slot;
    }
    // Generation 1 goes to the second slot, so the first one is blank until the second write.
    const unused = newest === null && (slots[0] ?? []).every((byte) => byte === 0);
    return new HardStateFile(file, newest, unused);
  }

  /** Null: nothing readable. */
  get newest(): StoredHardState | null {
    return this.#newest;
  }

  async write(state: StoredHardState): Promise<void> {
    assert(state.generation > (this.#newest?.generation ?? 0), "generations rise");
    assert(state.term >= (this.#newest?.term ?? 0), "a stored term never falls");
    this.#newest = state;
    await this.#file.writeAt((state.generation % 2) * SLOT_DISTANCE_BYTES, encodeSlot(state));
    await this.#file.sync(); // (V1)
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}
