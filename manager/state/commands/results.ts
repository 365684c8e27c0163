/** What applying a command answers, and what it changes in the projections. */
import type { DipId, HostId, IpAddress, LogIndex, MuxId } from "../../../core/brands.js";
import type { ErrorCode, ErrorFacts } from "../../../core/errors.js";
import type { HostChange } from "../../../dataplane/host-items.js";
import type { MuxChange } from "../../../dataplane/mux-items.js";
import type { RangeBlock } from "./commands.js";
import type { ObjectRef } from "../objects.js";
import type { EndedOwnership } from "../snat/allocator.js";

export type CommandResult =
  | {
      readonly ok: true;
      readonly value: CommandValue;
      /** The entry that did it: of the first execution, when this is a remembered answer. Answers wait for it. */
      readonly index: LogIndex;
    }
  | {
      readonly ok: false;
      readonly code: ErrorCode;
      readonly message: string;
      readonly facts: ErrorFacts;
      readonly index: LogIndex;
    };

export type CommandValue =
  | { readonly kind: "none" }
  | { readonly kind: "replica-started"; readonly incarnation: number }
  | { readonly kind: "objects-applied"; readonly objects: readonly ObjectOutcome[] }
  | { readonly kind: "objects-deleted"; readonly objects: readonly ObjectOutcome[] }
  | {
      readonly kind: "host-registered";
      readonly hostId: HostId;
      readonly incarnation: number;
      readonly dips: readonly { readonly tenant: string; readonly address: IpAddress; readonly dipId: DipId }[];
      /** Declared, but owned by somebody else or by nobody: the agent must stop using these at once. */
      readonly refusedRanges: readonly RangeBlock[];
    }
  | { readonly kind: "epoch-begun"; readonly clusterEpoch: number; readonly hosts: number }
  /** `ranges`: how many began to rest. */
  | { readonly kind: "host-fenced"; readonly hostId: HostId; readonly ranges: number }
  | { readonly kind: "mux-joined"; readonly muxId: MuxId; readonly incarnation: number }
  /** `changed`: it was not (un)drained before. `announcing`: live MUXes that are not drained. */
  | { readonly kind: "mux-drained" | "mux-undrained"; readonly changed: boolean; readonly announcing: number }
  | { readonly kind: "snat-allocated"; readonly blocks: readonly RangeBlock[] }
  | { readonly kind: "snat-released"; readonly ranges: number };

export interface ObjectOutcome {
  readonly ref: ObjectRef;
  readonly change: "created" | "configured" | "unchanged" | "deleted";
  readonly generation: number;
}

/** Everything that applying one log entry did. */
export interface AppliedBatch {
  readonly index: LogIndex;
  /** One per command, in order. */
  readonly results: readonly CommandResult[];
  readonly muxChanges: readonly MuxChange[];
  readonly hostChanges: ReadonlyMap<HostId, readonly HostChange[]>;
  /** Ownership of SNAT ranges that ended, in order. */
  readonly ended: readonly EndedOwnership[];
}
