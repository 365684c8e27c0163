/** The settings of a Manager process as operators write them: file, environment, flags (docs/operations.md). */
import { z } from "zod";
import { nodeId } from "../core/brands.js";
import { CLUSTER_EPOCH_MAX } from "../core/cluster-epoch.js";
import { hostPort } from "../runtime/settings.js";
import { isPrefix } from "./api/objects/schema-values.js";
import { managerConfig, RAFT_TIMINGS, type ManagerConfig } from "./config.js";
import { REQUEST_RATES } from "./stages/request-buckets.js";

const id = z.number().int().min(1).max(65_535);
/** Founders, and a replica that joins knows itself besides: more than are ever needed. */
const REPLICAS_MAX = 18;
/** More are a mistake: routers know a handful. */
const VIP_PREFIXES_MAX = 256;
const vipPrefix = z.string().refine(isPrefix, "is not a prefix; write it as in 203.0.113.0/24");
const DAY_MS = 86_400_000;

export const managerSettings = z.object({
  nodeId: id,
  clusterId: z.string().regex(/^[0-9a-f]{32}$/, "is not 32 hex digits"),
  clusterEpoch: z.number().int().min(1).max(CLUSTER_EPOCH_MAX).default(1),
  dataFolder: z.string().min(1),
  bootstrap: z.boolean().default(false),
  join: z.boolean().default(false),
  leaseReads: z.boolean().default(false),
  snapshotEveryEntries: z.number().int().min(100).max(1_000_000).default(RAFT_TIMINGS.snapshotEveryEntries),
  replicas: z
    .array(z.object({ nodeId: id, raftAddress: hostPort, apiAddress: hostPort }))
    .min(1)
    .max(REPLICAS_MAX),
  opsAddress: hostPort.nullable().default(null),
  historyDays: z.number().int().min(1).max(3_650).default(30),
  historyRecordsMax: z.number().int().min(1_000).max(1_000_000_000).default(2_000_000),
  vipPrefixes: z.array(vipPrefix).max(VIP_PREFIXES_MAX).default([]),
  snatRequestsPerSecond: z.number().int().min(0).max(1_000_000).default(REQUEST_RATES.dip.perSecond),
  snatRequestBurst: z.number().int().min(1).max(10_000_000).default(REQUEST_RATES.dip.burst),
  tenantSnatRequestsPerSecond: z.number().int().min(0).max(1_000_000).default(REQUEST_RATES.tenant.perSecond),
  /** Absent: what two seconds bring. */
  tenantSnatRequestBurst: z.number().int().min(1).max(10_000_000).optional(),
  insecure: z.boolean().default(false),
  logLevel: z.enum(["debug", "info", "warn", "error"]).default("info"),
});

export type ManagerSettings = z.infer<typeof managerSettings>;

export function configOf(settings: ManagerSettings): ManagerConfig {
  const { clusterId, clusterEpoch, dataFolder, bootstrap, join, replicas, opsAddress } = settings;
  const { leaseReads, snapshotEveryEntries } = settings;
  return managerConfig({
    nodeId: nodeId(settings.nodeId),
    clusterId,
    clusterEpoch,
    dataFolder,
    bootstrap,
    join,
    // Behind a snapshot half as many entries are kept, for followers a little behind.
    raft: { leaseReads, snapshotEveryEntries, trailingEntries: Math.floor(snapshotEveryEntries / 2) },
    replicas: replicas.map((replica) => ({ ...replica, nodeId: nodeId(replica.nodeId) })),
    opsAddress,
    vipPrefixes: settings.vipPrefixes,
    requestRates: {
      dip: { perSecond: settings.snatRequestsPerSecond, burst: settings.snatRequestBurst },
      tenant: {
        perSecond: settings.tenantSnatRequestsPerSecond,
        burst: settings.tenantSnatRequestBurst ?? Math.max(1, 2 * settings.tenantSnatRequestsPerSecond),
      },
    },
    history: { retentionMs: settings.historyDays * DAY_MS, recordsMax: settings.historyRecordsMax },
  });
}
