/** `npm run sim`: many worlds in worker processes, or one again. */
import { fork, type ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { commandLine } from "../kit/command-line.js";
import { addReport, emptyTotals, printTotals, resultLine, type Totals } from "./report.js";
import { runWorld, type WorldReport } from "./run-world.js";
import { shrink } from "./shrink.js";
import { hashText } from "./trace-hash.js";
import { drawPlan, type WorldPlan } from "./world-plan.js";

const SEEDS_DEFAULT = 200;
/** Worlds given to a worker at a time: the next one is never waited for. */
const AHEAD = 2;
const JOBS_MAX = 64;

/** `npm run sim -- --help` shows it without a build. */
const USAGE = readFileSync(new URL("usage.txt", import.meta.url), "utf8").trimEnd();

const values = commandLine(USAGE, {
  seeds: { type: "string" },
  from: { type: "string" },
  jobs: { type: "string" },
  seed: { type: "string" },
  keep: { type: "string" },
  commit: { type: "string" },
  trace: { type: "boolean", default: false },
  shrink: { type: "boolean", default: false },
  "stop-at-first": { type: "boolean", default: false },
  worker: { type: "boolean", default: false },
});

if (values.worker) serve();
else if (values.seed !== undefined) process.exitCode = await one(count("seed", values.seed, 0, 2 ** 32 - 1));
else process.exitCode = await many();

/** One world, told in full. */
async function one(seed: number): Promise<number> {
  const plan = kept(drawPlan(seed));
  process.stdout.write(`${describePlan(plan)}\n`);
  const report = await runWorld(plan, values.trace ? (line) => process.stdout.write(`${line}\n`) : null);
  process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
  if (report.violation !== null && values.shrink) {
    const shortest = await shrink(plan, report.violation.invariant, (text) => process.stderr.write(`[sim] ${text}\n`));
    process.stdout.write(
      `${describePlan(shortest)}\nreplay: npm run sim -- --seed ${seed} --keep ${keepOf(seed, shortest)} --trace\n`,
    );
  }
  return report.violation === null ? 0 : 1;
}

async function many(): Promise<number> {
  const seeds = count("seeds", values.seeds ?? String(SEEDS_DEFAULT), 1, 10_000_000);
  const jobs = count("jobs", values.jobs ?? String(Math.min(2, availableParallelism())), 1, JOBS_MAX);
  const from =
    values.commit === undefined ? count("from", values.from ?? "1", 0, 2 ** 31) : hashText(values.commit) >>> 1;
  process.stderr.write(`[sim] worlds ${from}..${from + seeds - 1}, ${jobs} at a time\n`);
  const totals = emptyTotals();
  const beganMs = performance.now();
  await share({ from, seeds, jobs }, (report) => {
    addReport(totals, report);
    tell(totals, report, seeds, beganMs);
    return !(values["stop-at-first"] && report.violation !== null);
  });
  const wallMs = performance.now() - beganMs;
  printTotals(totals, wallMs, (text) => process.stdout.write(`${text}\n`));
  process.stdout.write(`${resultLine(totals)}\n`);
  return totals.violations.length === 0 ? 0 : 1;
}

function tell(totals: Totals, report: WorldReport, seeds: number, beganMs: number): void {
  if (report.violation !== null)
    process.stdout.write(
      `VIOLATION in world ${report.seed} after ${Math.round(report.violation.atMs)} ms: ${report.violation.message}\n  replay: npm run sim -- --seed ${report.seed} --trace\n`,
    );
  if (totals.seeds % 25 === 0 || totals.seeds === seeds)
    process.stderr.write(
      `[sim] ${totals.seeds} of ${seeds} worlds, ${((performance.now() - beganMs) / 1_000).toFixed(0)} s, ${totals.violations.length} violations\n`,
    );
}

/** Hands worlds to worker processes, a few at a time; `took` says whether to go on. */
function share(
  { from, seeds, jobs }: { readonly from: number; readonly seeds: number; readonly jobs: number },
  took: (report: WorldReport) => boolean,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const workers = new Set<ChildProcess>();
    let next = from;
    let open = 0;
    let over = false;
    const end = (): void => {
      over = true;
      for (const worker of workers) worker.disconnect();
      resolve();
    };
    const give = (worker: ChildProcess): void => {
      if (over || next >= from + seeds) return;
      open++;
      worker.send({ seed: next++ });
    };
    for (let n = 0; n < jobs; n++) {
      const worker = fork(fileURLToPath(import.meta.url), ["--worker"], {
        stdio: "inherit",
        execArgv: [...process.execArgv, "--max-semi-space-size=64"], // short-lived garbage of many worlds: a tenth less time
      });
      workers.add(worker);
      worker.on("message", (report) => {
        open--;
        if (over) return;
        if (!took(report as WorldReport)) end();
        else {
          give(worker);
          if (open === 0) end();
        }
      });
      worker.on("exit", (code) => {
        if (!over) {
          over = true;
          reject(new Error(`a worker ended with code ${String(code)} in the middle of its worlds`));
        }
      });
      for (let ahead = 0; ahead < AHEAD; ahead++) give(worker);
    }
  });
}

/** In a worker: worlds come in as messages, one after another, and their reports go out. */
function serve(): void {
  let last: Promise<void> = Promise.resolve();
  process.on("message", ({ seed }: { readonly seed: number }) => {
    last = last.then(async () => {
      const report = await runWorld(drawPlan(seed));
      process.send?.(report);
    });
  });
  process.on("disconnect", () => process.exit(0));
}

function kept(plan: WorldPlan): WorldPlan {
  if (values.keep === undefined) return plan;
  const wanted = new Set(
    values.keep
      .split(",")
      .filter((text) => text !== "")
      .map(Number),
  );
  return { ...plan, faults: plan.faults.filter((_, at) => wanted.has(at)) };
}

function keepOf(seed: number, shortest: WorldPlan): string {
  const all = drawPlan(seed).faults.map((fault) => JSON.stringify(fault));
  return shortest.faults.map((fault) => all.indexOf(JSON.stringify(fault))).join(",");
}

function describePlan({ seed, budget, managers, muxes, hosts, raft, clients, faults }: WorldPlan): string {
  const script = faults.map(
    ({ atMs, kind, forMs, strength }) =>
      `  ${String(atMs).padStart(6)} ms  ${kind} (up to ${forMs} ms, strength ${strength.toFixed(2)})`,
  );
  return [
    `world ${seed}: ${managers} Managers, ${muxes} MUXes, ${hosts} hosts, ${budget} the fault budget`,
    `  raft ${JSON.stringify(raft)}`,
    `  clients ${JSON.stringify(clients)}`,
    ...script,
  ].join("\n");
}

function count(name: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  process.stderr.write(`sim: --${name} is a whole number from ${least} to ${most}, not "${text}"\n`);
  process.exit(2);
}
