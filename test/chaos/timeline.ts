/** The whole run on one self-contained page: what was done when, and how grants went on meanwhile. */
import { escape } from "../linearizability/drawing.js";
import type { Injected } from "./nemesis.js";

export interface Run {
  readonly seed: number;
  readonly fromMs: number;
  readonly toMs: number;
  readonly injected: readonly Injected[];
  readonly answeredMs: readonly number[];
  readonly events: readonly { readonly atMs: number; readonly text: string }[];
  readonly violations: readonly string[];
  readonly summary: readonly string[];
}

const WIDTH = 1_200;
const LEFT = 270;
const ROW = 20;
const RATE_HEIGHT = 80;
const BUCKET_MS = 500;

export function drawTimeline(run: Run): string {
  const { fromMs, toMs, injected } = run;
  const x = (atMs: number): number => LEFT + ((atMs - fromMs) / (toMs - fromMs)) * (WIDTH - LEFT - 10);
  const names = [...new Set(injected.map(({ name }) => name))].sort();
  const buckets = new Array<number>(Math.ceil((toMs - fromMs) / BUCKET_MS)).fill(0);
  for (const atMs of run.answeredMs) {
    const at = Math.floor((atMs - fromMs) / BUCKET_MS);
    if (at >= 0 && at < buckets.length) buckets[at]!++;
  }
  const most = Math.max(1, ...buckets);
  const rates = buckets.map((count, at) => {
    const left = x(fromMs + at * BUCKET_MS);
    const width = x(fromMs + (at + 1) * BUCKET_MS) - left;
    const height = (count / most) * RATE_HEIGHT;
    return count === 0
      ? `<rect x="${left.toFixed(1)}" y="20" width="${width.toFixed(1)}" height="${RATE_HEIGHT}" fill="#ffebe9"/>`
      : `<rect x="${left.toFixed(1)}" y="${(20 + RATE_HEIGHT - height).toFixed(1)}" width="${width.toFixed(1)}" height="${height.toFixed(1)}" fill="#2da44e"/>`;
  });
  const top = RATE_HEIGHT + 40;
  const rows = names.map((name, row) => {
    const y = top + row * ROW;
    const bars = injected
      .filter((fault) => fault.name === name)
      .map(
        (fault) =>
          `<g><title>${escape(`${fault.name}: ${fault.target}, ${((fault.toMs - fault.fromMs) / 1_000).toFixed(1)} s from ${seconds(fault.fromMs - fromMs)}`)}</title><rect x="${x(fault.fromMs).toFixed(1)}" y="${y + 3}" width="${Math.max(2, x(fault.toMs) - x(fault.fromMs)).toFixed(1)}" height="14" rx="2" fill="#bf8700"/></g>`,
      )
      .join("");
    return `<text x="0" y="${y + 14}">${escape(name)}</text><line x1="${LEFT}" x2="${WIDTH}" y1="${y + ROW}" y2="${y + ROW}" stroke="#eaeef2"/>${bars}`;
  });
  const lines = run.events.map(
    ({ atMs, text }) => `<tr><td>${seconds(atMs - fromMs)}</td><td>${escape(text)}</td></tr>`,
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>chaos, seed ${run.seed}</title>
<style>
body{font:14px/1.45 system-ui,sans-serif;margin:24px;color:#1b1f24;background:#fff}
svg text{font:12px system-ui,sans-serif} td{padding:1px 12px 1px 0;vertical-align:top;font-size:12px} .bad{color:#b42318}
</style></head><body>
<h1>Chaos, seed ${run.seed}: ${run.violations.length === 0 ? "no violation" : `${run.violations.length} violations`}</h1>
<pre>${escape(run.summary.join("\n"))}</pre>
<ul class="bad">${run.violations.map((text) => `<li>${escape(text)}</li>`).join("")}</ul>
<svg width="${WIDTH}" height="${top + names.length * ROW + 20}" role="img" aria-label="grants and faults over time">
<text x="0" y="34">grants per second (most ${Math.round((most * 1_000) / BUCKET_MS)})</text>
<text x="0" y="52" fill="#57606a">red: none in half a second</text>
<text x="${LEFT}" y="14">0 s</text><text x="${WIDTH}" y="14" text-anchor="end">${seconds(toMs - fromMs)}</text>
${rates.join("")}${rows.join("")}</svg>
<h2>Events</h2><table>${lines.join("\n")}</table>
</body></html>
`;
}

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;
