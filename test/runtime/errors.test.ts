import { expect, test } from "vitest";
import { AnantaError } from "../../core/errors.js";

test("an expected refusal takes down no stack, a defect does, and errors of others are as they were", () => {
  const frames = (error: Error): number =>
    (error.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line)).length;
  expect(frames(new AnantaError("STAGE_OVERLOADED", "its queue is full"))).toBe(0);
  expect(frames(AnantaError.from(new AnantaError("LEADERSHIP_LOST", "gone")))).toBe(0);
  expect(frames(AnantaError.from("a string"))).toBeGreaterThan(0);
  expect(frames(new AnantaError("STORAGE_DAMAGED", "a hole"))).toBeGreaterThan(0);
  expect(frames(new TypeError("no function"))).toBeGreaterThan(0);
});
