/**
 * The replicated state machine as the shell sees it: a pure function of the log, with views for reading. Same log, same
 * bytes: `digest()` is equal on all replicas at equal `appliedIndex`.
 */
import type { DipId, HostId, IpAddress, LogIndex, MuxId, NodeId, PoolId, VipId } from "../../core/brands.js";
import type { HostItem } from "../../dataplane/host-items.js";
import type { MuxItem } from "../../dataplane/mux-items.js";
import type { UnsettledEpoch } from "./cluster-epoch.js";
import type { Command, CommandBatch, MuxCapacity, Origin } from "./commands/commands.js";
import type { Drain } from "./drain-table.js";
import type { DownMember } from "./health-table.js";
import type { LentPorts } from "./snat/lent-ports.js";
import type { AnyStoredObject, Dip, ObjectKind, ObjectRef, VipSpec } from "./objects.js";
import type { AppliedBatch, CommandResult } from "./commands/results.js";
import type { SessionVerdict } from "./sessions.js";
import type { StateCapture } from "./snapshot/snapshot-writer.js";
import type { Fence } from "./state.js";
import type { ViewCapture } from "./views/view-capture.js";
import type { VipObject } from "./vip-map.js";
import type { OverloadBackoff } from "./overload-backoff.js";
import type { Withdrawal } from "./withdrawals.js";

export interface StateMachine {
  readonly appliedIndex: LogIndex;
  readonly clusterTimeMs: number;
  /** Null before `bootstrap` was applied. */
  readonly site: { readonly clusterId: string; readonly clusterEpoch: number; readonly hashKey: string } | null;

  /** Of the state, not of the configuration: 0 before `bootstrap`; raised by `begin-epoch`. */
  readonly clusterEpoch: number;

  /** `index` is above `appliedIndex`. A batch without commands lets time pass. */
  apply(batch: CommandBatch, index: LogIndex): AppliedBatch;
  /**
   * As `apply`, in steps. The first one changes the objects, all of them; the views follow in the others, and `appliedIndex` with the
   * last. Who asks for a view, a snapshot or a digest in between gets it whole: `finishNow` is called and takes all steps that are left.
   */
  applying(batch: CommandBatch, index: LogIndex, finishNow: () => void): Generator<void, AppliedBatch>;
  /** False between the steps of an entry: a view or a digest costs the rest of them now. */
  readonly isWhole: boolean;
  /** What applying the command now would refuse, without applying it; null when it would succeed. Only for
   * `apply-objects` and `delete-objects`; null for all others. */
  check(command: Command): (CommandResult & { readonly ok: false }) | null;
  /** The state at `appliedIndex`, to be written in steps: applying goes on meanwhile. */
  capture(): StateCapture;
  /** As `capture`, all in one go. Applying goes on while the chunks are taken; they are all to be taken. */
  snapshot(): Iterable<Uint8Array>;
  /**
   * Replaces the whole state. `index` is what the snapshot is stored under; `appliedIndex` becomes that of the last entry
   * in it that carried a batch, as on a replica that never restored. Throws UNIMPLEMENTED for another format version.
   */
  restore(chunks: Iterable<Uint8Array>, index: LogIndex): void;
  /** As `restore`, in steps; the former state is there until the last one. */
  restoring(chunks: Iterable<Uint8Array>, index: LogIndex): Generator<void, void>;
  /** 16 hex digits over the whole state. Walks all of it: for checkpoints, not for every entry. */
  digest(): string;

  /** The whole MUX view at `appliedIndex`, and its digest (the XOR that `digestOf` of its items gives). */
  muxItems(): Iterable<MuxItem>;
  muxDigest(): string;
  /** The MUX view at `appliedIndex`, in parts: applying goes on meanwhile. */
  captureMuxView(): ViewCapture<MuxItem>;
  captureHostView(host: HostId): ViewCapture<HostItem>;
  /** As `muxDigest`, without ever walking the view: null when only that could tell. `captureMuxView`, to its end, does. */
  knownMuxDigest(): string | null;
  hostItems(host: HostId): Iterable<HostItem>;
  hostDigest(host: HostId): string;

  object(ref: ObjectRef): AnyStoredObject | null;
  /** In order of (tenant, name). `tenant` null: of all tenants. */
  objects(kind: ObjectKind, tenant: string | null): readonly AnyStoredObject[];
  readonly vipCount: number;
  vip(id: VipId): VipObject | null;
  hosts(): readonly Host[];
  host(id: HostId): Host | null;
  hostByName(name: string): Host | null;
  dip(id: DipId): Dip | null;
  /** The DIP that a pool or a host has named, and where it runs; null: nobody ever has. */
  dipAt(tenant: string, address: IpAddress): PlacedDip | null;
  dipAtLocator(locator: IpAddress): PlacedDip | null;
  /** Of a Vip or a BackendPool: its rows in the MUX view, without port ranges. Empty before it was activated. */
  muxItemsOf(ref: ObjectRef): readonly MuxItem[];
  /** The Vips and BackendPools that rows of the MUX view, given by key, come from; each once, those that are still stored. */
  objectsOfMuxKeys(keys: Iterable<string>): readonly ObjectRef[];
  /** Why nothing is granted after a restore; null: nothing is in the way. */
  unsettledEpoch(): UnsettledEpoch | null;
  /** Null: the host is not fenced. */
  fence(host: HostId): Fence | null;
  /** Null: up, as far as anybody has said. */
  memberHealth(pool: PoolId, dip: DipId): DownMember | null;
  /** Members of the pool, and such as have left it, that drain with a timeout; in order of DIP. */
  drainsOf(pool: PoolId): readonly Drain[];
  /** How many are withdrawn now. */
  readonly withdrawnVips: number;
  /** Null: not withdrawn. */
  withdrawal(vip: VipId): Withdrawal | null;
  /** Null: it was not withdrawn for overload lately. */
  overloadBackoff(vip: VipId): OverloadBackoff | null;
  muxes(): readonly Mux[];
  replicas(): readonly { readonly nodeId: NodeId; readonly incarnation: number; readonly bootId: string }[];
  /** Owned and quarantined ranges, merged into blocks, ordered by (vip, protocol, range). */
  snatBlocks(filter: SnatFilter): readonly SnatBlock[];
  /** The same, some spaces at a time: those behind `after`, which need not exist any more. */
  snatPage(filter: SnatFilter, after: SnatSpace | null): SnatPage;
  /** Ports that the VIP's rules want and SNAT has not given back yet: those rules wait. The first `most` are described. */
  lentPorts(spec: VipSpec, most: number): LentPorts;
  /** What each DIP owns at each VIP, is to have at least, and may own; those that may and own nothing, too. As `snatPage`. */
  snatShares(filter: ShareFilter, after: SnatSpace | null): SharePage;
  /** Per VIP and protocol: how the 8,064 ranges stand. */
  snatUsage(): readonly SnatUsage[];
  /** Where DIPs wait for their fair share of a VIP's ports, and who is asked to give back; ordered by (vip, protocol). */
  snatContests(): readonly SnatContest[];
  /** Of one address. */
  snatUsageOf(vip: IpAddress): readonly SnatUsage[];

  /** What is prepared and not yet activated: the oldest and the newest such entry, and the hosts that should know them first. */
  pendingActivation(): {
    readonly fromIndex: LogIndex;
    readonly upToIndex: LogIndex;
    readonly hosts: readonly HostId[];
  } | null;
  /**
   * Cluster time at which a `tick` would change something, or null. With the caller's `muxSafeIndex`, ranges that rest
   * because MUXes have not acknowledged their release are left out: a tick would not free them.
   */
  nextTickDueMs(muxSafeIndex?: LogIndex): number | null;
  /** What becomes of the request: executed, or answered as it was before. As of `appliedIndex`. */
  verdictOn(origin: Origin): SessionVerdict;
  /** Of a tenant, written or not: 1..1000. */
  tenantWeight(tenant: string): number;
  /** True when the session is remembered. */
  hasSession(session: string): boolean;
}

export interface PlacedDip extends Dip {
  /** Both null: no host runs it. */
  readonly hostId: HostId | null;
  readonly locator: IpAddress | null;
}

export interface Host {
  readonly hostId: HostId;
  readonly name: string;
  readonly incarnation: number;
  readonly bootId: string;
  /** Of its earlier processes, newest first, at most 8: they register no more. */
  readonly formerBootIds: readonly string[];
  readonly dips: readonly DipId[];
  /** Its lease ran out and it was not heard since: its DIPs get no new flows. */
  readonly isExpired: boolean;
  readonly registeredIndex: LogIndex;
}

export interface Mux {
  readonly muxId: MuxId;
  readonly name: string;
  readonly incarnation: number;
  readonly bootId: string;
  /** As of a host. */
  readonly formerBootIds: readonly string[];
  readonly address: IpAddress;
  /** Outer source towards IPv6 locators; absent: it reaches none. */
  readonly addressIpv6?: IpAddress;
  readonly capacity: MuxCapacity;
  /** `live` gates muxSafeIndex; `lost` and `left` do not. */
  readonly state: "live" | "lost" | "left";
  readonly joinedIndex: LogIndex;
  /** By an operator; it outlasts the MUX's starts. */
  readonly drain?: MuxDrain;
}

export interface MuxDrain {
  readonly reason: string;
  /** Cluster time. */
  readonly sinceMs: number;
}

export interface SnatFilter {
  readonly vip?: IpAddress;
  readonly dip?: DipId;
  readonly host?: HostId;
  readonly protocol?: 6 | 17;
}

/** The ports of one VIP and protocol. */
export interface SnatSpace {
  readonly vip: IpAddress;
  readonly protocol: 6 | 17;
}

/** Of a listing: whole spaces, in order of (vip, protocol). */
export interface SnatPage {
  readonly blocks: readonly SnatBlock[];
  /** The last space looked at; null: nothing follows. */
  readonly end: SnatSpace | null;
}

export interface SnatBlock {
  readonly vip: IpAddress;
  readonly vipId: VipId | null;
  readonly protocol: 6 | 17;
  readonly range: number;
  readonly count: number;
  readonly state: "owned" | "quarantined";
  /** Cluster time since when its owner is asked to give it back, all of it; null: it is not. */
  readonly recalledSinceMs: number | null;
  /** The owner, or the last one while quarantined. */
  readonly dip: Dip;
  readonly host: string | null;
  readonly grantedIndex: LogIndex;
  /** Cluster time at which a quarantine may end; null while owned. */
  readonly freeAtMs: number | null;
}

/** Null: all. */
export interface ShareFilter {
  readonly vip: IpAddress | null;
  readonly dip: IpAddress | null;
  readonly tenant: string | null;
}

/** As `SnatPage`. */
export interface SharePage {
  readonly shares: readonly SnatShare[];
  readonly end: SnatSpace | null;
}

/** Of one DIP at one VIP and protocol, in ranges. */
export interface SnatShare {
  readonly vip: IpAddress;
  readonly protocol: 6 | 17;
  readonly dip: Dip;
  readonly host: string | null;
  readonly owned: number;
  readonly guaranteed: number;
  /** Of those owned: asked back, by rules or for others. */
  readonly recalled: number;
  /** Asked for in vain, up to its fair share. */
  readonly waiting: number;
  /** 0: the VIP's outbound does not name it any more. */
  readonly limit: number;
}

/** A VIP and protocol whose ports have run short. In ranges; DIPs that wait in the order in which they began, owners by what they own. */
export interface SnatContest extends SnatSpace {
  readonly waiting: readonly { readonly dip: Dip; readonly ranges: number; readonly sinceMs: number }[];
  readonly asked: readonly {
    readonly dip: Dip;
    readonly host: string | null;
    readonly ranges: number;
    readonly owned: number;
    readonly sinceMs: number;
  }[];
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
