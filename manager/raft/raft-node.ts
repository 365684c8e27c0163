/** The contract between the consensus module and the rest of the Manager. */
import type { LogIndex, NodeId, Term } from "../../core/brands.js";
import type { MembershipChange as CoreChange } from "./core/membership.js";
import type { StoredSnapshot } from "./storage/storage.js";

/** A state and what is known of it. */
export interface ExportedSnapshot {
  readonly snapshot: StoredSnapshot;
  readonly chunks: readonly Uint8Array[];
}

/** A committed log entry as the state machine sees it. Empty payloads (a new leader's no-op) are not shown to it. */
export interface CommittedEntry {
  readonly index: LogIndex;
  readonly term: Term;
  readonly payload: Uint8Array;
}

/** What is replicated. Calls are synchronous and must be deterministic; an exception ends the process. */
export interface ReplicatedStateMachine {
  /**
   * Entries in log order, some of what is newly committed at a time. Who needs several turns of the event loop for them keeps them,
   * is `busy` until all are applied, and gives back a promise: no more come before it resolves. What waits is bounded by
   * that, however fast entries are committed: the rest stays in the log.
   */
  apply(entries: readonly CommittedEntry[]): void | Promise<void>;
  /** Absent: never. A snapshot waits until it is not, as far as the log's bound allows (snapshots.ts, Z2). */
  readonly busy?: boolean;
  /**
   * The state after the last entry that `apply` was given, as chunks of at most 1 MiB. Called between two applies. An iterable is drained
   * at once. An async iterable is drained slice by slice while further entries are applied, and still gives the state of
   * the call: it is how a large state is written down without holding up the event loop.
   */
  snapshot(): Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
  /**
   * Replaces the state by a snapshot's, which holds everything up to and including `index`. Nothing is applied before it
   * returns or, where it works in slices, before its promise resolves.
   */
  restore(chunks: Iterable<Uint8Array>, index: LogIndex): void | Promise<void>;
}

export interface RaftNodeConfig {
  readonly id: NodeId;
  /**
   * The founders' raft addresses, "host:port": in force until the log says otherwise. For a node that joins: replicas of
   * the running cluster, itself not among them.
   */
  readonly voters: ReadonlyMap<NodeId, string>;
  /** Where clients of the replicated service reach the founders; told to everybody who asks for the members. */
  readonly services?: ReadonlyMap<NodeId, string>;
  /** Where this node listens; default: its address in `voters`. */
  readonly address?: string;
  readonly clusterId: string;
  readonly clusterEpoch: number;
  /** Where the log and the hard state live. */
  readonly dataFolder: string;
  /** Format an empty data folder. Without it an empty folder counts as lost hard state: this node never votes. */
  readonly bootstrap: boolean;
  /** Format an empty data folder as that of a node that joins a running cluster under an id never used before. */
  readonly join?: boolean;
  /** One tick in ms; default 10. */
  readonly tickMs: number;
  /** Leader's heartbeat interval in ms; default 30. */
  readonly heartbeatMs: number;
  /** Election timeouts are drawn from [min, max) ms; default 150..250. */
  readonly electionTimeoutMinMs: number;
  readonly electionTimeoutMaxMs: number;
  /** A snapshot is taken after so many applied entries; default 10,000. */
  readonly snapshotEveryEntries: number;
  /** Snapshots are taken at this index and every `snapshotEveryEntries` from there; default: so many after the one before. */
  readonly snapshotOffset?: number;
  /** Entries kept behind a snapshot for followers that lag a little; default 5,000. */
  readonly trailingEntries: number;
  /** Bytes of uncommitted proposals the leader accepts before it answers STAGE_OVERLOADED; default 16 MiB. */
  readonly uncommittedBytesMax: number;
  /** A leader whose disk takes longer for one write gives leadership away; default 1,000. */
  readonly storageStallMs?: number;
  /**
   * Serve reads under a lease instead of asking a quorum each time; default false. Then a leader that dies is noticed by
   * timeout only, and clocks must not run apart by more than a fifth over an election timeout.
   */
  readonly leaseReads?: boolean;
}

/** A change an operator may ask for; what each does is told in core/membership.ts. */
export type MembershipChange = Exclude<CoreChange, { readonly kind: "name-folder" }>;

export interface RaftMember {
  readonly id: NodeId;
  readonly address: string;
  readonly service: string;
  /** `leaving`: in a joint change, a voter of the old half only. */
  readonly role: "voter" | "learner" | "leaving";
}

export interface RaftStatus {
  readonly id: NodeId;
  readonly role: "follower" | "pre-candidate" | "candidate" | "leader";
  readonly term: Term;
  readonly leader: NodeId | null;
  readonly commitIndex: LogIndex;
  readonly appliedIndex: LogIndex;
  readonly lastIndex: LogIndex;
  readonly firstIndex: LogIndex;
  readonly snapshotIndex: LogIndex;
  readonly voters: readonly NodeId[];
  /** The membership in force, ascending by id. */
  readonly members: readonly RaftMember[];
  /** Index of the log entry that put it into force; 0 for the founders. */
  readonly membershipIndex: LogIndex;
  /** A change of voters is half done. */
  readonly changing: boolean;
  /** Leader only: per peer the replication state; empty elsewhere. */
  readonly peers: readonly {
    readonly id: NodeId;
    readonly state: "probe" | "replicate" | "snapshot";
    readonly matchIndex: LogIndex;
    readonly lastHeardMsAgo: number | null;
  }[];
  /** How long writing the newest own snapshot took, and the last restore from one, in this process; 0: there was none. */
  readonly snapshotMs: number;
  readonly restoreMs: number;
  /** Why this node does not vote, or null when it does. */
  readonly notVoting: string | null;
}

/** Where an accepted proposal stands in the log. */
export interface Proposal {
  readonly index: LogIndex;
  readonly term: Term;
  /**
   * Resolves once the entry is committed and applied here. Rejects with LEADERSHIP_LOST (outcome unknown) when this
   * node stops leading or running, or another entry takes the place, before that.
   */
  readonly applied: Promise<void>;
}

/** Told synchronously, from the driver loop, in the order in which they happen. */
export interface RaftEvents {
  /** Role, term or known leader changed. */
  roleChanged?(status: RaftStatus): void;
  /** This node leads, and its term's first entry is committed and applied: it may serve. */
  leadershipEstablished?(term: Term): void;
  /** Durable state failed; the process must end. */
  failed?(error: Error): void;
}

export interface RaftNode {
  /** Opens storage, restores the state machine, begins to take part. Rejects with STORAGE_LOCKED, STORAGE_DAMAGED. */
  start(): Promise<void>;
  stop(): Promise<void>;
  /**
   * Appends one entry. Throws NOT_LEADER (with `facts.leaderHint`, a node id, where known), STAGE_OVERLOADED when too
   * many bytes are uncommitted, STORAGE_RESERVE_REACHED. Nothing was done when it throws.
   */
  propose(payload: Uint8Array): Proposal;
  /**
   * A log index such that a state that has applied it reflects every write answered before this call (ReadIndex, Raft
   * §6.4 of the dissertation). Works on any node: a follower asks the leader. Resolves after it is applied here.
   * Rejects with UNAVAILABLE when no quorum answers within `timeoutMs`.
   */
  readIndex(timeoutMs: number): Promise<LogIndex>;
  /**
   * Hands leadership to `target`, or to whoever is fittest. Rejects with NOT_LEADER, INVALID_ARGUMENT (no voter),
   * FAILED_PRECONDITION (another transfer is under way, or nobody is fit), UNAVAILABLE (it did not take over in time).
   */
  transferLeadership(target: NodeId | null): Promise<void>;
  /**
   * Changes who takes part; only on the leader. Resolves when the change is committed, at once when it is as asked for.
   * Rejects with NOT_LEADER, FAILED_PRECONDITION (`facts.retry` true: the same may be accepted a little later), and
   * LEADERSHIP_LOST (outcome unknown).
   */
  changeMembership(change: MembershipChange): Promise<void>;
  /**
   * The state as it is now with everything applied here, for a snapshot file (snapshot-file.ts). A caller that wants every
   * write answered before this call in it asks for a `readIndex` first.
   */
  exportSnapshot(): Promise<ExportedSnapshot>;
  status(): RaftStatus;
  /** As in `status()`, without the cost of the rest. */
  membershipIndex(): LogIndex;
  /**
   * Monotonic ms (env clock) at which a quorum is last known to have worked: on the leader from acknowledged heartbeats
   * and appends, elsewhere from the leader's messages that say so. -Infinity when never.
   */
  quorumSeenAtMs(): number;
}
