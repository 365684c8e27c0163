/** The small records of the store, one each: sealed JSON (records.ts), except that blocks and chunks are not here. */
import type { LogIndex } from "../../../core/brands.js";
import type { ChunkSet } from "./keys.js";
import type { StoredSnapshot } from "./storage.js";

export const STORAGE_FORMAT = 2;

/** Whose folder this is, and what happened to it. */
export interface Meta {
  readonly format: typeof STORAGE_FORMAT;
  readonly clusterId: string;
  readonly clusterEpoch: number;
  readonly nodeId: number;
  /** Term and vote were lost; null when they were not. */
  readonly lost: string | null;
  /** The log was damaged and has not caught up since. */
  readonly damage: string | null;
  /** Identity of a folder that joined a running cluster; empty for a founder's. */
  readonly folder: string;
}

/** Part of every batch that changes log or snapshot. With the mark in the hard-state file it tells a log that lost its end. */
export interface Tail {
  /** Counts those batches. */
  readonly sequence: number;
  /** Of the last block, also when that block is compacted away. */
  readonly lastIndex: LogIndex;
  readonly chain: number;
  /** Of the present snapshot; 0 when there is none. */
  readonly snapshotIndex: LogIndex;
}

/** The present snapshot, or one being received, and under which keys its chunks are. */
export interface SnapshotRecord extends StoredSnapshot {
  readonly origin: ChunkSet["origin"];
}

export const chunkSetOf = ({ meta, origin }: Pick<SnapshotRecord, "meta" | "origin">): ChunkSet => ({
  index: meta.index,
  origin,
});

/** Without what is the store's own affair. */
export const storedSnapshotOf = ({ meta, chunkCount, byteCount, digest }: StoredSnapshot): StoredSnapshot => ({
  meta,
  chunkCount,
  byteCount,
  digest,
});
