/**
 * Life of a process around one component: start, run until asked to stop, stop in order, exit.
 *
 * SIGTERM, SIGINT or SIGHUP once: stop in order. Twice: exit now. An expected failure (a port in use, a locked folder, a
 * wrong setting) is one clear line on stderr and exit code 1; a broken invariant or failed disk ends the process at once,
 * because a half-working replica is worse than a dead one.
 */
import { writeSync } from "node:fs";
import { AnantaError } from "../core/errors.js";
import { mapStacksOnDemand, stackOf } from "./stacks.js";

export interface Running {
  stop(): Promise<void>;
}

/** Longer than any orderly stop takes. */
const STOP_MAX_MS = 10_000;
const EXIT_FAILED = 1;

/** Ends the process now, with one line that says why. */
export function fail(error: unknown): never {
  writeSync(2, `ananta: ${describe(error)}\n`);
  process.exit(EXIT_FAILED);
}

/** Runs what `start` builds until a signal asks for its end. Resolves when it has stopped. `--help` prints `help` instead. */
export async function runProcess(start: () => Promise<Running>, help: () => string): Promise<void> {
  if (process.argv.slice(2).some((word) => word === "--help" || word === "-h")) {
    process.stdout.write(help());
    return;
  }
  mapStacksOnDemand();
  process.on("uncaughtException", fail);
  process.on("unhandledRejection", fail);
  const asked = new Promise<void>((resolve) => {
    let count = 0;
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
      process.on(signal, () => {
        if (++count > 1) process.exit(EXIT_FAILED);
        resolve();
      });
    }
  });
  let running: Running;
  try {
    running = await start();
  } catch (caught) {
    fail(caught);
  }
  await asked;
  setTimeout(() => fail(new Error(`the stop took longer than ${STOP_MAX_MS} ms`)), STOP_MAX_MS).unref();
  await running.stop();
  process.exit(0);
}

function describe(error: unknown): string {
  if (error instanceof AnantaError && error.code !== "INTERNAL") return `${error.message} (${error.code})`;
  if (error instanceof AnantaError && error.cause instanceof Error) return stackOf(error.cause) ?? error.message;
  return error instanceof Error ? (stackOf(error) ?? error.message) : String(error);
}
