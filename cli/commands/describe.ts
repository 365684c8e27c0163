/** `ananta describe TYPE NAME`: everything about one thing, for people. */
import { Command } from "commander";
import { AnantaError } from "../../core/errors.js";
import { DEFAULT_TENANT } from "../../manager/api/objects/schema.js";
import type { ApiClient } from "../api-client.js";
import { clusterListings } from "../cluster-tables.js";
import type { Context } from "../context.js";
import { formatDuration } from "../terminal/durations.js";
import { EXIT, UsageError } from "../terminal/exit-codes.js";
import { GET, LIST, LIST_SNAT, type WireObject } from "../methods.js";
import { labelText, protocolText, statusCell } from "../objects/object-columns.js";
import { TYPE_WORDS, objectType, parseTargets, type Target } from "../objects/resource-types.js";
import { createTable, indent, renderFields, type Cell } from "../terminal/table.js";
import { surveyedView, tellStale } from "../reading.js";

interface DescribeOptions {
  readonly tenant: string;
  readonly stale?: boolean;
}

export function describeCommand(context: Context): Command {
  return new Command("describe")
    .description("show everything about one object or process")
    .argument("<target...>", `TYPE NAME... or TYPE/NAME...; types: ${TYPE_WORDS}`)
    .option("-t, --tenant <tenant>", "tenant of the objects", DEFAULT_TENANT)
    .option("--stale", "answer from what one replica has, however old: works without a majority")
    .action(
      context.action((words: readonly string[], _options: unknown, command: Command) =>
        describe(context, words, command),
      ),
    );
}

async function describe(context: Context, words: readonly string[], command: Command) {
  const parts: string[] = [];
  for (const target of parseTargets(words)) {
    if (target.name === null) throw new UsageError(`name what to describe: ananta describe ${target.type.name} NAME`);
    parts.push(
      target.type.isObject
        ? await describeObject(context, target, target.name, command)
        : await describeProcess(context, target, target.name, command),
    );
  }
  context.print(parts.join("\n"));
  return EXIT.ok;
}

async function describeObject(context: Context, { type }: Target, name: string, command: Command): Promise<string> {
  const { tenant, stale = false } = command.opts<DescribeOptions>();
  const client = context.client(command);
  const { kind } = objectType(type, "described");
  const { response, endpoint } = await client.read(GET, { ref: { kind, tenant, name }, stale });
  if (stale) tellStale(context, endpoint, { index: response.index, ageMs: response.ageMs });
  const object = response.object ?? {};
  const { metadata, status } = object;
  const head: (readonly [string, Cell])[] = [
    ["Name", metadata?.name ?? ""],
    ["Kind", kind],
    ["Tenant", metadata?.tenant ?? ""],
    ["Labels", labelText(metadata?.labels)],
    ["Generation", metadata?.generation ?? 0],
    ["Status", statusCell(object)],
    ["Changed at", `index ${status?.updatedIndex ?? 0}`],
  ];
  const scene = { context, client, tenant, stale, object };
  const own =
    kind === "Vip"
      ? await describeVip(scene, head)
      : kind === "BackendPool"
        ? await describePool(scene, head)
        : describeRules(scene, head);
  return own + conditions(context, object);
}

interface Scene {
  readonly context: Context;
  readonly client: ApiClient;
  readonly tenant: string;
  readonly stale: boolean;
  readonly object: WireObject;
}

async function describeVip(
  { context, client, tenant, stale, object }: Scene,
  head: readonly (readonly [string, Cell])[],
): Promise<string> {
  const { vip, status } = object;
  const { outbound } = vip ?? {};
  const rules = vip?.rules ?? [];
  const [blocks, pools] = await Promise.all([
    outbound
      ? client
          .readPages(LIST_SNAT, { vip: vip?.address ?? "", stale })
          .then(({ pages }) => pages.flatMap((page) => page.blocks))
      : [],
    client
      .readPages(LIST, { kind: "BackendPool", tenant, stale })
      .then((listed) => listed.pages.flatMap(({ objects }) => objects)),
  ]);
  const used = new Set([...rules.map(({ pool }) => pool ?? ""), ...(outbound?.pools ?? [])]);
  const members = pools
    .filter(({ metadata }) => used.has(metadata?.name ?? ""))
    .flatMap(({ metadata, backendPool, status: poolStatus }) =>
      (poolStatus?.members ?? []).map(({ dip, host, health, reason }, at) => [
        metadata?.name ?? "",
        dip ?? "",
        backendPool?.members?.[at] === undefined ? "left" : (backendPool.members[at].weight ?? 100),
        host ?? "",
        healthText(health, reason),
      ]),
    );
  const owners = new Map<string, { readonly cells: readonly string[]; ranges: number }>();
  for (const { block, dip, host, state } of blocks) {
    const cells = [dip ?? "", host ?? "", protocolText(block?.protocol), state ?? ""];
    const known = owners.get(cells.join(" "));
    if (known === undefined) owners.set(cells.join(" "), { cells, ranges: block?.count ?? 0 });
    else known.ranges += block?.count ?? 0;
  }
  return [
    renderFields(
      [
        ...head,
        ["Address", vip?.address ?? ""],
        [
          "Outbound",
          outbound
            ? `members of ${(outbound.pools ?? []).join(", ")}; at most ${outbound.maxPorts ?? 0} ports per DIP and protocol`
            : "none",
        ],
      ],
      context.paint,
    ),
    section(
      context,
      "Rules",
      ["NAME", "PROTOCOL", "PORT", "POOL", "BACKEND-PORT"],
      rules.map((rule) => [
        rule.name ?? "",
        protocolText(rule.protocol),
        rule.port ?? 0,
        rule.pool ?? "",
        rule.backendPort ?? 0,
      ]),
    ),
    section(context, "DIPs", ["POOL", "DIP", "WEIGHT", "HOST", "HEALTH"], members),
    ...(outbound
      ? [
          section(
            context,
            "SNAT ranges of 8 ports",
            ["PROTOCOL", "OWNED", "RESTING", "HELD-BY-RULES", "FREE"],
            (status?.snat ?? []).map((usage) => [
              protocolText(usage.protocol),
              usage.ownedRanges ?? 0,
              usage.quarantinedRanges ?? 0,
              usage.excludedRanges ?? 0,
              usage.freeRanges ?? 0,
            ]),
          ),
          section(
            context,
            "SNAT ports",
            ["DIP", "HOST", "PROTOCOL", "STATE", "PORTS"],
            [...owners.values()].map(({ cells, ranges }) => [...cells, ranges * 8]),
          ),
        ]
      : []),
  ].join("");
}

async function describePool(
  { context, client, tenant, stale, object }: Scene,
  head: readonly (readonly [string, Cell])[],
): Promise<string> {
  const { backendPool, status } = object;
  const name = object.metadata?.name ?? "";
  const { pages } = await client.readPages(LIST, { kind: "Vip", tenant, stale });
  const users = pages
    .flatMap((page) => page.objects)
    .flatMap(({ metadata, vip }) => {
      const rules = (vip?.rules ?? []).filter(({ pool }) => pool === name).map((rule) => `rule ${rule.name ?? ""}`);
      const uses = [...rules, ...((vip?.outbound?.pools ?? []).includes(name) ? ["outbound"] : [])];
      return uses.length === 0 ? [] : [[metadata?.name ?? "", vip?.address ?? "", uses.join(", ")]];
    });
  const known = new Map((status?.members ?? []).map((member) => [member.dip ?? "", member]));
  const members = (backendPool?.members ?? []).map(({ dip, port, weight }) => [
    dip ?? "",
    port ? port : "the rule's",
    weight ?? 100,
    known.get(dip ?? "")?.host ?? "",
    healthText(known.get(dip ?? "")?.health, known.get(dip ?? "")?.reason),
  ]);
  const listed = new Set((backendPool?.members ?? []).map(({ dip }) => dip ?? ""));
  const left = (status?.members ?? [])
    .filter(({ dip }) => !listed.has(dip ?? ""))
    .map(({ dip, host, health, reason }) => [dip ?? "", host ?? "", healthText(health, reason)]);
  const timeout = backendPool?.drainTimeoutSeconds ?? 0;
  return [
    renderFields(
      [
        ...head,
        ["Max members", backendPool?.maxMembers ?? 0],
        ["Drain", timeout === 0 ? "flows end by themselves" : `flows end after ${timeout} s`],
      ],
      context.paint,
    ),
    section(context, "Members", ["DIP", "PORT", "WEIGHT", "HOST", "HEALTH"], members),
    left.length === 0 ? "" : section(context, "Left, and draining", ["DIP", "HOST", "HEALTH"], left),
    section(context, "Used by", ["VIP", "ADDRESS", "FOR"], users),
  ].join("");
}

/** Tenants and security groups: what is written. */
function describeRules({ context, object }: Scene, head: readonly (readonly [string, Cell])[]): string {
  const { tenant, securityGroup } = object;
  if (tenant) {
    const spaces = tenant.addressSpaces ?? [];
    return renderFields(
      [
        ...head,
        ["Weight", tenant.weight ?? 1],
        ["Address spaces", spaces.length === 0 ? "any" : spaces.join(", ")],
        ["Most VIPs", tenant.maxVips ? tenant.maxVips : "no limit"],
        ["Most rules per VIP", tenant.maxRulesPerVip ?? 0],
      ],
      context.paint,
    );
  }
  const rules = [...(securityGroup?.rules ?? [])].sort((a, b) => (a.priority ?? 0) - (b.priority ?? 0));
  return (
    renderFields(head, context.paint) +
    section(
      context,
      "Rules",
      ["DIRECTION", "PRIORITY", "ACTION", "PROTOCOL", "PORTS", "PEER"],
      rules.map((rule) => [
        rule.direction ?? "",
        rule.priority ?? 0,
        rule.action ?? "",
        rule.protocol ?? "",
        (rule.ports ?? []).join(",") || "all",
        rule.peer ?? "",
      ]),
    )
  );
}

/** What does not hold, and why. */
function conditions(context: Context, { status }: WireObject): string {
  const rows = (status?.conditions ?? []).map(({ type, status: isMet, reason, message }) => [
    type ?? "",
    isMet === true ? "yes" : "no",
    reason ?? "",
    message ?? "",
  ]);
  return rows.length === 0 ? "" : section(context, "Conditions", ["CONDITION", "HOLDS", "REASON", "MESSAGE"], rows);
}

const healthText = (health: string | null | undefined, reason: string | null | undefined): string =>
  reason ? `${health ?? ""}: ${reason}` : (health ?? "");

function section(
  context: Context,
  title: string,
  header: readonly string[],
  rows: readonly (readonly Cell[])[],
): string {
  return rows.length === 0
    ? `${title}: none\n`
    : `${title}:\n${indent(createTable(header, context.paint).render(rows))}`;
}

async function describeProcess(context: Context, { type }: Target, name: string, command: Command): Promise<string> {
  const view = await surveyedView(context, command);
  const { header, wideHeader, rows } = clusterListings(view, type.kind as "Replica" | "Mux" | "Host");
  const row = rows.find((candidate) => candidate.name === name);
  if (row === undefined) throw new AnantaError("NOT_FOUND", `${type.name} "${name}" does not exist`);
  const cells = [...row.cells, ...row.wideCells];
  // A MUX's drops are listed below by reason.
  const fields: (readonly [string, Cell])[] = [...header, ...wideHeader].flatMap(
    (title, column): readonly (readonly [string, Cell])[] =>
      title === "DROPS" ? [] : [[readable(title), cells[column] ?? ""]],
  );
  const mux = type.kind === "Mux" ? view.muxes.find((candidate) => candidate.mux.name === name)?.mux : undefined;
  if (mux?.drain) {
    const { reason, ageMs } = mux.drain;
    fields.push(["Drained", `${reason ?? ""}, for ${formatDuration(ageMs ?? 0)}`]);
  }
  const drops = Object.entries(mux?.counters?.drops ?? {}).map(([reason, count]) => [reason, count]);
  return (
    renderFields(fields, context.paint) +
    (mux === undefined ? "" : section(context, "Drops", ["REASON", "PACKETS"], drops))
  );
}

/** "CONNECTED-TO" -> "Connected to" */
const readable = (title: string): string =>
  SPELLED[title] ?? title.charAt(0) + title.slice(1).toLowerCase().replaceAll("-", " ");

const SPELLED: Readonly<Record<string, string>> = { VIPS: "VIPs announced", "IPV6-ADDRESS": "IPv6 address" };
