/**
 * What the driver needs of durable storage. Two implementations, `level-storage` and `memory-storage`; one contract suite
 * (test/raft/storage-contract.ts) runs on both.
 *
 * (S1) `persist` resolves only when everything in the batch is durable, all of it or (after a crash) none of it, with the
 *      one exception that term and vote may be durable without the entries.
 * (S2) What is read back is what was written, or it is reported as damaged; never something else, and never less.
 * (S3) A rejected write is final: the process ends (fail-stop), because nobody knows what the disk holds then. A write that
 *      hangs for 20 s is rejected too.
 *
 * The log after the newest compaction is also held in memory by the core. snapshots.ts bounds it: a snapshot is taken after
 * `snapshotEveryEntries` entries or 64 MiB, and at most `trailingEntries` or 32 MiB of what it covers are kept.
 */
import type { LogIndex } from "../../../core/brands.js";
import type { Entry, HardState, SnapshotMeta, VotingRight } from "../core/types.js";

/** Under gRPC's 4 MiB frame limit with room to spare, large beside a chunk's fixed costs. */
export const SNAPSHOT_CHUNK_BYTES_MAX = 1024 * 1024;

export interface StoredSnapshot {
  readonly meta: SnapshotMeta;
  readonly chunkCount: number;
  /** Sum over the chunks. */
  readonly byteCount: number;
  /** Of all chunks, as `SnapshotDigest` calculates it. */
  readonly digest: string;
}

/** A snapshot on its way in: chunks below `next` are durable. */
export interface ReceivingSnapshot {
  readonly snapshot: StoredSnapshot;
  readonly next: number;
}

export interface OpenedStorage {
  readonly hardState: HardState;
  readonly snapshot: StoredSnapshot | null;
  /** A transfer that an earlier process began: it goes on where it stopped. */
  readonly receiving: ReceivingSnapshot | null;
  /** Contiguous; they reach from at most snapshot.index + 1 on. */
  readonly entries: readonly Entry[];
  readonly commitIndex: LogIndex;
  /** `full` unless something was lost or damaged, now or earlier and not repaired since; `until-named` when it joined. */
  readonly voting: VotingRight;
  /** Identifies the data folder of a replica that joined a running cluster; empty for a founder's. */
  readonly folder: string;
  /** What was found amiss and made good without loss: one line each, for the log. */
  readonly findings: readonly string[];
}

export interface StorageBatch {
  readonly hardState: HardState | null;
  /** They replace everything stored from entries[0].index on. */
  readonly entries: readonly Entry[];
  /** Received and verified before; becomes the snapshot and empties the log, before `entries` are added. */
  readonly snapshot: StoredSnapshot | null;
  readonly commitIndex: LogIndex;
}

export interface RaftStorage {
  /**
   * Rejects with STORAGE_LOCKED, STORAGE_DAMAGED (cannot be opened at all), STORAGE_FAILED (the disk is full or does not
   * answer), WRONG_CLUSTER (another cluster's or node's), FAILED_PRECONDITION (another version's format).
   */
  open(): Promise<OpenedStorage>;
  /** One call at a time. */
  persist(batch: StorageBatch): Promise<void>;

  /** Stores one chunk (numbers from 0, in order) of a snapshot of this node's own applied state. */
  writeSnapshotChunk(meta: SnapshotMeta, number: number, data: Uint8Array): Promise<void>;
  /**
   * All those chunks are written: they become the present snapshot; the log stays. False when they do not read back as they
   * were written: then nothing changed.
   */
  completeSnapshot(snapshot: StoredSnapshot): Promise<boolean>;

  /** Stores one chunk (in order) of a snapshot that another replica sends. Number 0 begins anew and drops any other. */
  receiveSnapshotChunk(snapshot: StoredSnapshot, number: number, data: Uint8Array): Promise<void>;
  /**
   * All chunks are received: do they read back and have the digest? If not they are dropped, for the transfer to begin
   * anew. True is what `persist` with this snapshot requires.
   */
  verifyReceived(): Promise<boolean>;

  /**
   * A chunk of the present snapshot; null when that is not, or no longer, the one with this digest. Rejects with
   * STORAGE_DAMAGED when it does not read back as written.
   */
  readSnapshotChunk(digest: string, number: number): Promise<Uint8Array | null>;
  /** Forgets entries up to `index`, as far as whole blocks allow. */
  compactTo(index: LogIndex): Promise<void>;
  /** The damage reported by `open` is made good: this replica holds all that a quorum confirms. */
  markRepaired(): Promise<void>;
  /** Bytes that can still be written. */
  freeBytes(): Promise<number>;
  /** How long the oldest write under way has been so, in ms; 0 when none is. A disk that hangs shows here first. */
  oldestWriteMs(): number;
  close(): Promise<void>;
}
