/**
 * Records that protect themselves: the store's own checks are not trusted (LevelDB drops what it cannot read and goes on).
 *
 * sealed:  version u8 | CRC-32 u32 of version and content | content           facts and snapshot chunks
 * block:   version u8 | previous chain u32 | chain u32 | commit index u64 | entry block
 *
 * (R1) A block's chain value is the CRC-32 of version, commit index and entries, begun with the previous block's chain
 *      value. So one number both protects the block and ties it to everything before it: a block that is missing, or an
 *      older version of one that came back, breaks the chain at the next.
 */
import { crc32 } from "node:zlib";
import { AnantaError } from "../../../core/errors.js";
import type { LogIndex } from "../../../core/brands.js";
import type { Entry } from "../core/types.js";
import { decodeEntryBlock, encodeEntryBlock, getUint64, setUint64 } from "../entry-block.js";

const VERSION = 1;
const VERSION_BYTES = Uint8Array.of(VERSION);
const SEAL_BYTES = 5;
const BLOCK_HEADER_BYTES = 17;

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

const damaged = (why: string): AnantaError =>
  new AnantaError("STORAGE_DAMAGED", `A stored record cannot be read: ${why}.`);

export function seal(content: Uint8Array): Uint8Array {
  const record = new Uint8Array(SEAL_BYTES + content.length);
  record[0] = VERSION;
  viewOf(record).setUint32(1, crc32(content, crc32(VERSION_BYTES)));
  record.set(content, SEAL_BYTES);
  return record;
}

/** The content, a view on `record`. Throws STORAGE_DAMAGED. */
export function unseal(record: Uint8Array): Uint8Array {
  if (record.length < SEAL_BYTES) throw damaged("it is too short");
  if (record[0] !== VERSION) throw damaged(`its version is ${String(record[0])}, not ${VERSION}`);
  const content = record.subarray(SEAL_BYTES);
  if (viewOf(record).getUint32(1) !== crc32(content, crc32(VERSION_BYTES)))
    throw damaged("its checksum does not match");
  return content;
}

export const sealFacts = (facts: unknown): Uint8Array => seal(new TextEncoder().encode(JSON.stringify(facts)));

/** The caller knows the type: it is ours, and the checksum says that it is as it was written. */
export const unsealFacts = <Facts>(record: Uint8Array): Facts =>
  JSON.parse(new TextDecoder().decode(unseal(record))) as Facts;

export interface BlockRecord {
  readonly previousChain: number;
  readonly chain: number;
  readonly commitIndex: LogIndex;
  readonly entries: readonly Entry[];
}

export function encodeBlockRecord(
  entries: readonly Entry[],
  links: { readonly previousChain: number; readonly commitIndex: LogIndex },
): { readonly record: Uint8Array; readonly chain: number } {
  const block = encodeEntryBlock(entries);
  const record = new Uint8Array(BLOCK_HEADER_BYTES + block.length);
  const view = viewOf(record);
  record[0] = VERSION;
  view.setUint32(1, links.previousChain);
  setUint64(view, 9, links.commitIndex);
  record.set(block, BLOCK_HEADER_BYTES);
  const chain = chainOf(record, links.previousChain);
  view.setUint32(5, chain);
  return { record, chain };
}

/** The payloads are views on `record`. Throws STORAGE_DAMAGED. */
export function decodeBlockRecord(record: Uint8Array): BlockRecord {
  if (record.length < BLOCK_HEADER_BYTES) throw damaged("it is too short");
  if (record[0] !== VERSION) throw damaged(`its version is ${String(record[0])}, not ${VERSION}`);
  const view = viewOf(record);
  const previousChain = view.getUint32(1);
  const chain = view.getUint32(5);
  if (chain !== chainOf(record, previousChain)) throw damaged("its checksum does not match");
  return {
    previousChain,
    chain,
    commitIndex: getUint64(view, 9) as LogIndex,
    entries: decodeEntryBlock(record.subarray(BLOCK_HEADER_BYTES)),
  };
}

/** (R1) */
const chainOf = (record: Uint8Array, previousChain: number): number =>
  crc32(record.subarray(9), crc32(record.subarray(0, 1), previousChain));
