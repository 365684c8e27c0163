/** Tables of stored objects: which columns, and what stands in them. */
import type { ObjectKind } from "../../manager/state/objects.js";
import { protocolName } from "../../manager/api/objects/wire.js";
import type { WireObject } from "../methods.js";
import { stateCell } from "../terminal/style.js";
import type { Cell } from "../terminal/table.js";

/** A person counts no further; `-o wide` shows all. */
const LISTED_MAX = 3;
const PORTS_PER_RANGE = 8;

export interface ColumnChoice {
  readonly wide: boolean;
  /** Tenants differ. */
  readonly tenant: boolean;
}

const COLUMNS: Readonly<Record<ObjectKind, { readonly own: readonly string[]; readonly wide: string }>> = {
  Vip: { own: ["ADDRESS", "PORTS", "SNAT"], wide: "POOLS" },
  BackendPool: { own: ["MEMBERS", "HOSTED", "UP", "MAX"], wide: "DIPS" },
  Tenant: { own: ["WEIGHT", "MAX-VIPS"], wide: "ADDRESS-SPACES" },
  SecurityGroup: { own: ["RULES"], wide: "PEERS" },
};

export function objectHeader(kind: ObjectKind, choice: ColumnChoice): readonly string[] {
  const { own, wide } = COLUMNS[kind];
  const last = [wide, "GENERATION", "INDEX", "LABELS"];
  return [...(choice.tenant ? ["TENANT"] : []), "NAME", ...own, "STATUS", ...(choice.wide ? last : [])];
}

export function objectRow(object: WireObject, choice: ColumnChoice): readonly Cell[] {
  const { metadata, status } = object;
  const wideEnd: readonly Cell[] = [metadata?.generation ?? 0, status?.updatedIndex ?? 0, labelText(metadata?.labels)];
  const own = cellsOf(object, choice.wide);
  return [
    ...(choice.tenant ? [metadata?.tenant ?? ""] : []),
    metadata?.name ?? "",
    ...own.narrow,
    statusCell(object),
    ...(choice.wide ? [own.wide, ...wideEnd] : []),
  ];
}

function cellsOf(object: WireObject, wide: boolean): { readonly narrow: readonly Cell[]; readonly wide: Cell } {
  const { vip, backendPool, tenant, securityGroup } = object;
  if (vip) return vipCells(object, wide);
  if (backendPool) return poolCells(object, wide);
  if (tenant) {
    const limit = tenant.maxVips ? tenant.maxVips : "none";
    return { narrow: [tenant.weight ?? 0, limit], wide: listText(tenant.addressSpaces ?? [], true) };
  }
  const rules = securityGroup?.rules ?? [];
  return { narrow: [rules.length], wide: listText([...new Set(rules.map(({ peer }) => peer ?? ""))], true) };
}

/** The phase, and what else stands in the way of traffic: "Ready, MembersWithoutHost". */
export function statusCell({ status }: WireObject): Cell {
  const phase = status?.phase ?? "";
  const troubles = (status?.conditions ?? []).filter(({ type, status: isMet }) => type !== "Ready" && isMet !== true);
  if (phase !== "Ready" || troubles.length === 0) return stateCell(phase);
  return { text: `${phase}, ${troubles.map(({ reason }) => reason ?? "").join(", ")}`, style: "bad" };
}

function vipCells({ vip, status }: WireObject, wide: boolean) {
  const ports = (vip?.rules ?? []).map(({ port, protocol }) => `${port ?? 0}/${protocolText(protocol)}`);
  const pools = [...(vip?.rules ?? []).map(({ pool }) => pool ?? ""), ...(vip?.outbound?.pools ?? [])];
  const owned = (status?.snat ?? []).map(
    ({ protocol, ownedRanges }) => `${(ownedRanges ?? 0) * PORTS_PER_RANGE}/${protocolText(protocol)}`,
  );
  const snat = vip?.outbound ? owned.join(",") || "on" : "";
  return { narrow: [vip?.address ?? "", listText(ports, wide), snat], wide: listText([...new Set(pools)], true) };
}

function poolCells({ backendPool, status }: WireObject, wide: boolean) {
  const members = backendPool?.members ?? [];
  const listed = new Set(members.map(({ dip }) => dip));
  const known = (status?.members ?? []).filter(({ dip }) => listed.has(dip)); // others have left, and drain
  const hosted = known.filter(({ host }) => host).length;
  const up = known.filter(({ health }) => health === "up").length;
  const dips = members.map(({ dip, port }) => (port ? `${dip ?? ""}:${port}` : (dip ?? "")));
  return {
    narrow: [members.length, `${hosted}/${members.length}`, `${up}/${members.length}`, backendPool?.maxMembers ?? 0],
    wide: listText(dips, wide),
  };
}

export const protocolText = (protocol: number | null | undefined): string => String(protocolName(protocol) ?? "?");

export function labelText(labels: Readonly<Record<string, string>> | null | undefined): string {
  return Object.entries(labels ?? {})
    .map(([key, value]) => `${key}=${value}`)
    .join(",");
}

/** "80/tcp,443/tcp,53/udp +2" */
function listText(items: readonly string[], all: boolean): string {
  if (all || items.length <= LISTED_MAX) return items.join(",");
  return `${items.slice(0, LISTED_MAX).join(",")} +${items.length - LISTED_MAX}`;
}
