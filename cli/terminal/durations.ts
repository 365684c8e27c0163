/** "500ms", "10s", "1.5m", or plain seconds. */
import { UsageError } from "./exit-codes.js";

const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** Milliseconds, at least 1. `where` names the option in the message. */
export function parseDuration(text: string, where: string): number {
  const match = /^([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)?$/.exec(text.trim());
  const ms = Number(match?.[1] ?? 0) * (UNITS_MS[match?.[2] ?? "s"] ?? 0);
  if (ms >= 1 && ms < 2 ** 31) return Math.round(ms);
  throw new UsageError(`${where}: "${text}" is not a time span; write for example 500ms, 10s or 1m`);
}

/** "850 ms", "3.2 s", "4 m": short, for people. */
export function formatDuration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  return ms < 2 ** 31 - 1 ? `${Math.round(ms / 60_000)} m` : "unknown";
}
