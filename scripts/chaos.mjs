// `npm run chaos [-- arguments]`: set up what is missing, then run the site under faults (test/chaos).
import { join } from "node:path";
import { runNode } from "./child.mjs";
import { root, setupOrReport } from "./setup.mjs";
import { printUsage, wantsHelp } from "./usage.mjs";

if (wantsHelp(process.argv.slice(2))) printUsage("test", "chaos");
else if (await setupOrReport()) {
  const env = { UV_THREADPOOL_SIZE: process.env.UV_THREADPOOL_SIZE ?? "8" };
  const target = join(root, "dist", "test", "chaos", "main.js");
  const { code } = await runNode(target, process.argv.slice(2), { nodeArgs: ["--enable-source-maps"], env });
  process.exitCode = code;
}
