import { expect, test } from "vitest";
import { percentile, resultNumber, spreadOf, spreadText } from "../../bench/measure/statistics.js";

test("a percentile is the nearest rank: always a value that was seen", () => {
  const values = [5, 1, 4, 2, 3];
  expect([0, 0.2, 0.21, 0.5, 0.99, 1].map((share) => percentile(values, share))).toEqual([1, 1, 2, 3, 5, 5]);
  expect(percentile([], 0.5)).toBeNaN();
});

test("the spread of runs is their median, smallest and largest", () => {
  expect(spreadOf([30, 10, 20])).toEqual({ median: 20, min: 10, max: 30, runs: 3 });
  expect(spreadOf([40, 10]).median).toBe(25);
  expect(spreadText(spreadOf([1234, 999]))).toBe("1,117 [999..1,234]");
});

test("what was not measured is null in a RESULT", () => {
  expect([resultNumber(null), resultNumber(Number.NaN), resultNumber(1.26, 1)]).toEqual([null, null, 1.3]);
});
