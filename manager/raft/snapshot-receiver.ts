/**
 * Takes a snapshot that comes in chunks, in order, each durable before it is acknowledged. What is received becomes the
 * state only through the core (`install-snapshot`), and only when it is complete and has the digest it was offered under.
 *
 *   offer --> "from chunk n on"      n > 0 when the same snapshot (same digest) was begun before, whoever sent it then
 *   chunk --> written, acknowledged; a chunk out of order is answered once with "again from n on"
 *   last  --> all of it read back and compared with the digest, then acknowledged
 *
 * (Y1) While the core installs one, nothing else is received: what it was promised is not overwritten.
 */
import type { NodeId } from "../../core/brands.js";
import type { Log } from "../../runtime/env.js";
import type { SnapshotMeta } from "./core/types.js";
import type { RaftStorage, ReceivingSnapshot, StoredSnapshot } from "./storage/storage.js";
import type { RaftTransport, SnapshotChunk, SnapshotOffer } from "./transport/transport.js";

/** Chunks waiting to be written; a sender has half as many under way. What does not fit is asked for again. */
const WAITING_CHUNKS_MAX = 8;
/** Left free when a snapshot is accepted, so that the log beside it does not meet a full disk. */
export const SPACE_KEPT_BYTES = 16 * 1024 * 1024;

type Storage = Pick<RaftStorage, "receiveSnapshotChunk" | "verifyReceived" | "freeBytes">;

interface Receiving {
  readonly snapshot: StoredSnapshot;
  /** Chunks below are durable. */
  next: number;
  /** In order, behind the one being written. */
  waiting: SnapshotChunk[];
  /** The next chunk that fits in order. */
  expected: number;
  rewindAsked: boolean;
  working: boolean;
  /** An offer that came meanwhile. */
  afterwards: (() => void) | null;
  verified: boolean;
}

export interface SnapshotReceiverOptions {
  readonly id: NodeId;
  readonly storage: Storage;
  readonly transport: Pick<RaftTransport, "sendTransfer">;
  readonly log: Log;
  readonly failed: (error: unknown) => void;
}

export class SnapshotReceiver {
  readonly #options: SnapshotReceiverOptions;
  #receiving: Receiving | null = null;
  #refusedFor: string | null = null;

  constructor(options: SnapshotReceiverOptions) {
    this.#options = options;
  }

  /** What storage found of a transfer that an earlier process began. */
  resume({ snapshot, next }: ReceivingSnapshot): void {
    this.#receiving = begun(snapshot, next);
  }

  /** `held`: the log reaches as far already, so the sender is told that nothing is missing. */
  offered(offer: SnapshotOffer, state: { readonly held: boolean; readonly installing: boolean }): void {
    const { storage, log, failed } = this.#options;
    const { snapshot } = offer;
    if (state.held) {
      this.#acknowledge(offer.from, offer, snapshot.digest, snapshot.chunkCount, true);
      return;
    }
    if (state.installing) return; // (Y1)
    const known = this.#receiving;
    if (known?.working === true) {
      known.waiting = [];
      known.afterwards = () => this.offered(offer, state); // the write under way ends first
      return;
    }
    if (known !== null && isSame(known.snapshot, snapshot)) {
      known.waiting = [];
      known.expected = known.next;
      known.rewindAsked = false;
      if (known.next === snapshot.chunkCount && !known.verified) this.#work(known, offer);
      else this.#acknowledge(offer.from, offer, snapshot.digest, known.next, true);
      return;
    }
    storage.freeBytes().then((free) => {
      if (this.#receiving !== known) return;
      if (free < snapshot.byteCount + SPACE_KEPT_BYTES) {
        if (this.#refusedFor !== snapshot.digest)
          log.warn("no room for a snapshot", { index: snapshot.meta.index, bytes: snapshot.byteCount, free });
        this.#refusedFor = snapshot.digest;
        return;
      }
      this.#receiving = begun(snapshot, 0);
      this.#acknowledge(offer.from, offer, snapshot.digest, 0, true);
    }, failed);
  }

  received(chunk: SnapshotChunk, state: { readonly held: boolean; readonly installing: boolean }): void {
    const receiving = this.#receiving;
    if (receiving === null || receiving.snapshot.digest !== chunk.digest || state.installing) return; // (Y1)
    if (state.held) {
      this.#acknowledge(chunk.from, chunk, chunk.digest, receiving.snapshot.chunkCount, true);
      return;
    }
    if (chunk.number !== receiving.expected || receiving.waiting.length >= WAITING_CHUNKS_MAX) {
      if (chunk.number < receiving.expected || receiving.rewindAsked) return; // a copy, or asked for already
      receiving.rewindAsked = true;
      this.#acknowledge(chunk.from, chunk, chunk.digest, receiving.expected, true);
      return;
    }
    receiving.rewindAsked = false;
    receiving.expected++;
    receiving.waiting.push(chunk);
    this.#work(receiving, chunk);
  }

  /** The index of the snapshot being received; 0 when there is none. */
  get index(): number {
    return this.#receiving?.snapshot.meta.index ?? 0;
  }

  /** The received snapshot of this index, if all of it is there. */
  complete(meta: SnapshotMeta): StoredSnapshot | null {
    const receiving = this.#receiving;
    if (receiving?.verified !== true) return null;
    const { index, term } = receiving.snapshot.meta;
    return index === meta.index && term === meta.term ? receiving.snapshot : null;
  }

  /** It has become the state. */
  installed(): void {
    this.#receiving = null;
  }

  /** Writes what waits, one after another; `from` is told. */
  #work(receiving: Receiving, from: { readonly from: NodeId; readonly term: SnapshotChunk["term"] }): void {
    if (receiving.working) return;
    receiving.working = true;
    this.#drain(receiving, from).then(
      () => {
        receiving.working = false;
        const { afterwards } = receiving;
        receiving.afterwards = null;
        afterwards?.();
      },
      (error: unknown) => this.#options.failed(error),
    );
  }

  async #drain(receiving: Receiving, from: Pick<SnapshotChunk, "from" | "term">): Promise<void> {
    const { storage, log } = this.#options;
    const { snapshot } = receiving;
    for (let chunk = receiving.waiting.shift(); chunk !== undefined; chunk = receiving.waiting.shift()) {
      await storage.receiveSnapshotChunk(snapshot, chunk.number, chunk.data);
      receiving.next = chunk.number + 1;
      if (receiving.next < snapshot.chunkCount)
        this.#acknowledge(chunk.from, chunk, snapshot.digest, receiving.next, false);
    }
    if (receiving.next < snapshot.chunkCount || receiving.verified) return;
    if (await storage.verifyReceived()) {
      receiving.verified = true;
      this.#acknowledge(from.from, from, snapshot.digest, snapshot.chunkCount, false);
      return;
    }
    log.warn("a received snapshot does not have its digest; it is fetched again", { index: snapshot.meta.index });
    receiving.next = 0;
    receiving.expected = 0;
    this.#acknowledge(from.from, from, snapshot.digest, 0, true);
  }

  #acknowledge(to: NodeId, { term }: Pick<SnapshotChunk, "term">, digest: string, next: number, rewind: boolean): void {
    const { id, transport } = this.#options;
    transport.sendTransfer(to, { kind: "snapshot-chunk-ack", from: id, term, digest, next, rewind });
  }
}

const begun = (snapshot: StoredSnapshot, next: number): Receiving => ({
  snapshot,
  next,
  waiting: [],
  expected: next,
  rewindAsked: false,
  working: false,
  afterwards: null,
  verified: false,
});

const isSame = (a: StoredSnapshot, b: StoredSnapshot): boolean =>
  a.digest === b.digest &&
  a.meta.index === b.meta.index &&
  a.meta.term === b.meta.term &&
  a.chunkCount === b.chunkCount;
