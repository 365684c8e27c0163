/**
 * The nouns of the consensus core: entries, hard state, membership, snapshot facts, timing. Raft Figure 2 in types.
 * Nothing here knows of disks, sockets or clocks.
 */
import type { LogIndex, NodeId, Term } from "../../../core/brands.js";
import type { Random } from "../../../core/random.js";

/** One slot of the log. An empty payload is a new leader's no-op (Raft §8). The payload is never written to again. */
export interface Entry {
  readonly index: LogIndex;
  readonly term: Term;
  readonly payload: Uint8Array;
  /** Present in a membership entry only; its payload is then the same as bytes (membership-codec.ts). */
  readonly membership?: Membership;
}

/** What must survive a crash for safety besides the log itself (Raft §5.2): forgetting it allows two votes in a term. */
export interface HardState {
  readonly term: Term;
  readonly votedFor: NodeId | null;
}

/**
 * Who takes part. Simple when `outgoing` is empty; joint (Raft §6) when it is not: then every decision needs a majority
 * of `voters` and a majority of `outgoing`. Learners receive the log and count for nothing. All lists ascend.
 */
export interface Membership {
  readonly voters: readonly NodeId[];
  readonly outgoing: readonly NodeId[];
  readonly learners: readonly NodeId[];
  /** Where they are: one for each id above, ascending. The core only carries it. */
  readonly members: readonly Member[];
  /** Ids that were members once. None is ever used again: what its disk promised would be forgotten with it. */
  readonly removed: readonly NodeId[];
}

/** One replica as the others find it. */
export interface Member {
  readonly id: NodeId;
  /** Where it talks Raft. */
  readonly address: string;
  /** Where clients of the replicated service reach it; carried for them, not used here. */
  readonly service: string;
  /**
   * Identifies the data folder of a replica that joined later; empty for the founders, and until the replica was first
   * heard. A node whose folder is another one has lost what it promised, and does not vote (`until-named`).
   */
  readonly folder: string;
}

/** Identifies a snapshot: the state after applying everything up to and including `index`. */
export interface SnapshotMeta {
  readonly index: LogIndex;
  readonly term: Term;
  readonly membership: Membership;
}

/**
 * Whether this replica's word counts.
 * - `full`: the normal case.
 * - `until-caught-up`: the log was damaged, term and vote are intact. Its acknowledgements count (they speak of what it
 *   holds now), but it neither votes nor campaigns until it holds everything a quorum confirms as committed.
 * - `until-named`: it joined with an empty folder. It takes part once the membership in force names that very folder,
 *   so that a replica whose disk was wiped does not come back under its old id.
 * - `never`: term and vote are lost. It may have promised anything, so nothing it says counts towards any quorum.
 */
export type VotingRight =
  | { readonly kind: "full" }
  | { readonly kind: "until-caught-up"; readonly reason: string }
  | { readonly kind: "until-named"; readonly reason: string; readonly folder: string }
  | { readonly kind: "never"; readonly reason: string };

/** Identifies one ReadIndex question of one process life: an answer to an earlier question can never be mistaken for it. */
export interface ReadId {
  /** 32 unpredictable bits drawn at process start. */
  readonly nonce: number;
  /** Counts up from 1; a retry takes a new number. */
  readonly sequence: number;
}

/** A short constant sentence and its facts: the core's own log lines, which are also the traces of the scenario tests. */
export type Observe = (
  level: "debug" | "info",
  event: string,
  facts: Readonly<Record<string, string | number | boolean | null>>,
) => void;

export interface CoreConfig {
  readonly id: NodeId;
  /** The founders: in force until the log or a snapshot says otherwise. */
  readonly membership: Membership;
  /** Election timeouts are drawn from [min, max) ticks. A leader is *fresh* for `min` ticks after it was heard. */
  readonly electionTimeoutMinTicks: number;
  readonly electionTimeoutMaxTicks: number;
  readonly heartbeatTicks: number;
  /** After a leader is known to be dead, the voter of the lowest id starts pre-vote at once, that of the highest after max. */
  readonly unreachableDelayMaxTicks: number;
  /** Appends under way to one follower, in count and in payload bytes. */
  readonly inflightAppendsMax: number;
  readonly inflightBytesMax: number;
  /** Payload bytes of one append message and of one storage batch; one entry may exceed it alone. */
  readonly appendBytesMax: number;
  /** Payload bytes the leader holds uncommitted before it refuses proposals. */
  readonly uncommittedBytesMax: number;
  /** A write of this node's own disk that takes longer costs it the leadership, and keeps it from campaigning. */
  readonly storageStallTicks: number;
  /**
   * Leases (dissertation §6.4.1), off by default: a leader answers reads without a round while the newest confirmed round
   * was sent less than the shortest election timeout minus this many ticks ago. The margin covers ticks cut off at both
   * ends and clocks that run at different speeds. Null: off.
   */
  readonly leaseMarginTicks: number | null;
  readonly random: Random;
  readonly readNonce: number;
  readonly voting: VotingRight;
  readonly observe: Observe | null;
}

/** What storage found when it was opened. */
export interface InitialState {
  readonly hardState: HardState;
  readonly snapshot: SnapshotMeta | null;
  /** Contiguous; may begin before the snapshot's end (trailing entries). */
  readonly entries: readonly Entry[];
  /** Known to be committed, as a hint; at least the snapshot's index is assumed. */
  readonly commitIndex: LogIndex;
}

/** Fixed cost of an entry in windows and back-pressure, so that empty payloads are not free. */
const ENTRY_OVERHEAD_BYTES = 16;

export const entryBytes = (entry: Entry): number => entry.payload.length + ENTRY_OVERHEAD_BYTES;
