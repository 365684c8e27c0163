import { describe, expect, test } from "vitest";
import type { AnantaError } from "../../../core/errors.js";
import { createRandom } from "../../../core/random.js";
import { Executor } from "../../../manager/seda/executor.js";
import { QueueShares } from "../../../manager/seda/queue-shares.js";
import { Stage, type StageEvent, type StagePolicy } from "../../../manager/seda/stage.js";
import { virtualTime } from "../../kit/virtual-time.js";

const SHARE = { waitTargetMs: 200, lengthMin: 100, retryAfterMaxMs: 30_000 };

const POLICY: StagePolicy<"allocate"> = {
  name: "snat",
  priority: 5,
  batchMax: 50,
  kinds: [
    {
      kind: "allocate",
      fairness: "tenant",
      whenFull: "refuse",
      lengthMax: 10_000,
      retryAfterMs: 200,
      waitMaxMs: 5_000,
      share: SHARE,
    },
  ],
};

interface Request extends StageEvent {
  readonly who: string;
  readonly sinceMs: number;
}

/** A stage that handles a batch of 50 each 10 ms (5,000/s), on virtual time. */
function scene() {
  const { time, clock } = virtualTime();
  const done: { readonly who: string; readonly waitMs: number }[] = [];
  const refusals: { readonly who: string; readonly error: AnantaError }[] = [];
  let free = true;
  const stage: Stage<"allocate", Request> = new Stage<"allocate", Request>({
    policy: POLICY,
    executor: new Executor((error) => {
      throw error;
    }),
    clock,
    hasRoom: () => free,
    handle: (batch) => {
      free = false;
      clock.setTimer(10, () => {
        for (const { who, sinceMs } of batch) done.push({ who, waitMs: clock.nowMs() - sinceMs });
        free = true;
        stage.poke();
      });
    },
  });
  const ask = (who: string, refused?: (error: AnantaError) => void): void =>
    stage.offer("allocate", {
      who,
      fairnessKey: who,
      sinceMs: clock.nowMs(),
      deadlineAtMs: Infinity,
      refused: (error) => {
        refusals.push({ who, error });
        refused?.(error);
      },
    });
  return { time, clock, stage, ask, done, refusals };
}

describe("what one tenant may have waiting", () => {
  test("a tenant that floods is refused beyond its share, at once, with a reason; another one finds room", async () => {
    const { time, stage, ask, refusals, done } = scene();
    for (let request = 0; request < 8_000; request++) ask("abuser");
    expect(stage.queued).toBe(2_000); // what 10,000/s, the first guess, serves in 200 ms
    expect(refusals).toHaveLength(6_000);
    expect(refusals[0]?.error).toMatchObject({
      code: "STAGE_OVERLOADED",
      outcomeUnknown: false,
      message: "stage snat refused a allocate event: 2000 of tenant abuser wait already; retry after 200 ms",
    });
    ask("victim");
    expect(refusals.some(({ who }) => who === "victim")).toBe(false);
    await time.advance(50);
    expect(done.find(({ who }) => who === "victim")?.waitMs).toBeLessThanOrEqual(20);
    expect(stage.counters[0]).toMatchObject({ refusedShare: 6_000, refusedFull: 0 });
  });

  test("turns are given one after the other, at the pace at which they can be served, up to a limit", () => {
    const shares = new QueueShares(SHARE);
    const told = Array.from({ length: 10_000 }, () =>
      shares.returnAfterMs("abuser", { length: 2_000, leastMs: 200, nowMs: 0 }),
    );
    expect(told[0]).toBe(200);
    expect(told[9_999]).toBe(200 + 800); // 9,999 at 12,500/s
    for (let at = 1; at < told.length; at++) expect(told[at]! >= told[at - 1]!).toBe(true);
    for (let at = 0; at < 1_000_000; at++) shares.returnAfterMs("abuser", { length: 2_000, leastMs: 200, nowMs: 0 });
    const late = Array.from({ length: 1_000 }, () =>
      shares.returnAfterMs("abuser", { length: 2_000, leastMs: 200, nowMs: 0 }),
    );
    expect(Math.min(...late)).toBeGreaterThanOrEqual(15_000);
    expect(Math.max(...late)).toBeLessThanOrEqual(30_000);
    expect(new Set(late).size).toBeGreaterThan(900);
  });

  test("what was measured without a backlog says nothing of what could be served", () => {
    const shares = new QueueShares(SHARE);
    for (let nowMs = 0; nowMs < 10_000; nowMs += 100) shares.served("quiet", 1, { left: 0, nowMs });
    expect(shares.lengthMax("quiet")).toBe(2_000);
    expect(shares.size).toBe(0);
  });

  test("who comes back in its turn is served in the end, at a cost of about one refusal for each grant", async () => {
    const { time, clock, ask, done, refusals } = scene();
    const random = createRandom(20_261_121);
    // Each asks until it is granted, and honours what it is told, up to a quarter longer.
    const askUntilGranted = (): void =>
      ask("abuser", ({ facts }) =>
        clock.setTimer(Number(facts["retryAfterMs"]) * (1 + random.nextFloat() / 4), askUntilGranted),
      );
    for (let request = 0; request < 50_000; request++) askUntilGranted();
    const victims = setEvery(clock, 7, () => ask("victim"));
    await time.advance(15_000);
    victims.cancel();
    const flood = done.filter(({ who }) => who === "abuser");
    expect(flood).toHaveLength(50_000);
    expect(refusals.length).toBeLessThan(2.5 * 50_000);
    expect(Math.max(...flood.map(({ waitMs }) => waitMs))).toBeLessThan(500); // the first 2,000, served at half of what was guessed
    const longest = Math.max(...done.filter(({ who }) => who === "victim").map(({ waitMs }) => waitMs));
    expect(longest).toBeLessThanOrEqual(20);
    expect(refusals.some(({ who }) => who === "victim")).toBe(false);
  });
});

function setEvery(clock: ReturnType<typeof virtualTime>["clock"], everyMs: number, run: () => void) {
  let timer = clock.setTimer(everyMs, again);
  function again(): void {
    run();
    timer = clock.setTimer(everyMs, again);
  }
  return { cancel: () => timer.cancel() };
}
