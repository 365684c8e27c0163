/**
 * Stages a snapshot that comes in chunks, in order, each durable before it is acknowledged. What is staged becomes the
 * state only through the core (`install-snapshot`), and only when it is complete.
 */
import type { NodeId } from "../../core/brands.js";
import type { SnapshotMeta } from "./core/types.js";
import type { RaftStorage, StoredSnapshot } from "./storage/storage.js";
import type { RaftTransport, SnapshotChunk } from "./transport/transport.js";

interface Staging {
  readonly from: NodeId;
  readonly meta: SnapshotMeta;
  readonly count: number;
  /** Chunks below are durable. */
  next: number;
  writing: boolean;
}

export class SnapshotReceiver {
  readonly #id: NodeId;
  readonly #storage: Pick<RaftStorage, "writeSnapshotChunk">;
  readonly #transport: Pick<RaftTransport, "sendTransfer">;
  readonly #failed: (error: unknown) => void;
  #staging: Staging | null = null;

  constructor(options: {
    readonly id: NodeId;
    readonly storage: Pick<RaftStorage, "writeSnapshotChunk">;
    readonly transport: Pick<RaftTransport, "sendTransfer">;
    readonly failed: (error: unknown) => void;
  }) {
    this.#id = options.id;
    this.#storage = options.storage;
    this.#transport = options.transport;
    this.#failed = options.failed;
  }

  /** `held`: the log reaches as far already, so the sender is told that nothing is missing. */
  receive(chunk: SnapshotChunk, held: boolean): void {
    if (held) {
      this.#acknowledge(chunk, chunk.count);
      return;
    }
    let staging = this.#staging;
    if (staging?.writing === true) return; // its acknowledgement is on the way
    if (
      staging === null ||
      staging.from !== chunk.from ||
      staging.meta.index !== chunk.snapshot.index ||
      staging.count !== chunk.count
    ) {
      staging = { from: chunk.from, meta: chunk.snapshot, count: chunk.count, next: 0, writing: false };
      this.#staging = staging;
    }
    if (chunk.number !== staging.next) {
      this.#acknowledge(chunk, staging.next);
      return;
    }
    const target = staging;
    target.writing = true;
    this.#storage.writeSnapshotChunk(target.meta, chunk.number, chunk.data).then(() => {
      target.writing = false;
      target.next++;
      if (this.#staging === target) this.#acknowledge(chunk, target.next);
    }, this.#failed);
  }

  /** The staged snapshot of this index, if all of it is there. */
  complete(meta: SnapshotMeta): StoredSnapshot | null {
    const staging = this.#staging;
    if (staging === null || staging.meta.index !== meta.index || staging.meta.term !== meta.term) return null;
    return staging.next === staging.count ? { meta: staging.meta, chunkCount: staging.count } : null;
  }

  #acknowledge(chunk: SnapshotChunk, next: number): void {
    this.#transport.sendTransfer(chunk.from, {
      kind: "snapshot-chunk-ack",
      from: this.#id,
      term: chunk.term,
      index: chunk.snapshot.index,
      next,
    });
  }
}
