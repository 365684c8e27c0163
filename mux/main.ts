/** The process around one MUX: settings, signals, metrics over HTTP. SIGTERM withdraws the routes and leaves the pool first. */
import { z } from "zod";
import { formatIpv4, formatIpv6, parseIpv4, parseIpv6, unusableIpv6 } from "../core/address.js";
import { given } from "../core/present.js";
import { fail, runProcess } from "../runtime/lifecycle.js";
import { Metrics } from "../runtime/metrics.js";
import { createNodeEnv } from "../runtime/node/env.js";
import { OpsServer } from "../runtime/ops-http.js";
import { hostPort, ipPort, readSettings } from "../runtime/settings.js";
import { settingsHelp } from "../runtime/settings-help.js";
import { MUX_TIMINGS, muxConfig } from "./config.js";
import { muxMetrics } from "./metrics.js";
import { createMux } from "./mux.js";

const ipv4 = z.string().transform((text, context) => {
  const parsed = parseIpv4(text);
  if (parsed !== null) return formatIpv4(parsed);
  context.addIssue({ code: "custom", message: `"${text}" is not an IPv4 address` });
  return z.NEVER;
});
const ipv6 = z.string().transform((text, context) => {
  const parsed = parseIpv6(text);
  const why = parsed === null ? "not an IPv6 address" : unusableIpv6(parsed);
  if (parsed !== null && why === null) return formatIpv6(parsed);
  context.addIssue({ code: "custom", message: `"${text}" is ${why ?? ""}` });
  return z.NEVER;
});
const milliseconds = z.number().min(1).max(600_000);
const timings = z.object({
  leaseMs: milliseconds,
  withdrawMs: milliseconds,
  silenceMs: milliseconds,
  ackIntervalMs: milliseconds,
  repeatMs: milliseconds,
  openMs: milliseconds,
  retryMinMs: milliseconds,
  retryMaxMs: milliseconds,
  stopGraceMs: milliseconds,
  leaveMs: milliseconds,
} satisfies Record<keyof typeof MUX_TIMINGS, z.ZodNumber>);
const entries = z.number().int().min(1).max(16_777_216);
const settingsSchema = z.object({
  name: z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'is not 1 to 63 of a-z, 0-9 and "-"'),
  clusterId: z.string().regex(/^[0-9a-f]{32}$/, "is not 32 hex digits"),
  managers: z.array(hostPort).min(1).max(9),
  address: ipv4,
  addressIpv6: ipv6.nullable().default(null),
  ipv6: z.boolean().default(true),
  packetsPerSecondMax: z.number().int().min(0).max(1_000_000_000).default(0),
  io: z.strictObject({ kind: z.literal("fabric"), listen: ipPort, router: ipPort }),
  capacity: z.strictObject({ rules: entries, snatRanges: entries }).optional(),
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
      capacity,
      timings: givenTimings,
      ...settings
    } = readSettings(settingsSchema, { argv: process.argv.slice(2), env: process.env });
    const env = createNodeEnv({ name: settings.name, logLevel, insecure });
    const config = muxConfig({
      ...settings,
      timings: { ...MUX_TIMINGS, ...given(givenTimings) },
      ...(capacity === undefined ? {} : { capacity }),
    });
    const mux = createMux(env, config);
    const metrics = new Metrics(muxMetrics(mux));
    const ops = new OpsServer({
      metrics: () => metrics.text(),
      ready: () => {
        const { activeReplica, inForce, membership } = mux.status();
        return [
          { name: "replica", ok: activeReplica !== null, reason: "no Manager replica can be reached" },
          { name: "tables", ok: inForce.index > 0, reason: "no view is in force yet" },
          { name: "announcing", ok: membership === "announcing", reason: `membership is ${membership}` },
        ];
      },
    });
    await mux.start();
    if (config.opsAddress !== null) await ops.listen(config.opsAddress, { insecure });
    return {
      stop: async () => {
        await ops.stop();
        await mux.stop().catch(fail);
      },
    };
  },
  () => settingsHelp("mux/main.js", "One MUX.", settingsSchema),
);
