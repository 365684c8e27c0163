/**
 * Many entries as one run of bytes: what the leader encodes once for its disk and for every follower. Big-endian:
 *
 *   version u8 = 2 | first index u64 | count u32 | count x ( term u64 | kind u8 | payload length u32 | payload )
 *
 * kind 0: a command or a no-op; kind 1: a membership (core/membership-codec.ts).
 *
 * (B1) An encoding is remembered by the identity of the entries array; arrays of entries are never changed (core/log.ts).
 */
import { AnantaError } from "../../core/errors.js";
import type { LogIndex, Term } from "../../core/brands.js";
import { decodeMembership } from "./core/membership-codec.js";
import type { Entry } from "./core/types.js";

const VERSION = 2;
const HEADER_BYTES = 13;
const ENTRY_HEADER_BYTES = 13;
const COMMAND = 0;
const MEMBERSHIP = 1;
const TWO_TO_32 = 0x1_0000_0000;

const remembered = new WeakMap<readonly Entry[], Uint8Array>(); // (B1)

export function encodeEntryBlock(entries: readonly Entry[]): Uint8Array {
  const known = remembered.get(entries);
  if (known !== undefined) return known;
  const first = entries[0];
  if (first === undefined) return new Uint8Array(0);
  let size = HEADER_BYTES;
  for (const entry of entries) size += ENTRY_HEADER_BYTES + entry.payload.length;
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, VERSION);
  setUint64(view, 1, first.index);
  view.setUint32(9, entries.length);
  let at = HEADER_BYTES;
  for (const { term, payload, membership } of entries) {
    setUint64(view, at, term);
    view.setUint8(at + 8, membership === undefined ? COMMAND : MEMBERSHIP);
    view.setUint32(at + 9, payload.length);
    bytes.set(payload, at + ENTRY_HEADER_BYTES);
    at += ENTRY_HEADER_BYTES + payload.length;
  }
  remembered.set(entries, bytes);
  return bytes;
}

/** The payloads are views on `bytes`, which must be the caller's to keep. Throws STORAGE_DAMAGED on anything else. */
export function decodeEntryBlock(bytes: Uint8Array): readonly Entry[] {
  if (bytes.length === 0) return [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < HEADER_BYTES) throw malformed("it is shorter than its header");
  if (view.getUint8(0) !== VERSION) throw malformed(`its version is ${view.getUint8(0)}, not ${VERSION}`);
  const first = getUint64(view, 1);
  const count = view.getUint32(9);
  const entries: Entry[] = [];
  let at = HEADER_BYTES;
  for (let i = 0; i < count; i++) {
    if (at + ENTRY_HEADER_BYTES > bytes.length) throw malformed("an entry is cut off");
    const term = getUint64(view, at);
    const kind = view.getUint8(at + 8);
    const end = at + ENTRY_HEADER_BYTES + view.getUint32(at + 9);
    if (end > bytes.length) throw malformed("a payload is cut off");
    const payload = bytes.subarray(at + ENTRY_HEADER_BYTES, end);
    const entry = { index: (first + i) as LogIndex, term: term as Term, payload };
    if (kind === COMMAND) entries.push(entry);
    else if (kind === MEMBERSHIP) entries.push({ ...entry, membership: decodeMembership(payload) });
    else throw malformed(`an entry is of kind ${kind}`);
    at = end;
  }
  if (at !== bytes.length) throw malformed("bytes follow the last entry");
  return entries;
}

export function setUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / TWO_TO_32));
  view.setUint32(at + 4, value % TWO_TO_32);
}

export function getUint64(view: DataView, at: number): number {
  const value = view.getUint32(at) * TWO_TO_32 + view.getUint32(at + 4);
  if (!Number.isSafeInteger(value)) throw malformed("a number is out of range");
  return value;
}

const malformed = (why: string): AnantaError =>
  new AnantaError("STORAGE_DAMAGED", `An entry block cannot be read: ${why}.`);
