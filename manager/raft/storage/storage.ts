/**
 * What the driver needs of durable storage. Two implementations, `level-storage` and `memory-storage`; one contract suite
 * (test/raft/storage-contract.ts) runs on both.
 *
 * (S1) `persist` resolves only when everything in the batch is durable, all of it or (after a crash) none of it, with the
 *      one exception that term and vote may be durable without the entries.
 * (S2) What is read back is what was written, or it is reported as damaged; never something else.
 * (S3) A rejected write is final: the process ends (fail-stop), because nobody knows what the disk holds then.
 */
import type { LogIndex } from "../../../core/brands.js";
import type { Entry, HardState, SnapshotMeta, VotingRight } from "../core/types.js";

export interface StoredSnapshot {
  readonly meta: SnapshotMeta;
  readonly chunkCount: number;
}

export interface OpenedStorage {
  readonly hardState: HardState;
  readonly snapshot: StoredSnapshot | null;
  /** Contiguous; they reach from at most snapshot.index + 1 on. */
  readonly entries: readonly Entry[];
  readonly commitIndex: LogIndex;
  /** `full` unless something was lost or damaged, now or earlier and not repaired since; `until-named` when it joined. */
  readonly voting: VotingRight;
  /** Identifies the data folder of a replica that joined a running cluster; empty for a founder's. */
  readonly folder: string;
}

export interface StorageBatch {
  readonly hardState: HardState | null;
  /** They replace everything stored from entries[0].index on. */
  readonly entries: readonly Entry[];
  /** Staged with `writeSnapshotChunk` before; becomes the snapshot and empties the log, before `entries` are added. */
  readonly snapshot: StoredSnapshot | null;
  readonly commitIndex: LogIndex;
}

export interface RaftStorage {
  /** Rejects with STORAGE_LOCKED, STORAGE_DAMAGED (cannot be opened at all), WRONG_CLUSTER (another cluster's or node's). */
  open(): Promise<OpenedStorage>;
  /** One call at a time. */
  persist(batch: StorageBatch): Promise<void>;
  /** Stores one chunk (numbers from 0) of a snapshot that is not the present one yet. */
  writeSnapshotChunk(meta: SnapshotMeta, number: number, data: Uint8Array): Promise<void>;
  /** The chunks written are a snapshot of this node's own applied state: it becomes the present one; the log stays. */
  completeSnapshot(snapshot: StoredSnapshot): Promise<void>;
  /** A chunk of the present snapshot. Rejects with STORAGE_DAMAGED when it does not read back as written. */
  readSnapshotChunk(number: number): Promise<Uint8Array>;
  /** Forgets entries up to `index`, as far as whole blocks allow. */
  compactTo(index: LogIndex): Promise<void>;
  /** The damage reported by `open` is made good: this replica holds all that a quorum confirms. */
  markRepaired(): Promise<void>;
  /** Bytes that can still be written. */
  freeBytes(): Promise<number>;
  close(): Promise<void>;
}
