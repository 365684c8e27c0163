import { describe, expect, test } from "vitest";
import { BatchPace } from "../../../manager/seda/batch-pace.js";

/** Full batches, each of which takes so many ms and so much more per event; the time of the last one. */
function run(pace: BatchPace, batches: number, fixedMs: number, perEventMs: number): number {
  let tookMs = 0;
  for (let batch = 0; batch < batches; batch++) {
    tookMs = fixedMs + pace.limit * perEventMs;
    pace.took(pace.limit, tookMs);
  }
  return tookMs;
}

describe("the size of a batch", () => {
  test("stays at its maximum where batches are through in time", () => {
    const pace = new BatchPace(1_024);
    run(pace, 100, 2, 0.02);
    expect(pace.limit).toBe(1_024);
  });

  test("shrinks within a few batches where they take long, and settles about 25 ms", () => {
    const pace = new BatchPace(1_024);
    expect(run(pace, 5, 3, 0.1)).toBeLessThan(50);
    for (let batch = 0; batch < 100; batch++) expect(run(pace, 1, 3, 0.1)).toBeLessThan(30);
    expect(pace.limit).toBeGreaterThan(150);
  });

  test("never falls below what keeps the log busy, and grows again when the machine is free", () => {
    const pace = new BatchPace(1_024);
    run(pace, 100, 200, 1);
    expect(pace.limit).toBe(128);
    run(pace, 30, 2, 0.01);
    expect(pace.limit).toBe(1_024);
  });

  test("is not cut for a batch that was small: that was the disk", () => {
    const pace = new BatchPace(1_024);
    for (let batch = 0; batch < 20; batch++) pace.took(100, 500);
    expect(pace.limit).toBe(1_024);
  });
});
