/**
 * What a benchmark leaves behind: nothing. Whoever starts a process or makes a folder registers how to take it away, in one
 * synchronous step; that runs however this process ends (return, exception, Ctrl-C, SIGTERM), newest first. A SIGKILL is
 * covered by scripts/child.mjs, which kills the group that plain children belong to.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";

const actions = new Set<() => void>();
let armed = false;

function arm(): void {
  if (armed) return;
  armed = true;
  process.on("exit", () => {
    for (const action of [...actions].reverse()) {
      try {
        action();
      } catch {
        // the others still have their turn
      }
    }
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.on(signal, () => process.exit(128 + constants.signals[signal]));
}

/** Runs `action` when this process ends. Returns how to take it off again, for what has ended in order. */
export function atExit(action: () => void): () => void {
  arm();
  actions.add(action);
  return () => actions.delete(action);
}

export interface TemporaryFolder {
  readonly path: string;
  /** Safe to call twice; also happens when this process ends. */
  remove(): void;
}

/** A new empty folder below `parent` (default: the system's place for temporary files). */
export function temporaryFolder(name: string, parent = tmpdir()): TemporaryFolder {
  const path = mkdtempSync(join(parent, `ananta-${name}-`));
  const remove = (): void => {
    forget();
    rmSync(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 }); // a killed process may still write
  };
  const forget = atExit(remove);
  return { path, remove };
}
