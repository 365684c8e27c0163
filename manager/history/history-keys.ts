/**
 * [pure] Keys and records of the ownership history, in order of key:
 *
 *   bucket/<number>                                        how many records the bucket holds
 *   ended/<bucket>/<vip>/<protocol>/<size>/<first>/<until index>   an interval of ownership that has ended
 *   gap/<until index>                                      entries that this replica never saw one by one
 *   mark/<index>                                           wall clock of an entry, about one a second
 *   stock/<wall ms>                                        how the ports of all VIPs stood
 *   through                                                the newest entry that is in here
 *
 * An interval of neighbouring ranges is cut into aligned blocks of powers of two, so that whoever looks for one port tries
 * fourteen prefixes per bucket. Buckets are cut by time and size: forgetting is deleting whole ones.
 */
import type { IpAddress, LogIndex } from "../../core/brands.js";
import type { SnatProtocol } from "../state/snat/port-ranges.js";

/** Blocks of 1, 2, 4 ... 8,192 ranges. */
export const SIZES = 14;

const pad = (value: number): string => String(value).padStart(16, "0");

export const bucketKey = (bucket: number): string => `bucket/${pad(bucket)}`;
export const gapKey = (untilIndex: number): string => `gap/${pad(untilIndex)}`;
export const markKey = (index: number): string => `mark/${pad(index)}`;
export const stockKey = (wallMs: number): string => `stock/${pad(wallMs)}`;
export const THROUGH_KEY = "through";

/** The number at the end of a key. */
export const numberIn = (key: string): number => Number(key.slice(key.lastIndexOf("/") + 1));

export const endedPrefix = (bucket: number): string => `ended/${pad(bucket)}/`;

export interface AlignedBlock {
  /** Power of two, as its exponent: 0..13. */
  readonly size: number;
  readonly first: number;
}

export function endedKey(bucket: number, space: Space, { size, first }: AlignedBlock, untilIndex: number): string {
  return `${blockPrefix(bucket, space, { size, first })}${pad(untilIndex)}`;
}

export interface Space {
  readonly vip: IpAddress;
  readonly protocol: SnatProtocol;
}

export function blockPrefix(bucket: number, { vip, protocol }: Space, { size, first }: AlignedBlock): string {
  return `${endedPrefix(bucket)}${vip}/${protocol}/${String(size).padStart(2, "0")}/${pad(first)}/`;
}

/** The aligned block of each size that holds the range. */
export function blocksAround(range: number): readonly AlignedBlock[] {
  return Array.from({ length: SIZES }, (_, size) => ({ size, first: (range >> size) << size }));
}

/** [first, first + count) as aligned blocks, in order. */
export function alignedBlocks(first: number, count: number): readonly AlignedBlock[] {
  const blocks: AlignedBlock[] = [];
  for (let at = first; at < first + count;) {
    let size = 0;
    while (size + 1 < SIZES && at % (2 << size) === 0 && at + (2 << size) <= first + count) size++;
    blocks.push({ size, first: at });
    at += 1 << size;
  }
  return blocks;
}

/** Value of an "ended" record. */
export interface EndedRecord {
  readonly tenant: string;
  readonly dip: IpAddress;
  readonly fromIndex: LogIndex;
  /** Wall clock ms of the grant, up to a second early; null: it was before what is known here. */
  readonly fromMs: number | null;
  readonly untilMs: number;
}

/** Entries (fromIndex, untilIndex] were not seen one by one: what began and ended among them is not here. */
export interface HistoryGap {
  readonly fromIndex: LogIndex;
  readonly untilIndex: LogIndex;
  /** Wall clock ms; null: not known. */
  readonly fromMs: number | null;
  readonly untilMs: number;
}

/** The first key after all keys with the prefix. */
export const endOf = (prefix: string): string => `${prefix}\uffff`;
