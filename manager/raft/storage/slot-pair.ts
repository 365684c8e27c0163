/**
 * A small record kept in two slots of a file that are written in turn, so that an interrupted write never costs the newest
 * record that was finished.
 *
 *   slot = generation % 2; the two lie 4096 bytes apart: two disk blocks, so that one torn write cannot reach both
 *   magic u32 | version u8 | generation u64 | content | CRC-32 u32 of all before
 *
 * (P1) `write` resolves after fdatasync. A slot that was being written when power failed is unreadable, and what it said was
 *      never told to anyone, so the other slot is the truth.
 */
import { crc32 } from "node:zlib";
import { assert } from "../../../core/assert.js";
import type { DiskFile } from "../../../runtime/env.js";
import { getUint64, setUint64 } from "../entry-block.js";

export interface Generation {
  /** Counts writes, from 1. */
  readonly generation: number;
}

export interface SlotLayout<Content> {
  readonly magic: number;
  readonly contentBytes: number;
  encode(view: DataView, content: Content): void;
  decode(view: DataView): Content;
}

export const SLOT_DISTANCE_BYTES = 4096;
const VERSION = 2;
const HEADER_BYTES = 13;
const CRC_BYTES = 4;

const slotBytes = (layout: SlotLayout<never>): number => HEADER_BYTES + layout.contentBytes + CRC_BYTES;

export class SlotPair<Content> {
  readonly #file: DiskFile;
  readonly #offset: number;
  readonly #layout: SlotLayout<Content>;
  #newest: (Content & Generation) | null = null;
  /** Slots that hold something and cannot be read: an interrupted write, or damage. */
  readonly unreadable: number;
  /** Nothing was ever finished here; at most the very first write was begun. */
  readonly unused: boolean;

  private constructor(file: DiskFile, offset: number, layout: SlotLayout<Content>, slots: readonly Uint8Array[]) {
    this.#file = file;
    this.#offset = offset;
    this.#layout = layout;
    let unreadable = 0;
    for (const bytes of slots) {
      const found = decodeSlot(layout, bytes);
      if (found === null) {
        if (!isBlank(bytes)) unreadable++;
      } else if (this.#newest === null || found.generation > this.#newest.generation) this.#newest = found;
    }
    this.unreadable = unreadable;
    // Generation 1 goes to the second slot, so the first one is blank until the second write.
    this.unused = this.#newest === null && isBlank(slots[0] ?? new Uint8Array(0));
  }

  static async read<Content>(file: DiskFile, offset: number, layout: SlotLayout<Content>): Promise<SlotPair<Content>> {
    const size = slotBytes(layout as SlotLayout<never>);
    const first = await file.readAt(offset, size);
    const second = await file.readAt(offset + SLOT_DISTANCE_BYTES, size);
    return new SlotPair(file, offset, layout, [first, second]);
  }

  /** Null: nothing readable. */
  get newest(): (Content & Generation) | null {
    return this.#newest;
  }

  async write(record: Content & Generation): Promise<void> {
    assert(record.generation > (this.#newest?.generation ?? 0), "generations rise");
    this.#newest = record;
    const at = this.#offset + (record.generation % 2) * SLOT_DISTANCE_BYTES;
    await this.#file.writeAt(at, encodeSlot(this.#layout, record));
    await this.#file.sync(); // (P1)
  }
}

function encodeSlot<Content>(layout: SlotLayout<Content>, record: Content & Generation): Uint8Array {
  const bytes = new Uint8Array(slotBytes(layout as SlotLayout<never>));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, layout.magic);
  view.setUint8(4, VERSION);
  setUint64(view, 5, record.generation);
  layout.encode(new DataView(bytes.buffer, HEADER_BYTES, layout.contentBytes), record);
  const crcAt = HEADER_BYTES + layout.contentBytes;
  view.setUint32(crcAt, crc32(bytes.subarray(0, crcAt)));
  return bytes;
}

/** Null when the bytes are not a whole, undamaged slot. */
function decodeSlot<Content>(layout: SlotLayout<Content>, bytes: Uint8Array): (Content & Generation) | null {
  if (bytes.length < slotBytes(layout as SlotLayout<never>)) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const crcAt = HEADER_BYTES + layout.contentBytes;
  if (view.getUint32(crcAt) !== crc32(bytes.subarray(0, crcAt))) return null;
  if (view.getUint32(0) !== layout.magic || view.getUint8(4) !== VERSION) return null;
  const content = layout.decode(new DataView(bytes.buffer, bytes.byteOffset + HEADER_BYTES, layout.contentBytes));
  return { ...content, generation: getUint64(view, 5) };
}

const isBlank = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);
