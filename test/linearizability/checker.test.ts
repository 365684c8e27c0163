/** The search itself, on a register: known histories, and all orders tried one after another on short random ones. */
import { describe, expect, it } from "vitest";
import { checkLinearizable, type Interval, type Model } from "./checker.js";
import { createRandom } from "../../core/random.js";

type Step = { readonly write: number } | { readonly read: number };
const register: Model<number, Step> = {
  initial: 0,
  keyOf: String,
  apply: (state, step) => ("write" in step ? step.write : step.read === state ? state : null),
};
const write = (value: number, callMs: number, returnMs: number | null): Interval<Step> => ({
  callMs,
  returnMs,
  step: { write: value },
});
const read = (value: number, callMs: number, returnMs: number): Interval<Step> => ({
  callMs,
  returnMs,
  step: { read: value },
});

describe("the checker", () => {
  it.each([
    ["nothing happened", [], "linearizable"],
    ["a read sees the write before it", [write(1, 0, 1), read(1, 2, 3)], "linearizable"],
    ["a read that overlaps a write sees either", [write(1, 0, 10), read(0, 1, 2), read(1, 3, 4)], "linearizable"],
    ["a stale read", [write(1, 0, 1), read(0, 2, 3)], "violation"],
    ["a value that goes back", [write(1, 0, 10), read(1, 1, 2), read(0, 3, 4)], "violation"],
    ["two readers that saw two writes in different orders", twoOrders(), "violation"],
    ["a write without an answer took effect late", [write(1, 0, null), read(0, 1, 2), read(1, 3, 4)], "linearizable"],
    ["a write without an answer took effect never", [write(1, 0, null), read(0, 1, 2)], "linearizable"],
    ["a write without an answer does not take effect before its call", [read(1, 0, 1), write(1, 2, null)], "violation"],
    ["moments that are equal overlap", [write(1, 0, 5), read(0, 5, 6)], "linearizable"],
  ] as const)("%s", (_title, operations, verdict) => {
    expect(checkLinearizable(register, operations).kind).toBe(verdict);
  });

  it("says how far the best order came", () => {
    const verdict = checkLinearizable(register, [write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)]);
    expect(verdict).toMatchObject({ kind: "violation", longest: [0, 1] });
  });

  it("gives up when told to, and claims nothing", () => {
    const operations = Array.from({ length: 16 }, (_, at) => write(at + 1, 0, 100));
    expect(checkLinearizable(register, [...operations, read(99, 0, 100)], 1_000).kind).toBe("undecided");
  });

  it("agrees with trying all orders, on 3,000 short random histories", () => {
    const random = createRandom(Number(process.env["ANANTA_TEST_SEED"] ?? 1));
    const counts = { linearizable: 0, violation: 0 };
    for (let round = 0; round < 3_000; round++) {
      const operations = Array.from({ length: 1 + random.below(6) }, (): Interval<Step> => {
        const callMs = random.below(12);
        const returnMs = callMs + 1 + random.below(8);
        if (random.below(2) === 0) return read(random.below(3), callMs, returnMs);
        return write(1 + random.below(2), callMs, random.below(4) === 0 ? null : returnMs);
      });
      const expected = anyOrder(operations, 0, new Set()) ? "linearizable" : "violation";
      counts[expected]++;
      expect(checkLinearizable(register, operations).kind, JSON.stringify(operations)).toBe(expected);
    }
    expect(Math.min(counts.linearizable, counts.violation)).toBeGreaterThan(300);
  });
});

function twoOrders(): readonly Interval<Step>[] {
  return [write(1, 0, 20), write(2, 0, 20), read(1, 21, 22), read(2, 23, 24)];
}

/** Naive: every operation that no unplaced one returned before is tried next. */
function anyOrder(operations: readonly Interval<Step>[], state: number, placed: ReadonlySet<number>): boolean {
  if (operations.every(({ returnMs }, index) => returnMs === null || placed.has(index))) return true;
  return operations.some(({ callMs, returnMs, step }, index) => {
    if (placed.has(index)) return false;
    const tooEarly = operations.some(
      (other, at) => at !== index && !placed.has(at) && other.returnMs !== null && other.returnMs < callMs,
    );
    if (tooEarly) return false;
    const after = register.apply(state, step, returnMs === null);
    return after !== null && anyOrder(operations, after, new Set([...placed, index]));
  });
}
