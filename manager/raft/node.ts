/**
 * One replica: the pure core, its storage, its transport, the state machine, and the only loop that moves them.
 *
 * Everything that happens (a message, a tick, a proposal, a finished write) is told to the core and asks for one run of the
 * loop at the end of this event-loop turn; so all that came in one turn is one batch. A run:
 *   1. start the storage batch, if there is one and none is under way (the next one grows meanwhile);
 *   2. send what may be sent at once, while the disk works;
 *   3. apply what is committed, answer proposals and reads;
 *   4. tell of changed roles, take a snapshot when it is due.
 * A finished write is a step of the core like any other; what had waited for it is sent by the run that follows.
 *
 * (N1) A failed write, a broken invariant, or an exception of the state machine ends the node: `failed`, then nothing.
 */
import type { LogIndex, NodeId } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import type { Env, Log, Timer } from "../../runtime/env.js";
import { applyCommitted } from "./apply-committed.js";
import type { MembershipChange } from "./core/membership.js";
import { RaftCore } from "./core/raft.js";
import type { PersistBatch, SendNow } from "./core/ready.js";
import { isInstalling } from "./core/state.js";
import { coreConfig } from "./core-config.js";
import { MemberDirectory } from "./member-directory.js";
import { PendingChange } from "./pending-changes.js";
import { PendingProposals } from "./pending-proposals.js";
import { PendingReads } from "./pending-reads.js";
import { PendingTransfer } from "./pending-transfer.js";
import type {
  ExportedSnapshot,
  Proposal,
  RaftEvents,
  RaftNode,
  RaftNodeConfig,
  RaftStatus,
  ReplicatedStateMachine,
} from "./raft-node.js";
import { Snapshots } from "./snapshots.js";
import { notStarted, statusOf } from "./status.js";
import { LevelStorage } from "./storage/level-storage.js";
import { StorageReserve } from "./storage-reserve.js";
import type { RaftStorage } from "./storage/storage.js";
import { Ticker } from "./ticker.js";
import { GrpcTransport } from "./transport/grpc-transport.js";
import type { PeerMessage, RaftTransport, TransportListener } from "./transport/transport.js";

export interface RaftNodeParts {
  readonly env: Env;
  readonly config: RaftNodeConfig;
  readonly stateMachine: ReplicatedStateMachine;
  readonly events?: RaftEvents;
  /** Default: gRPC streams over `env.network`, serving at the own address in `config.voters`. */
  readonly transport?: RaftTransport;
  /** Default: LevelDB and a hard-state file in `config.dataFolder`. */
  readonly storage?: RaftStorage;
}

/** A single proposal larger than this would not fit into a frame beside its envelope. */
const PAYLOAD_BYTES_MAX = 2 * 1024 * 1024;
/** A replica that catches up applies for so long, or so many times 16 KiB, in one turn of the event loop. */
const APPLY_MS = 5;
const APPLIES_PER_TURN = 8;
/** A transfer that works takes some ms; the core gives it up after one election timeout, an election takes another. */
const TRANSFER_TIMEOUTS = 3;

export function createRaftNode(parts: RaftNodeParts): RaftNode {
  return new Node(parts);
}

class Node implements RaftNode {
  readonly #env: Env;
  readonly #log: Log;
  readonly #config: RaftNodeConfig;
  readonly #stateMachine: ReplicatedStateMachine;
  readonly #events: RaftEvents;
  readonly #transport: RaftTransport;
  readonly #storage: RaftStorage;
  readonly #ticker: Ticker;
  readonly #proposals = new PendingProposals();
  readonly #reads: PendingReads;
  readonly #change = new PendingChange();
  readonly #transfer: PendingTransfer;
  readonly #reserve: StorageReserve;
  readonly #members: MemberDirectory;
  readonly #snapshots: Snapshots;
  #lifecycle: "new" | "running" | "ended" = "new";
  #core: RaftCore | null = null;
  #runPending: Timer | null = null;
  #persisting: Promise<void> = Promise.resolve();
  #establishedTerm = 0;
  /** The term in which this node was last seen leading; its proposals are abandoned when it leads that term no more. */
  #ledTerm = 0;
  #repairMarked = false;
  /** Who said so last; believed while nobody leads us. */
  #removedSays: NodeId | null = null;

  constructor(parts: RaftNodeParts) {
    const { env, config } = parts;
    this.#env = env;
    this.#config = config;
    this.#log = env.log.with({ node: config.id });
    this.#stateMachine = parts.stateMachine;
    this.#events = parts.events ?? {};
    this.#storage =
      parts.storage ??
      new LevelStorage({
        disk: env.disk,
        clock: env.clock,
        folder: config.dataFolder,
        owner: { clusterId: config.clusterId, clusterEpoch: config.clusterEpoch, nodeId: config.id },
        bootstrap: config.bootstrap,
        join: config.join === true ? hex(env.entropy(16)) : null,
      });
    this.#transport =
      parts.transport ??
      new GrpcTransport({
        env,
        log: this.#log,
        id: config.id,
        address: config.address ?? config.voters.get(config.id) ?? "",
        clusterId: config.clusterId,
        clusterEpoch: config.clusterEpoch,
        redialMaxMs: config.electionTimeoutMinMs,
      });
    this.#members = new MemberDirectory(this.#transport);
    this.#reads = new PendingReads(env.clock);
    this.#transfer = new PendingTransfer(env.clock, TRANSFER_TIMEOUTS * config.electionTimeoutMaxMs);
    this.#snapshots = new Snapshots({
      env,
      log: this.#log,
      config,
      storage: this.#storage,
      transport: this.#transport,
      stateMachine: this.#stateMachine,
      failed: (error) => this.#fail(error),
      sent: (to, delivered) => {
        this.#guarded((core) => core.snapshotFinished(to, delivered));
        this.#schedule();
      },
    });
    this.#reserve = new StorageReserve({ storage: this.#storage, clock: env.clock, log: this.#log });
    this.#ticker = new Ticker({
      clock: env.clock,
      tickMs: config.tickMs,
      dueInTicks: () => this.#core?.dueInTicks() ?? 1,
      tick: (elapsed) => {
        this.#passTime(elapsed);
        this.#schedule();
      },
    });
  }

  // ---- life ----

  async start(): Promise<void> {
    if (this.#lifecycle !== "new") throw new AnantaError("FAILED_PRECONDITION", "A raft node is started once.");
    const opened = await this.#storage.open();
    for (const finding of opened.findings) this.#log.warn("storage made something good", { finding });
    if (opened.snapshot !== null) await this.#snapshots.restore(opened.snapshot);
    this.#snapshots.resume(opened.receiving);
    if (opened.voting.kind !== "full")
      this.#log.warn("this replica does not vote", { until: opened.voting.kind, reason: opened.voting.reason });
    this.#core = new RaftCore(
      coreConfig(this.#config, {
        env: this.#env,
        voting: opened.voting,
        observe: (level, event, facts) => this.#log[level](event, facts),
      }),
      {
        hardState: opened.hardState,
        snapshot: opened.snapshot?.meta ?? null,
        entries: opened.entries,
        commitIndex: opened.commitIndex,
      },
    );
    this.#lifecycle = "running";
    this.#members.tellTransport(this.#core);
    await this.#transport.start(this.#listener(), opened.folder);
    this.#ticker.start();
    this.#reserve.start();
    this.#schedule();
  }

  async stop(): Promise<void> {
    const wasRunning = this.#lifecycle === "running";
    this.#end("the node was stopped");
    if (wasRunning) await this.#transport.stop();
    await this.#persisting.catch(() => undefined);
    await this.#snapshots.idle();
    await this.#storage.close();
  }

  /** The one terminal path. Safe to call twice. */
  #end(reason: string): void {
    if (this.#lifecycle === "ended") return;
    this.#lifecycle = "ended";
    this.#ticker.stop();
    this.#runPending?.cancel();
    this.#reserve.stop();
    this.#snapshots.stop();
    this.#proposals.abandon(reason);
    this.#change.abandon(reason);
    this.#reads.abandon(new AnantaError("UNAVAILABLE", `No read index: ${reason}.`));
    this.#transfer.abandon(reason);
  }

  /** (N1) */
  #fail(caught: unknown): void {
    if (this.#lifecycle === "ended") return;
    const error = caught instanceof Error ? caught : AnantaError.from(caught);
    this.#log.error("raft node failed", {
      reason: error.message,
      cause: error.cause instanceof Error ? error.cause.message : undefined,
    });
    this.#end("the node failed");
    void this.#transport.stop();
    this.#events.failed?.(error);
  }

  // ---- what others ask ----

  propose(payload: Uint8Array): Proposal {
    const core = this.#running();
    if (this.#reserve.reached)
      throw new AnantaError("STORAGE_RESERVE_REACHED", "Free disk space is below the reserve; nothing is appended.");
    if (payload.length === 0 || payload.length > PAYLOAD_BYTES_MAX) {
      throw new AnantaError(
        "INVALID_ARGUMENT",
        `A proposal has 1 to ${PAYLOAD_BYTES_MAX} bytes, not ${payload.length}.`,
      );
    }
    const result = core.propose(payload);
    switch (result.kind) {
      case "accepted":
        this.#schedule();
        return { index: result.index, term: result.term, applied: this.#proposals.add(result.index, result.term) };
      case "not-leader":
        throw new AnantaError("NOT_LEADER", "This replica does not lead.", { leaderHint: result.leader ?? undefined });
      case "overloaded":
        throw new AnantaError("STAGE_OVERLOADED", "Too much is proposed and not yet committed.", {
          uncommittedBytes: result.uncommittedBytes,
        });
      case "transferring":
        throw new AnantaError("NOT_LEADER", "This replica is handing leadership over.", {
          leaderHint: result.target ?? undefined,
        });
    }
  }

  async changeMembership(change: MembershipChange): Promise<void> {
    const result = this.#running().changeMembership(change);
    switch (result.kind) {
      case "done":
        return;
      case "accepted":
        this.#schedule();
        return this.#change.wait(result.index, result.term);
      case "not-leader":
        throw new AnantaError("NOT_LEADER", "This replica does not lead.", { leaderHint: result.leader ?? undefined });
      case "transferring":
        throw new AnantaError("NOT_LEADER", "This replica is handing leadership over.", {
          leaderHint: result.target ?? undefined,
        });
      case "not-ready":
        throw new AnantaError("FAILED_PRECONDITION", `Not yet: ${result.reason}.`, { retry: true });
      case "refused":
        throw new AnantaError("FAILED_PRECONDITION", `Refused: ${result.reason}.`);
    }
  }

  readIndex(timeoutMs: number): Promise<LogIndex> {
    if (this.#lifecycle !== "running" || this.#core === null) return Promise.reject(notRunning());
    const core = this.#core;
    const read = core.readIndex();
    this.#schedule();
    return this.#reads.add(read, timeoutMs, () => core.cancelRead(read));
  }

  async transferLeadership(wanted: NodeId | null): Promise<void> {
    const core = this.#running();
    const leads = core.state.role.kind === "leader";
    const target = wanted ?? (leads ? core.bestSuccessor() : core.state.id);
    if (target === null) throw new AnantaError("FAILED_PRECONDITION", "No other voter is fit to lead now.");
    const result = core.transferLeadership(target);
    switch (result) {
      case "already-leader":
        return;
      case "not-leader":
        throw new AnantaError("NOT_LEADER", "This replica does not lead.", {
          leaderHint: core.state.leader ?? undefined,
        });
      case "not-a-voter":
        throw new AnantaError("INVALID_ARGUMENT", `Node ${target} is no voter of this cluster.`);
      case "another-under-way":
        throw new AnantaError("FAILED_PRECONDITION", "Leadership is being handed to another replica.");
      case "started": {
        const done = this.#transfer.wait(target);
        this.#schedule();
        return done;
      }
    }
  }

  async exportSnapshot(): Promise<ExportedSnapshot> {
    return this.#snapshots.export(this.#running());
  }

  status(): RaftStatus {
    return this.#core === null
      ? notStarted(this.#config)
      : statusOf(this.#core.state, this.#config.tickMs, { ...this.#snapshots.timings, removedSays: this.#removedSays });
  }

  membershipIndex(): LogIndex {
    return this.#core?.state.memberships.inForceIndex ?? (0 as LogIndex);
  }

  quorumSeenAtMs(): number {
    const age = this.#core?.quorumAgeTicks() ?? null;
    return age === null ? Number.NEGATIVE_INFINITY : this.#ticker.lastTickMs - age * this.#config.tickMs;
  }

  #running(): RaftCore {
    if (this.#lifecycle !== "running" || this.#core === null) throw notRunning();
    return this.#core;
  }

  // ---- what happens ----

  #listener(): TransportListener {
    const told = (change: (core: RaftCore) => void): void => {
      if (this.#lifecycle !== "running" || this.#core === null) return;
      this.#passTime(this.#ticker.passed(false)); // what lies before a message must not count after it
      this.#guarded(change);
      this.#schedule();
    };
    return {
      received: (message) => told((core) => this.#received(core, message)),
      dropped: (peer) => {
        told((core) => core.peerUnreachable(peer));
        this.#snapshots.abortSending(peer);
      },
      gone: (peer) => told((core) => core.leaderUnreachable(peer)),
      restarted: (peer) => told((core) => core.peerRestarted(peer)),
      identified: (peer, folder) => this.#members.identified(peer, folder),
      removedSays: (peer) => (this.#removedSays = peer),
    };
  }

  #received(core: RaftCore, message: PeerMessage): void {
    switch (message.kind) {
      case "snapshot-offer":
      case "snapshot-chunk": {
        if (message.term < core.state.term) return;
        const { commitIndex } = core.state.log;
        this.#snapshots.receive(message, { commitIndex, installing: isInstalling(core.state) });
        return;
      }
      case "snapshot-chunk-ack":
        this.#snapshots.acknowledged(message);
        return;
      case "install-snapshot": {
        const { index, term } = message.snapshot;
        const held = index <= core.state.log.commitIndex || core.state.log.termAt(index) === term;
        if (!held && this.#snapshots.received(message.snapshot) === null) return; // its chunks are not all here
        core.step(message);
        return;
      }
      default:
        core.step(message);
    }
  }

  #passTime(elapsedTicks: number): void {
    if (elapsedTicks === 0) return;
    this.#guarded((core) => {
      core.tick(elapsedTicks);
      this.#members.nameFolders(core);
    });
  }

  /** A broken invariant ends this node, not whoever called us (N1). */
  #guarded(work: (core: RaftCore) => void): void {
    if (this.#lifecycle !== "running" || this.#core === null) return;
    try {
      work(this.#core);
    } catch (error) {
      this.#fail(error);
    }
  }

  // ---- the loop ----

  #schedule(): void {
    if (this.#runPending !== null || this.#lifecycle !== "running") return;
    this.#runPending = this.#env.clock.nextTurn(() => {
      this.#runPending = null;
      this.#runNow();
    });
  }

  /** Ages that are told are those of now, and so is the clock by which a read under a lease is judged. */
  #runNow(): void {
    this.#passTime(this.#ticker.passed(this.#config.leaseReads === true));
    this.#guarded((core) => this.#run(core));
    this.#ticker.adjust();
  }

  #run(core: RaftCore): void {
    const endMs = this.#env.clock.nowMs() + APPLY_MS;
    for (let applies = 0; this.#lifecycle === "running" && core.hasReady();) {
      const ready = core.ready();
      if (ready.persist !== null) this.#persisting = this.#persist(core, ready.persist);
      for (const outgoing of ready.sendNow) this.#send(outgoing);
      if (ready.reads.length > 0) this.#reads.confirmed(ready.reads);
      if (ready.committed.length > 0) {
        applyCommitted(core, this.#stateMachine, ready.committed, () => this.#schedule());
        this.#proposals.applied(ready.committed);
      }
      // While a snapshot is being installed the log is ahead of the state machine.
      if (!isInstalling(core.state)) this.#reads.applied(core.state.log.appliedIndex);
      this.#change.settle(core.state);
      if (ready.statusChanged) this.#statusChanged(core);
      this.#members.settle(core);
      this.#tellEstablished(core);
      if (ready.committed.length > 0 && core.hasCommitted()) {
        if (++applies < APPLIES_PER_TURN && this.#env.clock.nowMs() < endMs) continue;
        this.#schedule(); // a replica that catches up goes on a turn later: heartbeats come between
        break;
      }
    }
    this.#snapshots.takeWhenDue(core);
  }

  #send(outgoing: SendNow): void {
    if (outgoing.message.kind === "install-snapshot") this.#snapshots.send(outgoing.to, outgoing.message);
    else this.#transport.send(outgoing);
  }

  async #persist(core: RaftCore, batch: PersistBatch): Promise<void> {
    try {
      const snapshot = batch.snapshot === null ? null : this.#snapshots.received(batch.snapshot);
      if (batch.snapshot !== null) {
        if (snapshot === null)
          throw new AnantaError("INTERNAL", "A snapshot is installed whose chunks are not all here.");
        await this.#snapshots.idle(); // two switches of the snapshot must not cross
      }
      await this.#storage.persist({
        hardState: batch.hardState,
        entries: batch.entries,
        commitIndex: batch.commitIndex,
        snapshot,
      });
      if (snapshot !== null) await this.#snapshots.install(snapshot);
    } catch (error) {
      this.#fail(error);
      return;
    }
    this.#guarded(() => core.appended(batch.token));
    this.#runNow(); // acknowledgements leave at once, not a turn later
  }

  #statusChanged(core: RaftCore): void {
    const s = core.state;
    const leads = s.role.kind === "leader";
    if (this.#ledTerm !== 0 && (!leads || s.term !== this.#ledTerm)) {
      this.#proposals.abandon("this replica leads no more");
      this.#change.abandon("this replica leads no more");
      this.#snapshots.abortSending();
    }
    this.#ledTerm = leads ? s.term : 0;
    this.#transfer.settle(s);
    this.#members.tellTransport(core);
    if (s.voting.kind === "full" && core.state.config.voting.kind !== "full") this.#markRepaired();
    this.#events.roleChanged?.(this.status());
  }

  #tellEstablished(core: RaftCore): void {
    const { role, term, log } = core.state;
    if (role.kind !== "leader" || this.#establishedTerm === term || log.appliedIndex < role.noOpIndex) return;
    this.#establishedTerm = term;
    this.#events.leadershipEstablished?.(term);
  }

  #markRepaired(): void {
    if (this.#repairMarked) return;
    this.#repairMarked = true;
    this.#storage.markRepaired().catch((error: unknown) => this.#fail(error));
  }
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

const notRunning = (): AnantaError => new AnantaError("UNAVAILABLE", "This raft node is not running.");
