/**
 * The frame of every benchmark: read its options, say on which machine it runs, show progress on stderr, and print
 * `RESULT {json}` as the last line of stdout.
 */
import { mapStacksOnDemand, stackOf } from "../../runtime/stacks.js";
import { machineText } from "./machine.js";
import { tmpdir } from "node:os";

export interface Option {
  readonly meaning: string;
  readonly default: number;
  readonly min: number;
  readonly max: number;
}

export interface Benchmark<Name extends string> {
  /** "raft" of `npm run bench:raft`. */
  readonly name: string;
  /** What it answers, one sentence. */
  readonly question: string;
  /** `--name N`, all of them numbers. */
  readonly options: Readonly<Record<Name, Option>>;
  /** Measures; what it returns is the RESULT. A thrown error is a failed benchmark: exit code 1, no RESULT. */
  run(options: Readonly<Record<Name, number>>): Promise<Readonly<Record<string, number | null>>>;
}

/** A line for people on stdout. */
export const print = (line = ""): void => void process.stdout.write(`${line}\n`);

/** What goes on, on stderr. */
export const progress = (line: string): void =>
  void process.stderr.write(`[${(performance.now() / 1_000).toFixed(1).padStart(6)}s] ${line}\n`);

/** Ends the process. */
export async function runBenchmark<Name extends string>(benchmark: Benchmark<Name>): Promise<never> {
  mapStacksOnDemand();
  const options = parse(benchmark, process.argv.slice(2));
  if (typeof options === "string") {
    process.stderr.write(`ananta: ${options}\n`);
    process.exit(2);
  }
  if (options === null) {
    print(usage(benchmark));
    process.exit(0);
  }
  print(benchmark.question);
  print(machineText(tmpdir()));
  try {
    const result = await benchmark.run(options);
    print(`RESULT ${JSON.stringify(result)}`);
  } catch (caught) {
    process.stderr.write(`ananta: ${caught instanceof Error ? (stackOf(caught) ?? caught.message) : String(caught)}\n`);
    process.exit(1);
  }
  process.exit(0);
}

function usage<Name extends string>({ name, question, options }: Benchmark<Name>): string {
  const rows = (Object.entries(options) as [Name, Option][]).map(
    ([option, { meaning, default: preset }]) => `  --${option} N`.padEnd(24) + `${meaning} (default ${preset})`,
  );
  return [`Usage: npm run bench:${name} -- [options]`, "", question, "", ...rows].join("\n");
}

/** Null: help was asked for. A string: what is wrong. */
function parse<Name extends string>(
  { options }: Benchmark<Name>,
  args: readonly string[],
): Record<Name, number> | string | null {
  const known = options as Readonly<Record<string, Option>>;
  const values: Record<string, number> = {};
  for (const [name, option] of Object.entries(known)) values[name] = option.default;
  for (let at = 0; at < args.length; at++) {
    const [flag = "", inline] = (args[at] ?? "").split(/=(.*)/s);
    if (flag === "--help" || flag === "-h") return null;
    const name = flag.replace(/^--/, "");
    const option = flag.startsWith("--") && Object.hasOwn(known, name) ? known[name] : undefined;
    if (option === undefined) return `unknown option ${flag}; --help lists all`;
    const text = inline ?? args[++at] ?? "";
    const value = Number(text);
    if (!/^[0-9]+$/.test(text) || value < option.min || value > option.max)
      return `${flag} needs a whole number in ${option.min}..${option.max}, not "${text}"`;
    values[name] = value;
  }
  return values;
}
