/** `--help` of what `npm run` starts: answered without a build, and with every option that there is. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const ROOT = new URL("../../", import.meta.url);
const text = (file: string): string => readFileSync(new URL(file, ROOT), "utf8");
const help = (...words: readonly string[]): string =>
  spawnSync(process.execPath, words, { cwd: fileURLToPath(ROOT), encoding: "utf8" }).stdout;

describe("--help", () => {
  test.each([
    ["start", "fabric"],
    ["sim", "test/sim"],
    ["chaos", "test/chaos"],
  ])("npm run %s shows %s/usage.txt", (script, folder) => {
    expect(help(`scripts/${script}.mjs`, "--help")).toBe(text(`${folder}/usage.txt`));
  });

  test("names every option of the simulator, and of chaos", () => {
    const [, block = ""] = /commandLine\(USAGE, \{\n(.*?)\n\}\);/s.exec(text("test/sim/main.ts")) ?? [];
    const options = [...block.matchAll(/^ {2}"?([a-z-]+)"?: \{/gm)].map(([, name = ""]) => name);
    expect(options.length).toBeGreaterThan(8);
    for (const name of options.filter((option) => option !== "worker"))
      expect(text("test/sim/usage.txt"), name).toContain(`  --${name} `);
    const named = [...text("test/chaos/options.ts").matchAll(/"(--[a-z-]+)"/g)].map(([, name = ""]) => name);
    for (const name of named) expect(text("test/chaos/usage.txt")).toContain(`  ${name} `);
  });

  test("a benchmark tells its own options from its sources", () => {
    const told = help("scripts/bench.mjs", "policy", "--help");
    expect(told).toContain("Usage: npm run bench:policy -- [options]");
    expect(told).toMatch(/--runs N +seeds per policy \(default 5\)/);
  });
});
