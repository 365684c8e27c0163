import { describe, expect, test } from "vitest";
import { createRandom } from "../../core/random.js";
import { testSeed } from "../kit/virtual-world.js";
import { FAULT_KINDS, drawScript } from "./fault-script.js";
import { runWorld } from "./run-world.js";
import { shrink } from "./shrink.js";
import { drawPlan, type WorldPlan } from "./world-plan.js";

describe("one seed, one world", () => {
  test("the same seed twice tells the same story, line for line", { timeout: 120_000 }, async () => {
    const seed = testSeed("determinism");
    const lines: string[][] = [[], []];
    const first = await runWorld(drawPlan(seed), (line) => lines[0]?.push(line));
    const second = await runWorld(drawPlan(seed), (line) => lines[1]?.push(line));
    expect(lines[1]).toEqual(lines[0]);
    expect(second).toEqual(first);
    expect(first.violation).toBeNull();
    expect(lines[0]?.length).toBeGreaterThan(50);
  });

  test("another seed tells another one", { timeout: 120_000 }, async () => {
    const [a, b] = [testSeed("this"), testSeed("that")];
    const plan = (seed: number): WorldPlan => ({ ...drawPlan(seed), faultMs: 300, faults: [] });
    expect((await runWorld(plan(a))).traceHash).not.toBe((await runWorld(plan(b))).traceHash);
  });

  test("over a few hundred worlds every kind of fault is drawn", () => {
    const drawn = new Set<string>(["clock drift"]); // of the plan, not of the script
    for (let seed = 0; seed < 300; seed++)
      for (const { kind } of drawScript(createRandom(seed), { faultMs: 6_000, budget: "within" })) drawn.add(kind);
    expect([...FAULT_KINDS].filter((kind) => !drawn.has(kind))).toEqual([]);
  });
});

describe("the shrinker", () => {
  test("leaves the faults that matter, and no others", async () => {
    const plan = { ...drawPlan(3), faults: drawScript(createRandom(3), { faultMs: 20_000, budget: "within" }) };
    expect(plan.faults.length).toBeGreaterThan(12);
    const guilty = [plan.faults[2], plan.faults[9]];
    let worlds = 0;
    const run: typeof runWorld = async (tried) => {
      worlds++;
      const breaks = guilty.every((fault) => fault !== undefined && tried.faults.includes(fault));
      return { violation: breaks ? { invariant: "x", message: "", atMs: 0 } : null } as Awaited<
        ReturnType<typeof runWorld>
      >;
    };
    const shortest = await shrink(plan, "x", () => {}, run);
    expect(shortest.faults).toEqual(guilty);
    expect(worlds).toBeLessThan(120);
  });
});
