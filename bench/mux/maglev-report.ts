/**
 * Balance and disruption of our Maglev tables as a table and a drawing, beside what the paper states (Eisenbud et al., NSDI
 * 2016, §5.3: 1,000 backends of 65,537 slots differ by at most about one slot; a table of that size takes 1.8 ms to build).
 */
import type { DipId } from "../../core/brands.js";
import { buildMaglevTable, maglevSize, type MaglevTable } from "../../dataplane/maglev.js";
import type { MuxPoolMember } from "../../dataplane/mux-items.js";
import { numberText } from "../measure/statistics.js";

const member = (dipId: number, weight = 1): MuxPoolMember => ({ dipId: dipId as DipId, weight });
const members = (count: number): MuxPoolMember[] => Array.from({ length: count }, (_, i) => member(i + 1));

function shares(table: MaglevTable): number[] {
  const counts = new Array<number>(table.dipIds.length).fill(0);
  for (const place of table.slots) counts[place]!++;
  return counts;
}

/** Share of slots with another owner, and the share that had to get one: the slots of who went, or came. */
function moved(before: MaglevTable, after: MaglevTable): { readonly all: number; readonly needed: number } {
  let [all, needed] = [0, 0];
  const [old, now] = [new Set(before.dipIds), new Set(after.dipIds)];
  for (let slot = 0; slot < before.slots.length; slot++) {
    const [from, to] = [before.dipIds[before.slots[slot]!]!, after.dipIds[after.slots[slot]!]!];
    if (from === to) continue;
    all++;
    if (!now.has(from) || !old.has(to)) needed++;
  }
  return { all: all / before.slots.length, needed: needed / before.slots.length };
}

const percent = (share: number): string => `${(share * 100).toFixed(2)} %`;

export function maglevReport(): readonly string[] {
  const lines = [
    "",
    "Maglev tables: shares of members and what a change moves (needed: slots of the member that went or came)",
    " members    slots   smallest  largest  of mean   one removed: needed  one added: needed   build",
  ];
  for (const count of [3, 10, 20, 100, 500, 1_000]) {
    const size = maglevSize(count);
    const all = members(count);
    const from = performance.now();
    const table = buildMaglevTable(size, all);
    const buildMs = performance.now() - from;
    const counts = shares(table).sort((a, b) => a - b);
    const mean = size / count;
    const removed = moved(
      table,
      buildMaglevTable(
        size,
        all.filter(({ dipId }) => dipId !== Math.ceil(count / 2)),
      ),
    );
    const added = moved(table, buildMaglevTable(size, [...all, member(count + 1)]));
    const change = ({ all: whole, needed }: { all: number; needed: number }): string =>
      `${percent(whole).padStart(9)}: ${percent(needed).padStart(8)}`;
    lines.push(
      `${numberText(count).padStart(8)} ${numberText(size).padStart(8)} ${numberText(counts[0]!).padStart(10)} ${numberText(counts.at(-1)!).padStart(8)} ${percent(counts.at(-1)! / mean - 1).padStart(8)}   ${change(removed)}   ${change(added)} ${numberText(buildMs, 1).padStart(5)} ms`,
    );
  }
  const weights = [1, 1, 2, 3, 5];
  const weighted = buildMaglevTable(
    65_537,
    weights.map((weight, i) => member(i + 1, weight)),
  );
  const sum = weights.reduce((a, b) => a + b, 0);
  lines.push("", "weights 1, 1, 2, 3, 5 of 65,537 slots; | is the exact share");
  shares(weighted).forEach((count, i) => {
    const [share, exact] = [count / 65_537, weights[i]! / sum];
    const bar: string[] = Array.from({ length: 50 }, (_, at) => (at < Math.round(share * 100) ? "#" : " "));
    bar[Math.round(exact * 100)] = "|";
    lines.push(`  ${String(weights[i]).padStart(2)} ${percent(share).padStart(8)} ${bar.join("").trimEnd()}`);
  });
  return lines;
}
