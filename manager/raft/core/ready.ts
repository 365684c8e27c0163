/**
 * What the core asks of its driver. The order, for one `Ready`:
 *   1. start `persist` (if any): all of it durable in one go;
 *   2. at once, in parallel: hand `sendNow` to the transport;
 *   3. apply `committed`, answer `reads`;
 *   4. when `persist` is durable: `appended(token)`; what waited for it then appears in the next `Ready.sendNow`.
 *
 * (I1) Nothing that promises durability leaves before it is durable: votes, acknowledgements, and any message of a term
 *      that is not yet on disk. The transport takes `SendNow` only, and only the core turns `SendAfterDurable` into it.
 */
import type { LogIndex, NodeId, Term } from "../../../core/brands.js";
import type { Message } from "./messages.js";
import type { Entry, HardState, SnapshotMeta } from "./types.js";

interface Outgoing {
  readonly to: NodeId;
  readonly message: Message;
}

/** May leave at once. */
export interface SendNow extends Outgoing {
  readonly order: "now";
}

/** Must not leave before the batch it stands in is durable. Shown for traces; the core itself releases it. */
export interface SendAfterDurable extends Outgoing {
  readonly order: "after-durable";
}

/** Names one storage batch. A completion with another sequence or from another life of the core is ignored. */
export interface PersistToken {
  readonly sequence: number;
  readonly term: Term;
}

/** At most one is under way at any time; the next one grows meanwhile. */
export interface PersistBatch {
  readonly token: PersistToken;
  /** Term and vote, when they changed. */
  readonly hardState: HardState | null;
  /** Contiguous; they replace everything stored from entries[0].index on. */
  readonly entries: readonly Entry[];
  /** Replaces the log and the state machine's state; the entries, if any, follow it. */
  readonly snapshot: SnapshotMeta | null;
  /** Known to be committed when the batch was made; a hint that saves time after a restart, never needed for safety. */
  readonly commitIndex: LogIndex;
  readonly afterDurable: readonly SendAfterDurable[];
}

export interface ConfirmedRead {
  /** What `readIndex()` returned. */
  readonly read: number;
  /** Serve the read once this much is applied. */
  readonly index: LogIndex;
}

export interface Ready {
  readonly persist: PersistBatch | null;
  readonly sendNow: readonly SendNow[];
  /** Committed entries in order, each exactly once; when there are many, the rest comes with the next `Ready`. */
  readonly committed: readonly Entry[];
  readonly reads: readonly ConfirmedRead[];
  /** Role, term, known leader or voting right changed since the last `Ready`. */
  readonly statusChanged: boolean;
}

export type ProposeResult =
  | { readonly kind: "accepted"; readonly index: LogIndex; readonly term: Term }
  | { readonly kind: "not-leader"; readonly leader: NodeId | null }
  /** Too many uncommitted bytes. */
  | { readonly kind: "overloaded"; readonly uncommittedBytes: number }
  /** Leadership is being handed over; null: to whom is not known yet. */
  | { readonly kind: "transferring"; readonly target: NodeId | null };

export type ChangeMembershipResult =
  /** In force from now on; done when it is committed (a change of voters: when its second entry is). */
  | { readonly kind: "accepted"; readonly index: LogIndex; readonly term: Term }
  /** It is as asked for already. */
  | { readonly kind: "done" }
  | { readonly kind: "not-leader"; readonly leader: NodeId | null }
  | { readonly kind: "transferring"; readonly target: NodeId | null }
  /** May be asked again a little later. */
  | { readonly kind: "not-ready"; readonly reason: string }
  | { readonly kind: "refused"; readonly reason: string };
