/** Worlds that once broke something, as they were drawn then. Each is named in docs/testing.md. */
import { describe, expect, test } from "vitest";
import { runWorld } from "./run-world.js";
import { drawPlan } from "./world-plan.js";

describe("worlds that broke something once", () => {
  test(
    "a leader that joined after a replica fell behind: the replica waits for its address",
    { timeout: 120_000 },
    async () => {
      expect((await runWorld(drawPlan(113))).violation).toBeNull();
    },
  );
});
