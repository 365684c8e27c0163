/**
 * `ananta plan -f FILE` and `ananta diff -f FILE`: what apply would change. Nothing is changed.
 *
 * Both compare what is written with what is stored, through one schema, and then let a replica check the change. `plan` is
 * for people: also which DIPs enter, drain or leave, and the SNAT ports per DIP after it. `diff` is for scripts: fields only,
 * and an exit code of its own when there are differences.
 */
import { Command } from "commander";
import { API_VERSION, validateDocument } from "../../manager/api/objects/schema.js";
import { documentFromWire, wireApplyObject } from "../../manager/api/objects/wire.js";
import type { ApplyObject } from "../../manager/state/commands/commands.js";
import { objectKey, type ObjectKind } from "../../manager/state/objects.js";
import type { ApiClient } from "../api-client.js";
import { collect, shortName, tellWarnings } from "../objects/changing.js";
import { readCheckedFiles } from "../objects/checked-files.js";
import type { Context } from "../context.js";
import { EXIT } from "../terminal/exit-codes.js";
import { APPLY, LIST, type WireObject } from "../methods.js";
import { objectChange, type ObjectChange } from "../objects/object-changes.js";
import { formatOption, isStructured, serialize, type Format } from "../terminal/output.js";
import { snatPlans, type SnatPlan } from "../objects/snat-plan.js";
import { createTable, indent, type Cell } from "../terminal/table.js";
import { flowText } from "../flow-text.js";

interface PlanOptions {
  readonly filename: readonly string[];
  readonly tenant?: string;
  readonly output: Format;
  readonly detailedExitcode?: boolean;
}

export function planCommand(context: Context): Command {
  return fileCommand("plan")
    .description("what apply would change: fields, DIPs that enter, drain or leave, SNAT ports per DIP")
    .addOption(formatOption(["table", "json", "yaml"]))
    .option("--detailed-exitcode", `exit ${EXIT.wouldChange} when something would change`)
    .action(context.action((_options: unknown, command: Command) => plan(context, command)));
}

export function diffCommand(context: Context): Command {
  return fileCommand("diff")
    .description(`fields that apply would change; exits ${EXIT.wouldChange} when there are some`)
    .action(context.action((_options: unknown, command: Command) => diff(context, command)));
}

const fileCommand = (name: string): Command =>
  new Command(name)
    .requiredOption("-f, --filename <file>", 'file or folder, "-" for standard input; may be repeated', collect, [])
    .option("-t, --tenant <tenant>", "tenant of objects that name none");

async function diff(context: Context, command: Command) {
  const { changes, check } = await changesOf(context, command);
  for (const change of changes.filter(isChange)) context.print(changeText(change, []));
  await check();
  return changes.some(isChange) ? EXIT.wouldChange : EXIT.ok;
}

async function plan(context: Context, command: Command) {
  const { output, detailedExitcode = false } = command.opts<PlanOptions>();
  const { changes, stored, check } = await changesOf(context, command);
  const snat = snatPlans(
    stored,
    changes.map(({ wanted }) => wanted),
  );
  if (isStructured(output)) context.print(serialize(planDocument(changes, snat), output));
  else {
    for (const change of changes) context.print(changeText(change, memberLines(change)));
    if (snat.length > 0) context.print(`SNAT ports per protocol, after it:\n${indent(snatTable(context, snat))}`);
    context.print(`${countText(changes)}\n`);
  }
  await check(); // the Managers' word comes last: they know the rest of the site
  return detailedExitcode && changes.some(isChange) ? EXIT.wouldChange : EXIT.ok;
}

const isChange = ({ change }: ObjectChange): boolean => change !== "unchanged";

async function changesOf(context: Context, command: Command) {
  const client = context.client(command);
  const files = await readCheckedFiles(context, command.opts<PlanOptions>(), "it would be refused");
  const stored = await storedObjects(client, files.objects);
  const byKey = new Map(stored.map((object) => [objectKey(object.ref), object]));
  const changes = files.objects.map((wanted) => objectChange(byKey.get(objectKey(wanted.ref)) ?? null, wanted));
  const check = async (): Promise<void> => {
    const request = { objects: files.objects.map(wireApplyObject), dryRun: true };
    const { response } = await client.change(APPLY, request).catch((caught: unknown) => files.refuse(caught));
    tellWarnings(context, response.warnings);
  };
  return { changes, stored, check };
}

/** Objects of the kinds and tenants concerned, read through the same schema; of VIPs and pools always both kinds. */
async function storedObjects(client: ApiClient, wanted: readonly ApplyObject[]): Promise<readonly ApplyObject[]> {
  const lists = new Map<string, { readonly kind: ObjectKind; readonly tenant: string }>();
  for (const { ref } of wanted) {
    const isShared = ref.kind === "Vip" || ref.kind === "BackendPool";
    for (const kind of isShared ? (["Vip", "BackendPool"] as const) : [ref.kind])
      lists.set(`${kind}/${ref.tenant}`, { kind, tenant: ref.tenant });
  }
  const found: ApplyObject[] = [];
  for (const request of lists.values()) {
    const { pages } = await client.readPages(LIST, request);
    for (const object of pages.flatMap((page): readonly WireObject[] => page.objects)) {
      const checked = validateDocument(documentFromWire(object));
      if ("ok" in checked) found.push(checked.ok);
    }
  }
  return found;
}

const CHANGE_TEXT = {
  created: "would be created",
  configured: "would be configured",
  unchanged: "is as it should be",
} as const;

function changeText({ wanted, change, fields }: ObjectChange, more: readonly string[]): string {
  const lines = fields.map(({ path, before, after }) => {
    if (before === undefined) return `+ ${path}: ${flowText(after)}`;
    if (after === undefined) return `- ${path}: ${flowText(before)}`;
    return `~ ${path}: ${flowText(before)} -> ${flowText(after)}`;
  });
  return [
    `${shortName(wanted.ref)} ${CHANGE_TEXT[change]}`,
    ...[...lines, ...more].map((line) => `  ${line}`),
    "",
  ].join("\n");
}

function memberLines({ members, wanted }: ObjectChange): readonly string[] {
  if (members === null) return [];
  const timeout = wanted.object.kind === "BackendPool" ? wanted.object.spec.drainTimeoutSeconds : 0;
  const known = timeout === 0 ? "known ones stay" : `known ones are reset after ${timeout} s`;
  const line = (what: string, dips: readonly string[]): readonly string[] =>
    dips.length === 0 ? [] : [`DIPs that ${what}: ${dips.join(", ")}`];
  return [
    ...line("enter", members.enter),
    ...line(`drain (no new flows, ${known})`, members.drain),
    ...line("serve again", members.serveAgain),
    ...line(`leave (no new flows, ${known})`, members.leave),
  ];
}

function snatTable(context: Context, plans: readonly SnatPlan[]): string {
  const rows = plans.map((one): readonly Cell[] => [
    one.vip,
    one.after.stockPorts,
    `${one.after.dips} of ${one.after.dipsMax}`,
    one.portsPerDipBefore === null || one.portsPerDipBefore === one.portsPerDipAfter
      ? one.portsPerDipAfter
      : `${one.portsPerDipBefore} -> ${one.portsPerDipAfter}`,
    one.minPorts,
    one.after.promisedPorts,
    vipsNeeded(one),
  ]);
  const header = ["VIP", "PORTS", "DIPS", "PORTS-PER-DIP", "MIN-PORTS", "PROMISED", "VIPS-NEEDED"];
  return createTable(header, context.paint).render(rows);
}

/** The minimum of every member that the pools may have fits 75 % of one VIP, or needs more of them. */
function vipsNeeded({ after }: SnatPlan): Cell {
  if (after.vipsNeeded <= 1) return 1;
  return { text: after.vipsNeeded === Infinity ? "no number is enough" : String(after.vipsNeeded), style: "bad" };
}

function countText(changes: readonly ObjectChange[]): string {
  const count = (wanted: ObjectChange["change"]): number => changes.filter(({ change }) => change === wanted).length;
  return `plan: ${count("created")} to create, ${count("configured")} to configure, ${count("unchanged")} unchanged`;
}

function planDocument(changes: readonly ObjectChange[], snat: readonly SnatPlan[]) {
  return {
    apiVersion: API_VERSION,
    kind: "Plan",
    changes: changes.map(({ wanted: { ref }, change, fields, members }) => ({
      kind: ref.kind,
      tenant: ref.tenant,
      name: ref.name,
      change,
      fields: fields.map(({ path, before, after }) => ({ path, before: before ?? null, after: after ?? null })),
      ...(members === null ? {} : { members }),
    })),
    snat: snat.map(({ after, ...one }) => ({
      ...one,
      ports: after.stockPorts,
      dips: after.dips,
      dipsMax: after.dipsMax,
      promisedPorts: after.promisedPorts,
      vipsNeeded: Number.isFinite(after.vipsNeeded) ? Math.max(1, after.vipsNeeded) : null,
    })),
  };
}
