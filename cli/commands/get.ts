/** `ananta get TYPE [NAME...]`: objects and processes, one line each. */
import { Command } from "commander";
import { DEFAULT_TENANT } from "../../manager/api/objects/schema.js";
import { documentFromWire } from "../../manager/api/objects/wire.js";
import { clusterListings } from "../cluster-tables.js";
import type { Context } from "../context.js";
import { EXIT, ToldError, UsageError } from "../terminal/exit-codes.js";
import { parseLabelSelector } from "../objects/label-selector.js";
import { GET, LIST, type WireObject } from "../methods.js";
import { objectHeader, objectRow } from "../objects/object-columns.js";
import { formatOption, isStructured, listDocument, serialize, type Document, type ReadAt } from "../terminal/output.js";
import {
  TYPE_WORDS,
  objectType,
  parseTargets,
  type ObjectType,
  type ResourceType,
  type Target,
} from "../objects/resource-types.js";
import { createTable } from "../terminal/table.js";
import { type GetOptions, surveyedView, tellStale, tenantAsked } from "../reading.js";
import { watch } from "../watch.js";

export function getCommand(context: Context): Command {
  return new Command("get")
    .description("list objects, or show some by name")
    .argument("<target...>", `TYPE [NAME...], TYPE,TYPE... or TYPE/NAME...; types: ${TYPE_WORDS}`)
    .addOption(formatOption())
    .option("-t, --tenant <tenant>", "tenant of the objects", DEFAULT_TENANT)
    .option("-A, --all-tenants", "objects of all tenants")
    .option("-l, --selector <selector>", 'only objects whose labels match: app=web,tier!=test,"zone in (a,b)",!old')
    .option("--stale", "answer from what one replica has, however old: works without a majority")
    .option("-w, --watch", "after the present state, show changes as they come")
    .option("--from-index <index>", "with --watch: only changes after this log index, as get -o json shows it")
    .action(
      context.action((words: readonly string[], _options: unknown, command: Command) => get(context, words, command)),
    );
}

async function get(context: Context, words: readonly string[], command: Command) {
  const options = command.opts<GetOptions>();
  const targets = parseTargets(words);
  const kinds = new Set(targets.map(({ type }) => type.kind));
  if (options.fromIndex !== undefined && options.watch !== true) throw new UsageError("--from-index goes with --watch");
  checkSelector(options, targets);
  if (options.watch === true) {
    const [target] = targets;
    if (target === undefined || kinds.size > 1) throw new UsageError("--watch takes one type");
    const names = targets.flatMap(({ name }) => (name === null ? [] : [name]));
    return watch(context, command, { type: objectType(target.type, "watched"), names, options });
  }
  const found: Found[] = [];
  // One request or survey per type; the order on the command line stays.
  for (const type of new Set(targets.map((target) => target.type))) {
    const names = targets.flatMap((target) => (target.type === type && target.name !== null ? [target.name] : []));
    found.push(
      type.isObject
        ? await getObjects(context, command, objectType(type, "shown"), names, options)
        : await getProcesses(context, command, type, names, options),
    );
  }
  show(context, found, targets, options);
  return EXIT.ok;
}

/** What there is of one type. */
interface Found {
  readonly documents: readonly Document[];
  /** "vip/web" */
  readonly names: readonly string[];
  readonly table: string;
  /** What to say where there is none. */
  readonly none: string;
  /** Null: asked of several replicas. */
  readonly read: ReadAt | null;
}

function show(context: Context, found: readonly Found[], targets: readonly Target[], options: GetOptions): void {
  const { output, stale } = options;
  if (isStructured(output)) {
    const documents = found.flatMap((one) => one.documents);
    const [only] = documents;
    const [first, ...more] = found;
    // Types are listed one after the other, each at its own index.
    const read = more.length === 0 ? (first?.read ?? null) : null;
    const isOne = only !== undefined && targets.length === 1 && targets[0]?.name !== null;
    context.print(serialize(isOne ? only : listDocument(documents, read, stale === true), output));
  } else if (output === "name") context.print(found.flatMap(({ names }) => names.map((name) => `${name}\n`)).join(""));
  else {
    context.print(found.flatMap(({ names, table }) => (names.length === 0 ? [] : [table])).join("\n"));
    for (const { names, none } of found) if (names.length === 0) context.tell(none);
  }
}

function checkSelector({ selector, watch: isWatch }: GetOptions, targets: readonly Target[]): void {
  if (selector === undefined) return;
  if (targets.some(({ name }) => name !== null))
    throw new UsageError("--selector chooses by labels: give no names with it");
  if (isWatch === true) throw new UsageError("--selector does not go with --watch");
  const other = targets.find(({ type }) => !type.isObject);
  if (other !== undefined)
    throw new UsageError(`--selector: ${other.type.aliases[0] ?? other.type.name} have no labels`);
}

async function getObjects(
  context: Context,
  command: Command,
  type: ObjectType,
  names: readonly string[],
  options: GetOptions,
): Promise<Found> {
  const client = context.client(command);
  const stale = options.stale === true;
  const tenant = tenantAsked(options, names);
  const selects = options.selector === undefined ? (): boolean => true : parseLabelSelector(options.selector);
  const objects: WireObject[] = [];
  let read: ReadAt | null = null;
  if (names.length === 0) {
    const listed = await client.readPages(LIST, { kind: type.kind, tenant, stale });
    for (const page of listed.pages)
      objects.push(...page.objects.filter(({ metadata }) => selects(metadata?.labels ?? {})));
    read = listed;
    if (stale) tellStale(context, listed.endpoint, read);
  }
  for (const name of names) {
    const { response, endpoint } = await client.read(GET, {
      ref: { kind: type.kind, tenant: options.tenant, name },
      stale,
    });
    if (response.object) objects.push(response.object);
    read = { index: response.index, ageMs: response.ageMs };
    if (stale) tellStale(context, endpoint, read);
  }
  const where = options.allTenants === true ? "in any tenant" : `in tenant "${options.tenant}"`;
  const matching = options.selector === undefined ? "" : ` with labels ${options.selector}`;
  const choice = { wide: options.output === "wide", tenant: options.allTenants === true };
  const table = createTable(objectHeader(type.kind, choice), context.paint);
  return {
    documents: objects.map(documentFromWire),
    names: objects.map(({ metadata }) => `${type.name}/${metadata?.name ?? ""}`),
    table: table.render(objects.map((object) => objectRow(object, choice))),
    none: `no ${type.kind} ${where}${matching}`,
    read,
  };
}

async function getProcesses(
  context: Context,
  command: Command,
  type: ResourceType,
  names: readonly string[],
  options: GetOptions,
): Promise<Found> {
  const view = await surveyedView(context, command);
  const listings = clusterListings(view, type.kind as "Replica" | "Mux" | "Host");
  const rows = names.length === 0 ? listings.rows : listings.rows.filter(({ name }) => names.includes(name));
  for (const name of names) {
    if (rows.some((row) => row.name === name)) continue;
    context.tell(`${context.paintError("error:")} ${type.name} "${name}" does not exist (NOT_FOUND)`);
    throw new ToldError(EXIT.refused);
  }
  const wide = options.output === "wide";
  const table = createTable([...listings.header, ...(wide ? listings.wideHeader : [])], context.paint);
  return {
    documents: rows.map(({ document }) => document),
    names: rows.map(({ name }) => `${type.name}/${name}`),
    table: table.render(rows.map((row) => [...row.cells, ...(wide ? row.wideCells : [])])),
    none: `no ${type.aliases[0] ?? type.name} yet`,
    read: null,
  };
}
