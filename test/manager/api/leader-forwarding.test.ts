import { describe, expect, test } from "vitest";
import type { LogIndex } from "../../../core/brands.js";
import { AnantaError, type ErrorCode, type ErrorFacts } from "../../../core/errors.js";
import { LeaderForwarding, type Route } from "../../../manager/api/link/leader-forwarding.js";
import { refusal, type Submission } from "../../../manager/stages/submission.js";
import type { SubmittedCommand } from "../../../manager/state/commands/commands.js";
import { virtualTime } from "../../kit/virtual-time.js";

const TICK: SubmittedCommand = { origin: null, command: { kind: "tick" } };

/** A leader that keeps what it is handed, until the test answers. */
function leader() {
  const taken: Submission[] = [];
  const route: Route = { submit: (submission) => void taken.push(submission) };
  const succeed = (index = 1): void =>
    taken.shift()?.reply({ ok: true, index: index as LogIndex, value: { kind: "none" } });
  const fail = (code: ErrorCode, facts: ErrorFacts = {}): void =>
    taken.shift()?.reply(refusal(new AnantaError(code, "no", facts)));
  return { route, taken, succeed, fail };
}

const refusalText = ({ code, facts }: { readonly code: ErrorCode; readonly facts: ErrorFacts }): string =>
  facts["retryAfterMs"] === undefined ? code : `${code}, again after ${Number(facts["retryAfterMs"])} ms`;

function scene() {
  const { time, clock } = virtualTime();
  const forwarding = new LeaderForwarding(clock, ({ origin }) => origin?.session ?? null);
  const answers: string[] = [];
  const submit = (deadlineMs = 1_000): void =>
    void forwarding
      .submit(TICK, deadlineMs)
      .then((result) => answers.push(result.ok ? `done at ${result.index}` : refusalText(result)));
  return { time, forwarding, answers, submit };
}

describe("forwarding to the leader", () => {
  test("a request that comes during an election waits for the new leader", async () => {
    const { time, forwarding, answers, submit } = scene();
    const first = leader();
    submit();
    await time.advance(100);
    forwarding.setRoute(first.route);
    first.succeed(7);
    await time.settle();
    expect(answers).toEqual(["done at 7"]);
  });

  test("thousands that waited are handed over some in each turn, none twice and none to a leader that has gone", async () => {
    const { time, forwarding, answers, submit } = scene();
    const [old, next] = [leader(), leader()];
    for (let request = 0; request < 3_000; request++) submit();
    forwarding.setRoute(old.route);
    const atOnce = old.taken.length;
    expect(atOnce).toBeGreaterThan(0);
    expect(atOnce).toBeLessThan(1_000);
    forwarding.setRoute(null);
    await time.advance(20);
    expect(old.taken).toHaveLength(atOnce);
    forwarding.setRoute(next.route);
    await time.advance(20);
    expect(next.taken).toHaveLength(3_000 - atOnce);
    for (let answered = 0; answered < atOnce; answered++) old.succeed();
    while (next.taken.length > 0) next.succeed();
    await time.settle();
    expect(answers).toHaveLength(3_000);
  });

  test("requests of one tenant for ports leave room to others while there is no leader, and come after everything else", async () => {
    const { time, clock } = virtualTime();
    const forwarding = new LeaderForwarding(clock, ({ origin }) => origin?.session ?? null);
    const next = leader();
    const refused: number[] = [];
    const ask = (tenant: string): void =>
      void forwarding.submit({ ...TICK, origin: { session: tenant, sequence: 1 } }, 1_000).then((result) => {
        if (!result.ok && result.code === "STAGE_OVERLOADED") refused.push(Number(result.facts["retryAfterMs"]));
      });
    for (let request = 0; request < 6_000; request++) ask("flood");
    ask("victim");
    void forwarding.submit(TICK, 1_000);
    await time.settle();
    expect(refused).toHaveLength(6_000 - 4_096);
    expect(Math.min(...refused)).toBeGreaterThanOrEqual(500);
    expect(Math.max(...refused)).toBeLessThanOrEqual(1_000);
    expect(new Set(refused).size).toBeGreaterThan(400); // they do not come back together
    forwarding.setRoute(next.route);
    await time.advance(20);
    expect(next.taken).toHaveLength(4_096 + 2);
    expect(next.taken[0]?.submitted.origin).toBeNull();
    while (next.taken.length > 0) next.succeed();
    forwarding.setRoute(null);
    ask("flood"); // those that were handed over count no more
    await time.settle();
    expect(refused).toHaveLength(6_000 - 4_096);
    forwarding.stop();
  });

  // Hundreds of agents say hello to a new leader at once, a millisecond of checks each.
  test("those that take long to hand over are handed over a few in each turn", async () => {
    const { time, clock } = virtualTime();
    let workedMs = 0;
    const busy = { ...clock, nowMs: () => clock.nowMs() + workedMs };
    const forwarding = new LeaderForwarding(busy, () => null);
    for (let request = 0; request < 100; request++) void forwarding.submit(TICK, 10_000);
    let taken = 0;
    forwarding.setRoute({
      submit: () => {
        workedMs += 1;
        taken++;
      },
    });
    expect(taken).toBe(5);
    await time.advance(20);
    expect(taken).toBe(100);
    forwarding.stop();
  });

  test("a leader that was deposed meanwhile: the request goes to the next one by itself", async () => {
    const { time, forwarding, answers, submit } = scene();
    const [old, next] = [leader(), leader()];
    forwarding.setRoute(old.route);
    submit();
    forwarding.setRoute(null);
    old.fail("LEADERSHIP_LOST");
    await time.advance(20);
    forwarding.setRoute(next.route);
    expect(next.taken).toHaveLength(1);
    next.succeed(9);
    await time.settle();
    expect(answers).toEqual(["done at 9"]);
  });

  test("no leader in time: UNAVAILABLE, because nothing was done", async () => {
    const { time, answers, submit } = scene();
    submit(300);
    await time.advance(400);
    expect(answers).toEqual(["UNAVAILABLE"]);
  });

  test("handed over and never answered: DEADLINE_EXCEEDED, because it may have been done", async () => {
    const { time, forwarding, answers, submit } = scene();
    forwarding.setRoute(leader().route);
    submit(300);
    await time.advance(400);
    expect(answers).toEqual(["DEADLINE_EXCEEDED"]);
  });

  test("once uncertain, a later NOT_LEADER does not make it certain again", async () => {
    const { time, forwarding, answers, submit } = scene();
    const [old, next] = [leader(), leader()];
    forwarding.setRoute(old.route);
    submit(300);
    forwarding.setRoute(null);
    old.fail("LEADERSHIP_LOST");
    await time.advance(10);
    forwarding.setRoute(next.route);
    next.fail("NOT_LEADER");
    forwarding.setRoute(null);
    await time.advance(400);
    expect(answers).toEqual(["DEADLINE_EXCEEDED"]);
  });

  test("after an attempt whose outcome is unknown, a refusal from before the log is not taken for the answer", async () => {
    const { time, forwarding, answers, submit } = scene();
    const [old, next] = [leader(), leader()];
    forwarding.setRoute(old.route);
    submit();
    forwarding.setRoute(null);
    old.fail("LEADERSHIP_LOST"); // it may have been executed
    await time.advance(10);
    forwarding.setRoute(next.route);
    next.fail("STAGE_OVERLOADED");
    await time.advance(50);
    expect(answers).toEqual([]);
    next.succeed(9); // the remembered answer
    await time.settle();
    expect(answers).toEqual(["done at 9"]);
  });

  test("a turn that comes when nobody waits any more is told at once: the outcome is unknown, and when to ask again", async () => {
    const { time, forwarding, answers, submit } = scene();
    const [old, next] = [leader(), leader()];
    forwarding.setRoute(old.route);
    submit(300);
    forwarding.setRoute(null);
    old.fail("LEADERSHIP_LOST"); // it may have been executed
    await time.advance(10);
    forwarding.setRoute(next.route);
    next.fail("STAGE_OVERLOADED", { retryAfterMs: 20_000 });
    await time.advance(10);
    expect(answers).toEqual(["DEADLINE_EXCEEDED, again after 20000 ms"]);
  });

  test("what nobody waits for any more is not handed over: a dead process must not overtake its successor", async () => {
    const { time, forwarding } = scene();
    const first = leader();
    let alive = true;
    const result = forwarding.submit(TICK, 1_000, () => alive);
    alive = false;
    forwarding.setRoute(first.route);
    await time.settle();
    expect(first.taken).toHaveLength(0);
    expect((await result).ok).toBe(false);
  });

  test("a refusal is passed on at once, and a late second answer is ignored", async () => {
    const { time, forwarding, answers, submit } = scene();
    const first = leader();
    forwarding.setRoute(first.route);
    submit();
    const [submission] = first.taken;
    first.fail("SNAT_PORTS_EXHAUSTED");
    submission?.reply({ ok: true, index: 3 as LogIndex, value: { kind: "none" } });
    await time.settle();
    expect(answers).toEqual(["SNAT_PORTS_EXHAUSTED"]);
  });
});
