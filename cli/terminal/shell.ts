/** What a command gets from the machine it runs on. `main.ts` makes the real one, tests make their own. */
import type { Env } from "../../runtime/env.js";

export interface Shell {
  readonly env: Pick<Env, "clock" | "entropy" | "network" | "disk">;
  /** Environment variables. */
  readonly variables: Readonly<Record<string, string | undefined>>;
  /** Data, and nothing else. */
  readonly out: Terminal;
  /** Everything else: errors, warnings, progress. */
  readonly err: Terminal;
  readonly files: Files;
  /** Aborted by Ctrl-C. */
  readonly interrupted: AbortSignal;
  readonly version: string;
}

export interface Terminal {
  write(text: string): void;
  readonly isTty: boolean;
}

export interface Files {
  /** "-" is standard input. Rejects when it cannot be read. */
  read(path: string): Promise<string>;
  /** Paths of the manifests in a folder, sorted; null when `path` is no folder. */
  manifestsIn(path: string): Promise<readonly string[] | null>;
}
