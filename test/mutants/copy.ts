/**
 * A copy of the sources in a folder of its own, in which one mistake at a time is planted and looked for. The sources
 * themselves never change, and nothing of the product knows of it.
 */
import { execFileSync, spawn } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { planted, type Mutant } from "./mutant.js";

export type Verdict =
  | { readonly killed: false }
  | {
      readonly killed: true;
      readonly by: string;
      /** Worlds that it took; 0 when a test was enough. */
      readonly seeds: number;
      /** The invariant, or the name of the test. */
      readonly saying: string;
    };

interface Ended {
  /** Null: it did not end in time, and was ended. */
  readonly code: number | null;
  readonly output: string;
}

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** A mistake may make a loop that never ends. A world takes a second or two, a test file up to half a minute. */
const TEST_MS = 600_000;
const WORLD_MS = 60_000;
const SAYING_MAX = 140;

export class Copy {
  readonly #folder: string;
  #running: { readonly kill: () => void } | null = null;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  static make(): Promise<Copy> {
    const folder = mkdtempSync(join(tmpdir(), "ananta-mutants-"));
    const files = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
      cwd: ROOT,
      encoding: "utf8",
    });
    for (const file of files.split("\0"))
      if (file !== "" && existsSync(join(ROOT, file))) cpSync(join(ROOT, file), join(folder, file));
    symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
    return Promise.resolve(new Copy(folder));
  }

  remove(): void {
    this.#running?.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async judge(mutant: Mutant, seeds: number): Promise<Verdict> {
    const path = join(this.#folder, mutant.file);
    const source = readFileSync(path, "utf8");
    writeFileSync(path, planted(mutant, source));
    try {
      for (const killer of mutant.killers) {
        const verdict = await this.ask([killer], seeds);
        if (verdict.killed) return verdict;
      }
      return { killed: false };
    } finally {
      writeFileSync(path, source);
    }
  }

  /** All tests among them in one go. */
  async ask(killers: Mutant["killers"], seeds: number): Promise<Verdict> {
    const tests = killers.filter((killer) => killer !== "sim");
    if (killers.includes("sim")) {
      const verdict = await this.#simulate(seeds);
      if (verdict.killed) return verdict;
    }
    return tests.length === 0 ? { killed: false } : this.#test(tests);
  }

  async #simulate(seeds: number): Promise<Verdict> {
    const loader = join(this.#folder, "scripts", "run-ts.mjs");
    const main = join(this.#folder, "test", "sim", "main.ts");
    const flags = ["--seeds", String(seeds), "--jobs", "1", "--stop-at-first"];
    const { code, output } = await this.#run(["--import", loader, main, ...flags], seeds * WORLD_MS);
    if (code === 0) return { killed: false };
    const told = /VIOLATION in world \d+ after \d+ ms: (.*)/.exec(output)?.[1];
    const asked = Number(/"seeds":(\d+)/.exec(output)?.[1] ?? 1);
    if (told !== undefined) return { killed: true, by: "simulator", seeds: asked, saying: cut(told) };
    if (code === null) return { killed: true, by: "simulator", seeds: asked, saying: "a world did not end" };
    const error = /^\s*(?:\w*Error.*)$/m.exec(output)?.[0] ?? `exit code ${code}`;
    return { killed: true, by: "simulator", seeds: asked, saying: cut(`a world ended the process: ${error.trim()}`) };
  }

  async #test(files: readonly string[]): Promise<Verdict> {
    const vitest = join(this.#folder, "node_modules", "vitest", "vitest.mjs");
    const { code, output } = await this.#run(
      [vitest, "run", "--bail", "1", "--testTimeout", "0", "--hookTimeout", "0", ...files], // a busy machine kills nobody
      files.length * TEST_MS,
    );
    if (code === 0) return { killed: false };
    const failed = /FAIL\s+(?:\|?unit\|?\s+)?(\S+\.test\.ts)(?: > (.*))?/.exec(output);
    if (failed === null && code !== null)
      throw new Error(`${files.join(" ")} could not be run:\n${output.slice(-2_000)}`);
    const [, file = files.join(" "), name = code === null ? "did not end" : "could not be loaded"] = failed ?? [];
    return { killed: true, by: file, seeds: 0, saying: cut(name) };
  }

  #run(args: readonly string[], limitMs: number): Promise<Ended> {
    return new Promise((resolve, reject) => {
      const child = spawn(process.execPath, args, {
        cwd: this.#folder,
        detached: true, // its workers end with it
        env: { ...process.env, NO_COLOR: "1", FORCE_COLOR: "0", ANANTA_TEST_SEED: "1" },
        stdio: ["ignore", "pipe", "pipe"],
      });
      let output = "";
      const kill = (): void => {
        try {
          if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
        } catch {
          // it has ended
        }
      };
      const late = AbortSignal.timeout(limitMs);
      late.addEventListener("abort", kill);
      this.#running = { kill };
      for (const stream of [child.stdout, child.stderr])
        stream.setEncoding("utf8").on("data", (text: string) => (output += text));
      child.on("error", reject);
      child.on("close", (code) => {
        late.removeEventListener("abort", kill);
        this.#running = null;
        resolve({ code: late.aborted ? null : (code ?? 1), output });
      });
    });
  }
}

const cut = (text: string): string => (text.length <= SAYING_MAX ? text : `${text.slice(0, SAYING_MAX - 3)}...`);
