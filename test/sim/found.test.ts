/**
 * Worlds that once broke something, as they were drawn then: what a seed means changes with the sources, a plan does not.
 * Each is named in docs/testing.md.
 */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { runWorld } from "./run-world.js";
import type { WorldPlan } from "./world-plan.js";

type PlanOnDisk = Omit<WorldPlan, "clockRates"> & { readonly clockRates: readonly (readonly [string, number])[] };

function planOf(name: string): WorldPlan {
  const plan = JSON.parse(readFileSync(new URL(`./${name}.json`, import.meta.url), "utf8")) as PlanOnDisk;
  return { ...plan, clockRates: new Map(plan.clockRates) };
}

describe("worlds that broke something once", () => {
  test(
    "a leader that joined after a replica fell behind: the replica waits for its address",
    { timeout: 120_000 },
    async () => {
      expect((await runWorld(planOf("found-113"))).violation).toBeNull();
    },
  );

  test(
    "a link to the leader whose other end is gone without a word: the next one takes a connection of its own",
    { timeout: 120_000 },
    async () => {
      expect((await runWorld(planOf("found-1387313742"))).violation).toBeNull();
    },
  );
});
