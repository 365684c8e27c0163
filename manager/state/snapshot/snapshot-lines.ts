/**
 * The lines of a snapshot: one JSON array each, its first element the kind. Written by `snapshot-writer`, read by
 * `snapshot-reader`; both are checked against these types.
 */
import type { DipId, HostId, IpAddress, LogIndex, MuxId, NodeId, PoolId, VipId } from "../../../core/brands.js";
import type { BackendPoolSpec, NatPort, SecurityGroupSpec, TenantSpec, VipSpec } from "../objects.js";
import type { SnatProtocol } from "../snat/port-ranges.js";
import type { CommandResult } from "../commands/results.js";
import type { Mux } from "../state-machine.js";
import type { Site } from "../state.js";

/** First byte of a snapshot; raised when a line changes its meaning. */
export const SNAPSHOT_FORMAT_VERSION = 3;

export type HeadLine = ["head", LogIndex, number, Site | null, number, number];
export type EpochLine = ["epoch", number, LogIndex, readonly HostId[]];
export type FenceLine = ["fence", HostId, LogIndex, string];
export type ReplicaLine = ["replica", NodeId, number, string];
export type DipLine = ["dip", string, IpAddress, HostId | 0, IpAddress | 0];
export type HostLine = ["host", HostId, string, number, string, readonly DipId[], LogIndex, readonly string[], 0 | 1];
export type DownLine = ["down", PoolId, DipId, string, number, LogIndex];
/** The pool, its next revision, and its sets, newest first: revision, then DIP and weight of each member. */
export type TablesLine = ["tables", PoolId, number, readonly TableTuple[]];
export type TableTuple = readonly [revision: number, members: readonly (readonly [DipId, number])[]];
/** Since when, until when, whether it is over, and the port of a member that has left, or -1. */
export type DrainLine = ["drain", PoolId, DipId, number, number, 0 | 1, number];
export type WithdrawnLine = ["withdrawn", VipId, string, number, number];
/** How often lately, how long the last time, calm since when. */
export type BackoffLine = ["backoff", VipId, number, number, number];
export type MuxLine = [
  "mux",
  MuxId,
  string,
  number,
  string,
  IpAddress,
  number,
  number,
  Mux["state"],
  LogIndex,
  readonly string[],
  0 | 1,
  /** IPv6 address or 0; not in snapshots of before MUXes had one. */
  (IpAddress | 0)?,
  /** Reason of a drain and since when, or 0; likewise. */
  (readonly [reason: string, sinceMs: number] | 0)?,
];
export type Labels = readonly (readonly [string, string])[];
export type PoolLine = ["pool", PoolId, string, string, Labels, Versions<StoredPoolSpec>, ObjectCounters];
/** Snapshots of before there was a drain timeout have none. */
export type StoredPoolSpec = Omit<BackendPoolSpec, "drainTimeoutSeconds"> & Partial<BackendPoolSpec>;
export type VipLine = ["vip", VipId, string, string, Labels, Versions<VipSpec>, ObjectCounters, NatPortTuples];
export type TenantLine = ["tenant", string, Labels, Versions<TenantSpec>, ObjectCounters];
export type GroupLine = ["group", string, string, Labels, Versions<SecurityGroupSpec>, ObjectCounters];
export type NatPortTuples = readonly (readonly [rule: string, dip: IpAddress, port: NatPort["port"]])[];
/** `active`: 0 for none, 1 for the same as the spec. */
export type Versions<Spec> = readonly [spec: Spec, active: Spec | 0 | 1];
export type ObjectCounters = readonly [
  generation: number,
  created: LogIndex,
  updated: LogIndex,
  active: LogIndex,
  deleting: 0 | 1,
];
export type OwnedRuns = readonly (readonly [range: number, count: number, dip: DipId, granted: LogIndex])[];
export type OwnedLine = ["owned", IpAddress, SnatProtocol, OwnedRuns];
export type GrantRuns = readonly (readonly [count: number, granted: LogIndex])[];
export type QuarantineLine = ["quarantine", IpAddress, SnatProtocol, number, DipId, number, LogIndex, GrantRuns];
/** Since when. */
export type RecallLine = ["recall", IpAddress, SnatProtocol, number, DipId, number];
/** Ranges, since when. */
export type SurplusLine = ["surplus", IpAddress, SnatProtocol, DipId, number, number];
/** Wanted, ranges, since when, until when. */
export type ClaimLine = ["claim", IpAddress, SnatProtocol, DipId, number, number, number, number];
export type CursorLine = ["cursor", IpAddress, SnatProtocol, number];
export type SessionLine = ["session", string, number, number, readonly (readonly [number, CommandResult])[]];
export type ExpiredLine = ["expired", readonly (readonly [string, number])[]];
export type EndLine = ["end", number];
export type Line =
  | HeadLine
  | EpochLine
  | FenceLine
  | ReplicaLine
  | DipLine
  | HostLine
  | MuxLine
  | DownLine
  | WithdrawnLine
  | BackoffLine
  | DrainLine
  | TablesLine
  | TenantLine
  | GroupLine
  | PoolLine
  | VipLine
  | OwnedLine
  | QuarantineLine
  | RecallLine
  | SurplusLine
  | ClaimLine
  | CursorLine
  | SessionLine
  | ExpiredLine
  | EndLine;
