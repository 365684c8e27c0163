/** The process around one Host Agent: settings, signals, metrics over HTTP. */
import { z } from "zod";
import { parseIpAddress } from "../core/address.js";
import { given } from "../core/present.js";
import { fail, runProcess } from "../runtime/lifecycle.js";
import { Metrics } from "../runtime/metrics.js";
import { createNodeEnv } from "../runtime/node/env.js";
import { OpsServer } from "../runtime/ops-http.js";
import { hostPort, ipPort, readSettings } from "../runtime/settings.js";
import { settingsHelp } from "../runtime/settings-help.js";
import { createAgent } from "./agent.js";
import { AGENT_TIMINGS, agentConfig } from "./config.js";
import { agentMetrics } from "./metrics.js";

/** What one hello may declare. */
const DIPS_MAX = 1_024;

const ip = z.string().transform((text, context) => {
  const parsed = parseIpAddress(text);
  if (parsed !== null) return parsed;
  context.addIssue({ code: "custom", message: `"${text}" is not an IP address` });
  return z.NEVER;
});
const milliseconds = z.number().min(1).max(86_400_000);
const timings = z.object({
  unansweredMs: milliseconds,
  silenceMs: milliseconds,
  openMs: milliseconds,
  retryMinMs: milliseconds,
  retryMaxMs: milliseconds,
  preferWithinMs: milliseconds,
  reserveMs: milliseconds,
  reserveAheadMs: milliseconds,
  idleReleaseMs: milliseconds,
} satisfies Record<keyof typeof AGENT_TIMINGS, z.ZodNumber>);
const settingsSchema = z.object({
  name: z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'is not 1 to 63 of a-z, 0-9 and "-"'),
  clusterId: z.string().regex(/^[0-9a-f]{32}$/, "is not 32 hex digits"),
  managers: z.array(hostPort).min(1).max(9),
  dataFolder: z.string().min(1),
  dips: z
    .array(
      z.strictObject({
        tenant: z.string().min(1).default("default"),
        address: ip,
        locator: ip.optional(),
        nic: ipPort,
      }),
    )
    .max(DIPS_MAX),
  io: z.strictObject({ kind: z.literal("fabric"), listen: ipPort, router: ipPort, vmListen: ipPort }),
  timings: timings.partial().strict().default({}),
  opsAddress: hostPort.nullable().default(null),
  insecure: z.boolean().default(false),
  logLevel: z.enum(["debug", "info", "warn", "error"]).default("info"),
});

await runProcess(
  async () => {
    const {
      logLevel,
      insecure,
      timings: givenTimings,
      dips,
      ...settings
    } = readSettings(settingsSchema, { argv: process.argv.slice(2), env: process.env });
    const env = createNodeEnv({ name: settings.name, logLevel, insecure });
    const config = agentConfig({
      ...settings,
      dips: dips.map(({ tenant, address: dip, locator, nic }) => ({
        tenant,
        address: dip,
        locator: locator ?? dip,
        nic,
      })),
      timings: { ...AGENT_TIMINGS, ...given(givenTimings) },
    });
    const agent = createAgent(env, config, { failed: fail });
    const metrics = new Metrics(agentMetrics(agent));
    const ops = new OpsServer({
      metrics: () => metrics.text(),
      ready: () => {
        const { activeReplica, inForce } = agent.status();
        return [
          { name: "replica", ok: activeReplica !== null, reason: "no Manager replica can be reached" },
          { name: "tables", ok: inForce.index > 0, reason: "no view is in force yet" },
        ];
      },
    });
    await agent.start();
    if (config.opsAddress !== null) await ops.listen(config.opsAddress, { insecure });
    return {
      stop: async () => {
        await ops.stop();
        await agent.stop();
      },
    };
  },
  () => settingsHelp("agent/main.js", "The Host Agent of one host.", settingsSchema),
);
