/**
 * The replicated state machine as the shell sees it: a pure function of the log, with views for reading. Same log, same
 * bytes: `digest()` is equal on all replicas at equal `appliedIndex`.
 */
import type { DipId, HostId, IpAddress, LogIndex, MuxId, NodeId, VipId } from "../../core/brands.js";
import type { HostItem } from "../../dataplane/host-items.js";
import type { MuxItem } from "../../dataplane/mux-items.js";
import type { CommandBatch, MuxCapacity } from "./commands.js";
import type { AnyStoredObject, Dip, ObjectKind, ObjectRef } from "./objects.js";
import type { AppliedBatch } from "./results.js";

export interface StateMachine {
  readonly appliedIndex: LogIndex;
  readonly clusterTimeMs: number;
  /** Null before `bootstrap` was applied. */
  readonly site: { readonly clusterId: string; readonly clusterEpoch: number; readonly hashKey: string } | null;

  apply(batch: CommandBatch, index: LogIndex): AppliedBatch;
  /** Entries without commands (a leader's no-op is not one of them) still advance the index. */
  snapshot(): Iterable<Uint8Array>;
  restore(chunks: Iterable<Uint8Array>, index: LogIndex): void;
  /** 16 hex digits over the whole state. */
  digest(): string;

  /** The whole MUX view at `appliedIndex`, and its digest (the XOR that `digestOf` of its items gives). */
  muxItems(): Iterable<MuxItem>;
  muxDigest(): string;
  hostItems(host: HostId): Iterable<HostItem>;
  hostDigest(host: HostId): string;

  object(ref: ObjectRef): AnyStoredObject | null;
  /** In order of (tenant, name). `tenant` null: of all tenants. */
  objects(kind: ObjectKind, tenant: string | null): readonly AnyStoredObject[];
  hosts(): readonly Host[];
  host(id: HostId): Host | null;
  hostByName(name: string): Host | null;
  dip(id: DipId): Dip | null;
  muxes(): readonly Mux[];
  replicas(): readonly { readonly nodeId: NodeId; readonly incarnation: number; readonly bootId: string }[];
  /** Owned and quarantined ranges, merged into blocks, ordered by (vip, protocol, range). */
  snatBlocks(filter: SnatFilter): readonly SnatBlock[];
  /** Per VIP and protocol: how the 8,064 ranges stand. */
  snatUsage(): readonly SnatUsage[];

  /** What is prepared and not yet activated: the newest such entry, and the hosts that should know it first. */
  pendingActivation(): { readonly upToIndex: LogIndex; readonly hosts: readonly HostId[] } | null;
  /** Cluster time at which a `tick` would change something, or null. */
  nextTickDueMs(): number | null;
  /** True when the session is remembered. */
  hasSession(session: string): boolean;
}

export interface Host {
  readonly hostId: HostId;
  readonly name: string;
  readonly incarnation: number;
  readonly bootId: string;
  readonly dips: readonly DipId[];
  readonly registeredIndex: LogIndex;
}

export interface Mux {
  readonly muxId: MuxId;
  readonly name: string;
  readonly incarnation: number;
  readonly bootId: string;
  readonly address: IpAddress;
  readonly capacity: MuxCapacity;
  /** `live` gates muxSafeIndex; `lost` and `left` do not. */
  readonly state: "live" | "lost" | "left";
  readonly joinedIndex: LogIndex;
}

export interface SnatFilter {
  readonly vip?: IpAddress;
  readonly dip?: DipId;
  readonly host?: HostId;
  readonly protocol?: 6 | 17;
}

export interface SnatBlock {
  readonly vip: IpAddress;
  readonly vipId: VipId | null;
  readonly protocol: 6 | 17;
  readonly range: number;
  readonly count: number;
  readonly state: "owned" | "quarantined";
  /** The owner, or the last one while quarantined. */
  readonly dip: Dip;
  readonly host: string | null;
  readonly grantedIndex: LogIndex;
  /** Cluster time at which a quarantine may end; null while owned. */
  readonly freeAtMs: number | null;
}

export interface SnatUsage {
  readonly vip: IpAddress;
  readonly protocol: 6 | 17;
  readonly owned: number;
  readonly quarantined: number;
  /** Held by rules: never granted. */
  readonly excluded: number;
  readonly free: number;
}
