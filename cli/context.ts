/** One run of the program: what every command shares, and how it ends. */
import type { Command } from "commander";
import { AnantaError } from "../core/errors.js";
import { ApiClient } from "./api-client.js";
import { EXIT, type ExitCode, ToldError, UsageError, exitCodeOf } from "./terminal/exit-codes.js";
import { parseDuration } from "./terminal/durations.js";
import { createProgress, type Progress } from "./terminal/progress.js";
import type { Shell } from "./terminal/shell.js";
import { painter } from "./terminal/style.js";
import type { Paint } from "./terminal/table.js";

/** The embedded default of five replicas. */
export const DEFAULT_ENDPOINTS = [7401, 7402, 7403, 7404, 7405].map((port) => `127.0.0.1:${port}`);
export const DEFAULT_TIMEOUT = "10s";

export interface GlobalOptions {
  readonly endpoints?: string;
  readonly timeout?: string;
}

export class Context {
  readonly shell: Shell;
  readonly paint: Paint;
  readonly progress: Progress;
  #client: ApiClient | null = null;
  /** The command is one that changes something: then an unknown outcome is told apart. */
  #isChange = false;
  exitCode: ExitCode = EXIT.ok;

  constructor(shell: Shell) {
    this.shell = shell;
    this.paint = painter(shell, shell.out);
    this.progress = createProgress(shell);
  }

  /** The client that the global options describe; one per run. */
  client(command: Command): ApiClient {
    if (this.#client !== null) return this.#client;
    const options = command.optsWithGlobals<GlobalOptions>();
    const { variables, env } = this.shell;
    this.#client = new ApiClient({
      env,
      endpoints: parseEndpoints(options.endpoints ?? variables["ANANTA_ENDPOINTS"]),
      timeoutMs: parseDuration(options.timeout ?? variables["ANANTA_TIMEOUT"] ?? DEFAULT_TIMEOUT, "--timeout"),
      trying: (state) => {
        if (state === null) {
          this.progress.clear();
          return;
        }
        const reason = state.lastError === null ? "" : ` (${firstSentence(state.lastError.message)})`;
        this.progress.show(`asking ${state.endpoint}${reason}`);
      },
    });
    return this.#client;
  }

  /** Data for the user, on standard output. */
  print(text: string): void {
    this.progress.clear();
    this.shell.out.write(text);
  }

  /** Anything else, on standard error. */
  tell(line: string): void {
    this.progress.clear();
    this.shell.err.write(`${line}\n`);
  }

  /** Wraps a command's action: whatever happens in it becomes an exit code and at most one message. */
  action<Arguments extends unknown[]>(
    run: (...given: Arguments) => Promise<ExitCode>,
    options: { readonly isChange?: boolean } = {},
  ): (...given: Arguments) => Promise<void> {
    return async (...given) => {
      this.#isChange = options.isChange === true;
      try {
        this.exitCode = await run(...given);
      } catch (caught) {
        this.exitCode = this.#fail(caught);
      } finally {
        this.progress.clear();
        this.#client?.close();
      }
    };
  }

  #fail(caught: unknown): ExitCode {
    if (caught instanceof ToldError) return caught.exitCode;
    const label = this.paintError("error:");
    if (caught instanceof UsageError) {
      this.tell(`${label} ${caught.message}`);
      return EXIT.usage;
    }
    if (!(caught instanceof AnantaError)) throw caught; // a defect: the stack is what helps
    const exitCode = exitCodeOf(caught, this.#isChange);
    const unknown = exitCode === EXIT.outcomeUnknown ? "outcome unknown: " : "";
    this.tell(`${label} ${unknown}${caught.message} (${caught.code})`);
    if (exitCode === EXIT.outcomeUnknown) {
      this.tell("The change may or may not have been made. Look with `ananta get`, or do it again: that is harmless.");
    }
    return exitCode;
  }

  paintError(text: string): string {
    return painter(this.shell, this.shell.err)("bad", text);
  }
}

const firstSentence = (text: string): string => text.split(/[;\n]/, 1)[0] ?? "";

function parseEndpoints(text: string | undefined): readonly string[] {
  if (text === undefined || text === "") return DEFAULT_ENDPOINTS;
  const endpoints = text.split(",").map((endpoint) => endpoint.trim());
  for (const endpoint of endpoints) {
    const match = /^(.+):([0-9]{1,5})$/.exec(endpoint);
    const port = Number(match?.[2] ?? 0);
    if (port < 1 || port > 65_535) {
      throw new UsageError(
        `--endpoints: "${endpoint}" is not host:port; write for example ${DEFAULT_ENDPOINTS.slice(0, 2).join(",")}`,
      );
    }
  }
  return [...new Set(endpoints)];
}
