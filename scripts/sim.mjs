// `npm run sim [-- arguments]`: set up what is missing, then run the simulator from its sources (test/sim/main.ts).
import { join } from "node:path";
import { runNode } from "./child.mjs";
import { root, setupOrReport } from "./setup.mjs";
import { printUsage, wantsHelp } from "./usage.mjs";

if (wantsHelp(process.argv.slice(2))) printUsage("test", "sim");
else if (await setupOrReport()) {
  const loader = new URL("./run-ts.mjs", import.meta.url).href;
  const { code } = await runNode(join(root, "test", "sim", "main.ts"), process.argv.slice(2), {
    nodeArgs: ["--enable-source-maps", "--import", loader],
  });
  process.exitCode = code;
}
