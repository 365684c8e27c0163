// `npm test [-- vitest arguments]`: setup, unit tests, then the end-to-end tests one file at a time.
// The last line printed is `N passed, N failed`; a test file that does not load counts as one failure.
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runNode } from "./child.mjs";
import { root, setupOrReport } from "./setup.mjs";

const reporter = join(root, "scripts", "vitest-reporter.mjs");
const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
const total = { passed: 0, failed: 0, skipped: 0 };
let exitCode = 0;

async function runProject(project, extra, env) {
  const folder = mkdtempSync(join(tmpdir(), "ananta-test-"));
  const summary = join(folder, "summary.json");
  process.stderr.write(`[test] ${project} tests\n`);
  try {
    const args = [
      "run",
      "--project",
      project,
      "--reporter=default",
      `--reporter=${reporter}`,
      "--passWithNoTests",
      ...extra,
    ];
    const result = await runNode(vitest, [...args, ...process.argv.slice(2)], {
      cwd: root,
      env: { ...env, ANANTA_TEST_SUMMARY: summary },
    });
    const counts = existsSync(summary)
      ? JSON.parse(readFileSync(summary, "utf8"))
      : { passed: 0, failed: 0, skipped: 0 };
    // vitest failed without naming a failed test: it crashed, or something failed outside the tests
    if (result.code !== 0 && counts.failed === 0) counts.failed = 1;
    for (const key of Object.keys(total)) total[key] += counts[key];
    if (result.code !== 0) exitCode = result.interrupted === undefined ? 1 : result.code;
    return result.interrupted === undefined;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (await setupOrReport()) {
  const seed = process.env.ANANTA_TEST_SEED ?? String(Math.floor(Math.random() * 2 ** 31));
  const env = { ANANTA_TEST_SEED: seed };
  if (await runProject("unit", [], env)) await runProject("e2e", ["--no-file-parallelism"], env);
} else {
  exitCode = Number(process.exitCode ?? 1);
  total.failed += 1;
}
if (total.failed > 0 || total.passed === 0) exitCode ||= 1;
process.exitCode = exitCode;
const skipped = total.skipped > 0 ? `, ${String(total.skipped)} skipped` : "";
process.stdout.write(`${String(total.passed)} passed, ${String(total.failed)} failed${skipped}\n`);
