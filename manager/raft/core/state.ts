/**
 * The whole state of one replica's core, and the two ways to say something. The modules beside this file
 * (election, replication, follower, heartbeat, read-index, transfer) are functions over it; `raft.ts` dispatches to them.
 *
 *   follower --timeout--> pre-candidate --quorum would vote--> candidate --quorum voted--> leader
 *      ^___________________|_____________________________________|__________________________|
 *                        higher term, or a leader of this term, or (leader) no quorum for too long
 */
import type { LogIndex, NodeId, Term } from "../../../core/brands.js";
import type { AppendRequest, Heartbeat, Message, PreVoteRequest } from "./messages.js";
import { extraPatienceTicks } from "./patience.js";
import { RaftLog } from "./log.js";
import { MembershipLog } from "./membership-log.js";
import type { Progress } from "./progress.js";
import type { ConfirmedRead, PersistBatch, SendAfterDurable, SendNow } from "./ready.js";
import type { CoreConfig, HardState, InitialState, Membership, ReadId, SnapshotMeta, VotingRight } from "./types.js";

export interface FollowerRole {
  readonly kind: "follower";
}

export interface PreCandidateRole {
  readonly kind: "pre-candidate";
  readonly votes: Map<NodeId, boolean>;
}

export interface CandidateRole {
  readonly kind: "candidate";
  readonly votes: Map<NodeId, boolean>;
}

/** A question that waits for a heartbeat round to prove that this leader still leads. */
export interface PendingRead {
  readonly from: NodeId;
  readonly id: ReadId;
  /** The commit index when the question came (dissertation §6.4 step 1). */
  readonly index: LogIndex;
}

export interface LeaderRole {
  readonly kind: "leader";
  /** Every other member, and those just removed until they know it (reconfiguration.ts). */
  readonly peers: Map<NodeId, Progress>;
  /** Index of this term's no-op: nothing is read or committed by counting before it is committed (Raft §5.4.2, §8). */
  readonly noOpIndex: LogIndex;
  heartbeatElapsed: number;
  /** The newest heartbeat round, and when each unconfirmed one was sent. */
  round: number;
  readonly roundsSent: Map<number, { readonly tick: number; readonly activeTick: number }>;
  confirmedRound: number;
  /** Active tick at which the last quorum-confirmed round was sent: check-quorum. */
  quorumActiveTick: number;
  /** Tick at which the last quorum-confirmed round of this leadership was sent: leases; null before the first. */
  leaseTick: number | null;
  /** A successor was told to campaign: it may be elected while we are fresh, so no lease holds in this term any more. */
  leaseVoid: boolean;
  /** Reads that came before the no-op was committed, those for the next round, and those that wait for a round. */
  earlyReads: { readonly from: NodeId; readonly id: ReadId }[];
  nextReads: PendingRead[];
  roundReads: { readonly round: number; readonly reads: readonly PendingRead[] }[];
  transfer: { readonly target: NodeId; readonly startedActiveTick: number } | null;
  /** The own disk hangs, and leadership was offered to another because of that. */
  offeredForStall: boolean;
  uncommittedBytes: number;
  /** A follower holds entries that are committed and may not know it. */
  commitNoticeDue: boolean;
  /** The append sent last, and its bytes: the next follower most often gets the very same one. */
  lastAppend: { readonly message: AppendRequest; readonly bytes: number } | null;
  lastHeartbeat: Heartbeat | null;
}

export type Role = FollowerRole | PreCandidateRole | CandidateRole | LeaderRole;

/** Reads asked on this replica, leader or not: one question to the leader serves all that wait. */
export interface LocalReads {
  lastRead: number;
  lastSequence: number;
  waiting: number[];
  asked: {
    readonly id: ReadId;
    readonly reads: readonly number[];
    readonly leader: NodeId;
    readonly term: Term;
    readonly activeTick: number;
  } | null;
  confirmed: ConfirmedRead[];
}

export interface State {
  readonly config: CoreConfig;
  readonly id: NodeId;
  readonly memberships: MembershipLog;
  /** The one in force: the last in the log. */
  readonly membership: Membership;
  voting: VotingRight;
  term: Term;
  votedFor: NodeId | null;
  /** Term and vote as they are on disk. */
  durable: HardState;
  role: Role;
  leader: NodeId | null;
  readonly log: RaftLog;
  /** The newest snapshot held here, durable or being installed. */
  snapshot: SnapshotMeta | null;
  /** Received, to go into the next batch. */
  snapshotToPersist: SnapshotMeta | null;
  /** All time that passed, also while the process stood still. For ages. */
  tick: number;
  /** Time in which this process could act: missed ticks are not in it. For timeouts. */
  activeTick: number;
  electionElapsed: number;
  /** As drawn; a follower bears more while its leader is slow (patience.ts). */
  electionTimeoutTicks: number;
  /** The process that led has ended: its followers wait their turn, by rank, and are not patient. */
  leaderIsGone: boolean;
  /** When this term's leader was heard last; null: not yet. */
  leaderHeard: { readonly term: Term; readonly activeTick: number } | null;
  /** Of a live leader, or for a leader of its quorum, lately (patience.ts). */
  longestSilenceTicks: number;
  /** The last pre-vote granted, and at which active tick (election.ts, E5). */
  wordGiven: { readonly to: NodeId; readonly term: Term; readonly at: number } | null;
  /** Pre-votes that wait for an answer, and since which active tick (E4, E5). */
  readonly heldPreVotes: Map<NodeId, { readonly request: PreVoteRequest; readonly since: number }>;
  /** Tick at or after which a quorum is known to have worked; null when never. */
  quorumSeenTick: number | null;
  readonly reads: LocalReads;
  /** The read whose answer ends `until-caught-up`, and the index it gave. */
  catchUp: { read: number | null; target: LogIndex | null };
  persisting: PersistBatch | null;
  /** Active tick at which the batch under way was handed over. */
  persistingSince: number;
  lastPersistSequence: number;
  now: SendNow[];
  afterDurable: SendAfterDurable[];
  statusChanged: boolean;
}

export function createState(config: CoreConfig, initial: InitialState): State {
  const base = initial.snapshot;
  const first = initial.entries[0];
  // Trailing entries may reach back before the snapshot. The oldest of them then serves as the log's base, because the
  // term before it is no longer known.
  const log =
    base !== null && first !== undefined && first.index <= base.index
      ? new RaftLog({ index: first.index, term: first.term }, initial.entries.slice(1))
      : new RaftLog({ index: base?.index ?? (0 as LogIndex), term: base?.term ?? (0 as Term) }, initial.entries);
  log.commitTo(Math.max(base?.index ?? 0, Math.min(initial.commitIndex, log.lastIndex)) as LogIndex);
  if (base !== null) log.appliedUpTo(base.index);
  const memberships = new MembershipLog(base?.index ?? (0 as LogIndex), base?.membership ?? config.membership);
  memberships.append(initial.entries);
  return {
    config,
    id: config.id,
    memberships,
    get membership() {
      return memberships.inForce;
    },
    voting: config.voting,
    term: initial.hardState.term,
    votedFor: initial.hardState.votedFor,
    durable: initial.hardState,
    role: { kind: "follower" },
    leader: null,
    log,
    snapshot: base,
    snapshotToPersist: null,
    tick: 0,
    activeTick: 0,
    electionElapsed: 0,
    electionTimeoutTicks: drawElectionTimeout(config),
    leaderIsGone: false,
    leaderHeard: null,
    longestSilenceTicks: 0,
    wordGiven: null,
    heldPreVotes: new Map(),
    quorumSeenTick: null,
    reads: { lastRead: 0, lastSequence: 0, waiting: [], asked: null, confirmed: [] },
    catchUp: { read: null, target: null },
    persisting: null,
    persistingSince: 0,
    lastPersistSequence: 0,
    now: [],
    afterDurable: [],
    statusChanged: true,
  };
}

export function drawElectionTimeout(config: CoreConfig): number {
  const { electionTimeoutMinTicks: min, electionTimeoutMaxTicks: max, random } = config;
  return min + random.below(Math.max(1, max - min));
}

/** Term and vote are on disk as they are in memory. */
export const hardStateSettled = (s: State): boolean => s.durable.term === s.term && s.durable.votedFor === s.votedFor;

/** A snapshot is being made durable and restored: nothing is applied, promised or campaigned for meanwhile. */
export const isInstalling = (s: State): boolean =>
  s.snapshotToPersist !== null || (s.persisting !== null && s.persisting.snapshot !== null);

/** Sends at once, unless that would reveal a term that is not on disk yet (I1). */
export function send(s: State, to: NodeId, message: Message): void {
  if (hardStateSettled(s)) s.now.push({ order: "now", to, message });
  else s.afterDurable.push({ order: "after-durable", to, message });
}

/** Sends once everything the core knows now is durable (I1). */
export function sendAfterDurable(s: State, to: NodeId, message: Message): void {
  s.afterDurable.push({ order: "after-durable", to, message });
}

export function note(
  s: State,
  level: "debug" | "info",
  event: string,
  facts: Readonly<Record<string, string | number | boolean | null>> = {},
): void {
  s.config.observe?.(level, event, facts);
}

/** A leader was heard less than the shortest election timeout ago, or than a slow one needs: no vote is given against it (dissertation §4.2.3). */
export function leaderIsFresh(s: State): boolean {
  if (s.role.kind === "leader") return true; // check-quorum deposes it when it is not
  // Under leases a process that has just started must assume that its former life heard one a moment ago.
  if (s.config.leaseMarginTicks !== null && s.activeTick < s.config.electionTimeoutMinTicks) return true;
  return s.leader !== null && s.electionElapsed < s.config.electionTimeoutMinTicks + extraPatienceTicks(s);
}

export const countsTowardsQuorum = (s: State): boolean =>
  s.voting.kind === "full" || s.voting.kind === "until-caught-up";

/** The write under way takes longer than a disk that is well would need. */
export const diskIsStalled = (s: State): boolean =>
  s.persisting !== null && s.activeTick - s.persistingSince >= s.config.storageStallTicks;
