/**
 * `ananta snat usage`: ports of VIPs, tenants or DIPs. What they own is the Managers' own knowledge; what of it is in use, or on hold after
 * a flow, hosts report every few seconds: it may be some seconds old, and of a silent host it is not known.
 */
import type { Command } from "commander";
import { parseIpAddress } from "../../core/address.js";
import { API_VERSION } from "../../manager/api/objects/schema.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { Context } from "../context.js";
import { SNAT_USAGE } from "../methods.js";
import { protocolText } from "../objects/object-columns.js";
import { tellStale } from "../reading.js";
import { EXIT, UsageError, type ExitCode } from "../terminal/exit-codes.js";
import { isStructured, listDocument, serialize, type Document, type Format } from "../terminal/output.js";
import { createTable } from "../terminal/table.js";
import { vipAddressOf } from "../vip-address.js";

interface UsageOptions {
  readonly output: Format;
  readonly vip?: string;
  readonly dip?: string;
  readonly tenant?: string;
  readonly by?: string;
  readonly stale?: boolean;
}

/** In ports. */
interface UsageRow {
  readonly name: readonly string[];
  dips: number;
  owned: number;
  /** Of those owned, of which hosts have said what they do. */
  reported: number;
  inUse: number;
  onHold: number;
  /** Of the oldest report. */
  ageMs: number;
  guaranteed: number;
  limit: number;
  recalled: number;
  waiting: number;
}

const COLUMNS = {
  vip: ["VIP", "PROTOCOL"],
  tenant: ["TENANT", "PROTOCOL"],
  dip: ["VIP", "PROTOCOL", "TENANT", "DIP", "HOST"],
} as const;
type By = keyof typeof COLUMNS;
const isBy = (text: string): text is By => Object.hasOwn(COLUMNS, text);

export async function tellUsage(context: Context, command: Command): Promise<ExitCode> {
  const { output, by = "dip", vip = "", dip = "", tenant = "", stale = false } = command.opts<UsageOptions>();
  if (!isBy(by)) throw new UsageError(`--by: "${by}" is none of vip, tenant, dip`);
  if (dip !== "" && parseIpAddress(dip) === null) throw new UsageError(`--dip: "${dip}" is not an IP address`);
  const client = context.client(command);
  const address = await vipAddressOf(client, { vip, tenant, stale });
  const { pages, endpoint, index, ageMs } = await client.readPages(SNAT_USAGE, { vip: address, dip, tenant, stale });
  if (stale) tellStale(context, endpoint, { index, ageMs });
  const shares = pages.flatMap((page) => page.shares);
  const rows = usageRows(shares, by);
  if (isStructured(output)) {
    const documents = rows.map((row) => usageDocument(row, by));
    context.print(serialize(listDocument(documents, { index, ageMs }, stale), output));
  } else if (rows.length === 0) context.tell("no DIP may own ports, and none does");
  else context.print(createTable(header(by), context.paint).render(rows.map((row) => cells(row, by))));
  return EXIT.ok;
}

function usageRows(shares: readonly ananta.v1.SnatShare.$Properties[], by: By): readonly UsageRow[] {
  const rows = new Map<string, UsageRow>();
  for (const share of shares) {
    const protocol = protocolText(share.protocol);
    const names: Readonly<Record<By, readonly string[]>> = {
      vip: [share.vip ?? "", protocol],
      tenant: [share.tenant ?? "", protocol],
      dip: [share.vip ?? "", protocol, share.tenant ?? "", share.dip ?? "", share.host ?? ""],
    };
    const row = rows.get(names[by].join(" ")) ?? emptyRow(names[by]);
    rows.set(names[by].join(" "), row);
    row.dips += 1;
    row.owned += share.owned ?? 0;
    row.guaranteed += share.guaranteed ?? 0;
    row.limit += share.limit ?? 0;
    row.recalled += share.recalled ?? 0;
    row.waiting += share.waiting ?? 0;
    if (typeof share.inUse !== "number") continue;
    row.reported += share.owned ?? 0;
    row.inUse += share.inUse;
    row.onHold += share.onHold ?? 0;
    row.ageMs = Math.max(row.ageMs, share.useAgeMs ?? 0);
  }
  return [...rows.values()];
}

const emptyRow = (name: readonly string[]): UsageRow => ({
  name,
  ...{ dips: 0, owned: 0, reported: 0, inUse: 0, onHold: 0, ageMs: 0 },
  ...{ guaranteed: 0, limit: 0, recalled: 0, waiting: 0 },
});

/** What is owned may have shrunk since the report. */
const freeOf = ({ reported, inUse, onHold }: UsageRow): number => Math.max(0, reported - inUse - onHold);

function usageDocument(row: UsageRow, by: By): Document {
  const named = Object.fromEntries(COLUMNS[by].map((column, at) => [column.toLowerCase(), row.name[at] ?? ""]));
  const { dips, owned, reported, inUse, onHold, ageMs, guaranteed, limit, recalled, waiting } = row;
  const isKnown = owned === 0 || reported > 0;
  const use = isKnown
    ? { inUse, onHold, free: freeOf(row), useAgeMs: ageMs }
    : { inUse: null, onHold: null, free: null };
  const ports = { owned, ...use, unreported: owned - reported, guaranteed, limit, recalled, waiting };
  return { apiVersion: API_VERSION, kind: "SnatUsage", ...named, dips, ...ports };
}

const header = (by: By): readonly string[] => [
  ...COLUMNS[by],
  ...(by === "dip" ? [] : ["DIPS"]),
  ...["OWNED", "IN USE", "ON HOLD", "FREE", "SEEN", "GUARANTEED", "LIMIT", "RECALLED", "WAITING"],
];

function cells(row: UsageRow, by: By): readonly (string | number)[] {
  const { name, dips, owned, reported, inUse, onHold, ageMs, guaranteed, limit, recalled, waiting } = row;
  const isKnown = owned === 0 || reported > 0;
  // Of hosts that are silent it is not known: then it is that many at least.
  const known = (ports: number): string => (isKnown ? `${reported < owned ? ">=" : ""}${ports}` : "-");
  const seen = owned === 0 ? "" : isKnown ? `${Math.round(ageMs / 1_000)}s ago` : "-";
  return [
    ...name,
    ...(by === "dip" ? [] : [dips]),
    ...[owned, known(inUse), known(onHold), known(freeOf(row)), seen],
    ...[guaranteed, limit, recalled, waiting],
  ];
}
