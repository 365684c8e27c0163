/** Stack traces of the built programs, which run with --enable-source-maps. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const dist = new URL("../../dist/", import.meta.url);

test("a stack names the built file, and the source once it is to be read by somebody", () => {
  const script = `
    import { mapStacksOnDemand, stackOf } from "${new URL("runtime/stacks.js", dist).href}";
    import { AnantaError } from "${new URL("core/errors.js", dist).href}";
    mapStacksOnDemand();
    const failure = () => AnantaError.from("a defect");
    for (const stack of [failure().stack, stackOf(failure()), failure().stack]) console.log(stack.split("\\n")[1].trim());
  `;
  const args = ["--enable-source-maps", "--input-type=module", "--eval", script];
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
  expect(stderr).toBe("");
  const lines = stdout.trim().split("\n");
  expect(lines[0]).toContain(new URL("core/errors.js", dist).href);
  expect(lines[1]).toContain(fileURLToPath(new URL("../core/errors.ts", dist)));
  expect(lines[2]).toBe(lines[0]);
});
