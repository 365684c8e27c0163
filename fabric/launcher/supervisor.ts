/**
 * Keeps the child processes of the site running: starts them, writes what they say to files, starts a dead one again after
 * 2 s, and ends all of them when the site stops.
 *
 *     down --start--> running --exit--> down (held, or restarts are off)
 *                        |   ^--2 s--- waiting (otherwise)
 *                        '--stop--> stopping --exit--> down
 *
 * Every child has a process group of its own: Ctrl-C at the terminal reaches the launcher alone, which then stops the
 * children in order. If the launcher is killed, the tether ends them (tether.ts).
 */
import { spawn, type ChildProcess } from "node:child_process";
import { closeSync, existsSync, fstatSync, openSync, readSync } from "node:fs";
import { relative } from "node:path";

export interface ChildSpec {
  readonly name: string;
  readonly role: "manager" | "mux" | "agent";
  /** Absolute path of the program's main file. */
  readonly program: string;
  readonly configFile: string;
  readonly logFile: string;
}

export type ChildEvent =
  | { readonly kind: "started"; readonly name: string; readonly pid: number }
  /** `reason` is its own last word, or the signal. */
  | {
      readonly kind: "ended";
      readonly name: string;
      readonly pid: number;
      readonly reason: string;
      readonly next: "restart" | "stays-down";
    };

type State =
  | { readonly kind: "down" }
  | {
      readonly kind: "running" | "stopping";
      readonly process: ChildProcess;
      readonly pid: number;
      readonly sinceMs: number;
      readonly logFrom: number;
    }
  | { readonly kind: "waiting"; readonly timer: NodeJS.Timeout };

interface Child {
  readonly spec: ChildSpec;
  state: State;
  /** Stays down when it ends. */
  held: boolean;
}

const RESTART_AFTER_MS = 2_000;
/** A child that ends by itself this soon has most likely a configuration, port or storage problem. */
const STARTUP_MS = 8_000;
const KILL_AFTER_MS = 5_000;
/** Enough for an error message with its stack. */
const LOG_TAIL_BYTES = 16_384;

export class Supervisor {
  onEvent: (event: ChildEvent) => void = () => undefined;
  /** A child that ended by itself soon after a start: a restart will hardly mend that. */
  onStartFailed: (name: string, reason: string) => void = () => undefined;
  private readonly children = new Map<string, Child>();
  private readonly restart: boolean;
  private readonly tether: string;
  private stopping = false;

  /** `tether` is the URL of the module that is preloaded into children. */
  constructor(specs: readonly ChildSpec[], options: { readonly restart: boolean; readonly tether: string }) {
    for (const spec of specs) this.children.set(spec.name, { spec, state: { kind: "down" }, held: false });
    this.restart = options.restart;
    this.tether = options.tether;
  }

  /** `pid` is null while a child is down. */
  list(): readonly { readonly name: string; readonly role: ChildSpec["role"]; readonly pid: number | null }[] {
    return [...this.children.values()].map(({ spec, state }) => ({
      name: spec.name,
      role: spec.role,
      pid: state.kind === "running" || state.kind === "stopping" ? state.pid : null,
    }));
  }

  nameOf(pid: number): string | null {
    for (const [name, { state }] of this.children) if (state.kind === "running" && state.pid === pid) return name;
    return null;
  }

  startAll(): void {
    for (const name of this.children.keys()) this.start(name);
  }

  /** Does nothing when it runs already. Ends a hold. */
  start(name: string): void {
    const child = this.child(name);
    child.held = false;
    if (child.state.kind === "running" || child.state.kind === "stopping" || this.stopping) return;
    if (child.state.kind === "waiting") clearTimeout(child.state.timer);
    this.spawn(child);
  }

  /** Ends it the hard way; it stays down until `start`. */
  killAndHold(name: string): void {
    const child = this.child(name);
    child.held = true;
    if (child.state.kind === "running") child.state.process.kill("SIGKILL");
  }

  /** The command that starts the child by hand. */
  commandOf(name: string): string {
    const { program, configFile } = this.child(name).spec;
    const quoted = [program, "--config", configFile].map((part) => {
      const short = relative(process.cwd(), part);
      const shown = part.startsWith("/") && short.length < part.length ? short : part;
      return /^[\w@%+=:,./-]+$/.test(shown) ? shown : `'${shown.replaceAll("'", String.raw`'\''`)}'`;
    });
    return `node ${quoted.join(" ")}`;
  }

  /** Stops all children: first those that serve packets, then the Managers they report to. Resolves when none is left. */
  async stop(): Promise<void> {
    this.stopping = true;
    const killAt = setTimeout(() => this.signalAll("SIGKILL"), KILL_AFTER_MS);
    try {
      await this.stopRole((role) => role !== "manager");
      await this.stopRole(() => true);
    } finally {
      clearTimeout(killAt);
    }
  }

  private async stopRole(matches: (role: ChildSpec["role"]) => boolean): Promise<void> {
    const ends: Promise<void>[] = [];
    for (const child of this.children.values()) {
      if (!matches(child.spec.role)) continue;
      const { state } = child;
      if (state.kind === "waiting") {
        clearTimeout(state.timer);
        child.state = { kind: "down" };
      }
      if (state.kind !== "running" && state.kind !== "stopping") continue;
      ends.push(new Promise((resolve) => state.process.once("exit", () => resolve())));
      if (state.kind === "stopping") continue;
      child.state = { ...state, kind: "stopping" };
      state.process.kill("SIGTERM");
    }
    await Promise.all(ends);
  }

  private signalAll(signal: NodeJS.Signals): void {
    for (const { state } of this.children.values()) {
      if (state.kind === "running" || state.kind === "stopping") state.process.kill(signal);
    }
  }

  private child(name: string): Child {
    const child = this.children.get(name);
    if (child === undefined) throw new Error(`there is no child "${name}"`);
    return child;
  }

  private spawn(child: Child): void {
    const { spec } = child;
    if (!existsSync(spec.program)) {
      this.onStartFailed(spec.name, `${spec.program} is missing: build first (npm run build)`);
      return;
    }
    const log = openSync(spec.logFile, "a");
    const logFrom = fstatSync(log).size;
    const started = spawn(
      process.execPath,
      ["--enable-source-maps", "--import", this.tether, spec.program, "--config", spec.configFile],
      {
        stdio: ["ignore", log, log, "pipe"],
        detached: process.platform !== "win32",
        env: { ...process.env, ANANTA_LAUNCHER_FD: "3" },
      },
    );
    closeSync(log);
    started.stdio[3]?.on("error", () => undefined); // the child has gone; its exit is reported below
    const { pid } = started;
    if (pid === undefined) {
      started.once("error", (error) => this.onStartFailed(spec.name, error.message));
      return;
    }
    const sinceMs = Date.now();
    child.state = { kind: "running", process: started, pid, sinceMs, logFrom };
    started.once("exit", (code, signal) => this.ended(child, { pid, sinceMs, logFrom, code, signal }));
    this.onEvent({ kind: "started", name: spec.name, pid });
  }

  private ended(
    child: Child,
    end: {
      readonly pid: number;
      readonly sinceMs: number;
      readonly logFrom: number;
      readonly code: number | null;
      readonly signal: NodeJS.Signals | null;
    },
  ): void {
    const { name, logFile } = child.spec;
    const wasStopping = child.state.kind === "stopping" || this.stopping;
    child.state = { kind: "down" };
    if (wasStopping) return;
    const reason =
      end.signal === null ? lastWord(logFile, end.logFrom, `exit code ${end.code ?? 0}`) : `signal ${end.signal}`;
    if (end.code !== null && end.code !== 0 && Date.now() - end.sinceMs < STARTUP_MS && !child.held) {
      this.onStartFailed(name, reason);
      if (this.stopping) return;
    }
    const next = this.restart && !child.held ? "restart" : "stays-down";
    if (next === "restart") {
      const timer = setTimeout(() => this.spawn(child), RESTART_AFTER_MS);
      child.state = { kind: "waiting", timer };
    }
    this.onEvent({ kind: "ended", name, pid: end.pid, reason, next });
  }
}

/** The last line a child wrote that says something: the message of a log record, or plain text; not a stack. */
function lastWord(logFile: string, from: number, otherwise: string): string {
  const file = openSync(logFile, "r");
  try {
    const { size } = fstatSync(file);
    const start = Math.max(from, size - LOG_TAIL_BYTES);
    const bytes = Buffer.alloc(Math.max(0, size - start));
    readSync(file, bytes, 0, bytes.length, start);
    const lines = bytes
      .toString("utf8")
      .split("\n")
      .filter((line) => line.trim() !== "" && !/^\s+at |^Node\.js v|^\s*[\^{}]/.test(line));
    const said = lines.map(plain);
    return said.findLast((line) => line.grave)?.text ?? said.at(-1)?.text ?? otherwise;
  } catch {
    return otherwise;
  } finally {
    closeSync(file);
  }
}

function plain(line: string): { readonly text: string; readonly grave: boolean } {
  if (!line.startsWith("{")) return { text: line.trim(), grave: true };
  try {
    const { level, event, error, message } = JSON.parse(line) as Record<string, unknown>;
    const details = [event, error ?? message].filter((part) => typeof part === "string" && part !== "");
    return { text: details.length === 0 ? line : details.join(": "), grave: level === "error" };
  } catch {
    return { text: line, grave: false };
  }
}
