/**
 * All that a node does with snapshots beside the core: takes one when enough was applied since the last, restores from one,
 * sends the present one, receives another's.
 *
 * (Z1) A snapshot is taken between two applies, and only of what the own disk holds as log: it never runs ahead of it.
 * (Z2) While one is being sent no new one is taken: the transfer ends before the log moves on, however fast that is.
 */
import { AnantaError } from "../../core/errors.js";
import type { LogIndex, NodeId, Term } from "../../core/brands.js";
import type { Env, Log } from "../../runtime/env.js";
import type { InstallSnapshot } from "./core/messages.js";
import type { RaftCore } from "./core/raft.js";
import type { SnapshotMeta } from "./core/types.js";
import type { RaftNodeConfig, ReplicatedStateMachine } from "./raft-node.js";
import { SnapshotReceiver } from "./snapshot-receiver.js";
import { SnapshotSender } from "./snapshot-sender.js";
import type { RaftStorage, StoredSnapshot } from "./storage/storage.js";
import type { RaftTransport, SnapshotChunk, SnapshotChunkAck } from "./transport/transport.js";

export interface SnapshotsOptions {
  readonly env: Env;
  readonly log: Log;
  readonly config: RaftNodeConfig;
  readonly storage: RaftStorage;
  readonly transport: RaftTransport;
  readonly stateMachine: ReplicatedStateMachine;
  /** Fail-stop. */
  readonly failed: (error: unknown) => void;
  /** A transfer ended. */
  readonly sent: (to: NodeId, delivered: boolean) => void;
}

export class Snapshots {
  readonly #options: SnapshotsOptions;
  readonly #receiver: SnapshotReceiver;
  readonly #senders = new Map<NodeId, SnapshotSender>();
  #present: StoredSnapshot | null = null;
  /** One of our own being written. */
  #taking: Promise<void> | null = null;
  #stopped = false;

  constructor(options: SnapshotsOptions) {
    this.#options = options;
    const { config, storage, transport, failed } = options;
    this.#receiver = new SnapshotReceiver({ id: config.id, storage, transport, failed });
  }

  stop(): void {
    this.#stopped = true;
    this.abortSending();
  }

  /** Resolves when none is being written. */
  async idle(): Promise<void> {
    await this.#taking;
  }

  // ---- own state ----

  async restore(snapshot: StoredSnapshot): Promise<void> {
    const { storage, stateMachine, log } = this.#options;
    const chunks: Uint8Array[] = [];
    for (let number = 0; number < snapshot.chunkCount; number++) chunks.push(await storage.readSnapshotChunk(number));
    stateMachine.restore(chunks, snapshot.meta.index);
    this.#present = snapshot;
    log.info("state restored from a snapshot", { index: snapshot.meta.index, chunks: chunks.length });
  }

  takeWhenDue(core: RaftCore): void {
    const { config, stateMachine, failed } = this.#options;
    const { log, snapshot, memberships } = core.state;
    const index = log.appliedIndex;
    if (this.#stopped || index - (snapshot?.index ?? 0) < config.snapshotEveryEntries) return;
    if (this.#taking !== null || this.#senders.size > 0) return; // (Z2)
    if (index > log.stableIndex) return; // (Z1)
    const meta: SnapshotMeta = { index, term: log.termAt(index) ?? (0 as Term), membership: memberships.at(index) };
    const chunks = Array.from(stateMachine.snapshot(), (chunk) => new Uint8Array(chunk)); // it may use its buffer again
    if (chunks.length === 0) chunks.push(new Uint8Array(0));
    this.#taking = this.#store(core, meta, chunks)
      .catch(failed)
      .finally(() => {
        this.#taking = null;
      });
  }

  async #store(core: RaftCore, meta: SnapshotMeta, chunks: readonly Uint8Array[]): Promise<void> {
    const { storage, config } = this.#options;
    // The leader may have sent a newer one meanwhile.
    const overtaken = (): boolean => this.#stopped || (core.state.snapshot?.index ?? 0) >= meta.index;
    for (const [number, chunk] of chunks.entries()) {
      if (overtaken()) return;
      await storage.writeSnapshotChunk(meta, number, chunk);
    }
    if (overtaken()) return;
    const stored: StoredSnapshot = { meta, chunkCount: chunks.length };
    await storage.completeSnapshot(stored);
    if (overtaken()) return;
    this.#present = stored;
    core.snapshotTaken(meta, Math.max(0, meta.index - config.trailingEntries) as LogIndex);
    await storage.compactTo((core.state.log.firstIndex - 1) as LogIndex);
  }

  // ---- sending ----

  send(to: NodeId, message: InstallSnapshot): void {
    const { env, storage, transport, failed, sent } = this.#options;
    const snapshot = this.#present;
    if (snapshot === null) {
      failed(new AnantaError("INTERNAL", "A snapshot is to be sent and there is none."));
      return;
    }
    this.abortSending(to);
    const finished = (delivered: boolean): void => {
      if (this.#senders.get(to) !== sender) return;
      this.#senders.delete(to);
      sent(to, delivered);
    };
    const sender = new SnapshotSender({
      to,
      message,
      snapshot,
      storage,
      transport,
      clock: env.clock,
      finished,
      failed,
    });
    this.#senders.set(to, sender);
    sender.start();
  }

  acknowledged(ack: SnapshotChunkAck): void {
    this.#senders.get(ack.from)?.acknowledged(ack);
  }

  /** To one peer, or to all. */
  abortSending(to?: NodeId): void {
    if (to !== undefined) this.#senders.get(to)?.abort();
    else for (const sender of [...this.#senders.values()]) sender.abort();
  }

  // ---- receiving ----

  receive(chunk: SnapshotChunk, held: boolean): void {
    this.#receiver.receive(chunk, held);
  }

  /** The staged snapshot of this index, if all of it is there. */
  received(meta: SnapshotMeta): StoredSnapshot | null {
    return this.#receiver.complete(meta);
  }
}
