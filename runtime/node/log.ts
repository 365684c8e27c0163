/** JSON lines through pino: one event a line, fields beside it. */
import { type DestinationStream, type Logger, destination, pino, stdTimeFunctions } from "pino";
import type { Log } from "../env.js";

export type LogLevel = "debug" | "info" | "warn" | "error" | "silent";

export interface NodeLog extends Log {
  /** Takes effect at once, also for logs derived with `with`. */
  setLevel(level: LogLevel): void;
}

export interface NodeLogOptions {
  readonly name?: string;
  readonly level: LogLevel;
  /** A file to append to, or a stream; stdout when absent. */
  readonly to?: string | DestinationStream;
}

export function createNodeLog({ name, level, to }: NodeLogOptions): NodeLog {
  const target = typeof to === "string" ? destination({ dest: to, mkdir: true, sync: true }) : to;
  const options = {
    level: "debug",
    base: name === undefined ? {} : { name },
    messageKey: "event",
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  const root = target === undefined ? pino(options) : pino(options, target);
  const levels: readonly LogLevel[] = ["debug", "info", "warn", "error", "silent"];
  const threshold = { at: levels.indexOf(level) };
  const wrap = (logger: Logger): Log => {
    const at = (lineLevel: "debug" | "info" | "warn" | "error"): Log["debug"] => {
      const rank = levels.indexOf(lineLevel);
      return (event, fields) => {
        if (rank >= threshold.at) logger[lineLevel](fields ?? {}, event);
      };
    };
    return {
      debug: at("debug"),
      info: at("info"),
      warn: at("warn"),
      error: at("error"),
      with: (fields) => wrap(logger.child(fields)),
    };
  };
  return {
    ...wrap(root),
    setLevel: (next) => {
      threshold.at = levels.indexOf(next);
    },
  };
}
