/** The process around one Manager replica: settings, signals, metrics over HTTP. */
import { readFileSync } from "node:fs";
import { z } from "zod";
import { nodeId } from "../core/brands.js";
import { fail, runProcess } from "../runtime/lifecycle.js";
import { Metrics } from "../runtime/metrics.js";
import { createNodeEnv } from "../runtime/node/env.js";
import { OpsServer } from "../runtime/ops-http.js";
import { hostPort, readSettings } from "../runtime/settings.js";
import { managerConfig } from "./config.js";
import { createManager } from "./manager.js";
import { managerMetrics } from "./metrics.js";

const id = z.number().int().min(1).max(65_535);
const settingsSchema = z.object({
  nodeId: id,
  clusterId: z.string().regex(/^[0-9a-f]{32}$/, "is not 32 hex digits"),
  clusterEpoch: z.number().int().min(1).default(1),
  dataFolder: z.string().min(1),
  bootstrap: z.boolean().default(false),
  join: z.boolean().default(false),
  leaseReads: z.boolean().default(false),
  replicas: z
    .array(z.object({ nodeId: id, raftAddress: hostPort, apiAddress: hostPort }))
    .min(1)
    .max(18),
  opsAddress: hostPort.nullable().default(null),
  insecure: z.boolean().default(false),
  logLevel: z.enum(["debug", "info", "warn", "error"]).default("info"),
});

function version(): string {
  for (const path of ["../package.json", "../../package.json"]) {
    try {
      return (JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8")) as { version: string }).version;
    } catch {
      continue; // the sources and the build lie at different depths
    }
  }
  return "unknown";
}

await runProcess(async () => {
  const settings = readSettings(settingsSchema, { argv: process.argv.slice(2), env: process.env });
  const { dataFolder, logLevel, insecure, replicas } = settings;
  const env = createNodeEnv({ name: `manager-${settings.nodeId}`, dataFolder, logLevel, insecure });
  const config = managerConfig({
    nodeId: nodeId(settings.nodeId),
    clusterId: settings.clusterId,
    clusterEpoch: settings.clusterEpoch,
    dataFolder,
    bootstrap: settings.bootstrap,
    join: settings.join,
    raft: { leaseReads: settings.leaseReads },
    replicas: replicas.map((replica) => ({ ...replica, nodeId: nodeId(replica.nodeId) })),
    opsAddress: settings.opsAddress,
  });
  const manager = createManager(env, config, { version: version(), pid: process.pid, failed: fail });
  const metrics = new Metrics(managerMetrics(manager));
  const ops = new OpsServer({
    metrics: () => metrics.text(),
    ready: () => {
      const { leader, notVoting } = manager.raftStatus();
      return [
        { name: "leader known", ok: leader !== null },
        { name: "votes", ok: notVoting === null },
        { name: "bootstrapped", ok: manager.state.site !== null },
      ];
    },
  });
  await manager.start();
  if (config.opsAddress !== null) await ops.listen(config.opsAddress, { insecure });
  return {
    stop: async () => {
      await ops.stop();
      await manager.stop();
    },
  };
});
