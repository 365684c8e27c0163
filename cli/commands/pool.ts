/** `ananta pool health`: how the members of pools stand, and why. */
import { Command } from "commander";
import { API_VERSION, DEFAULT_TENANT } from "../../manager/api/objects/schema.js";
import type { Context } from "../context.js";
import { GET, LIST, type WireObject } from "../methods.js";
import { tellStale, tenantAsked } from "../reading.js";
import { EXIT } from "../terminal/exit-codes.js";
import { formatOption, isStructured, listDocument, serialize, type Format, type ReadAt } from "../terminal/output.js";
import { stateCell } from "../terminal/style.js";
import { createTable } from "../terminal/table.js";

interface HealthOptions {
  readonly output: Format;
  readonly tenant: string;
  readonly allTenants?: boolean;
  readonly stale?: boolean;
}

export function poolCommand(context: Context): Command {
  const pool = new Command("pool").description("backend pools");
  pool
    .command("health")
    .description("how each member stands, and why; exits 3 when one is neither up nor draining")
    .argument("[backendpool...]", "names of pools; left out: all of the tenant")
    .addOption(formatOption(["table", "json", "yaml"]))
    .option("-t, --tenant <tenant>", "tenant of the pools", DEFAULT_TENANT)
    .option("-A, --all-tenants", "pools of all tenants")
    .option("--stale", "answer from what one replica has, however old: works without a majority")
    .action(
      context.action((names: readonly string[], options: HealthOptions, command: Command) =>
        health(context, names, options, command),
      ),
    );
  return pool;
}

async function health(context: Context, names: readonly string[], options: HealthOptions, command: Command) {
  const client = context.client(command);
  const { output, stale = false } = options;
  const tenant = tenantAsked(options, names);
  const pools: WireObject[] = [];
  let read: ReadAt & { endpoint: string } = { index: 0, ageMs: 0, endpoint: "" };
  for (const name of names) {
    const { response, endpoint } = await client.read(GET, { ref: { kind: "BackendPool", tenant, name }, stale });
    if (response.object) pools.push(response.object);
    read = { index: response.index, ageMs: response.ageMs, endpoint };
  }
  if (names.length === 0) {
    const listed = await client.readPages(LIST, { kind: "BackendPool", tenant, stale });
    for (const { objects } of listed.pages) pools.push(...objects);
    read = listed;
  }
  if (stale) tellStale(context, read.endpoint, read);
  const members = pools.flatMap(membersOf);
  if (isStructured(output)) context.print(serialize(listDocument(members.map(documentOf), read, stale), output));
  else if (members.length === 0) context.tell(pools.length === 0 ? "no BackendPools" : "no members");
  else {
    const header = ["POOL", "DIP", "HOST", "HEALTH", "REASON"];
    const rows = members.map((member) => [
      member.pool,
      member.dip,
      member.host,
      stateCell(member.health),
      member.reason,
    ]);
    context.print(createTable(header, context.paint).render(rows));
  }
  return members.every(({ health: is }) => WANTED.has(is)) ? EXIT.ok : EXIT.unhealthy;
}

/** Up, or on its way out because somebody wanted it. */
const WANTED: ReadonlySet<string> = new Set(["up", "draining", "drained"]);

interface MemberHealth {
  readonly tenant: string;
  readonly pool: string;
  readonly dip: string;
  readonly host: string;
  readonly health: string;
  readonly reason: string;
}

const membersOf = ({ metadata, status }: WireObject): readonly MemberHealth[] =>
  (status?.members ?? []).map(({ dip, host, health: is, reason }) => ({
    tenant: metadata?.tenant ?? "",
    pool: metadata?.name ?? "",
    dip: dip ?? "",
    host: host ?? "",
    health: is ?? "",
    reason: reason ?? "",
  }));

const documentOf = (member: MemberHealth): Readonly<Record<string, unknown>> => ({
  apiVersion: API_VERSION,
  kind: "MemberHealth",
  ...member,
});
