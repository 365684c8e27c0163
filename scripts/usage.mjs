// `--help` of what `npm run` starts, without set-up: whoever asks what there is should not wait for a build.
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { runNode } from "./child.mjs";

const root = join(import.meta.dirname, "..");

export const wantsHelp = (args) => args.some((argument) => argument === "--help" || argument === "-h");

/** The text of a `usage.txt`, which the program itself shows too. */
export function printUsage(...path) {
  process.stdout.write(readFileSync(join(root, ...path, "usage.txt"), "utf8"));
}

/** A benchmark tells its options itself, from its sources; before the packages are installed there is less to tell. */
export async function printBenchmarkUsage(name) {
  const source = join(root, "bench", `${name}.ts`);
  if (existsSync(source) && existsSync(join(root, "node_modules", "typescript", "package.json"))) {
    const loader = new URL("./run-ts.mjs", import.meta.url).href;
    const { code } = await runNode(source, ["--help"], { nodeArgs: ["--import", loader] });
    process.exitCode = code;
    return;
  }
  const names = readdirSync(join(root, "bench")).flatMap((file) => (file.endsWith(".ts") ? [file.slice(0, -3)] : []));
  const known = names.includes(name);
  const text = `Usage: npm run bench:${known ? name : "NAME"} -- [options]

Without options it measures what its goals are about. bench/README.md says what each benchmark asks; each tells its options
itself with --help, once a first run, or npm run build, has installed the packages.

Benchmarks: ${names.sort().join(", ")}
`;
  process.stdout.write(text);
}
