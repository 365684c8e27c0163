/** The contract between the consensus module and the rest of the Manager. */
import type { LogIndex, NodeId, Term } from "../../core/brands.js";

/** A committed log entry as the state machine sees it. Empty payloads (a new leader's no-op) are not shown to it. */
export interface CommittedEntry {
  readonly index: LogIndex;
  readonly term: Term;
  readonly payload: Uint8Array;
}

/** What is replicated. Calls are synchronous and must be deterministic; an exception ends the process. */
export interface ReplicatedStateMachine {
  /** Entries in log order. Called once per commit advance, with everything newly committed. */
  apply(entries: readonly CommittedEntry[]): void;
  /** The state after the last applied entry, as chunks of at most 1 MiB. Taken while no apply runs. */
  snapshot(): Iterable<Uint8Array>;
  /** Replaces the state by a snapshot's, which holds everything up to and including `index`. */
  restore(chunks: Iterable<Uint8Array>, index: LogIndex): void;
}

export interface RaftNodeConfig {
  readonly id: NodeId;
  /** All voters, this one included; raft transport addresses "host:port". */
  readonly voters: ReadonlyMap<NodeId, string>;
  readonly clusterId: string;
  readonly clusterEpoch: number;
  /** Where the log and the hard state live. */
  readonly dataFolder: string;
  /** Format an empty data folder. Without it an empty folder counts as lost hard state: this node never votes. */
  readonly bootstrap: boolean;
  /** One tick in ms; default 10. */
  readonly tickMs: number;
  /** Leader's heartbeat interval in ms; default 30. */
  readonly heartbeatMs: number;
  /** Election timeouts are drawn from [min, max) ms; default 150..250. */
  readonly electionTimeoutMinMs: number;
  readonly electionTimeoutMaxMs: number;
  /** A snapshot is taken after so many applied entries; default 10,000. */
  readonly snapshotEveryEntries: number;
  /** Entries kept behind a snapshot for followers that lag a little; default 5,000. */
  readonly trailingEntries: number;
  /** Bytes of uncommitted proposals the leader accepts before it answers STAGE_OVERLOADED; default 16 MiB. */
  readonly uncommittedBytesMax: number;
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
  /** Leader only: per peer the replication state; empty elsewhere. */
  readonly peers: readonly {
    readonly id: NodeId;
    readonly state: "probe" | "replicate" | "snapshot";
    readonly matchIndex: LogIndex;
    readonly lastHeardMsAgo: number | null;
  }[];
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
  transferLeadership(target: NodeId): Promise<void>;
  status(): RaftStatus;
  /**
   * Monotonic ms (env clock) at which a quorum is last known to have worked: on the leader from acknowledged heartbeats
   * and appends, elsewhere from the leader's messages that say so. -Infinity when never.
   */
  quorumSeenAtMs(): number;
}
