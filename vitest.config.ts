import { defineConfig } from "vitest/config";

// Tests that use chance take their seed from here, so that a failing run can be repeated.
const seed = process.env["ANANTA_TEST_SEED"] ?? String(Math.floor(Math.random() * 2 ** 31));
if (process.env["ANANTA_TEST_SEED_SHOWN"] !== seed) {
  process.env["ANANTA_TEST_SEED_SHOWN"] = seed; // each project evaluates this file again
  process.env["ANANTA_TEST_SEED"] = seed;
  process.stderr.write(`seed ${seed} (repeat this run with ANANTA_TEST_SEED=${seed})\n`);
}

export default defineConfig({
  test: {
    pool: "forks", // classic-level is a native addon: worker threads would share it
    maxWorkers: 2,
    env: { ANANTA_TEST_SEED: seed },
    restoreMocks: true,
    coverage: {
      provider: "v8",
      include: ["core", "packet", "dataplane", "runtime", "manager", "agent", "mux", "fabric", "cli"].map(
        (f) => `${f}/**/*.ts`,
      ),
    },
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: ["test/e2e/**", "node_modules/**"],
          testTimeout: 120_000, // a guard against loops only: virtual time must not depend on how busy the machine is
          hookTimeout: 120_000,
        },
      },
      {
        extends: true,
        test: {
          name: "e2e",
          include: ["test/e2e/**/*.test.ts"],
          testTimeout: 120_000, // real processes on loopback, on a machine that may have two slow cores
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
