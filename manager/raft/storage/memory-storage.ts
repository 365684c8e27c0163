/**
 * Storage that forgets nothing and costs nothing: for tests, and as the plainest statement of what `RaftStorage` means.
 * Opening it again shows what was persisted. `afterEachWrite` lets a test decide when a write is durable.
 */
import { assert } from "../../../core/assert.js";
import type { LogIndex, Term } from "../../../core/brands.js";
import type { Entry, HardState, SnapshotMeta, VotingRight } from "../core/types.js";
import { SnapshotDigest } from "../snapshot-digest.js";
import type { OpenedStorage, RaftStorage, StorageBatch, StoredSnapshot } from "./storage.js";

interface Held {
  readonly snapshot: StoredSnapshot;
  readonly chunks: Uint8Array[];
}

export class MemoryStorage implements RaftStorage {
  #hardState: HardState = { term: 0 as Term, votedFor: null };
  #entries: Entry[] = [];
  #commitIndex = 0 as LogIndex;
  #present: Held | null = null;
  #receiving: Held | null = null;
  /** Chunks of own snapshots that are not complete, by index. */
  readonly #staged = new Map<number, Uint8Array[]>();
  #voting: VotingRight;
  readonly #folder: string;
  readonly #afterEachWrite: () => Promise<void>;

  constructor(options: { readonly voting?: VotingRight; readonly afterEachWrite?: () => Promise<void> } = {}) {
    this.#voting = options.voting ?? { kind: "full" };
    this.#folder = this.#voting.kind === "until-named" ? this.#voting.folder : "";
    this.#afterEachWrite = options.afterEachWrite ?? (() => Promise.resolve());
  }

  open(): Promise<OpenedStorage> {
    return Promise.resolve({
      hardState: this.#hardState,
      snapshot: this.#present?.snapshot ?? null,
      receiving:
        this.#receiving === null ? null : { snapshot: this.#receiving.snapshot, next: this.#receiving.chunks.length },
      entries: [...this.#entries],
      commitIndex: this.#commitIndex,
      voting: this.#voting,
      folder: this.#folder,
      findings: [],
    });
  }

  async persist(batch: StorageBatch): Promise<void> {
    await this.#afterEachWrite();
    if (batch.hardState !== null) this.#hardState = batch.hardState;
    if (batch.snapshot !== null) {
      const received = this.#receiving;
      assert(received !== null && received.snapshot.digest === batch.snapshot.digest, "the snapshot was received");
      this.#present = received;
      this.#receiving = null;
      this.#entries = [];
    }
    const first = batch.entries[0];
    if (first !== undefined) {
      const base = this.#entries[0]?.index ?? (this.#present?.snapshot.meta.index ?? 0) + 1;
      assert(first.index >= base && first.index <= base + this.#entries.length, "stored entries are contiguous");
      this.#entries.length = first.index - base;
      for (const entry of batch.entries) this.#entries.push({ ...entry, payload: new Uint8Array(entry.payload) });
    }
    this.#commitIndex = batch.commitIndex;
  }

  async writeSnapshotChunk(meta: SnapshotMeta, number: number, data: Uint8Array): Promise<void> {
    await this.#afterEachWrite();
    const chunks = number === 0 ? [] : (this.#staged.get(meta.index) ?? []);
    chunks[number] = new Uint8Array(data);
    this.#staged.set(meta.index, chunks);
  }

  async completeSnapshot(snapshot: StoredSnapshot): Promise<boolean> {
    await this.#afterEachWrite();
    const chunks = this.#staged.get(snapshot.meta.index) ?? [];
    if (!isWhole({ snapshot, chunks })) return false;
    this.#present = { snapshot, chunks };
    this.#staged.clear();
    return true;
  }

  async receiveSnapshotChunk(snapshot: StoredSnapshot, number: number, data: Uint8Array): Promise<void> {
    await this.#afterEachWrite();
    if (number === 0) this.#receiving = { snapshot, chunks: [] };
    const receiving = this.#receiving;
    assert(receiving?.snapshot.digest === snapshot.digest, "chunks of one snapshot follow one another");
    assert(receiving.chunks.length === number, "chunks come in order");
    receiving.chunks.push(new Uint8Array(data));
  }

  async verifyReceived(): Promise<boolean> {
    assert(this.#receiving !== null, "a snapshot was received");
    if (isWhole(this.#receiving)) return true;
    await this.#afterEachWrite();
    this.#receiving = null;
    return false;
  }

  readSnapshotChunk(digest: string, number: number): Promise<Uint8Array | null> {
    if (this.#present?.snapshot.digest !== digest) return Promise.resolve(null);
    const chunk = this.#present.chunks[number];
    assert(chunk !== undefined, "the chunk exists");
    return Promise.resolve(chunk);
  }

  async compactTo(index: LogIndex): Promise<void> {
    await this.#afterEachWrite();
    this.#entries = this.#entries.filter((entry) => entry.index > index);
  }

  async markRepaired(): Promise<void> {
    await this.#afterEachWrite();
    this.#voting = { kind: "full" };
  }

  freeBytes(): Promise<number> {
    return Promise.resolve(Number.MAX_SAFE_INTEGER);
  }

  oldestWriteMs(): number {
    return 0;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

function isWhole({ snapshot, chunks }: Held): boolean {
  const digest = new SnapshotDigest();
  for (const chunk of chunks) digest.add(chunk);
  return digest.chunkCount === snapshot.chunkCount && digest.finish() === snapshot.digest;
}
