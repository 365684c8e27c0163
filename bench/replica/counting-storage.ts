/** Storage that counts its synced batches: how many entries share one fsync is what throughput hangs on. */
import type { OpenedStorage, RaftStorage, StorageBatch, StoredSnapshot } from "../../manager/raft/storage/storage.js";
import type { SnapshotMeta } from "../../manager/raft/core/types.js";

export class CountingStorage implements RaftStorage {
  /** With entries in them. */
  batches = 0;
  entries = 0;
  readonly #below: RaftStorage;

  constructor(below: RaftStorage) {
    this.#below = below;
  }

  persist(batch: StorageBatch): Promise<void> {
    if (batch.entries.length > 0) this.batches++;
    this.entries += batch.entries.length;
    return this.#below.persist(batch);
  }

  open(): Promise<OpenedStorage> {
    return this.#below.open();
  }

  writeSnapshotChunk(meta: SnapshotMeta, number: number, data: Uint8Array): Promise<void> {
    return this.#below.writeSnapshotChunk(meta, number, data);
  }

  completeSnapshot(snapshot: StoredSnapshot): Promise<boolean> {
    return this.#below.completeSnapshot(snapshot);
  }

  receiveSnapshotChunk(snapshot: StoredSnapshot, number: number, data: Uint8Array): Promise<void> {
    return this.#below.receiveSnapshotChunk(snapshot, number, data);
  }

  verifyReceived(): Promise<boolean> {
    return this.#below.verifyReceived();
  }

  readSnapshotChunk(digest: string, number: number): Promise<Uint8Array | null> {
    return this.#below.readSnapshotChunk(digest, number);
  }

  compactTo(index: Parameters<RaftStorage["compactTo"]>[0]): Promise<void> {
    return this.#below.compactTo(index);
  }

  markRepaired(): Promise<void> {
    return this.#below.markRepaired();
  }

  freeBytes(): Promise<number> {
    return this.#below.freeBytes();
  }

  oldestWriteMs(): number {
    return this.#below.oldestWriteMs();
  }

  close(): Promise<void> {
    return this.#below.close();
  }
}
