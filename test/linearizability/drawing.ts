/**
 * [pure] What failed, as one HTML page without anything from elsewhere: per range or object one picture, time from left to
 * right, one row per client, one bar per operation. Green bars found a place, numbered in the order that explains them; a
 * red one could not be answered as it was after that; grey ones were never reached. A bar that fades out has no known end.
 */
import { blocksOf, type History, type Operation, type Outcome } from "./history.js";
import type { Failure, Judgement } from "./judge.js";

const WIDTH = 1_100;
const LEFT = 190;
const ROW = 30;
const TOP = 26;
/** More bars than this are not read by anybody: the picture shows those around the end of the longest order. */
const BARS_MAX = 120;
const FAILURES_MAX = 20;

export function drawJudgement(history: History, judgement: Judgement): string {
  const { failures } = judgement;
  const verdict =
    failures.length === 0 ? "linearizable" : `not linearizable: ${failures.length} of ${judgement.partitions} parts`;
  const shown = failures.slice(0, FAILURES_MAX);
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>${escape(history.source)} ${escape(history.seed)}: ${verdict}</title>
<style>
body{font:14px/1.45 system-ui,sans-serif;margin:24px;color:#1b1f24;background:#fff;max-width:1150px}
h2{font-size:16px;margin-top:32px} svg text{font:11px system-ui,sans-serif} td,th{padding:2px 10px 2px 0;text-align:left;vertical-align:top}
table{border-collapse:collapse;font-size:12px} .bad{color:#b42318;font-weight:600} .note{color:#57606a}
</style></head><body>
<h1>${escape(history.source)}, seed ${escape(history.seed)}: ${verdict}</h1>
<p>${judgement.operations} operations, ${judgement.unknown} of unknown outcome; ${judgement.partitions} ranges and objects.</p>
<p class="note">Green: in the longest order that explains the answers, with its place. Red: what cannot follow. Grey: not reached.
A bar without an end: nobody knows when, or whether, it took effect.</p>
${shown.map(drawFailure).join("\n")}
${failures.length > shown.length ? `<p>${failures.length - shown.length} more are not drawn.</p>` : ""}
</body></html>
`;
}

function drawFailure(failure: Failure): string {
  const places = new Map(failure.longest.map(({ index, state }, at) => [index, { place: at + 1, state }]));
  const blocked = blockedOf(failure, places);
  const around = failure.operations
    .map((operation, index) => ({ operation, index }))
    .sort((a, b) => a.operation.callMs - b.operation.callMs);
  const focus = Math.max(
    0,
    around.findIndex(({ index }) => blocked.has(index)),
  );
  const from = Math.max(0, Math.min(focus - BARS_MAX / 2, around.length - BARS_MAX));
  const bars = around.slice(from, from + BARS_MAX);
  const beginMs = Math.min(...bars.map(({ operation }) => operation.callMs));
  const ends = bars.map(({ operation }) => operation.returnMs ?? operation.callMs);
  const endMs = Math.max(beginMs + 1, ...ends);
  const x = (atMs: number): number => LEFT + ((atMs - beginMs) / (endMs - beginMs)) * (WIDTH - LEFT - 60);
  const clients = [...new Set(bars.map(({ operation }) => operation.client))];
  const color = (index: number): string => (places.has(index) ? "#2da44e" : blocked.has(index) ? "#cf222e" : "#afb8c1");
  const rows = clients.map(
    (client, row) =>
      `<text x="0" y="${TOP + row * ROW + 19}">${escape(client.slice(0, 30))}</text><line x1="${LEFT}" x2="${WIDTH}" y1="${TOP + row * ROW + 29}" y2="${TOP + row * ROW + 29}" stroke="#eaeef2"/>`,
  );
  const drawn = bars.map(({ operation, index }) => {
    const y = TOP + clients.indexOf(operation.client) * ROW + 4;
    const left = x(operation.callMs);
    const right = operation.returnMs === null ? WIDTH : x(operation.returnMs);
    const width = Math.max(3, right - left).toFixed(1);
    const opacity = operation.returnMs === null ? 0.35 : 0.9;
    const label = places.get(index)?.place ?? "";
    return `<g><title>${escape(textOf(operation))}</title><rect x="${left.toFixed(1)}" y="${y}" width="${width}" height="22" rx="3" fill="${color(index)}" fill-opacity="${opacity}"/><text x="${(left + 3).toFixed(1)}" y="${y + 15}">${label} ${escape(shortOf(operation))}</text></g>`;
  });
  const table = bars.map(({ operation, index }) => {
    const at = places.get(index);
    const note = at !== undefined ? at.state : blocked.has(index) ? `<span class="bad">cannot follow</span>` : "";
    const time = `${operation.callMs.toFixed(1)} to ${operation.returnMs?.toFixed(1) ?? "?"}`;
    return `<tr><td>${at?.place ?? ""}</td><td>op ${operation.id}</td><td>${time}</td><td>${escape(operation.client)}</td><td>${escape(textOf(operation))}</td><td>${at === undefined ? note : escape(note)}</td></tr>`;
  });
  const what = failure.kind === "violation" ? "no order explains these answers" : "not decided: too many orders to try";
  return `<h2>${escape(failure.partition)}: ${what}</h2>
<svg width="${WIDTH}" height="${TOP + clients.length * ROW + 8}" role="img" aria-label="operations on ${escape(failure.partition)}">
<text x="${LEFT}" y="14">${beginMs.toFixed(1)} ms</text><text x="${WIDTH - 60}" y="14" text-anchor="end">${endMs.toFixed(1)} ms</text>
${rows.join("")}${drawn.join("")}</svg>
<table><tr><th>place</th><th></th><th>ms</th><th>client</th><th>what</th><th>state after</th></tr>${table.join("\n")}</table>`;
}

/** Returned, not in the order, and the earliest of those to have returned: it had to come next. */
function blockedOf(failure: Failure, places: ReadonlyMap<number, unknown>): ReadonlySet<number> {
  let first = -1;
  failure.operations.forEach(({ returnMs }, index) => {
    if (returnMs === null || places.has(index)) return;
    if (first < 0 || returnMs < (failure.operations[first]?.returnMs ?? 0)) first = index;
  });
  return new Set(first < 0 ? [] : [first]);
}

function shortOf({ action, outcome }: Operation): string {
  const verb = action.kind.replace("snat-", "").replace("object-", "");
  return outcome.kind === "unknown" ? `${verb} ?` : verb;
}

function textOf({ action, outcome }: Operation): string {
  switch (action.kind) {
    case "snat-allocate":
      return `allocate for ${action.dip}: ${outcomeText(outcome)}`;
    case "snat-release":
      return `release of ${blocksOf(action.ranges).join(" ")} by ${action.dip}: ${outcomeText(outcome)}`;
    case "snat-list":
      return `list ${action.vips.join(" ")}: ${outcomeText(outcome)}`;
    case "object-apply":
      return `apply ${action.value}${action.generation === 0 ? "" : ` to generation ${action.generation}`}: ${outcomeText(outcome)}`;
    case "object-delete":
      return `delete: ${outcomeText(outcome)}`;
    case "object-get":
      return `get: ${outcomeText(outcome)}`;
  }
}

function outcomeText(outcome: Outcome): string {
  switch (outcome.kind) {
    case "granted":
      return `granted ${blocksOf(outcome.ranges).join(" ")}`;
    case "released":
      return "released";
    case "listed":
      return `${outcome.owners.size} ranges with an owner`;
    case "changed":
      return `${outcome.change}, generation ${outcome.generation}`;
    case "read":
      return outcome.found === null ? "absent" : `generation ${outcome.found.generation}: ${outcome.found.value}`;
    case "refused":
      return `refused, ${outcome.code}`;
    case "unknown":
      return outcome.ranges === undefined
        ? "outcome unknown"
        : `outcome unknown, ${blocksOf(outcome.ranges).join(" ")}`;
  }
}

export const escape = (text: string): string =>
  text.replace(/[&<>"]/g, (found) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[found] ?? found);
