/** The process around one Manager replica: settings, signals, metrics over HTTP. */
import { readFileSync } from "node:fs";
import { fail, runProcess } from "../runtime/lifecycle.js";
import { Metrics } from "../runtime/metrics.js";
import { createNodeEnv } from "../runtime/node/env.js";
import { OpsServer } from "../runtime/ops-http.js";
import { readSettings } from "../runtime/settings.js";
import { settingsHelp } from "../runtime/settings-help.js";
import { createManager } from "./manager.js";
import { managerMetrics } from "./metrics.js";
import { configOf, managerSettings } from "./settings.js";

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

await runProcess(
  async () => {
    const settings = readSettings(managerSettings, { argv: process.argv.slice(2), env: process.env });
    const { dataFolder, logLevel, insecure } = settings;
    const env = createNodeEnv({ name: `manager-${settings.nodeId}`, dataFolder, logLevel, insecure });
    const config = configOf(settings);
    const manager = createManager(env, config, { version: version(), pid: process.pid, failed: fail });
    const metrics = new Metrics(managerMetrics(manager));
    const ops = new OpsServer({
      metrics: () => metrics.text(),
      ready: () => {
        const { leader, notVoting } = manager.raftStatus();
        return [
          { name: "leader", ok: leader !== null, reason: "none is known" },
          { name: "votes", ok: notVoting === null, reason: notVoting ?? "" },
          { name: "bootstrapped", ok: manager.state.site !== null, reason: "the cluster has no first entry yet" },
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
  },
  () => settingsHelp("manager/main.js", "One Manager replica.", managerSettings),
);
