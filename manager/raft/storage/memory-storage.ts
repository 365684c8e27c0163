/**
 * Storage that forgets nothing and costs nothing: for tests, and as the plainest statement of what `RaftStorage` means.
 * Opening it again shows what was persisted. `afterEachWrite` lets a test decide when a write is durable.
 */
import { assert } from "../../../core/assert.js";
import type { LogIndex, Term } from "../../../core/brands.js";
import type { Entry, HardState, SnapshotMeta, VotingRight } from "../core/types.js";
import type { OpenedStorage, RaftStorage, StorageBatch, StoredSnapshot } from "./storage.js";

export class MemoryStorage implements RaftStorage {
  #hardState: HardState = { term: 0 as Term, votedFor: null };
  #entries: Entry[] = [];
  #commitIndex = 0 as LogIndex;
  #snapshot: { readonly stored: StoredSnapshot; readonly chunks: readonly Uint8Array[] } | null = null;
  #staged = new Map<number, Uint8Array[]>();
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
      snapshot: this.#snapshot?.stored ?? null,
      entries: [...this.#entries],
      commitIndex: this.#commitIndex,
      voting: this.#voting,
      folder: this.#folder,
    });
  }

  async persist(batch: StorageBatch): Promise<void> {
    await this.#afterEachWrite();
    if (batch.hardState !== null) this.#hardState = batch.hardState;
    if (batch.snapshot !== null) {
      this.#takeStaged(batch.snapshot);
      this.#entries = [];
    }
    const first = batch.entries[0];
    if (first !== undefined) {
      const base = this.#entries[0]?.index ?? (this.#snapshot?.stored.meta.index ?? 0) + 1;
      assert(first.index >= base && first.index <= base + this.#entries.length, "stored entries are contiguous");
      this.#entries.length = first.index - base;
      for (const entry of batch.entries) this.#entries.push({ ...entry, payload: new Uint8Array(entry.payload) });
    }
    this.#commitIndex = batch.commitIndex;
  }

  async writeSnapshotChunk(meta: SnapshotMeta, number: number, data: Uint8Array): Promise<void> {
    await this.#afterEachWrite();
    const chunks = this.#staged.get(meta.index) ?? [];
    chunks[number] = new Uint8Array(data);
    this.#staged.set(meta.index, chunks);
  }

  async completeSnapshot(snapshot: StoredSnapshot): Promise<void> {
    await this.#afterEachWrite();
    this.#takeStaged(snapshot);
  }

  readSnapshotChunk(number: number): Promise<Uint8Array> {
    const chunk = this.#snapshot?.chunks[number];
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

  close(): Promise<void> {
    return Promise.resolve();
  }

  #takeStaged(stored: StoredSnapshot): void {
    const chunks = (this.#staged.get(stored.meta.index) ?? []).slice(0, stored.chunkCount);
    assert(
      chunks.length === stored.chunkCount && !chunks.includes(undefined as never),
      "every chunk of the snapshot was written",
    );
    this.#snapshot = { stored, chunks };
    this.#staged.clear();
  }
}
