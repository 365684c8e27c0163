/**
 * One replica's consensus core: pure and synchronous. Things happen to it (`step`, `tick`, `propose`, `readIndex`,
 * `appended`...), then `ready()` says what is to be done (ready.ts gives the order). No clock, no I/O, no promise; chance
 * only from the seeded generator. Same calls, same answers, byte for byte.
 *
 * Sources: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014), cited as "Raft §n";
 * Ongaro's dissertation (2014), cited as such; the Ready contract follows the idea of etcd-io/raft's `node.go`.
 */
import { assertNever } from "../../../core/assert.js";
import type { LogIndex, NodeId } from "../../../core/brands.js";
import * as election from "./election.js";
import { handleAppend, handleHeartbeat, handleInstallSnapshot } from "./follower.js";
import { handleHeartbeatResponse, quorumAgeTicks, startReadRound } from "./heartbeat.js";
import { leaderTick } from "./leader-tick.js";
import { checkInvariants } from "./invariants.js";
import type { Message } from "./messages.js";
import { askForReads, cancelRead, handleReadRequest, handleReadResponse, readIndex } from "./read-index.js";
import type { MembershipChange } from "./membership.js";
import { extraPatienceTicks } from "./patience.js";
import type { ChangeMembershipResult, PersistBatch, PersistToken, ProposeResult, Ready } from "./ready.js";
import { changeMembership, endUntilNamed } from "./reconfiguration.js";
import * as replication from "./replication.js";
import { createState, hardStateSettled, isInstalling, leaderIsFresh, note, send, type State } from "./state.js";
import { bestSuccessor, startTransfer, type TransferResult } from "./transfer.js";
import type { CoreConfig, InitialState, SnapshotMeta } from "./types.js";

/** Of entries, in one `Ready`: a few milliseconds of applying, unless one entry alone is longer. */
const COMMITTED_BYTES_MAX = 16 * 1024;

/** A busy machine's timers are as late as this without having stood still. */
const LATE_TICKS = 2;

/** The state may be read by anyone (status, tests) and changed only through this object. */
export class RaftCore {
  readonly #s: State;
  #hasRoom = true;

  constructor(config: CoreConfig, initial: InitialState) {
    this.#s = createState(config, initial);
    endUntilNamed(this.#s);
  }

  get state(): Readonly<State> {
    return this.#s;
  }

  // ---- what happens ----

  /** A message from another replica. `from` must have been authenticated by the transport. */
  step(m: Message): void {
    const s = this.#s;
    if (m.from === s.id) return;
    if (m.term > s.term && !adoptTerm(s, m)) return;
    if (m.term < s.term) {
      answerOldTerm(s, m);
      return;
    }
    dispatch(s, m);
  }

  /**
   * Time passed. Ages count all of it. After a stall timeouts count only what could be acted upon: what lies between two
   * heartbeats, and a timer that was a little late.
   */
  tick(elapsedTicks = 1): void {
    const s = this.#s;
    s.tick += elapsedTicks;
    for (let clamped = Math.min(elapsedTicks, s.config.heartbeatTicks + LATE_TICKS); clamped > 0; clamped--) {
      s.activeTick++;
      if (s.role.kind === "leader") leaderTick(s, s.role);
      else {
        s.electionElapsed++;
        election.answerHeldPreVotes(s);
        if (s.electionElapsed >= timeoutTicks(s)) election.startPreVote(s, "timeout");
      }
    }
    this.#askForCatchUp();
    this.#endCatchUp();
  }

  /**
   * In how many ticks, at least 1, time alone brings something: the next heartbeat, the end of patience with the leader, an
   * answer that is held back. What else time decides (a hung disk, a transfer, questions asked again) is looked at within a
   * heartbeat.
   */
  dueInTicks(): number {
    const { config, role, electionElapsed, heldPreVotes } = this.#s;
    if (heldPreVotes.size > 0) return 1;
    const due =
      role.kind === "leader" ? config.heartbeatTicks - role.heartbeatElapsed : timeoutTicks(this.#s) - electionElapsed;
    return Math.max(1, Math.min(due, config.heartbeatTicks));
  }

  propose(payload: Uint8Array): ProposeResult {
    return replication.propose(this.#s, payload);
  }

  /** Only on a leader; one change at a time (reconfiguration.ts). */
  changeMembership(change: MembershipChange): ChangeMembershipResult {
    return changeMembership(this.#s, change);
  }

  readIndex(): number {
    return readIndex(this.#s);
  }

  cancelRead(read: number): void {
    cancelRead(this.#s, read);
  }

  transferLeadership(target: NodeId): TransferResult {
    return startTransfer(this.#s, target);
  }

  /** To whom a leader would best hand over; null when it does not lead, or nobody is fit. */
  bestSuccessor(): NodeId | null {
    return this.#s.role.kind === "leader" ? bestSuccessor(this.#s, this.#s.role) : null;
  }

  /** See `election.leaderUnreachable`. */
  leaderUnreachable(peer: NodeId): void {
    election.leaderUnreachable(this.#s, peer);
  }

  /** Messages to `peer` were dropped. */
  peerUnreachable(peer: NodeId): void {
    if (this.#s.role.kind === "leader") replication.peerUnreachable(this.#s.role, peer);
  }

  /** A new process answers for `peer`: what the old one acknowledged may be gone, and if it led, it leads no more. */
  peerRestarted(peer: NodeId): void {
    const s = this.#s;
    if (s.role.kind === "leader") s.role.peers.get(peer)?.restarted(s.log.lastIndex);
    else election.leaderUnreachable(s, peer);
  }

  /** The transfer of the state to `peer` ended. */
  snapshotFinished(peer: NodeId, delivered: boolean): void {
    const s = this.#s;
    if (s.role.kind === "leader") replication.snapshotFinished(s, s.role, peer, delivered);
  }

  /** The batch is durable. A token that is not the one under way is a stale completion and changes nothing. */
  appended(token: PersistToken): void {
    const s = this.#s;
    const batch = s.persisting;
    if (batch === null || batch.token.sequence !== token.sequence || batch.token.term !== token.term) return;
    s.persisting = null;
    if (batch.hardState !== null) s.durable = batch.hardState;
    s.log.handedOverIsStable();
    if (s.role.kind === "leader") s.role.offeredForStall = false;
    for (const { to, message } of batch.afterDurable) s.now.push({ order: "now", to, message }); // (I1)
    election.ownVoteIsDurable(s);
    if (s.role.kind === "leader") replication.advanceCommit(s, s.role);
    this.#endCatchUp();
  }

  /** A snapshot of the applied state is durable; entries up to `compactTo` may be forgotten. */
  snapshotTaken(snapshot: SnapshotMeta, compactTo: LogIndex): void {
    const s = this.#s;
    if (s.snapshot !== null && s.snapshot.index >= snapshot.index) return;
    s.snapshot = snapshot;
    s.log.compactTo(Math.min(compactTo, snapshot.index, s.log.stableIndex) as LogIndex);
    s.memberships.compactTo((s.log.firstIndex - 1) as LogIndex);
    note(s, "info", "log compacted", { snapshot: snapshot.index, first: s.log.firstIndex });
  }

  // ---- what is to be done ----

  /** Would `ready()` have anything to say? */
  hasReady(): boolean {
    const s = this.#s;
    return (
      s.now.length > 0 ||
      s.statusChanged ||
      s.reads.confirmed.length > 0 ||
      (s.reads.waiting.length > 0 && s.reads.asked === null && s.leader !== null) ||
      (s.role.kind === "leader" &&
        (replication.commitNoticeIsDue(s, s.role) ||
          (s.role.nextReads.length > 0 && s.role.roundReads.length === 0))) ||
      this.hasCommitted() ||
      (s.persisting === null && (isDirty(s) || s.afterDurable.length > 0))
    );
  }

  /** Entries wait to be applied, and there is room for them. */
  hasCommitted(): boolean {
    return this.#hasRoom && !isInstalling(this.#s) && this.#s.log.appliedIndex < this.#s.log.commitIndex;
  }

  /** False: `ready` gives no committed entries until it is true again. True at first. */
  setRoom(hasRoom: boolean): void {
    this.#hasRoom = hasRoom;
  }

  ready(): Ready {
    const s = this.#s;
    askForReads(s);
    if (s.role.kind === "leader") startReadRound(s, s.role);
    const persist = takeBatch(s);
    if (s.role.kind === "leader") {
      replication.broadcastAppends(s, s.role);
      replication.broadcastCommit(s, s.role);
    }
    if (s.persisting === null && s.afterDurable.length > 0) {
      for (const { to, message } of s.afterDurable) s.now.push({ order: "now", to, message }); // nothing to wait for
      s.afterDurable = [];
    }
    const committed = this.hasCommitted() ? s.log.takeCommitted(COMMITTED_BYTES_MAX) : [];
    const ready: Ready = {
      persist,
      sendNow: s.now,
      committed,
      reads: s.reads.confirmed,
      statusChanged: s.statusChanged,
    };
    s.now = [];
    s.reads.confirmed = [];
    s.statusChanged = false;
    checkInvariants(s);
    return ready;
  }

  /** How many ticks ago a quorum is known to have worked, at most; null when never. */
  quorumAgeTicks(): number | null {
    return quorumAgeTicks(this.#s);
  }

  // ---- a damaged log catches up ----

  #askForCatchUp(): void {
    const s = this.#s;
    if (s.voting.kind !== "until-caught-up" || s.catchUp.read !== null || s.catchUp.target !== null) return;
    s.catchUp = { read: readIndex(s), target: null };
  }

  #endCatchUp(): void {
    const s = this.#s;
    const { target } = s.catchUp;
    if (s.voting.kind !== "until-caught-up" || target === null) return;
    if (isInstalling(s)) return; // the log's marks are ahead of the disk until the snapshot is on it
    if (s.log.stableIndex < target || s.log.commitIndex < target) return;
    s.voting = { kind: "full" };
    s.catchUp = { read: null, target: null };
    s.statusChanged = true;
    note(s, "info", "caught up, votes again", { index: target });
  }
}

/** Raft §5.1: a higher term makes a follower. Returns false when the message is to be ignored. */
function adoptTerm(s: State, m: Message): boolean {
  switch (m.kind) {
    case "pre-vote-request":
      return true; // asks about a term nobody is in yet
    case "pre-vote-response":
      if (m.granted) return true;
      break;
    case "vote-request":
      if (!m.force && leaderIsFresh(s)) {
        note(s, "debug", "ignored a candidate", { from: m.from, term: m.term, reason: "leader is fresh" });
        return false;
      }
      break;
    default:
      break;
  }
  const leads = m.kind === "append-request" || m.kind === "heartbeat" || m.kind === "install-snapshot";
  election.becomeFollower(s, m.term, leads ? m.from : null, "higher term");
  return true;
}

/** Raft §5.1: whoever is behind learns the present term; nothing else comes of an old message. */
function answerOldTerm(s: State, m: Message): void {
  switch (m.kind) {
    case "append-request":
    case "heartbeat":
    case "install-snapshot":
      send(s, m.from, { kind: "heartbeat-response", from: s.id, term: s.term, round: 0, counts: false });
      return;
    case "pre-vote-request":
      send(s, m.from, { kind: "pre-vote-response", from: s.id, term: s.term, granted: false });
      return;
    case "vote-request":
      send(s, m.from, { kind: "vote-response", from: s.id, term: s.term, granted: false });
      return;
    default:
      return;
  }
}

function dispatch(s: State, m: Message): void {
  switch (m.kind) {
    case "pre-vote-request": {
      election.handlePreVoteRequest(s, m);
      return;
    }
    case "pre-vote-response": {
      election.handlePreVoteResponse(s, m);
      return;
    }
    case "vote-request": {
      election.handleVoteRequest(s, m);
      return;
    }
    case "vote-response": {
      election.handleVoteResponse(s, m);
      return;
    }
    case "append-request": {
      handleAppend(s, m);
      return;
    }
    case "heartbeat": {
      handleHeartbeat(s, m);
      return;
    }
    case "install-snapshot": {
      handleInstallSnapshot(s, m);
      return;
    }
    case "timeout-now": {
      election.handleTimeoutNow(s, m);
      return;
    }
    case "read-response": {
      handleReadResponse(s, m);
      return;
    }
    case "append-response":
    case "append-rejection":
    case "heartbeat-response":
    case "read-request": {
      dispatchToLeader(s, m);
      return;
    }
    default:
      return assertNever(m);
  }
}

function dispatchToLeader(
  s: State,
  m: Extract<Message, { kind: "append-response" | "append-rejection" | "heartbeat-response" | "read-request" }>,
): void {
  const leader = s.role;
  if (leader.kind !== "leader") return;
  const peer = leader.peers.get(m.from);
  if (peer === undefined) return;
  switch (m.kind) {
    case "append-response": {
      replication.handleAppendResponse(s, leader, peer, m);
      return;
    }
    case "append-rejection": {
      replication.handleAppendRejection(s, leader, peer, m);
      return;
    }
    case "heartbeat-response": {
      handleHeartbeatResponse(s, leader, peer, m);
      if (s.role === leader) replication.resumeAppends(s, leader, peer);
      return;
    }
    case "read-request": {
      handleReadRequest(s, leader, m);
      return;
    }
    default:
      return assertNever(m);
  }
}

/** Silence after which this replica would lead. */
const timeoutTicks = (s: State): number => s.electionTimeoutTicks + (s.leaderIsGone ? 0 : extraPatienceTicks(s));

/** Something is not yet handed to storage. */
const isDirty = (s: State): boolean =>
  s.log.handedIndex < s.log.lastIndex || s.snapshotToPersist !== null || !hardStateSettled(s);

function takeBatch(s: State): PersistBatch | null {
  if (s.persisting !== null || !isDirty(s)) return null;
  const entries = s.log.slice(s.log.handedIndex + 1, s.log.lastIndex, s.config.appendBytesMax);
  const all = s.log.handedIndex + entries.length === s.log.lastIndex;
  s.lastPersistSequence++;
  const batch: PersistBatch = {
    token: { sequence: s.lastPersistSequence, term: s.term },
    hardState: hardStateSettled(s) ? null : { term: s.term, votedFor: s.votedFor },
    entries,
    snapshot: s.snapshotToPersist,
    commitIndex: s.log.commitIndex,
    // Acknowledgements of entries that did not fit wait for the next batch, and so does everything after them.
    afterDurable: all ? s.afterDurable : [],
  };
  if (all) s.afterDurable = [];
  s.snapshotToPersist = null;
  s.persisting = batch;
  s.persistingSince = s.activeTick;
  s.log.handOver((s.log.handedIndex + entries.length) as LogIndex);
  return batch;
}
