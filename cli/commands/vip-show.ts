/**
 * `ananta vip show`: the inputs with which every search for a fault begins, per rule, from one place: VIP, protocol, port, and
 * the port on the machines.
 */
import { Command } from "commander";
import { API_VERSION, DEFAULT_TENANT } from "../../manager/api/objects/schema.js";
import type { ApiClient } from "../api-client.js";
import type { Context } from "../context.js";
import { GET, LIST, type WireObject } from "../methods.js";
import { protocolText } from "../objects/object-columns.js";
import { tellStale, tenantAsked } from "../reading.js";
import { EXIT } from "../terminal/exit-codes.js";
import { formatOption, isStructured, listDocument, serialize, type Format, type ReadAt } from "../terminal/output.js";
import { createTable } from "../terminal/table.js";
import { vipRefOf } from "../vip-address.js";

interface ShowOptions {
  readonly output: Format;
  readonly tenant: string;
  readonly allTenants?: boolean;
  readonly stale?: boolean;
}

export function vipShowCommand(context: Context): Command {
  return new Command("show")
    .description("what a VIP serves: VIP, protocol, port and backend port of each rule")
    .argument("[vip...]", "names or addresses of VIPs; left out: all of the tenant")
    .addOption(formatOption(["table", "json", "yaml"]))
    .option("-t, --tenant <tenant>", "tenant of the VIPs", DEFAULT_TENANT)
    .option("-A, --all-tenants", "VIPs of all tenants")
    .option("--stale", "answer from what one replica has, however old: works without a majority")
    .action(
      context.action((vips: readonly string[], options: ShowOptions, command: Command) =>
        show(context, vips, options, command),
      ),
    );
}

async function show(context: Context, named: readonly string[], options: ShowOptions, command: Command) {
  const client = context.client(command);
  const { output, stale = false } = options;
  const { vips, read, endpoint } = await vipsOf(client, named, options);
  if (stale) tellStale(context, endpoint, read);
  const tenants = [...new Set(vips.map(({ metadata }) => metadata?.tenant ?? ""))];
  const pools = new Map<string, WireObject>();
  for (const tenant of tenants) {
    const { pages } = await client.readPages(LIST, { kind: "BackendPool", tenant, stale });
    for (const { objects } of pages)
      for (const pool of objects) pools.set(`${tenant}/${pool.metadata?.name ?? ""}`, pool);
  }
  const entries = vips.flatMap((vip) => entriesOf(vip, (name) => pools.get(`${vip.metadata?.tenant ?? ""}/${name}`)));
  if (isStructured(output)) context.print(serialize(listDocument(entries.map(documentOf), read, stale), output));
  else if (entries.length === 0) context.tell(vips.length === 0 ? "no VIPs" : "no rules");
  else {
    const header = ["NAME", "RULE", "VIP", "PROTOCOL", "PORT", "BACKEND-PORT", "POOL"];
    const rows = entries.map((entry) => [
      entry.name,
      entry.isNat ? `${entry.rule} (inbound NAT)` : entry.rule,
      entry.vip,
      entry.protocol,
      entry.port,
      backendText(entry),
      entry.pool,
    ]);
    context.print(createTable(header, context.paint).render(rows));
  }
  return EXIT.ok;
}

async function vipsOf(
  client: ApiClient,
  named: readonly string[],
  options: ShowOptions,
): Promise<{ readonly vips: readonly WireObject[]; readonly read: ReadAt; readonly endpoint: string }> {
  const { stale = false } = options;
  const tenant = tenantAsked(options, named);
  const vips: WireObject[] = [];
  if (named.length === 0) {
    const listed = await client.readPages(LIST, { kind: "Vip", tenant, stale });
    for (const { objects } of listed.pages) vips.push(...objects);
    return { vips, read: listed, endpoint: listed.endpoint };
  }
  let last = { read: { index: 0, ageMs: 0 }, endpoint: "" };
  for (const vip of named) {
    const ref = await vipRefOf(client, { vip, tenant, stale });
    const { response, endpoint } = await client.read(GET, { ref: { kind: "Vip", ...ref }, stale });
    if (response.object) vips.push(response.object);
    last = { read: { index: response.index, ageMs: response.ageMs }, endpoint };
  }
  return { vips, ...last };
}

/** One rule, or one inbound NAT, with all that says where its packets go. */
interface Entry {
  readonly name: string;
  readonly tenant: string;
  readonly rule: string;
  readonly isNat: boolean;
  readonly vip: string;
  readonly protocol: string;
  /** "80", "50000-50099", "all". */
  readonly port: string;
  /** 0: the port that the client has asked for. */
  readonly backendPort: number;
  readonly pool: string;
  /** Members that serve on a port of their own. */
  readonly ownPorts: readonly { readonly dip: string; readonly port: number }[];
}

function entriesOf({ metadata, vip }: WireObject, poolOf: (name: string) => WireObject | undefined): readonly Entry[] {
  const common = { name: metadata?.name ?? "", tenant: metadata?.tenant ?? "", vip: vip?.address ?? "" };
  const rules = (vip?.rules ?? []).map((rule): Entry => {
    const [port, pool] = [rule.port ?? 0, rule.pool ?? ""];
    const members = poolOf(pool)?.backendPool?.members ?? [];
    // A packet for a floating VIP keeps its port whatever the member says, as does one that an all-port rule takes.
    const keepsPort = rule.floatingIp === true || port === 0;
    return {
      ...common,
      rule: rule.name ?? "",
      isNat: false,
      protocol: protocolText(rule.protocol),
      port: port === 0 ? "all" : String(port),
      backendPort: rule.floatingIp === true ? port : (rule.backendPort ?? 0),
      pool,
      ownPorts: keepsPort ? [] : members.flatMap(({ dip, port: own }) => (own ? [{ dip: dip ?? "", port: own }] : [])),
    };
  });
  const forwarded = (vip?.inboundNat ?? []).map((nat): Entry => {
    return {
      ...common,
      rule: nat.name ?? "",
      isNat: true,
      protocol: nat.protocol ?? "",
      port: nat.ports ?? "",
      backendPort: nat.backendPort ?? 0,
      pool: nat.pool ?? "",
      ownPorts: [],
    };
  });
  return [...rules, ...forwarded];
}

/** "8080", "8080; 81 on 10.1.0.5", "the same". */
function backendText({ backendPort, ownPorts }: Entry): string {
  const own = ownPorts.slice(0, LISTED_MAX).map(({ dip, port }) => `${port} on ${dip}`);
  const more = ownPorts.length > LISTED_MAX ? [`${ownPorts.length - LISTED_MAX} more`] : [];
  return [backendPort === 0 ? "the same" : String(backendPort), ...own, ...more].join("; ");
}

/** In a table; `-o json` has all. */
const LISTED_MAX = 3;

const documentOf = ({ isNat, ...entry }: Entry): Readonly<Record<string, unknown>> => ({
  apiVersion: API_VERSION,
  kind: "Endpoint",
  type: isNat ? "inboundNat" : "rule",
  ...entry,
});
