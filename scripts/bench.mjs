// `npm run bench:NAME [-- arguments]`: set up what is missing, then run dist/bench/NAME.js with these arguments.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { runNode } from "./child.mjs";
import { root, setupOrReport } from "./setup.mjs";
import { printBenchmarkUsage, wantsHelp } from "./usage.mjs";

const [name = "", ...args] = process.argv.slice(2);

if (wantsHelp(args)) await printBenchmarkUsage(name);
else if (await setupOrReport()) {
  const target = join(root, "dist", "bench", `${name}.js`);
  if (/^[a-z][a-z-]*$/.test(name) && existsSync(target)) {
    // As `npm start` has it: what is measured is what users run.
    const env = { UV_THREADPOOL_SIZE: process.env.UV_THREADPOOL_SIZE ?? "8" };
    const { code } = await runNode(target, args, { nodeArgs: ["--enable-source-maps"], env });
    process.exitCode = code;
  } else {
    process.stderr.write(`ananta: there is no benchmark "${name}" (bench/${name}.ts).\n`);
    process.exitCode = 1;
  }
}
