/** Tables of stored objects: which columns, and what stands in them. */
import type { ObjectKind } from "../manager/state/objects.js";
import { protocolName } from "../manager/api/wire-objects.js";
import type { WireObject } from "./methods.js";
import { stateCell } from "./style.js";
import type { Cell } from "./table.js";

/** A person counts no further; `-o wide` shows all. */
const LISTED_MAX = 3;
const PORTS_PER_RANGE = 8;

export interface ColumnChoice {
  readonly wide: boolean;
  /** Tenants differ. */
  readonly tenant: boolean;
}

export function objectHeader(kind: ObjectKind, choice: ColumnChoice): readonly string[] {
  const own = kind === "Vip" ? ["ADDRESS", "PORTS", "SNAT", "STATUS"] : ["MEMBERS", "HOSTED", "MAX", "STATUS"];
  const wide = kind === "Vip" ? ["POOLS", "GENERATION", "INDEX", "LABELS"] : ["DIPS", "GENERATION", "INDEX", "LABELS"];
  return [...(choice.tenant ? ["TENANT"] : []), "NAME", ...own, ...(choice.wide ? wide : [])];
}

export function objectRow(object: WireObject, choice: ColumnChoice): readonly Cell[] {
  const { metadata, status } = object;
  const wideEnd: readonly Cell[] = [metadata?.generation ?? 0, status?.updatedIndex ?? 0, labelText(metadata?.labels)];
  const own = object.vip ? vipCells(object, choice.wide) : poolCells(object, choice.wide);
  return [
    ...(choice.tenant ? [metadata?.tenant ?? ""] : []),
    metadata?.name ?? "",
    ...own.narrow,
    stateCell(status?.phase ?? ""),
    ...(choice.wide ? [own.wide, ...wideEnd] : []),
  ];
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
  const hosted = (status?.members ?? []).filter(({ host }) => host).length;
  const dips = members.map(({ dip, port }) => (port ? `${dip ?? ""}:${port}` : (dip ?? "")));
  return {
    narrow: [members.length, `${hosted}/${members.length}`, backendPool?.maxMembers ?? 0],
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
