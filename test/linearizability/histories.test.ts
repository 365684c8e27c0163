/** Histories of ranges and objects: good ones pass, planted mistakes are found, and both survive being written to a file. */
import { describe, expect, it } from "vitest";
import { createRandom, type Random } from "../../core/random.js";
import { drawJudgement } from "./drawing.js";
import type { Action, History, Operation, Outcome, RangeOwner } from "./history.js";
import { decodeHistory, encodeHistory } from "./history-lines.js";
import { judge } from "./judge.js";
import { resolveUnknown } from "./resolve.js";

const SEED = Number(process.env["ANANTA_TEST_SEED"] ?? 1);
const QUARANTINE_MS = 120_000;
const R = "203.0.113.10/tcp/128";
const S = "203.0.113.10/tcp/129";
const POOL = "BackendPool/default/web";

function history(operations: readonly Operation[]): History {
  return { source: "test", seed: String(SEED), quarantineMs: QUARANTINE_MS, operations };
}

let lastId = 0;
function operation(
  client: string,
  callMs: number,
  returnMs: number | null,
  action: Action,
  outcome: Outcome,
): Operation {
  return { id: ++lastId, client, origin: { session: client, sequence: lastId }, callMs, returnMs, action, outcome };
}
const granted = (dip: string, callMs: number, returnMs: number, ...ranges: string[]): Operation =>
  operation(dip, callMs, returnMs, { kind: "snat-allocate", dip }, { kind: "granted", ranges });
const lost = (dip: string, callMs: number, ...ranges: string[]): Operation =>
  operation(
    dip,
    callMs,
    null,
    { kind: "snat-allocate", dip },
    ranges.length === 0 ? { kind: "unknown" } : { kind: "unknown", ranges },
  );
const released = (dip: string, callMs: number, returnMs: number | null, ...ranges: string[]): Operation =>
  operation(
    dip,
    callMs,
    returnMs,
    { kind: "snat-release", dip, ranges },
    returnMs === null ? { kind: "unknown" } : { kind: "released" },
  );
const listed = (callMs: number, returnMs: number, ...owners: readonly [string, RangeOwner][]): Operation =>
  operation(
    "reader",
    callMs,
    returnMs,
    { kind: "snat-list", vips: ["203.0.113.10"] },
    { kind: "listed", owners: new Map(owners) },
  );
const owned = (dip: string): RangeOwner => ({ dip, state: "owned" });
const resting = (dip: string): RangeOwner => ({ dip, state: "quarantined" });
const applied = (
  callMs: number,
  returnMs: number | null,
  value: string,
  change: "created" | "configured" | "unchanged",
  generation: number,
  expected = 0,
): Operation =>
  operation(
    "operator",
    callMs,
    returnMs,
    { kind: "object-apply", object: POOL, value, generation: expected },
    returnMs === null ? { kind: "unknown" } : { kind: "changed", change, generation },
  );
const refused = (callMs: number, returnMs: number, value: string, expected: number): Operation =>
  operation(
    "operator",
    callMs,
    returnMs,
    { kind: "object-apply", object: POOL, value, generation: expected },
    { kind: "refused", code: "GENERATION_CONFLICT" },
  );
const got = (callMs: number, returnMs: number, found: { value: string; generation: number } | null): Operation =>
  operation("reader", callMs, returnMs, { kind: "object-get", object: POOL }, { kind: "read", found });
const deleted = (callMs: number, returnMs: number): Operation =>
  operation(
    "operator",
    callMs,
    returnMs,
    { kind: "object-delete", object: POOL, generation: 0 },
    { kind: "changed", change: "deleted", generation: 1 },
  );

describe("good histories are linearizable", () => {
  it.each<[string, readonly Operation[]]>([
    ["a grant is listed", [listed(0, 1), granted("a", 2, 3, R, S), listed(4, 5, [R, owned("a")], [S, owned("a")])]],
    ["a listing during a grant shows either", [granted("a", 0, 9, R), listed(1, 2), listed(3, 4, [R, owned("a")])]],
    [
      "a released range rests, then is another's",
      [granted("a", 0, 1, R), released("a", 2, 3, R), listed(4, 5, [R, resting("a")]), granted("b", 4, 120_002, R)],
    ],
    [
      "a released range may return to its last owner at once",
      [granted("a", 0, 1, R), released("a", 2, 3, R), granted("a", 4, 5, R)],
    ],
    [
      "an allocation without an answer owns what is listed later",
      [lost("a", 0), listed(1, 2), listed(3, 4, [R, owned("a")])],
    ],
    ["an allocation without an answer owns nothing", [lost("a", 0), listed(1, 2), granted("b", 3, 4, R)]],
    [
      "a release without an answer came through",
      [
        granted("a", 0, 1, R),
        released("a", 2, null, R),
        listed(3, 4, [R, owned("a")]),
        listed(5, 6, [R, resting("a")]),
      ],
    ],
    [
      "ranges of agents that nobody recorded are left alone",
      [granted("a", 0, 1, R), listed(2, 3, [R, owned("a")], [S, owned("agent")])],
    ],
    [
      "an object is created, changed, left alone and read",
      [
        got(0, 1, null),
        applied(2, 3, "x", "created", 1),
        applied(4, 5, "y", "configured", 2, 1),
        applied(6, 7, "y", "unchanged", 2),
        got(8, 9, { value: "y", generation: 2 }),
      ],
    ],
    [
      "a write that names an old generation is refused",
      [applied(0, 1, "x", "created", 1), applied(2, 3, "y", "configured", 2), refused(4, 5, "z", 1)],
    ],
    [
      "an object is deleted and made again",
      [applied(0, 1, "x", "created", 1), deleted(2, 3), got(4, 5, null), applied(6, 7, "x", "created", 1)],
    ],
    [
      "a write without an answer is seen by the next",
      [applied(0, 1, "x", "created", 1), applied(2, null, "y", "configured", 0), applied(4, 5, "z", "configured", 3)],
    ],
  ])("%s", (_title, operations) => {
    expect(judge(history(operations)).failures).toEqual([]);
  });
});

const bad: readonly [string, readonly Operation[], string][] = [
  ["two owners at once", [granted("a", 0, 1, R), granted("b", 2, 3, R)], R],
  ["two owners at once, asked for at the same time", [granted("a", 0, 9, R), granted("b", 1, 8, R)], R],
  ["a grant that is gone", [granted("a", 0, 1, R), listed(2, 3)], R],
  ["a grant that is another's", [granted("a", 0, 1, R), listed(2, 3, [R, owned("b")])], R],
  ["a stale listing", [granted("a", 0, 1, R), listed(2, 3, [R, owned("a")]), listed(4, 5)], R],
  ["a range that did not rest", [granted("a", 0, 1, R), released("a", 2, 3, R), granted("b", 100_000, 120_001, R)], R],
  [
    "a range that is listed free before it has rested",
    [granted("a", 0, 1, R), released("a", 2, 3, R), listed(100, 101)],
    R,
  ],
  ["a release that did nothing", [granted("a", 0, 1, R), released("a", 2, 3, R), listed(4, 5, [R, owned("a")])], R],
  ["released twice", [granted("a", 0, 1, R), released("a", 2, 3, R), released("a", 4, 5, R)], R],
  ["a request that was executed twice, seen before its call", [listed(0, 1, [R, owned("a")]), lost("a", 2)], R],
  ["only one of two ranges is lost", [granted("a", 0, 1, R, S), listed(2, 3, [R, owned("a")])], S],
  [
    "a lost update",
    [applied(0, 1, "x", "created", 1), applied(2, 3, "y", "configured", 2), got(4, 5, { value: "x", generation: 1 })],
    POOL,
  ],
  ["a generation that is counted twice", [applied(0, 1, "x", "created", 1), applied(2, 3, "y", "configured", 3)], POOL],
  [
    "two writers that both replaced generation 1",
    [applied(0, 1, "x", "created", 1), applied(2, 9, "y", "configured", 2, 1), applied(3, 8, "z", "configured", 2, 1)],
    POOL,
  ],
  ["a conflict that was none", [applied(0, 1, "x", "created", 1), refused(2, 3, "y", 1)], POOL],
  [
    "a deleted object that comes back",
    [applied(0, 1, "x", "created", 1), deleted(2, 3), got(4, 5, { value: "x", generation: 1 })],
    POOL,
  ],
];

describe("planted mistakes are found", () => {
  it.each(bad)("%s", (_title, operations, partition) => {
    const judgement = judge(history(operations));
    expect(judgement.linearizable).toBe(false);
    expect(judgement.failures.map((failure) => failure.partition)).toEqual([partition]);
  });

  it.each(bad)("and drawn: %s", (title, operations, partition) => {
    const page = drawJudgement(history(operations), judge(history(operations)));
    expect(page).toContain(`<h2>${partition}: no order explains these answers</h2>`);
    expect(page).toContain("cannot follow");
    expect(page, title).not.toMatch(/(?:src|href)=/);
  });
});

describe("lost answers", () => {
  // An allocation without an answer may excuse any range of its DIP, but only until its ranges are known.
  it("are resolved by session and sequence, and excuse only their own ranges", () => {
    const request = lost("a", 0);
    const before = history([request, listed(1, 2, [R, owned("a")])]);
    expect(judge(before).linearizable).toBe(true);
    const answer = (ranges: readonly string[] | null) => (session: string, sequence: number) =>
      session === request.origin?.session && sequence === request.origin.sequence ? ranges : undefined;
    expect(judge(resolveUnknown(before, answer([R]))).linearizable).toBe(true);
    expect(judge(resolveUnknown(before, answer([S]))).failures.map(({ partition }) => partition)).toEqual([R]);
    expect(judge(resolveUnknown(before, answer(null))).failures.map(({ partition }) => partition)).toEqual([R]);
    expect(judge(resolveUnknown(before, () => undefined)).linearizable).toBe(true);
  });
});

describe("JSON lines", () => {
  it.each(bad)("carry everything that a judgement needs: %s", (_title, operations) => {
    const original = history(operations);
    expect(decodeHistory(encodeHistory(original))).toEqual(original);
  });

  const head = `{"format":"ananta-history","version":1,"source":"x","seed":"1","quarantineMs":120000}`;
  const line = (fields: object): string =>
    JSON.stringify({
      op: 1,
      client: "a",
      call: 1,
      return: 2,
      do: "snat-allocate",
      dip: "a",
      outcome: { kind: "granted", ranges: [] },
      ...fields,
    });
  it.each([
    ["another format", `{"format":"x"}`, /^line 1: expected .*ananta-history/],
    ["no JSON", `${head}\nhello`, /^line 2: expected a JSON object, found "hello"/],
    ["an unknown action", `${head}\n${line({ do: "x" })}`, /^line 2: "do" is "x"; known are snat-allocate/],
    ["a return before the call", `${head}\n${line({ return: 0 })}`, /"return" 0 is before "call" 1/],
    ["an answer without a return", `${head}\n${line({ return: null })}`, /only an outcome of kind "unknown"/],
    [
      "an answer to something else",
      `${head}\n${line({ outcome: { kind: "released" } })}`,
      /does not answer snat-allocate/,
    ],
    [
      "a range that is none",
      `${head}\n${line({ outcome: { kind: "granted", ranges: ["x"] } })}`,
      /"ranges" is \["x"\]; it has to be blocks/,
    ],
    ["a number that is missing", `${head}\n${line({ call: "soon" })}`, /"call" is "soon"; it has to be a number/],
    ["an operation that is there twice", `${head}\n${line({})}\n${line({})}`, /^line 3: op 1 is there twice/],
  ])("that are wrong say where and what: %s", (_title, text, problem) => {
    expect(() => decodeHistory(text)).toThrow(problem);
  });
});

describe("10,000 operations of a system that keeps its word", () => {
  it("are linearizable, and a single planted second owner among them is found", () => {
    const random = createRandom(SEED);
    const operations = wellBehaved(random, 10_000);
    expect(judge(history(operations))).toMatchObject({ linearizable: true, operations: 10_000 });
    const first = operations.find(({ outcome }) => outcome.kind === "granted")!;
    const range = first.outcome.kind === "granted" ? first.outcome.ranges[0]! : "";
    const planted = granted("thief", first.returnMs! + 1, first.returnMs! + 1.5, range);
    expect(judge(history([...operations, planted])).failures.map(({ partition }) => partition)).toEqual([range]);
  });
});

/** A single copy behind a network: each request takes effect at one moment of its interval; one in twenty answers is lost. */
function wellBehaved(random: Random, count: number): readonly Operation[] {
  const owner = new Map<string, string>();
  const rests = new Map<string, { readonly dip: string; readonly sinceMs: number }>();
  const objects = new Map<string, { value: string; generation: number }>();
  const held = new Map<string, string[]>();
  const operations: Operation[] = [];
  let nowMs = 0;
  let next = 0;
  for (let at = 0; at < count; at++) {
    nowMs += 1 + random.below(40);
    const callMs = nowMs - random.below(200) / 10 - 0.1;
    const answered = random.below(20) > 0;
    const returnMs = answered ? nowMs + random.below(200) / 10 + 0.1 : null;
    const dip = `10.0.0.${random.below(20)}`;
    const mine = held.get(dip) ?? [];
    held.set(dip, mine);
    const draw = random.below(100);
    const make = (action: Action, outcome: Outcome): void => {
      const told: Outcome = answered ? outcome : { kind: "unknown" };
      operations.push({
        id: at,
        client: `${dip}-${at}`,
        origin: { session: dip, sequence: at },
        callMs: Math.max(0, callMs),
        returnMs,
        action,
        outcome: told,
      });
    };
    if (draw < 50) {
      const freed = [...rests].find(([, { sinceMs }]) => nowMs - sinceMs > QUARANTINE_MS)?.[0];
      const range = freed ?? `203.0.113.10/tcp/${next++}`;
      rests.delete(range);
      owner.set(range, dip);
      mine.push(range);
      make({ kind: "snat-allocate", dip }, { kind: "granted", ranges: [range] });
    } else if (draw < 75 && mine.length > 0) {
      const range = mine.shift()!;
      owner.delete(range);
      rests.set(range, { dip, sinceMs: nowMs });
      make({ kind: "snat-release", dip, ranges: [range] }, { kind: "released" });
    } else if (draw < 76 && at % 7 === 0) {
      const owners = new Map<string, RangeOwner>([
        ...[...rests].map(([range, rest]) => [range, { dip: rest.dip, state: "quarantined" }] as const),
        ...[...owner].map(([range, holder]) => [range, { dip: holder, state: "owned" }] as const),
      ]);
      make({ kind: "snat-list", vips: ["203.0.113.10"] }, { kind: "listed", owners });
    } else {
      const object = `BackendPool/default/pool-${random.below(5)}`;
      const stored = objects.get(object) ?? null;
      if (draw < 88)
        make({ kind: "object-get", object }, { kind: "read", found: stored === null ? null : { ...stored } });
      else {
        const generation = (stored?.generation ?? 0) + 1;
        objects.set(object, { value: `v${at}`, generation });
        make(
          { kind: "object-apply", object, value: `v${at}`, generation: 0 },
          { kind: "changed", change: stored === null ? "created" : "configured", generation },
        );
      }
    }
  }
  return operations;
}
