/** Every setting of a Manager replica, with unit and default. */
import type { NodeId } from "../core/brands.js";
import { HISTORY_SETTINGS, type HistorySettings } from "./history/ownership-history.js";
import { REQUEST_RATES, type RequestRates } from "./stages/request-buckets.js";
import { MUX_TIMINGS, type MuxTimings } from "./stages/mux-pool-management.js";

export interface ManagerConfig {
  readonly nodeId: NodeId;
  /** 32 hex digits, the same on all replicas; made once, when the site is set up. */
  readonly clusterId: string;
  /** 1 at first; raised by a restore from a snapshot file. */
  readonly clusterEpoch: number;
  /** Log, hard state and snapshots. On a local disk. */
  readonly dataFolder: string;
  /** Format the empty data folder of a new cluster. Without it an empty folder counts as lost state. */
  readonly bootstrap: boolean;
  /** Format the empty data folder of a replica that joins a running cluster, under a node id never used before. */
  readonly join: boolean;
  /**
   * The replicas that founded the cluster, this one included; who takes part later is in the log. For a replica that
   * joins: itself, and replicas of the running cluster.
   */
  readonly replicas: readonly ReplicaAddresses[];
  /** Metrics and health over HTTP, "host:port"; null: none. */
  readonly opsAddress: string | null;
  readonly raft: RaftTimings;
  readonly mux: MuxTimings;
  readonly history: HistorySettings;
  /** Prefixes that VIPs may be of, canonical; none: any unicast address. The same on all replicas. */
  readonly vipPrefixes: readonly string[];
  /** How often SNAT ports may be asked for. */
  readonly requestRates: RequestRates;
}

export interface ReplicaAddresses {
  readonly nodeId: NodeId;
  /** Where the replicas talk Raft, "host:port". */
  readonly raftAddress: string;
  /** Where operators, agents, MUXes and the other replicas connect. */
  readonly apiAddress: string;
}

/** Heartbeats at 30 ms keep an election timeout of 150 ms safe on a busy two-core machine (measured, docs/decisions). */
export interface RaftTimings {
  readonly tickMs: number;
  readonly heartbeatMs: number;
  readonly electionTimeoutMinMs: number;
  readonly electionTimeoutMaxMs: number;
  /** Entries applied between snapshots. */
  readonly snapshotEveryEntries: number;
  /** Entries kept behind a snapshot for followers a little behind. */
  readonly trailingEntries: number;
  /** Proposed and not yet committed, at most. */
  readonly uncommittedBytesMax: number;
  /** A leader whose disk takes longer for one write gives leadership away. */
  readonly storageStallMs: number;
  /** Serve reads under a lease; see RaftNodeConfig. */
  readonly leaseReads: boolean;
}

export const RAFT_TIMINGS: RaftTimings = {
  tickMs: 10,
  heartbeatMs: 30,
  electionTimeoutMinMs: 150,
  electionTimeoutMaxMs: 250,
  snapshotEveryEntries: 10_000,
  trailingEntries: 5_000,
  uncommittedBytesMax: 16 * 1024 * 1024,
  storageStallMs: 1_000,
  leaseReads: false,
};

export type ManagerOptions = Omit<
  ManagerConfig,
  "raft" | "mux" | "history" | "requestRates" | "vipPrefixes" | "opsAddress" | "bootstrap" | "join" | "clusterEpoch"
> & {
  readonly opsAddress?: string | null;
  readonly bootstrap?: boolean;
  readonly join?: boolean;
  readonly clusterEpoch?: number;
  readonly raft?: Partial<RaftTimings>;
  readonly mux?: Partial<MuxTimings>;
  readonly history?: Partial<HistorySettings>;
  readonly vipPrefixes?: readonly string[];
  readonly requestRates?: Partial<RequestRates>;
};

/** Fills in the defaults. */
export function managerConfig(options: ManagerOptions): ManagerConfig {
  return {
    ...options,
    opsAddress: options.opsAddress ?? null,
    bootstrap: options.bootstrap ?? false,
    join: options.join ?? false,
    clusterEpoch: options.clusterEpoch ?? 1,
    raft: { ...RAFT_TIMINGS, ...options.raft },
    mux: { ...MUX_TIMINGS, ...options.mux },
    history: { ...HISTORY_SETTINGS, ...options.history },
    vipPrefixes: options.vipPrefixes ?? [],
    requestRates: { ...REQUEST_RATES, ...options.requestRates },
  };
}
