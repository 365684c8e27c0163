/** `ananta snat who`, `usage`, `forecast`: what operators ask about source-NAT ports. */
import { Command } from "commander";
import { parseIpAddress } from "../../core/address.js";
import { API_VERSION } from "../../manager/api/objects/schema.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { Context } from "../context.js";
import { parseDuration } from "../terminal/durations.js";
import { EXIT, UsageError, type ExitCode } from "../terminal/exit-codes.js";
import { SNAT_FORECAST, SNAT_WHO } from "../methods.js";
import { protocolText } from "../objects/object-columns.js";
import { formatOption, isStructured, listDocument, serialize, type Document, type Format } from "../terminal/output.js";
import { tellStale } from "../reading.js";
import { tellUsage } from "./snat-usage.js";
import { createTable } from "../terminal/table.js";
import { vipAddressOf } from "../vip-address.js";

interface ReportOptions {
  readonly output: Format;
  readonly at?: string;
  readonly vip?: string;
  readonly window?: string;
  readonly horizon?: string;
  readonly stale?: boolean;
}

const PROTOCOL_NUMBERS: Readonly<Record<string, number>> = { tcp: 6, udp: 17 };
const STALE = ["--stale", "answer from what one replica has, however old: works without a majority"] as const;

export function snatReportCommands(context: Context): readonly Command[] {
  const who = new Command("who")
    .description("who owned a port of a VIP, now or at a time")
    .argument("<vip:port[/protocol]>", 'for example "203.0.113.10:40001/tcp", "[2001:db8::1]:40001"')
    .addOption(formatOption())
    .option("--at <time>", 'a time as "2026-05-01T12:00:00Z", or how long ago: "90s", "2h"')
    .option(...STALE)
    .action(context.action((port: string, _options: unknown, command: Command) => tellWho(context, command, port)));
  const usage = new Command("usage")
    .description("how many ports VIPs, tenants or DIPs own, have in use, are guaranteed, and may own")
    .addOption(formatOption())
    .option("--by <vip|tenant|dip>", "one line for each", "dip")
    .option("--vip <address|name>", "only ports of this VIP")
    .option("--dip <address>", "only ports of this DIP")
    .option("-t, --tenant <tenant>", "only DIPs of this tenant")
    .option(...STALE)
    .action(context.action((_options: unknown, command: Command) => tellUsage(context, command)));
  const forecast = new Command("forecast")
    .description("when the ports of VIPs run out, and how many VIPs are needed")
    .addOption(formatOption())
    .option("--vip <address|name>", "only this VIP")
    .option("--window <time>", "how much of the past counts", "24h")
    .option("--horizon <time>", "VIPs needed at this time from now", "168h")
    .option(...STALE)
    .action(context.action((_options: unknown, command: Command) => tellForecast(context, command)));
  return [who, usage, forecast];
}

/** "203.0.113.10:40001/tcp", "[2001:db8::1]:40001". */
function parseVipPort(text: string): { readonly vip: string; readonly port: number; readonly protocol: number } {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):([0-9]{1,5})(?:\/(tcp|udp))?$/.exec(text);
  const vip = parseIpAddress(match?.[1] ?? match?.[2] ?? "");
  const port = Number(match?.[3] ?? 0);
  if (vip === null || port < 1 || port > 65_535)
    throw new UsageError(`"${text}" is not VIP:PORT or VIP:PORT/PROTOCOL; write for example 203.0.113.10:40001/tcp`);
  return { vip, port, protocol: PROTOCOL_NUMBERS[match?.[4] ?? ""] ?? 0 };
}

/** Milliseconds since 1970; 0: now. */
function parseTime(text: string | undefined, nowMs: number): number {
  if (text === undefined) return 0;
  if (/^[0-9.]+(ms|s|m|h)?$/.test(text)) return Math.max(1, nowMs - parseDuration(text, "--at"));
  const atMs = /^[0-9]{4}-/.test(text) ? Date.parse(text) : Number.NaN;
  if (!Number.isFinite(atMs))
    throw new UsageError(`--at: "${text}" is not a time; write 2026-05-01T12:00:00Z, or how long ago, as 90s or 2h`);
  if (atMs > nowMs) throw new UsageError(`--at: ${text} is yet to come`);
  return atMs;
}

const timeText = (ms: number): string => new Date(ms).toISOString();

async function tellWho(context: Context, command: Command, portText: string): Promise<ExitCode> {
  const { output, at, stale = false } = command.opts<ReportOptions>();
  const { vip, port, protocol } = parseVipPort(portText);
  const client = context.client(command);
  const atMs = parseTime(at, client.clock.wallMs());
  const { response, endpoint } = await client.read(SNAT_WHO, { vip, port, protocol, atMs, stale });
  const { intervals, gaps, sinceMs, index, ageMs } = response;
  if (stale) tellStale(context, endpoint, { index, ageMs });
  if (isStructured(output)) {
    context.print(serialize(listDocument(intervals.map(intervalDocument), { index, ageMs }, stale), output));
  } else if (intervals.length > 0) {
    const header = ["VIP", "PROTOCOL", "PORTS", "TENANT", "DIP", "FROM", "UNTIL", "STATE"];
    context.print(createTable(header, context.paint).render(intervals.map(intervalRow)));
  } else context.tell(atMs === 0 ? "nobody owns it" : `nobody is known to have owned it at ${timeText(atMs)}`);
  for (const gap of gaps) {
    const from = gap.fromMs === 0 ? "its beginning" : timeText(gap.fromMs ?? 0);
    context.tell(
      `gap: ${endpoint} did not see entries ${gap.fromIndex ?? 0} to ${gap.untilIndex ?? 0} (${from} to ${timeText(gap.untilMs ?? 0)}); ask another Manager with --endpoints`,
    );
  }
  if (atMs > 0 && sinceMs > atMs)
    context.tell(
      `${endpoint} remembers ownership that ended since ${timeText(sinceMs)}; what ended before is forgotten`,
    );
  return EXIT.ok;
}

type Interval = ananta.v1.SnatInterval.$Properties;

function portsOf({ block }: Interval): string {
  const first = (block?.range ?? 0) * 8;
  return `${first}-${first + (block?.count ?? 0) * 8 - 1}`;
}

function intervalRow(interval: Interval): readonly string[] {
  const { block, tenant, dip, fromMs, untilMs, state } = interval;
  const from = (fromMs ?? 0) === 0 ? "unknown" : timeText(fromMs ?? 0);
  const until = (untilMs ?? 0) === 0 ? "now" : timeText(untilMs ?? 0);
  return [
    block?.vip ?? "",
    protocolText(block?.protocol),
    portsOf(interval),
    tenant ?? "",
    dip ?? "",
    from,
    until,
    state ?? "",
  ];
}

function intervalDocument(interval: Interval): Document {
  const { block, tenant, dip, fromMs, untilMs, fromIndex, untilIndex, state } = interval;
  return {
    apiVersion: API_VERSION,
    kind: "SnatInterval",
    vip: block?.vip ?? "",
    protocol: protocolText(block?.protocol),
    ports: portsOf(interval),
    tenant: tenant ?? "",
    dip: dip ?? "",
    from: (fromMs ?? 0) === 0 ? null : timeText(fromMs ?? 0),
    until: (untilMs ?? 0) === 0 ? null : timeText(untilMs ?? 0),
    fromIndex: fromIndex ?? 0,
    untilIndex: untilIndex ?? 0,
    state: state ?? "",
  };
}

async function tellForecast(context: Context, command: Command): Promise<ExitCode> {
  const { output, vip = "", window = "24h", horizon = "168h", stale = false } = command.opts<ReportOptions>();
  const client = context.client(command);
  const request = {
    vip: await vipAddressOf(client, { vip, stale }),
    windowSeconds: Math.ceil(parseDuration(window, "--window") / 1_000),
    horizonSeconds: Math.ceil(parseDuration(horizon, "--horizon") / 1_000),
    stale,
  };
  const { response, endpoint } = await client.read(SNAT_FORECAST, request);
  const { forecasts, index, ageMs } = response;
  if (stale) tellStale(context, endpoint, { index, ageMs });
  if (isStructured(output)) {
    const documents = forecasts.map((row): Document => {
      const { stock, owned, quarantined, free, perHour, exhaustedInSeconds, vipsNeeded, windowSeconds } = row;
      const trend = { perHour, exhaustedInSeconds: exhaustedInSeconds ?? null, vipsNeeded, windowSeconds };
      const names = { vip: row.vip, protocol: protocolText(row.protocol) };
      return { apiVersion: API_VERSION, kind: "SnatForecast", ...names, stock, owned, quarantined, free, ...trend };
    });
    context.print(serialize(listDocument(documents, { index, ageMs }, stale), output));
  } else if (forecasts.length === 0) context.tell("no VIP has ports for source NAT");
  else {
    const header = [
      "VIP",
      "PROTOCOL",
      "PORTS",
      "OWNED",
      "RESTING",
      "FREE",
      "PER HOUR",
      "EXHAUSTED IN",
      "VIPS NEEDED",
      "FROM",
    ];
    const cells = forecasts.map((row) => {
      const spanSeconds = row.windowSeconds ?? 0;
      return [
        row.vip ?? "",
        protocolText(row.protocol),
        ...[row.stock, row.owned, row.quarantined, row.free].map((ports) => ports ?? 0),
        spanSeconds === 0 ? "unknown" : (row.perHour ?? 0).toFixed(1),
        exhaustionText(row.exhaustedInSeconds ?? null),
        row.vipsNeeded ?? 0,
        spanSeconds === 0 ? "no history yet" : `the last ${spanText(spanSeconds)}`,
      ];
    });
    context.print(createTable(header, context.paint).render(cells));
  }
  return EXIT.ok;
}

const exhaustionText = (inSeconds: number | null): string =>
  inSeconds === null ? "not at this rate" : inSeconds === 0 ? "exhausted" : spanText(inSeconds);

/** "45 min", "7.5 h", "12 days". */
function spanText(spanSeconds: number): string {
  if (spanSeconds < 3_600) return `${Math.ceil(spanSeconds / 60)} min`;
  return spanSeconds < 2 * 86_400
    ? `${(spanSeconds / 3_600).toFixed(1)} h`
    : `${Math.round(spanSeconds / 86_400)} days`;
}
