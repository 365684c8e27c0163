/**
 * The commands that the log carries. One log entry is one `CommandBatch`: the commands that a stage drained together,
 * and the facts about the outside that applying them may need, so that `apply` reads no clock and asks nobody.
 */
import type { DipId, HostId, IpAddress, LogIndex, MuxId, NodeId, PoolId } from "../../../core/brands.js";
import type { ObjectRef, ObjectSpec } from "../objects.js";

/** Raised when the encoding of commands changes, from 1.0 on also when their meaning does; see docs/decisions/0002. */
export const COMMAND_FORMAT_VERSION = 2;

export interface CommandBatch {
  readonly formatVersion: number;
  /** Proposer's cluster time: last applied cluster time + its monotonic clock since. The state takes the maximum. */
  readonly clusterTimeMs: number;
  /** Wall clock of the proposer, for audit only. */
  readonly wallMs: number;
  /** Every live MUX had this index in force when the batch was proposed; 0 when unknown. */
  readonly muxSafeIndex: LogIndex;
  readonly commands: readonly SubmittedCommand[];
}

export interface SubmittedCommand {
  /** Who may retry it; null for the Managers' own commands, which are harmless when repeated. */
  readonly origin: Origin | null;
  readonly command: Command;
}

/** Identifies one request of one client for ever: a retry carries the same pair and gets the same answer. */
export interface Origin {
  /** 128 bits chosen by the client, 32 hex digits. Made by its first use; expires after 10 minutes without one. */
  readonly session: string;
  /** Counts the client's requests from 1. The newest 64 answers are remembered. */
  readonly sequence: number;
}

export type Command =
  | BootstrapCommand
  | BeginEpochCommand
  | StartReplicaCommand
  | ApplyObjectsCommand
  | DeleteObjectsCommand
  | ActivateCommand
  | WithdrawVipCommand
  | RestoreVipCommand
  | RegisterHostCommand
  | FenceHostCommand
  | ReportHealthCommand
  | ExpireHostsCommand
  | RenewHostsCommand
  | JoinMuxCommand
  | LeaveMuxCommand
  | LoseMuxCommand
  | DrainMuxCommand
  | UndrainMuxCommand
  | AllocateSnatCommand
  | ReleaseSnatCommand
  | TickCommand;

export type CommandKind = Command["kind"];

/** First command of a cluster; ignored when the state is already bootstrapped. */
export interface BootstrapCommand {
  readonly kind: "bootstrap";
  readonly clusterId: string;
  readonly clusterEpoch: number;
  /** The site's flow-hash key, 16 hex digits, the same on every MUX and agent for ever. */
  readonly hashKey: string;
  /** Master key of what MUXes tell each other and hosts, 32 hex digits; absent in logs that began without one: no FastPath. */
  readonly muxKey?: string;
}

/**
 * The state was restored from a snapshot file and a new cluster epoch begins. Proposed by the first leader whose configured
 * epoch is above the state's. Nothing is granted until every known host has declared what it holds or was fenced, and
 * 120 s of cluster time have passed (see `cluster-epoch`).
 */
export interface BeginEpochCommand {
  readonly kind: "begin-epoch";
  /** Above the state's; the same again is harmless. */
  readonly clusterEpoch: number;
}

/**
 * For the leader after a restore. When it takes office:
 *
 *   const { site } = state;
 *   if (site !== null && config.clusterEpoch > site.clusterEpoch) propose(beginEpoch(config.clusterEpoch));
 *
 * No origin is needed: a second proposal of the same epoch changes nothing. Streams opened in the old epoch end once it is
 * applied; their hosts come back with a new hello. `StateMachine.unsettledEpoch()` tells why nothing is granted yet.
 */
export const beginEpoch = (clusterEpoch: number): BeginEpochCommand => ({ kind: "begin-epoch", clusterEpoch });

/** A Manager process has started: gives it an incarnation, a committed start number. */
export interface StartReplicaCommand {
  readonly kind: "start-replica";
  readonly nodeId: NodeId;
  readonly bootId: string;
}

/** All objects or none. */
export interface ApplyObjectsCommand {
  readonly kind: "apply-objects";
  readonly objects: readonly ApplyObject[];
}

export interface ApplyObject {
  readonly ref: ObjectRef;
  readonly labels: Readonly<Record<string, string>>;
  readonly object: ObjectSpec;
  /** Refused with GENERATION_CONFLICT when the stored generation differs; 0 means "must not exist"; null: no check. */
  readonly expectedGeneration: number | null;
}

export interface DeleteObjectsCommand {
  readonly kind: "delete-objects";
  readonly objects: readonly { readonly ref: ObjectRef; readonly expectedGeneration: number | null }[];
}

/** Second entry of a change: what was prepared at or before `upToIndex` is used by MUXes from now on. */
export interface ActivateCommand {
  readonly kind: "activate";
  readonly upToIndex: LogIndex;
}

/** Takes a VIP's routes away from all MUXes until its time is over or it is restored. */
export interface WithdrawVipCommand {
  readonly kind: "withdraw-vip";
  readonly tenant: string;
  readonly name: string;
  /** 1..256 characters, for people. */
  readonly reason: string;
  /** 30..86400; 0: what the VIP's `overload` says, and for overload longer each time (`overload-backoff`). */
  readonly forSeconds: number;
  /** Found by the MUXes, not asked for by a person: refused where `overload` forbids it, and while the VIP is withdrawn already. */
  readonly isOverload: boolean;
}

export interface RestoreVipCommand {
  readonly kind: "restore-vip";
  readonly tenant: string;
  readonly name: string;
}

/** Verdicts of probes that changed. */
export interface ReportHealthCommand {
  readonly kind: "report-health";
  readonly hostId: HostId;
  readonly incarnation: number;
  readonly transitions: readonly HealthTransition[];
}

export interface HealthTransition {
  readonly poolId: PoolId;
  readonly dipId: DipId;
  readonly healthy: boolean;
  /** "connection refused"; at most 200 characters, "" when healthy. */
  readonly reason: string;
}

/** Leases of these starts of hosts ran out at the leader. */
export interface ExpireHostsCommand {
  readonly kind: "expire-hosts";
  readonly hosts: readonly { readonly hostId: HostId; readonly incarnation: number }[];
}

/** They were heard again. */
export interface RenewHostsCommand {
  readonly kind: "renew-hosts";
  readonly hosts: ExpireHostsCommand["hosts"];
}

/** A Host Agent (or a third-party client with DIPs of its own) has started. Same `bootId` again: same answer. */
export interface RegisterHostCommand {
  readonly kind: "register-host";
  readonly name: string;
  /** Random per process start, 32 hex digits. */
  readonly bootId: string;
  readonly dips: readonly { readonly tenant: string; readonly address: IpAddress; readonly locator: IpAddress }[];
  /** Ranges that the agent has on disk. What it owns but does not declare is orphaned. */
  readonly heldRanges: readonly HeldRange[];
}

/** An operator declares the host dead: its process is off for good, and none of its ports is in use. */
export interface FenceHostCommand {
  readonly kind: "fence-host";
  readonly name: string;
  /** Said by the operator, shown later; 1..256 characters. */
  readonly reason: string;
}

/** `count` ranges of 8 ports from `range` on: ports [range * 8, (range + count) * 8). */
export interface RangeBlock {
  readonly vip: IpAddress;
  /** IANA number: 6 TCP, 17 UDP. */
  readonly protocol: 6 | 17;
  /** port >> 3: 128..8191. */
  readonly range: number;
  readonly count: number;
}

export interface HeldRange extends RangeBlock {
  readonly dip: IpAddress;
  readonly tenant: string;
}

/** A MUX has caught up and asks to be live. Replaces earlier incarnations of the same name. */
export interface JoinMuxCommand {
  readonly kind: "join-mux";
  readonly name: string;
  readonly bootId: string;
  /** Outer source address of what it encapsulates; IPv4. */
  readonly address: IpAddress;
  /** Outer source towards IPv6 locators. Absent: it reaches none. */
  readonly addressIpv6?: IpAddress;
  readonly capacity: MuxCapacity;
}

export interface MuxCapacity {
  readonly rules: number;
  readonly snatRanges: number;
  /** It forwards IPv6. Absent: IPv4 only. */
  readonly ipv6?: true;
}

/** The MUX itself has withdrawn its routes and stops. */
export interface LeaveMuxCommand {
  readonly kind: "leave-mux";
  readonly muxId: MuxId;
  readonly incarnation: number;
}

/** The leader has not heard from the MUX for lease + withdrawal + margin. Never for the last one (checked in apply). */
export interface LoseMuxCommand {
  readonly kind: "lose-mux";
  readonly muxId: MuxId;
  readonly incarnation: number;
}

/** An operator takes a MUX's routes off the routers: it serves on, through all its starts, until it is undrained. */
export interface DrainMuxCommand {
  readonly kind: "drain-mux";
  readonly name: string;
  readonly reason: string;
  /** Also the last one that announces. */
  readonly force: boolean;
}

export interface UndrainMuxCommand {
  readonly kind: "undrain-mux";
  readonly name: string;
}

export interface AllocateSnatCommand {
  readonly kind: "allocate-snat";
  readonly hostId: HostId;
  readonly incarnation: number;
  readonly dipId: DipId;
  readonly protocol: 6 | 17;
  /** Ports wanted, 1..64512; rounded up to ranges. Fewer may be granted, at least one range. */
  readonly ports: number;
}

export interface ReleaseSnatCommand {
  readonly kind: "release-snat";
  readonly hostId: HostId;
  readonly incarnation: number;
  readonly dipId: DipId;
  readonly blocks: readonly RangeBlock[];
}

/** Lets cluster time pass: quarantines end, sessions expire. */
export interface TickCommand {
  readonly kind: "tick";
}
