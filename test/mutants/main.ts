/**
 * `npm run mutants`: mistakes are planted in a copy of the sources, one at a time, and each must be found: by the simulator
 * within some seeds, or by a test. A mistake that nobody finds is a hole in the tests, and fails the run.
 */
import { availableParallelism } from "node:os";
import { commandLine } from "../kit/command-line.js";
import { Copy, type Verdict } from "./copy.js";
import type { Mutant } from "./mutant.js";
import { RAFT_MUTANTS } from "./raft-mutants.js";
import { SYSTEM_MUTANTS } from "./system-mutants.js";

const SEEDS_DEFAULT = 40;

const USAGE = `npm run mutants -- OPTIONS
  (none)          all of them, two at a time
  --jobs 1        so many at a time
  --only NAME     those whose name contains NAME
  --list          what there is, and what each breaks
  --seeds 60      worlds that the simulator may take for one
  --sim-only      asks the simulator alone, to see what it finds by itself`;

const values = commandLine(USAGE, {
  only: { type: "string" },
  list: { type: "boolean", default: false },
  seeds: { type: "string" },
  jobs: { type: "string" },
  "sim-only": { type: "boolean", default: false },
});

const wanted = [...RAFT_MUTANTS, ...SYSTEM_MUTANTS].filter(({ name }) => name.includes(values.only ?? ""));
const seeds = count("seeds", values.seeds ?? String(SEEDS_DEFAULT), 1, 100_000);
const jobs = count("jobs", values.jobs ?? String(Math.min(2, availableParallelism())), 1, 64);

if (wanted.length === 0) {
  process.stderr.write(`mutants: none has "${values.only ?? ""}" in its name; see --list\n`);
  process.exitCode = 2;
} else if (values.list) {
  for (const { name, file, breaks } of wanted) process.stdout.write(`${name.padEnd(48)} ${file}\n    ${breaks}\n`);
} else process.exitCode = await plantAll();

async function plantAll(): Promise<number> {
  const queue = [...wanted];
  const found = new Map<Mutant, Verdict>();
  const beganMs = performance.now();
  const copies = await Promise.all(Array.from({ length: Math.min(jobs, wanted.length) }, () => Copy.make()));
  const stop = (): never => {
    for (const copy of copies) copy.remove();
    process.exit(130);
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  try {
    await soundWithout(copies[0]!); // at least one mutant is wanted
    await Promise.all(
      copies.map(async (copy) => {
        for (let mutant = queue.shift(); mutant !== undefined; mutant = queue.shift()) {
          const killers = values["sim-only"] ? (["sim"] as const) : mutant.killers;
          const verdict = await copy.judge({ ...mutant, killers }, seeds);
          found.set(mutant, verdict);
          const seconds = ((performance.now() - beganMs) / 1_000).toFixed(0);
          process.stderr.write(`[mutants] ${found.size} of ${wanted.length}, ${seconds} s: ${told(mutant, verdict)}\n`);
        }
      }),
    );
  } finally {
    for (const copy of copies) copy.remove();
  }
  const killed = wanted.filter((mutant) => found.get(mutant)?.killed === true).length;
  for (const mutant of wanted) process.stdout.write(`${told(mutant, found.get(mutant))}\n`);
  process.stdout.write(`RESULT ${JSON.stringify({ planted: wanted.length, killed })}\n`);
  return killed === wanted.length ? 0 : 1;
}

/** Without a mistake nobody complains: else every mutant would seem to be found. */
async function soundWithout(copy: Copy): Promise<void> {
  const asked = values["sim-only"] ? ["sim" as const] : [...new Set(wanted.flatMap(({ killers }) => killers))];
  process.stderr.write(`[mutants] ${wanted.length} to plant; first everybody is asked without any\n`);
  const verdict = await copy.ask(asked, Math.min(seeds, 4));
  if (verdict.killed) throw new Error(`without any mistake planted, ${verdict.by} complains: ${verdict.saying}`);
}

function told({ name }: Mutant, verdict: Verdict | undefined): string {
  if (verdict === undefined) return `${name.padEnd(48)} not planted`;
  if (!verdict.killed) return `${name.padEnd(48)} SURVIVES`;
  return `${name.padEnd(48)} ${verdict.by}${verdict.seeds > 0 ? `, ${verdict.seeds} seeds` : ""}: ${verdict.saying}`;
}

function count(name: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  process.stderr.write(`mutants: --${name} is a whole number from ${least} to ${most}, not "${text}"\n`);
  process.exit(2);
}
