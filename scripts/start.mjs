// `npm start [-- arguments]`: set up what is missing, then run the embedded cluster with these arguments.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { runNode } from "./child.mjs";
import { root, setupOrReport } from "./setup.mjs";
import { printUsage, wantsHelp } from "./usage.mjs";

if (wantsHelp(process.argv.slice(2))) printUsage("fabric");
else if (await setupOrReport()) {
  const target = join(root, "dist", "fabric", "main.js");
  if (existsSync(target)) {
    // libuv's default of 4 threads is shared by fsync, file reads and DNS; the database keeps some of them busy.
    const env = { UV_THREADPOOL_SIZE: process.env.UV_THREADPOOL_SIZE ?? "8" };
    const { code } = await runNode(target, process.argv.slice(2), { nodeArgs: ["--enable-source-maps"], env });
    process.exitCode = code;
  } else {
    process.stderr.write("ananta: dist/fabric/main.js is missing after the build.\n");
    process.exitCode = 1;
  }
}
