/** What the parts of a replica that serve others (streams, API) share. Built once, in `manager.ts`. */
import type { LogIndex, NodeId, Term } from "../core/brands.js";
import type { Env } from "../runtime/env.js";
import type { ManagerConfig, ReplicaAddresses } from "./config.js";
import type { OwnershipHistory } from "./history/ownership-history.js";
import type { EffectLog } from "./projection/effect-log.js";
import type { MuxSafeIndex } from "./projection/mux-safe-index.js";
import type { RaftMember, RaftNode } from "./raft/index.js";
import type { SubmittedCommand } from "./state/commands/commands.js";
import type { CommandResult } from "./state/commands/results.js";
import type { StateMachine } from "./state/state-machine.js";

export interface ReplicaMember extends ReplicaAddresses {
  readonly role: RaftMember["role"];
}

export interface ReplicaView {
  readonly env: Env;
  readonly config: ManagerConfig;
  /** Random per process start, 32 hex digits. */
  readonly bootId: string;
  /** Committed start number; 0 until known. */
  incarnation(): number;
  readonly state: StateMachine;
  readonly effects: EffectLog;
  readonly muxSafeIndex: MuxSafeIndex;
  /** Who owned which SNAT ports; null: it could not be opened. */
  history(): OwnershipHistory | null;
  raft(): RaftNode;
  /** The members as this replica's log has them, with where they are reached. */
  members(): readonly ReplicaMember[];
  /** Whom this replica follows, itself included; null while it knows none. */
  leader(): { readonly nodeId: NodeId; readonly term: Term } | null;
  /** Through the leader's stages, wherever it is. Never rejects: refusals and unknown outcomes are results too.
   * It is not handed over once `wanted` says false. */
  submit(submitted: SubmittedCommand, deadlineMs: number, wanted?: () => boolean): Promise<CommandResult>;
  /** Resolves when this replica has applied `index`. Rejects with BEHIND after `deadlineMs`. */
  whenApplied(index: LogIndex, deadlineMs: number): Promise<void>;
  /**
   * Resolves when all that is known now to be committed is applied here: at once, unless a large entry is under way. Rejects with BEHIND
   * after `deadlineMs`.
   */
  whenCaughtUp(deadlineMs: number): Promise<void>;
  /** Newest log entry that is applied here, those included that are not shown to the state machine. */
  appliedIndex(): LogIndex;
  /** Ms since a quorum of Managers is known to have worked; at most 2^31 - 1. */
  quorumAgeMs(): number;
}
