/**
 * The messages between replicas (Raft Figure 2 and §7, dissertation §3.10, §6.4, §9.6). A message says who sent it and in
 * which term; to whom it goes stands outside, in `Outgoing`, so that one append is built and encoded once for all.
 *
 * | kind                | from -> to           | answered by        |
 * |---------------------|----------------------|--------------------|
 * | pre-vote-request    | pre-candidate -> all | pre-vote-response  |
 * | vote-request        | candidate -> all     | vote-response      |
 * | append-request      | leader -> follower   | append-response or append-rejection |
 * | heartbeat           | leader -> follower   | heartbeat-response, unless round is 0 |
 * | install-snapshot    | leader -> follower   | append-response    |
 * | timeout-now         | leader -> chosen successor | (it campaigns) |
 * | read-request        | follower -> leader   | read-response      |
 */
import type { LogIndex, NodeId, Term } from "../../../core/brands.js";
import type { Entry, ReadId, SnapshotMeta } from "./types.js";

interface Common {
  readonly from: NodeId;
  /** The sender's term; in a pre-vote request, and in a grant of one, the term that would be campaigned in. */
  readonly term: Term;
}

export interface PreVoteRequest extends Common {
  readonly kind: "pre-vote-request";
  readonly lastIndex: LogIndex;
  readonly lastTerm: Term;
}

export interface PreVoteResponse extends Common {
  readonly kind: "pre-vote-response";
  readonly granted: boolean;
}

export interface VoteRequest extends Common {
  readonly kind: "vote-request";
  readonly lastIndex: LogIndex;
  readonly lastTerm: Term;
  /** Leadership transfer: the old leader asked for it, so a fresh leader is no reason to refuse. */
  readonly force: boolean;
}

export interface VoteResponse extends Common {
  readonly kind: "vote-response";
  readonly granted: boolean;
}

export interface AppendRequest extends Common {
  readonly kind: "append-request";
  readonly prevIndex: LogIndex;
  readonly prevTerm: Term;
  /** Contiguous, the first at prevIndex + 1. The array is shared between messages and the storage batch: never changed. */
  readonly entries: readonly Entry[];
  readonly commitIndex: LogIndex;
  /** Ticks since the sender knew a quorum to work; null when never. */
  readonly quorumAgeTicks: number | null;
}

export interface AppendResponse extends Common {
  readonly kind: "append-response";
  /** Everything up to here is durable and equal to the leader's log of that term. */
  readonly matchIndex: LogIndex;
  /** False: this replica lost its hard state; the answer counts towards no quorum. */
  readonly counts: boolean;
}

export interface AppendRejection extends Common {
  readonly kind: "append-rejection";
  /** The prevIndex that did not match. */
  readonly rejectedIndex: LogIndex;
  /** A guess at where the logs agree: the last index <= rejectedIndex here whose term is <= the request's prevTerm. */
  readonly hintIndex: LogIndex;
  readonly hintTerm: Term;
  readonly counts: boolean;
}

export interface Heartbeat extends Common {
  readonly kind: "heartbeat";
  /** Counts up within a leader's term; 0 asks for no answer (it only tells of a new commit index). */
  readonly round: number;
  /** min(leader's commitIndex, what this follower acknowledged), so it can be applied without a log check. */
  readonly commitIndex: LogIndex;
  readonly quorumAgeTicks: number | null;
}

export interface HeartbeatResponse extends Common {
  readonly kind: "heartbeat-response";
  /** The round answered; 0 when this only tells a deposed leader of a higher term. */
  readonly round: number;
  readonly counts: boolean;
}

/** The state itself has travelled in chunks beside the core; this is its last word. */
export interface InstallSnapshot extends Common {
  readonly kind: "install-snapshot";
  readonly snapshot: SnapshotMeta;
}

export interface TimeoutNow extends Common {
  readonly kind: "timeout-now";
}

export interface ReadRequest extends Common {
  readonly kind: "read-request";
  readonly id: ReadId;
}

export interface ReadResponse extends Common {
  readonly kind: "read-response";
  readonly id: ReadId;
  readonly index: LogIndex;
}

export type Message =
  | PreVoteRequest
  | PreVoteResponse
  | VoteRequest
  | VoteResponse
  | AppendRequest
  | AppendResponse
  | AppendRejection
  | Heartbeat
  | HeartbeatResponse
  | InstallSnapshot
  | TimeoutNow
  | ReadRequest
  | ReadResponse;
