// `npm run mutants [-- arguments]`: set up what is missing, then plant mistakes and see who finds them (test/mutants).
import { join } from "node:path";
import { runNode } from "./child.mjs";
import { root, setupOrReport } from "./setup.mjs";

if (await setupOrReport()) {
  const loader = new URL("./run-ts.mjs", import.meta.url).href;
  const { code } = await runNode(join(root, "test", "mutants", "main.ts"), process.argv.slice(2), {
    nodeArgs: ["--import", loader],
  });
  process.exitCode = code;
}
