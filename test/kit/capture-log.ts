/** Log lines with their virtual time: kept as data for assertions, printable as a trace for people. */
import type { Log, LogFields } from "../../runtime/env.js";
import type { VirtualProcess } from "./virtual-process.js";

export type LogLevel = "debug" | "info" | "warn" | "error";

export interface LogLine {
  readonly atMs: number;
  readonly process: string;
  readonly level: LogLevel;
  readonly event: string;
  readonly fields: LogFields;
}

/** Lines kept; the oldest tenth is dropped beyond it. */
const LINES_MAX = 200_000;

export class CaptureLog {
  readonly lines: LogLine[] = [];
  /** Called with every line as it is written: print it, or fail on errors. */
  onLine: ((line: LogLine) => void) | null = null;

  /** The log of one process. Lines of a crashed process are not kept: it no longer does anything. */
  forProcess(process: VirtualProcess, level: LogLevel): Log {
    const levels: readonly LogLevel[] = ["debug", "info", "warn", "error"];
    const lowest = levels.indexOf(level);
    const build = (bound: LogFields): Log => {
      const write = (lineLevel: LogLevel) => {
        if (levels.indexOf(lineLevel) < lowest) return () => {};
        return (event: string, fields?: LogFields): void => {
          if (process.crashed) return;
          const all = fields === undefined ? bound : { ...bound, ...fields };
          this.#add({ atMs: process.clock.nowMs, process: process.name, level: lineLevel, event, fields: all });
        };
      };
      return {
        debug: write("debug"),
        info: write("info"),
        warn: write("warn"),
        error: write("error"),
        with: (fields) => build({ ...bound, ...fields }),
      };
    };
    return build({});
  }

  /** A line of the harness itself (crash, partition ...), so that the trace tells the whole story. */
  note(atMs: number, event: string): void {
    this.#add({ atMs, process: "--", level: "info", event, fields: {} });
  }

  find(event: string | RegExp, process?: string): readonly LogLine[] {
    return this.lines.filter(
      (line) =>
        (process === undefined || line.process === process) &&
        (typeof event === "string" ? line.event === event : event.test(line.event)),
    );
  }

  /** The last `count` lines: "[   120.4] manager-1 > event key=value". */
  trace(count = 200): string {
    return this.lines.slice(-count).map(formatLine).join("\n");
  }

  #add(line: LogLine): void {
    this.lines.push(line);
    if (this.lines.length > LINES_MAX) this.lines.splice(0, LINES_MAX / 10);
    this.onLine?.(line);
  }
}

export function formatLine(line: LogLine): string {
  const fields = Object.entries(line.fields)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => {
      const text = String(value);
      return ` ${key}=${/[\s"]/.test(text) ? JSON.stringify(text) : text}`;
    })
    .join("");
  const mark = line.level === "warn" || line.level === "error" ? ` ${line.level.toUpperCase()}` : "";
  return `[${line.atMs.toFixed(1).padStart(8)}] ${line.process} >${mark} ${line.event}${fields}`;
}
