// `npm run check-history -- FILE [--html PAGE]`: is a recorded history linearizable? docs/testing.md, "Histories", describes
// the file. Exit codes: 0 it is, 1 it is not (the page shows where), 2 wrong arguments or a file that cannot be read.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { root, setupOrReport } from "./setup.mjs";

const usage = "Usage: npm run check-history -- FILE [--html PAGE]";

function parse(args) {
  let file;
  let page;
  for (let at = 0; at < args.length; at++) {
    const [name, inline] = args[at].split(/=(.*)/s);
    if (name === "--help" || name === "-h") return { help: true };
    if (name === "--html") {
      page = inline ?? args[++at];
      if (!page) return { problem: "--html needs a file, for example --html history.html" };
    } else if (name.startsWith("--")) return { problem: `unknown option ${name}; --help lists all` };
    else if (file !== undefined) return { problem: `one file at a time: ${file} or ${args[at]}` };
    else file = args[at];
  }
  return file === undefined ? { problem: `no file is named. ${usage}` } : { file, page: page ?? `${file}.html` };
}

async function run({ file, page }) {
  const load = (name) => import(pathToFileURL(join(root, "dist", "test", "linearizability", `${name}.js`)).href);
  const [{ decodeHistory }, { judge }, { drawJudgement }] = await Promise.all(
    ["history-lines", "judge", "drawing"].map(load),
  );
  let history;
  try {
    history = decodeHistory(readFileSync(file, "utf8"));
  } catch (error) {
    process.stderr.write(`ananta: ${file}: ${error.message}\n`);
    return 2;
  }
  const startedMs = performance.now();
  const judgement = judge(history);
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  const { operations, unknown, partitions, failures, linearizable } = judgement;
  process.stdout.write(
    `${operations} operations (${unknown} of unknown outcome) on ${partitions} ranges and objects, judged in ${seconds} s\n`,
  );
  for (const { partition, kind } of failures.slice(0, 20)) {
    process.stdout.write(`  ${partition}: ${kind === "violation" ? "not linearizable" : "not decided"}\n`);
  }
  if (failures.length > 20) process.stdout.write(`  and ${failures.length - 20} more\n`);
  if (linearizable) process.stdout.write("linearizable\n");
  else {
    writeFileSync(page, drawJudgement(history, judgement));
    process.stdout.write(`not linearizable; drawn in ${page}\n`);
  }
  return linearizable ? 0 : 1;
}

const asked = parse(process.argv.slice(2));
if (asked.help) process.stdout.write(`${usage}\n`);
else if (asked.problem) {
  process.stderr.write(`ananta: ${asked.problem}\n`);
  process.exitCode = 2;
} else if (await setupOrReport()) process.exitCode = await run(asked);
