// `npm run check`: every check that must be green before a commit.
//   --no-tests    only the static ones
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { runNode } from "./child.mjs";
import { root, setupOrReport } from "./setup.mjs";

const tool = (...path) => join(root, "node_modules", ...path);
const ruledFolders = "core packet dataplane runtime manager agent mux fabric cli bench test".split(" ");

const steps = [
  ["types", tool("typescript", "bin", "tsc"), ["-p", "tsconfig.json"]],
  // no --cache: a type-aware finding can appear in a file that did not change
  ["lint", tool("eslint", "bin", "eslint.js"), ["."]],
  ["format", tool("prettier", "bin", "prettier.cjs"), ["--check", "--log-level=warn", "."]],
  ["generated code", join(root, "scripts", "gen-proto.mjs"), ["--check"]],
  [
    "import rules",
    tool("dependency-cruiser", "bin", "dependency-cruise.mjs"),
    [
      "--config",
      ".dependency-cruiser.cjs",
      "--output-type",
      "err",
      ...ruledFolders.filter((folder) => existsSync(join(root, folder))),
    ],
  ],
  ["coverage of the consensus core", join(root, "scripts", "raft-coverage.mjs"), []],
  ["dead code", tool("knip", "bin", "knip.js"), []],
];

async function runSteps() {
  const failed = [];
  const queue = [...steps];
  const worker = async () => {
    for (let step = queue.shift(); step !== undefined; step = queue.shift()) {
      const [name, script, args] = step;
      const since = performance.now();
      const result = await runNode(script, args, {
        capture: true,
        cwd: root,
        env: { FORCE_COLOR: process.stderr.isTTY ? "1" : "0" },
      });
      if (result.interrupted !== undefined) {
        queue.length = 0;
        process.exitCode = result.code;
      }
      if (result.code !== 0) failed.push(name);
      const seconds = ((performance.now() - since) / 1000).toFixed(1);
      process.stderr.write(`[check] ${name}: ${result.code === 0 ? "ok" : "FAILED"} (${seconds}s)\n`);
      if (result.output.trim() !== "" && (result.code !== 0 || name === "lint"))
        process.stderr.write(`${result.output.trimEnd()}\n`);
    }
  };
  await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, worker));
  return failed;
}

if (await setupOrReport()) {
  const failed = await runSteps();
  if (failed.length > 0) {
    process.stderr.write(`[check] failed: ${failed.join(", ")}\n`);
    process.exitCode ||= 1;
  }
  if (!process.argv.includes("--no-tests") && (process.exitCode ?? 0) < 128) {
    const { code } = await runNode(join(root, "scripts", "test.mjs"), [], { cwd: root });
    process.exitCode ||= code;
  }
}
