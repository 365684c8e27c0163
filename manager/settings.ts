/** The settings of a Manager process as operators write them: file, environment, flags (docs/operations.md). */
import { z } from "zod";
import { nodeId } from "../core/brands.js";
import { CLUSTER_EPOCH_MAX } from "../core/cluster-epoch.js";
import { hostPort } from "../runtime/settings.js";
import { managerConfig, type ManagerConfig } from "./config.js";

const id = z.number().int().min(1).max(65_535);
/** Founders, and a replica that joins knows itself besides: more than are ever needed. */
const REPLICAS_MAX = 18;

export const managerSettings = z.object({
  nodeId: id,
  clusterId: z.string().regex(/^[0-9a-f]{32}$/, "is not 32 hex digits"),
  clusterEpoch: z.number().int().min(1).max(CLUSTER_EPOCH_MAX).default(1),
  dataFolder: z.string().min(1),
  bootstrap: z.boolean().default(false),
  join: z.boolean().default(false),
  leaseReads: z.boolean().default(false),
  replicas: z
    .array(z.object({ nodeId: id, raftAddress: hostPort, apiAddress: hostPort }))
    .min(1)
    .max(REPLICAS_MAX),
  opsAddress: hostPort.nullable().default(null),
  insecure: z.boolean().default(false),
  logLevel: z.enum(["debug", "info", "warn", "error"]).default("info"),
});

export type ManagerSettings = z.infer<typeof managerSettings>;

export function configOf(settings: ManagerSettings): ManagerConfig {
  const { clusterId, clusterEpoch, dataFolder, bootstrap, join, leaseReads, replicas, opsAddress } = settings;
  return managerConfig({
    nodeId: nodeId(settings.nodeId),
    clusterId,
    clusterEpoch,
    dataFolder,
    bootstrap,
    join,
    raft: { leaseReads },
    replicas: replicas.map((replica) => ({ ...replica, nodeId: nodeId(replica.nodeId) })),
    opsAddress,
  });
}
