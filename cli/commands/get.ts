/** `ananta get TYPE [NAME...]`: objects and processes, one line each. */
import { Command } from "commander";
import { DEFAULT_TENANT } from "../../manager/api/object-schema.js";
import { documentFromWire } from "../../manager/api/wire-objects.js";
import { clusterListings } from "../cluster-tables.js";
import type { Context } from "../context.js";
import { EXIT, ToldError, UsageError } from "../exit-codes.js";
import { parseLabelSelector } from "../label-selector.js";
import { GET, LIST, type WireObject } from "../methods.js";
import { objectHeader, objectRow } from "../object-columns.js";
import { formatOption, isStructured, listDocument, serialize, type Document, type ReadAt } from "../output.js";
import {
  TYPE_WORDS,
  objectType,
  parseTargets,
  type ObjectType,
  type ResourceType,
  type Target,
} from "../resource-types.js";
import { createTable } from "../table.js";
import { surveyedView, tellStale, type GetOptions } from "../reading.js";
import { watch } from "../watch.js";

export function getCommand(context: Context): Command {
  return new Command("get")
    .description("list objects, or show some by name")
    .argument("<target...>", `TYPE [NAME...] or TYPE/NAME...; types: ${TYPE_WORDS}`)
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
  // One request or survey per type; the order on the command line stays.
  for (const type of new Set(targets.map((target) => target.type))) {
    const ofType = targets.filter((target) => target.type === type);
    if (type.isObject) await getObjects(context, command, objectType(type, "shown"), ofType, options);
    else await getProcesses(context, command, type, ofType, options);
  }
  return EXIT.ok;
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
  targets: readonly Target[],
  options: GetOptions,
): Promise<void> {
  const client = context.client(command);
  const stale = options.stale === true;
  const names = targets.flatMap(({ name }) => (name === null ? [] : [name]));
  if (names.length > 0 && options.allTenants === true)
    throw new UsageError("a name belongs to one tenant: give --tenant, not --all-tenants");
  const selects = options.selector === undefined ? (): boolean => true : parseLabelSelector(options.selector);
  const objects: WireObject[] = [];
  let read: ReadAt | null = null;
  if (names.length === 0) {
    const tenant = options.allTenants === true ? "" : options.tenant;
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
  const { output } = options;
  if (isStructured(output)) {
    const documents = objects.map(documentFromWire);
    const [only] = documents;
    context.print(
      serialize(names.length === 1 && only !== undefined ? only : listDocument(documents, read, stale), output),
    );
  } else if (output === "name") {
    context.print(objects.map(({ metadata }) => `${type.name}/${metadata?.name ?? ""}\n`).join(""));
  } else if (objects.length === 0) {
    const where = options.allTenants === true ? "in any tenant" : `in tenant "${options.tenant}"`;
    const matching = options.selector === undefined ? "" : ` with labels ${options.selector}`;
    context.tell(`no ${type.kind} ${where}${matching}`);
  } else {
    const choice = { wide: output === "wide", tenant: options.allTenants === true };
    const table = createTable(objectHeader(type.kind, choice), context.paint);
    context.print(table.render(objects.map((object) => objectRow(object, choice))));
  }
}

async function getProcesses(
  context: Context,
  command: Command,
  type: ResourceType,
  targets: readonly Target[],
  options: GetOptions,
): Promise<void> {
  const view = await surveyedView(context, command);
  const listings = clusterListings(view, type.kind as "Replica" | "Mux" | "Host");
  const names = new Set(targets.flatMap(({ name }) => (name === null ? [] : [name])));
  const rows = names.size === 0 ? listings.rows : listings.rows.filter(({ name }) => names.has(name));
  for (const name of names) {
    if (rows.some((row) => row.name === name)) continue;
    context.tell(`${context.paintError("error:")} ${type.name} "${name}" does not exist (NOT_FOUND)`);
    throw new ToldError(EXIT.refused);
  }
  const documents: readonly Document[] = rows.map(({ document }) => document);
  const [only] = documents;
  const { output } = options;
  if (isStructured(output))
    context.print(
      serialize(names.size === 1 && only !== undefined ? only : listDocument(documents, null, false), output),
    );
  else if (output === "name") context.print(rows.map(({ name }) => `${type.name}/${name}\n`).join(""));
  else if (rows.length === 0) context.tell(`no ${type.aliases[0] ?? type.name} yet`);
  else {
    const wide = output === "wide";
    const table = createTable([...listings.header, ...(wide ? listings.wideHeader : [])], context.paint);
    context.print(table.render(rows.map((row) => [...row.cells, ...(wide ? row.wideCells : [])])));
  }
}
