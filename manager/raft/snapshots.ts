/**
 * All that a node does with snapshots beside the core: takes one when enough was applied since the last, restores from one,
 * sends the present one, receives another's.
 *
 * (Z1) A snapshot is taken between two applies, and only of what the own disk holds as log: it never runs ahead of it.
 * (Z2) While one is being sent, and for a while after such a transfer broke off, no new one is taken: the transfer ends, or
 *      goes on where it stopped, before the log moves on. Beyond APPLIED_BYTES_MAX the log matters more: transfers are
 *      broken off and a new one is taken. One that begins while a snapshot is being taken begins anew with that one.
 *      It is the same while the state machine is busy: it is asked when it is not, and beyond that has to finish what it was given.
 * (Z3) What is kept in memory as log is bounded: SNAPSHOT_EVERY_BYTES (or 1.5 x `snapshotEveryEntries`) since the newest snapshot
 *      and TRAILING_BYTES_MAX (or `trailingEntries`) before it; during transfers, or while it is busy, APPLIED_BYTES_MAX since the newest.
 *      Beside that what is committed and not applied: a replica whose state machine is slower than the leader's for good has no bound.
 * (Z4) Replicas with different `snapshotOffset` take their snapshots at different indexes, so that never all are busy with one.
 */
import { assert } from "../../core/assert.js";
import { AnantaError } from "../../core/errors.js";
import type { LogIndex, NodeId, Term } from "../../core/brands.js";
import type { Env, Log } from "../../runtime/env.js";
import type { InstallSnapshot } from "./core/messages.js";
import type { RaftCore } from "./core/raft.js";
import { entryBytes, type SnapshotMeta } from "./core/types.js";
import type { ExportedSnapshot, RaftNodeConfig, ReplicatedStateMachine } from "./raft-node.js";
import { SnapshotDigest } from "./snapshot-digest.js";
import { SnapshotReceiver, SPACE_KEPT_BYTES } from "./snapshot-receiver.js";
import { SnapshotSender } from "./snapshot-sender.js";
import {
  SNAPSHOT_CHUNK_BYTES_MAX,
  type RaftStorage,
  type ReceivingSnapshot,
  type StoredSnapshot,
} from "./storage/storage.js";
import type { RaftTransport, SnapshotChunkAck, SnapshotChunk, SnapshotOffer } from "./transport/transport.js";

export const SNAPSHOT_EVERY_BYTES = 64 * 1024 * 1024;
export const TRAILING_BYTES_MAX = 32 * 1024 * 1024;
/** (Z2) Four times what is usual: a follower that breaks off again and again does not hold the log of all others up. */
export const APPLIED_BYTES_MAX = 4 * SNAPSHOT_EVERY_BYTES;
/** (Z2) Reconnecting takes an election timeout, restarting a replica a few seconds. */
const HOLD_AFTER_BROKEN_TRANSFER_MS = 10_000;
/** Until it is tried again when the disk had no room for a snapshot, or did not give it back. */
const PAUSE_MS = 10_000;

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
  /** (Z2) A transfer broke off and may go on until then. */
  #heldUntilMs = Number.NEGATIVE_INFINITY;
  /** The disk could not hold one. */
  #retryAtMs = Number.NEGATIVE_INFINITY;
  /** Applied entries and their bytes since the newest snapshot. */
  readonly #applied = { index: 0, bytes: 0 };
  #stopped = false;
  #timings = { snapshotMs: 0, restoreMs: 0 };

  constructor(options: SnapshotsOptions) {
    this.#options = options;
    const { config, storage, transport, log, failed } = options;
    this.#receiver = new SnapshotReceiver({ id: config.id, storage, transport, log, failed });
  }

  get timings(): { readonly snapshotMs: number; readonly restoreMs: number } {
    return this.#timings;
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
    const { storage, stateMachine, log, env } = this.#options;
    const startedMs = env.clock.nowMs();
    const digest = new SnapshotDigest();
    const chunks: Uint8Array[] = [];
    for (let number = 0; number < snapshot.chunkCount; number++) {
      const chunk = await storage.readSnapshotChunk(snapshot.digest, number);
      assert(chunk !== null, "what is restored is the present snapshot");
      digest.add(chunk);
      chunks.push(chunk);
    }
    if (digest.finish() !== snapshot.digest)
      throw new AnantaError(
        "STORAGE_DAMAGED",
        `The snapshot of index ${snapshot.meta.index} does not have its digest.`,
      );
    await stateMachine.restore(chunks, snapshot.meta.index);
    this.#present = snapshot;
    this.#applied.index = snapshot.meta.index;
    this.#applied.bytes = 0;
    const restoreMs = Math.round(env.clock.nowMs() - startedMs);
    this.#timings = { ...this.#timings, restoreMs };
    log.info("state restored from a snapshot", { index: snapshot.meta.index, chunks: chunks.length, ms: restoreMs });
  }

  takeWhenDue(core: RaftCore): void {
    const { env, stateMachine, failed } = this.#options;
    const { log, snapshot, memberships } = core.state;
    const index = log.appliedIndex;
    for (; this.#applied.index < index; this.#applied.index++) {
      const entry = log.entryAt(this.#applied.index + 1);
      if (entry !== undefined) this.#applied.bytes += entryBytes(entry);
    }
    const newest = snapshot?.index ?? 0;
    const due = index >= this.#dueIndex(newest) || (index > newest && this.#applied.bytes >= SNAPSHOT_EVERY_BYTES);
    if (this.#stopped || !due || this.#taking !== null || index > log.stableIndex) return; // (Z1)
    if (env.clock.nowMs() < this.#retryAtMs) return;
    const held = stateMachine.busy === true || this.#senders.size > 0 || env.clock.nowMs() < this.#heldUntilMs;
    if (held && this.#applied.bytes < APPLIED_BYTES_MAX) return; // (Z2)
    this.abortSending();
    const meta: SnapshotMeta = { index, term: log.termAt(index) ?? (0 as Term), membership: memberships.at(index) };
    const chunks = captured(stateMachine.snapshot());
    this.#taking = this.#store(core, meta, chunks)
      .catch(failed)
      .finally(() => {
        this.#taking = null;
      });
  }

  /** (Z4) With an offset: the first index of its own that lies behind the newest snapshot by at least half the distance. */
  #dueIndex(newest: number): number {
    const { snapshotEveryEntries: every, snapshotOffset } = this.#options.config;
    if (snapshotOffset === undefined) return newest + every;
    return snapshotOffset + Math.ceil((newest + every / 2 - snapshotOffset) / every) * every;
  }

  async #store(
    core: RaftCore,
    meta: SnapshotMeta,
    chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  ): Promise<void> {
    const { storage, log, env } = this.#options;
    const startedMs = env.clock.nowMs();
    // The leader may have sent a newer one meanwhile.
    const overtaken = (): boolean => this.#stopped || (core.state.snapshot?.index ?? 0) >= meta.index;
    const free = await storage.freeBytes();
    if (free < SPACE_KEPT_BYTES + (this.#present?.byteCount ?? 0)) {
      log.warn("no room to take a snapshot; the log is kept", { index: meta.index, free });
      await drop(chunks);
      this.#retryAtMs = env.clock.nowMs() + PAUSE_MS;
      return;
    }
    const digest = new SnapshotDigest();
    const write = async (chunk: Uint8Array): Promise<void> => {
      assert(chunk.length <= SNAPSHOT_CHUNK_BYTES_MAX, "a snapshot's chunk has at most 1 MiB");
      const number = digest.chunkCount;
      digest.add(chunk);
      await storage.writeSnapshotChunk(meta, number, chunk);
    };
    for await (const chunk of chunks) {
      if (overtaken()) return;
      await write(chunk);
    }
    if (digest.chunkCount === 0) await write(new Uint8Array(0));
    if (overtaken()) return;
    const { chunkCount, byteCount } = digest;
    const stored: StoredSnapshot = { meta, chunkCount, byteCount, digest: digest.finish() };
    this.abortSending(); // what they carry is about to go; they begin anew with this one
    if (!(await storage.completeSnapshot(stored))) {
      log.warn("a snapshot does not read back as it was written; the log is kept", { index: meta.index });
      this.#retryAtMs = env.clock.nowMs() + PAUSE_MS;
      return;
    }
    if (overtaken()) return;
    this.#present = stored;
    this.abortSending(); // a transfer that began meanwhile reads another snapshot's chunks from now on: it begins anew
    const snapshotMs = Math.round(env.clock.nowMs() - startedMs);
    this.#timings = { ...this.#timings, snapshotMs };
    log.info("snapshot taken", { index: meta.index, bytes: byteCount, ms: snapshotMs });
    core.snapshotTaken(meta, this.#compactionIndex(core, meta.index));
    this.#applied.bytes = 0; // what was applied while it was written counts as little
    await storage.compactTo((core.state.log.firstIndex - 1) as LogIndex);
  }

  /** (Z3) */
  #compactionIndex({ state: { log } }: RaftCore, snapshotIndex: LogIndex): LogIndex {
    const first = Math.max(log.firstIndex, snapshotIndex - this.#options.config.trailingEntries + 1);
    let at: number = snapshotIndex;
    for (let bytes = 0; at >= first; at--) {
      const entry = log.entryAt(at);
      if (entry === undefined) break;
      bytes += entryBytes(entry);
      if (bytes > TRAILING_BYTES_MAX) break;
    }
    return at as LogIndex;
  }

  /** The state as it is now, apart from what storage holds: for a file. Called between two applies. */
  async export(core: RaftCore): Promise<ExportedSnapshot> {
    const { log, memberships } = core.state;
    const index = log.appliedIndex;
    const meta: SnapshotMeta = { index, term: log.termAt(index) ?? (0 as Term), membership: memberships.at(index) };
    const digest = new SnapshotDigest();
    const chunks: Uint8Array[] = [];
    for await (const chunk of captured(this.#options.stateMachine.snapshot())) {
      digest.add(chunk);
      chunks.push(chunk);
    }
    if (chunks.length === 0) {
      chunks.push(new Uint8Array(0));
      digest.add(new Uint8Array(0));
    }
    const { chunkCount, byteCount } = digest;
    return { snapshot: { meta, chunkCount, byteCount, digest: digest.finish() }, chunks };
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
      if (!delivered && sender.acked > 0) this.#heldUntilMs = env.clock.nowMs() + HOLD_AFTER_BROKEN_TRANSFER_MS; // (Z2)
      sent(to, delivered);
    };
    const { clock } = env;
    const sender = new SnapshotSender({ to, message, snapshot, storage, transport, clock, finished, failed });
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

  /** What an earlier process had received. */
  resume(receiving: ReceivingSnapshot | null): void {
    if (receiving !== null) this.#receiver.resume(receiving);
  }

  receive(message: SnapshotOffer | SnapshotChunk, state: { commitIndex: LogIndex; installing: boolean }): void {
    const { commitIndex, installing } = state;
    if (message.kind === "snapshot-offer")
      this.#receiver.offered(message, { held: message.snapshot.meta.index <= commitIndex, installing });
    else this.#receiver.received(message, { held: this.#receiver.index <= commitIndex, installing });
  }

  /** The received snapshot of this index, if all of it is there. */
  received(meta: SnapshotMeta): StoredSnapshot | null {
    return this.#receiver.complete(meta);
  }

  /** What was received is durably the state of this replica: now the state machine's too. */
  async install(snapshot: StoredSnapshot): Promise<void> {
    this.#receiver.installed();
    await this.restore(snapshot);
  }
}

/** Nobody wants the chunks: an asynchronous snapshot need not keep hold of the state any more. */
async function drop(chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): Promise<void> {
  if (Symbol.asyncIterator in chunks) await chunks[Symbol.asyncIterator]().return?.();
}

/**
 * The state as it is now. An asynchronous snapshot keeps hold of that by itself, whatever is applied meanwhile; the chunks of
 * a synchronous one are all taken at once, and copied, for it may use its buffer again.
 */
function captured(
  chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Iterable<Uint8Array> | AsyncIterable<Uint8Array> {
  return Symbol.asyncIterator in chunks ? chunks : Array.from(chunks, (chunk) => new Uint8Array(chunk));
}
