/** What many worlds add up to. */
import { FAULT_KINDS, type FaultKind } from "./fault-script.js";
import type { WorldReport } from "./run-world.js";

export interface Totals {
  seeds: number;
  virtualMs: number;
  events: number;
  readonly faults: Map<FaultKind, number>;
  checks: number;
  fullChecks: number;
  grants: number;
  requests: number;
  answered: number;
  reads: number;
  packets: number;
  readonly violations: { readonly seed: number; readonly invariant: string }[];
}

const HOUR_MS = 3_600_000;

export function emptyTotals(): Totals {
  return {
    seeds: 0,
    virtualMs: 0,
    events: 0,
    faults: new Map(FAULT_KINDS.map((kind) => [kind, 0])),
    checks: 0,
    fullChecks: 0,
    grants: 0,
    requests: 0,
    answered: 0,
    reads: 0,
    packets: 0,
    violations: [],
  };
}

export function addReport(totals: Totals, report: WorldReport): void {
  totals.seeds++;
  for (const key of [
    "virtualMs",
    "events",
    "checks",
    "fullChecks",
    "grants",
    "requests",
    "answered",
    "reads",
    "packets",
  ] as const)
    totals[key] += report[key];
  for (const [kind, times] of Object.entries(report.faults) as [FaultKind, number][])
    totals.faults.set(kind, (totals.faults.get(kind) ?? 0) + times);
  if (report.violation !== null) totals.violations.push({ seed: report.seed, invariant: report.violation.invariant });
}

export function printTotals(totals: Totals, wallMs: number, print: (line: string) => void): void {
  print(`worlds          ${totals.seeds} in ${(wallMs / 1_000).toFixed(1)} s`);
  print(`virtual time    ${(totals.virtualMs / HOUR_MS).toFixed(2)} h, ${totals.events} events`);
  print(
    `requests        ${totals.requests}, ${totals.answered} of them granted; ${totals.grants} grants, ${totals.reads} linearizable reads`,
  );
  print(`packets judged  ${totals.packets}`);
  print(`looks           ${totals.checks} after events, ${totals.fullChecks} in full`);
  print("faults");
  for (const [kind, times] of totals.faults)
    print(`  ${kind.padEnd(28)} ${String(times).padStart(7)}${times === 0 ? "   NEVER" : ""}`);
  const kinds = new Map<string, number[]>();
  for (const { seed, invariant } of totals.violations) kinds.set(invariant, [...(kinds.get(invariant) ?? []), seed]);
  print(`violations      ${totals.violations.length}`);
  for (const [invariant, seeds] of kinds)
    print(`  ${invariant}: ${seeds.length} (worlds ${seeds.slice(0, 8).join(", ")})`);
}

export function resultLine({ seeds, virtualMs, violations, faults }: Totals): string {
  const faultKinds = [...faults.values()].filter((times) => times > 0).length;
  const virtualHours = Number((virtualMs / HOUR_MS).toFixed(3));
  return `RESULT ${JSON.stringify({ seeds, virtualHours, violations: violations.length, faultKinds })}`;
}
