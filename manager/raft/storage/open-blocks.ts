/**
 * The contiguity scan at start: blocks from the first on, as far as checksums, chain and indexes hold.
 *
 * What the snapshot covers is not needed. So where blocks do not hold together but a later one still reaches back to the
 * snapshot, the log begins there and nothing is lost: a compaction that the disk undid looks like that. Anything amiss
 * behind the snapshot is damage.
 */
import type { LogIndex } from "../../../core/brands.js";
import { AnantaError } from "../../../core/errors.js";
import type { Store } from "../../../runtime/env.js";
import type { Entry } from "../core/types.js";
import type { Tail } from "./facts.js";
import { blockKey, blockKeyIndex, BLOCK_RANGE } from "./keys.js";
import { decodeBlockRecord, type BlockRecord } from "./records.js";
import type { StoredSnapshot } from "./storage.js";

export interface BlockInfo {
  readonly firstIndex: LogIndex;
  readonly lastIndex: LogIndex;
  readonly previousChain: number;
  readonly chain: number;
}

export interface FoundBlocks {
  readonly entries: Entry[];
  readonly blocks: BlockInfo[];
  commitIndex: LogIndex;
  damage: string | null;
  /** Harmless, for the log. */
  finding: string | null;
  /** Keys to delete. */
  readonly cut: Uint8Array[];
}

export async function readBlocks(store: Store, snapshot: StoredSnapshot | null): Promise<FoundBlocks> {
  const snapshotIndex = snapshot?.meta.index ?? (0 as LogIndex);
  const found: FoundBlocks = {
    entries: [],
    blocks: [],
    commitIndex: snapshotIndex,
    damage: null,
    finding: null,
    cut: [],
  };
  // One by one, as the store gives them: a log of 96 MiB read and decoded at once would hold everything else up.
  const records = store.iterator(BLOCK_RANGE);
  let next = await records.next();
  while (next !== undefined) {
    const [key, record] = next;
    next = await records.next();
    if (found.damage !== null) {
      found.cut.push(key);
      continue;
    }
    const read = readBlock(key, record);
    const problem =
      typeof read === "string" ? read : (doesNotFollow(found, read) ?? doesNotReach(found, read, snapshotIndex));
    if (problem === null) {
      take(found, read as BlockRecord);
      continue;
    }
    const nextFirst = blockKeyIndex(next?.[0] ?? new Uint8Array(0));
    if (typeof read !== "string" && read.entries[0]!.index <= snapshotIndex + 1) {
      dropCovered(found, problem); // readBlock: a block has entries
      take(found, read);
    } else if (nextFirst !== null && nextFirst <= snapshotIndex + 1) {
      dropCovered(found, problem);
      found.cut.push(key);
    } else {
      found.damage = problem;
      found.cut.push(key);
    }
  }
  await records.close();
  const last = found.blocks.at(-1);
  if (last !== undefined && last.lastIndex < snapshotIndex) dropCovered(found, "the log ends before its snapshot");
  const lastIndex = found.blocks.at(-1)?.lastIndex ?? snapshotIndex;
  if (found.commitIndex > lastIndex) found.commitIndex = lastIndex;
  return found;
}

/** The block, or why it cannot be used. */
function readBlock(key: Uint8Array, record: Uint8Array): BlockRecord | string {
  try {
    const block = decodeBlockRecord(new Uint8Array(record));
    const first = block.entries[0];
    return first === undefined || first.index !== blockKeyIndex(key) ? "a block is not where it belongs" : block;
  } catch (error) {
    return AnantaError.from(error).message;
  }
}

function doesNotFollow({ blocks }: FoundBlocks, block: BlockRecord): string | null {
  const previous = blocks.at(-1);
  if (previous === undefined) return null;
  const follows = block.entries[0]!.index === previous.lastIndex + 1 && block.previousChain === previous.chain;
  return follows ? null : "a block is missing or out of date";
}

function doesNotReach({ blocks }: FoundBlocks, block: BlockRecord, snapshotIndex: LogIndex): string | null {
  const reaches = blocks.length > 0 || block.entries[0]!.index <= snapshotIndex + 1;
  return reaches ? null : "the log does not begin where its snapshot ends";
}

function take(found: FoundBlocks, { entries, previousChain, chain, commitIndex }: BlockRecord): void {
  const firstIndex = entries[0]!.index; // readBlock: a block has entries
  const lastIndex = (firstIndex + entries.length - 1) as LogIndex;
  found.blocks.push({ firstIndex, lastIndex, previousChain, chain });
  for (const entry of entries) found.entries.push(entry);
  if (commitIndex > found.commitIndex) found.commitIndex = commitIndex;
}

/** Everything taken so far lies inside the snapshot: the log begins anew. */
function dropCovered(found: FoundBlocks, why: string): void {
  for (const block of found.blocks) found.cut.push(blockKey(block.firstIndex));
  found.blocks.length = 0;
  found.entries.length = 0;
  found.finding ??= `blocks that the snapshot covers were dropped: ${why}`;
}

/** Does what was found end where the newest batch ended, as its own record says? Returns why not, or null. */
export function endsAt(tail: Tail, blocks: readonly BlockInfo[], snapshotIndex: LogIndex): string | null {
  if (snapshotIndex !== tail.snapshotIndex)
    return `the snapshot is of index ${snapshotIndex}, and the newest batch knew one of ${tail.snapshotIndex}`;
  const last = blocks.at(-1);
  if (last === undefined) return tail.lastIndex <= snapshotIndex ? null : `the log up to ${tail.lastIndex} is missing`;
  if (last.lastIndex !== tail.lastIndex)
    return `the log ends at ${last.lastIndex}, and the newest batch ended at ${tail.lastIndex}`;
  return last.chain === tail.chain ? null : "the log's last block is not the newest batch's";
}
