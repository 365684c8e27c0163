/** Colour for people, never for scripts: only on a terminal, and not where NO_COLOR (no-color.org) or TERM=dumb says so. */
import type { Shell, Terminal } from "./shell.js";
import type { Cell, Paint, Style } from "./table.js";

const CODES: Readonly<Record<Style, readonly [number, number]>> = {
  good: [32, 39],
  bad: [31, 39],
  dim: [2, 22],
  bold: [1, 22],
};

export function painter(shell: Pick<Shell, "variables">, terminal: Terminal): Paint {
  const { NO_COLOR: noColor, TERM: term } = shell.variables;
  if (!terminal.isTty || (noColor !== undefined && noColor !== "") || term === "dumb") return (_style, text) => text;
  return (style, text) => `\x1b[${CODES[style][0]}m${text}\x1b[${CODES[style][1]}m`;
}

const GOOD = new Set(["Ready", "live", "ok", "healthy", "leader", "up"]);
const BAD = new Set(["lost", "unhealthy", "unreachable", "degraded", "down", "silent", "no-host"]);

/** A state word in the colour of its meaning. */
export function stateCell(text: string): Cell {
  if (GOOD.has(text)) return { text, style: "good" };
  return BAD.has(text) ? { text, style: "bad" } : text;
}
