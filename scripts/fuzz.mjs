// `npm run fuzz [-- --packets 10000000 --seed N]`: random damage to packets through both data planes, in one process each.
// The seed is printed; the same seed and count give the same packets.
import { join } from "node:path";
import { parseArgs } from "node:util";
import { runNode } from "./child.mjs";
import { root, setupOrReport } from "./setup.mjs";

const USAGE = "npm run fuzz -- [--packets 10000000] [--seed N]";
const { values, problem } = asked();
const packets = Number(values.packets ?? 10_000_000);
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));

if (values.help) process.stdout.write(`${USAGE}\n`);
else if (problem !== null) {
  process.stderr.write(`ananta: ${problem}; it is ${USAGE}\n`);
  process.exitCode = 2;
} else if (!Number.isSafeInteger(packets) || packets < 100 || !Number.isSafeInteger(seed) || seed < 0) {
  process.stderr.write("ananta: --packets is a whole number from 100 on, --seed one from 0 on\n");
  process.exitCode = 2;
} else if (await setupOrReport()) {
  process.stderr.write(`[fuzz] ${packets} packets, seed ${seed}\n`);
  const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
  const env = { ANANTA_FUZZ_PACKETS: String(packets), ANANTA_TEST_SEED: String(seed) };
  const { code } = await runNode(vitest, ["run", "--project", "unit", "test/dataplane/fuzz.test.ts"], {
    cwd: root,
    env,
  });
  process.exitCode = code;
}

function asked() {
  const options = { packets: { type: "string" }, seed: { type: "string" }, help: { type: "boolean", short: "h" } };
  try {
    return { values: parseArgs({ options }).values, problem: null };
  } catch (caught) {
    return { values: {}, problem: caught.message.split(". To specify")[0] };
  }
}
