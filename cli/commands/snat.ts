/** `ananta snat`; and `snat list`: who owns which source-NAT ports. */
import { Command } from "commander";
import { API_VERSION } from "../../manager/api/objects/schema.js";
import { parseIpAddress } from "../../core/address.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { Context } from "../context.js";
import { EXIT, UsageError } from "../terminal/exit-codes.js";
import { LIST_SNAT } from "../methods.js";
import { protocolText } from "../objects/object-columns.js";
import { formatOption, isStructured, listDocument, serialize, type Document, type Format } from "../terminal/output.js";
import { snatReportCommands } from "./snat-reports.js";
import { createTable, type Cell } from "../terminal/table.js";
import { tellStale } from "../reading.js";
import { vipAddressOf } from "../vip-address.js";

const PORTS_PER_RANGE = 8;

interface SnatOptions {
  readonly output: Format;
  readonly vip?: string;
  readonly dip?: string;
  readonly tenant?: string;
  readonly stale?: boolean;
}

export function snatCommand(context: Context): Command {
  const snat = new Command("snat").description("source-NAT ports");
  snat
    .command("list")
    .description("who owns which ports of which VIP")
    .addOption(formatOption())
    .option("--vip <address|name>", "only ports of this VIP")
    .option("--dip <address>", "only ports of this DIP")
    .option("-t, --tenant <tenant>", "tenant of the DIP or of the VIP's name")
    .option("--stale", "answer from what one replica has, however old: works without a majority")
    .action(context.action((_options: unknown, command: Command) => list(context, command)));
  for (const report of snatReportCommands(context)) snat.addCommand(report);
  return snat;
}

async function list(context: Context, command: Command) {
  const { output, vip = "", dip = "", tenant = "", stale = false } = command.opts<SnatOptions>();
  if (dip !== "" && parseIpAddress(dip) === null) throw new UsageError(`--dip: "${dip}" is not an IP address`);
  const client = context.client(command);
  const vipAddress = await vipAddressOf(client, { vip, tenant, stale });
  const listed = await client.readPages(LIST_SNAT, { vip: vipAddress, dip, tenant, stale });
  const { endpoint, index, ageMs } = listed;
  const blocks = listed.pages.flatMap((page) => page.blocks);
  if (stale) tellStale(context, endpoint, { index, ageMs });
  if (isStructured(output))
    context.print(serialize(listDocument(blocks.map(blockDocument), { index, ageMs }, stale), output));
  else if (output === "name") context.print(blocks.map((block) => `${nameOf(block)}\n`).join(""));
  else if (blocks.length === 0) context.tell("no ports are owned or resting");
  else {
    const wide = output === "wide";
    const header = ["VIP", "PROTOCOL", "PORTS", "COUNT", "DIP", "HOST", "STATE", ...(wide ? ["TENANT", "RANGES"] : [])];
    context.print(createTable(header, context.paint).render(blocks.map((block) => row(block, wide))));
  }
  return EXIT.ok;
}

type Ownership = ananta.v1.SnatOwnership.$Properties;

/** [first, last] port, both included. */
function portsOf({ block }: Ownership): { readonly first: number; readonly last: number; readonly count: number } {
  const first = (block?.range ?? 0) * PORTS_PER_RANGE;
  const count = (block?.count ?? 0) * PORTS_PER_RANGE;
  return { first, last: first + count - 1, count };
}

function nameOf(ownership: Ownership): string {
  const { first, last } = portsOf(ownership);
  return `${ownership.block?.vip ?? ""}:${first}-${last}/${protocolText(ownership.block?.protocol)}`;
}

function row(ownership: Ownership, wide: boolean): readonly Cell[] {
  const { block, dip, host, state, tenant, freeInSeconds } = ownership;
  const { first, last, count } = portsOf(ownership);
  const stateText = state === "quarantined" ? `quarantined, ${freeInSeconds ?? 0} s left` : (state ?? "");
  const narrow = [
    block?.vip ?? "",
    protocolText(block?.protocol),
    `${first}-${last}`,
    count,
    dip ?? "",
    host ?? "",
    stateText,
  ];
  return wide ? [...narrow, tenant ?? "", `${block?.range ?? 0}+${block?.count ?? 0}`] : narrow;
}

function blockDocument(ownership: Ownership): Document {
  const { block, dip, host, state, tenant, freeInSeconds } = ownership;
  const { first, last, count } = portsOf(ownership);
  return {
    apiVersion: API_VERSION,
    kind: "SnatOwnership",
    vip: block?.vip ?? "",
    protocol: protocolText(block?.protocol),
    firstPort: first,
    lastPort: last,
    portCount: count,
    range: block?.range ?? 0,
    rangeCount: block?.count ?? 0,
    tenant: tenant ?? "",
    dip: dip ?? "",
    host: host ?? "",
    state: state ?? "",
    ...(state === "quarantined" ? { freeInSeconds: freeInSeconds ?? 0 } : {}),
  };
}
