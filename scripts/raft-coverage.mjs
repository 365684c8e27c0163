// `npm run coverage:raft`: branch coverage of the consensus core by the tests that drive it directly; fails below 95 %.
//   --list    also names every branch that was not taken
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join, relative } from "node:path";
import { runNode } from "./child.mjs";
import { root, setupOrReport } from "./setup.mjs";

const BRANCHES_MIN_PERCENT = 95;
const tests = ["scenarios", "paper", "properties", "membership-values", "membership-model", "core-edges"].map(
  (name) => `test/raft/${name}.test.ts`,
);
const folder = join(root, "coverage", "raft-core");
const vitest = join(root, "node_modules", "vitest", "vitest.mjs");

const startOf = (location) => location?.start?.line;

if (await setupOrReport()) {
  rmSync(folder, { recursive: true, force: true });
  const coverage = ["--coverage", "--coverage.include=manager/raft/core/**", "--coverage.reporter=json"];
  const result = await runNode(
    vitest,
    ["run", "--project", "unit", "--reporter=dot", ...coverage, `--coverage.reportsDirectory=${folder}`, ...tests],
    { cwd: root, capture: true },
  );
  const report = join(folder, "coverage-final.json");
  if (result.code !== 0 || !existsSync(report)) {
    process.stderr.write(result.output);
    process.exitCode = 1;
  } else judge(JSON.parse(readFileSync(report, "utf8")));
}

function judge(files) {
  let taken = 0;
  let total = 0;
  for (const [path, { b: counts, branchMap }] of Object.entries(files)) {
    for (const [id, ways] of Object.entries(counts)) {
      ways.forEach((count, way) => {
        total++;
        if (count > 0) taken++;
        else if (process.argv.includes("--list")) {
          const { locations, loc, type } = branchMap[id];
          process.stdout.write(`${relative(root, path)}:${startOf(locations[way]) ?? startOf(loc)} ${type} ${way}\n`);
        }
      });
    }
  }
  const percent = (100 * taken) / total;
  process.stdout.write(`branches of manager/raft/core: ${taken} of ${total} taken, ${percent.toFixed(1)} %\n`);
  if (percent < BRANCHES_MIN_PERCENT) {
    process.stderr.write(`less than ${BRANCHES_MIN_PERCENT} %: name them with npm run coverage:raft -- --list\n`);
    process.exitCode = 1;
  }
}
