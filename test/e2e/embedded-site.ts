/** The system of `npm start` as real processes on loopback, and the command line as a user types it. */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const ROOT = resolve(import.meta.dirname, "../..");

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ReplicaRow {
  readonly name: string;
  readonly role: string;
  readonly pid: number;
  readonly appliedIndex: number;
}

export interface Status {
  readonly health: string;
  readonly leader: number | null;
  readonly appliedIndex: number;
  readonly replicas: readonly ReplicaRow[];
}

export class Site {
  readonly portBase: number;
  readonly dataFolder: string;
  readonly #process: ChildProcess;
  #output = "";
  #exitCode: number | null = null;

  constructor(portBase: number, options: { readonly dataFolder?: string; readonly args?: readonly string[] } = {}) {
    this.portBase = portBase;
    this.dataFolder = options.dataFolder ?? mkdtempSync(join(tmpdir(), "ananta-e2e-"));
    const args = ["--port-base", String(portBase), "--data", this.dataFolder, ...(options.args ?? [])];
    this.#process = spawn(process.execPath, [join(ROOT, "dist/fabric/main.js"), ...args], {
      cwd: ROOT,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, UV_THREADPOOL_SIZE: "8" },
    });
    const collect = (chunk: Buffer): void => {
      this.#output += chunk.toString("utf8");
    };
    this.#process.stdout?.on("data", collect);
    this.#process.stderr?.on("data", collect);
    this.#process.once("exit", (code) => (this.#exitCode = code ?? -1));
  }

  get output(): string {
    return this.#output;
  }

  get endpoints(): string {
    return [1, 2, 3, 4, 5].map((id) => `127.0.0.1:${this.portBase + id}`).join(",");
  }

  endpoint(id: number): string {
    return `127.0.0.1:${this.portBase + id}`;
  }

  /** `ananta ARGS`, with the endpoints in the environment as a user would have them. */
  ananta(...args: readonly string[]): CommandResult {
    return this.anantaAt(this.endpoints, ...args);
  }

  anantaAt(endpoints: string, ...args: readonly string[]): CommandResult {
    const run = spawnSync(process.execPath, [join(ROOT, "dist/cli/main.js"), ...args], {
      cwd: ROOT,
      encoding: "utf8",
      env: { ...process.env, ANANTA_ENDPOINTS: endpoints, NO_COLOR: "1" },
      timeout: 60_000,
    });
    return { code: run.status ?? -1, stdout: run.stdout, stderr: run.stderr };
  }

  status(): Status {
    return JSON.parse(this.ananta("status", "-o", "json").stdout) as Status;
  }

  /** Waits until `look` gives something, looking five times a second. */
  async until<T>(what: string, look: () => T | null | undefined | false, timeoutMs = 60_000): Promise<T> {
    const untilMs = Date.now() + timeoutMs;
    for (;;) {
      let found: T | null | undefined | false = null;
      try {
        found = look();
      } catch {
        found = null; // not yet: the processes are starting, or one was just killed
      }
      if (found !== null && found !== undefined && found !== false) return found;
      if (this.#exitCode !== null)
        throw new Error(`the site ended with ${this.#exitCode} while waiting for ${what}:\n${this.#output}`);
      if (Date.now() > untilMs)
        throw new Error(`${what} did not come within ${timeoutMs} ms; the site said:\n${this.#output}`);
      await sleep(200);
    }
  }

  async untilHealthy(): Promise<Status> {
    return this.until("a healthy site", () => {
      const status = this.status();
      return status.health === "healthy" && this.ananta("get", "vips", "demo", "-o", "name").code === 0 && status;
    });
  }

  /** Ends it as Ctrl-C does. Its exit code. */
  async stop(): Promise<number> {
    if (this.#exitCode === null) this.#process.kill("SIGINT");
    const untilMs = Date.now() + 20_000;
    while (this.#exitCode === null && Date.now() < untilMs) await sleep(50);
    if (this.#exitCode === null) this.#process.kill("SIGKILL");
    return this.#exitCode ?? -1;
  }

  async stopped(): Promise<number> {
    while (this.#exitCode === null) await sleep(50);
    return this.#exitCode;
  }

  removeData(): void {
    rmSync(this.dataFolder, { recursive: true, force: true });
  }
}
