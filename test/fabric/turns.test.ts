import { describe, expect, it } from "vitest";
import { Turns } from "../../fabric/turns.js";

describe("turns of a requester", () => {
  it("come a period apart, whatever an answer took", () => {
    const turns = new Turns(1_040, 160);
    expect(turns.untilNextMs(1_000)).toBe(40);
    expect(turns.untilNextMs(1_047)).toBe(153);
    expect(turns.untilNextMs(1_199)).toBe(1);
  });

  it("are missed while an answer is waited for, and keep their moment afterwards", () => {
    const turns = new Turns(1_040, 160);
    expect(turns.untilNextMs(1_040 + 5 * 160 + 30)).toBe(130);
  });

  it("are now, always, without a period", () => {
    const turns = new Turns(1_040, 0);
    expect([turns.untilNextMs(1_000), turns.untilNextMs(1_040), turns.untilNextMs(9_999)]).toEqual([40, 0, 0]);
  });
});
