import { describe, expect, test } from "vitest";
import type { DipId, HostId, IpAddress, LogIndex } from "../../../core/brands.js";
import { AnantaError } from "../../../core/errors.js";
import { SnatManagement } from "../../../manager/stages/snat-management.js";
import { RequestBuckets, type RequestRates } from "../../../manager/stages/request-buckets.js";
import type { Deliver } from "../../../manager/stages/proposer.js";
import type { Submission } from "../../../manager/stages/submission.js";
import type { CommandResult } from "../../../manager/state/commands/results.js";
import type { SessionVerdict } from "../../../manager/state/sessions.js";

const SESSION = "0123456789abcdef0123456789abcdef";

const granted = (index: number): CommandResult => ({
  ok: true,
  index: index as LogIndex,
  value: { kind: "snat-allocated", blocks: [{ vip: "203.0.113.10" as IpAddress, protocol: 6, range: 200, count: 1 }] },
});

/** The stage over a log that the test commits by hand. */
function scene(rates: RequestRates = { dip: { perSecond: 0, burst: 1 }, tenant: { perSecond: 0, burst: 1 } }) {
  const clock = { ms: 0, nowMs: () => clock.ms };
  const executed = new Map<number, SessionVerdict>();
  let safe = 0 as LogIndex;
  const proposed: { readonly batch: readonly Submission[]; readonly deliver: Deliver }[] = [];
  const stage = new SnatManagement({
    proposer: { propose: (batch, deliver) => void proposed.push({ batch, deliver: deliver ?? (() => undefined) }) },
    muxSafeIndex: () => safe,
    clock,
    rates,
    state: {
      dip: (dipId) => ({ dipId, tenant: dipId < 10 ? "default" : "blue", address: `10.0.0.${dipId}` as IpAddress }),
      verdictOn: ({ sequence }) => executed.get(sequence) ?? { kind: "execute" },
      tenantWeight: (tenant) => (tenant === "blue" ? 2 : 1),
    },
  });
  const answers: string[] = [];
  const ask = (dip: number, sequence: number, deadlineAtMs = Infinity): Submission => ({
    submitted: {
      origin: { session: SESSION, sequence },
      command: {
        kind: "allocate-snat",
        hostId: 1 as HostId,
        incarnation: 1,
        dipId: dip as DipId,
        protocol: 6,
        ports: 8,
      },
    },
    deadlineAtMs,
    reply: (result) =>
      answers.push(`dip ${dip} #${sequence}: ${result.ok ? `granted at ${result.index}` : result.code}`),
  });
  const submit = (submission: Submission): void => {
    const admitted = stage.admit(submission);
    if (admitted !== null) stage.handle([admitted]);
  };
  const commit = (index: number): void => {
    const { batch, deliver } = proposed.shift() ?? { batch: [], deliver: () => undefined };
    for (const submission of batch) deliver(submission, granted(index));
  };
  const muxesReach = (index: number): void => {
    safe = index as LogIndex;
    stage.muxesAdvanced();
  };
  return { stage, ask, submit, commit, muxesReach, answers, proposed, clock, executed };
}

describe("how often ports may be asked for", () => {
  const rates: RequestRates = { dip: { perSecond: 10, burst: 2 }, tenant: { perSecond: 20, burst: 3 } };

  test("a DIP has its burst, then its rate; the refusal says who, what, and how long", () => {
    const { stage, ask, submit, commit, muxesReach, answers, clock } = scene(rates);
    muxesReach(1_000);
    for (const sequence of [1, 2, 3]) {
      submit(ask(1, sequence));
      commit(10);
    }
    expect(answers).toEqual(["dip 1 #1: granted at 10", "dip 1 #2: granted at 10", "dip 1 #3: STAGE_OVERLOADED"]);
    expect(stage.refusedByRate).toEqual({ dip: 1, tenant: 0 });
    clock.ms = 50;
    const told: CommandResult[] = [];
    stage.admit({ ...ask(1, 4), reply: (result) => told.push(result) });
    expect(told).toMatchObject([
      {
        ok: false,
        message:
          "DIP default/10.0.0.1 asks too often: it may make 10 requests for SNAT ports per second (2 at once); again in 50 ms",
        facts: { reason: "request-rate", dip: "10.0.0.1", tenant: "default", requestsPerSecond: 10, retryAfterMs: 50 },
      },
    ]);
    clock.ms = 100;
    submit(ask(1, 5));
    commit(11);
    expect(answers.at(-1)).toBe("dip 1 #5: granted at 11");
  });

  test("a tenant's DIPs share its bucket, which is as large as its weight says; another tenant has its own", () => {
    const { stage, ask, submit, commit, muxesReach, answers } = scene(rates);
    muxesReach(1_000);
    for (const [dip, sequence] of [
      [1, 1],
      [2, 2],
      [3, 3],
      [4, 4],
      [11, 5],
      [12, 6],
      [13, 7],
      [14, 8],
    ] as const) {
      submit(ask(dip, sequence));
      commit(10);
    }
    expect(answers.filter((answer) => answer.endsWith("STAGE_OVERLOADED"))).toEqual(["dip 4 #4: STAGE_OVERLOADED"]);
    expect(stage.refusedByRate).toEqual({ dip: 0, tenant: 1 });
  });

  test("a retry of what was executed gets its answer, however often its DIP has asked: a refusal says that nothing was done", () => {
    const { ask, submit, commit, muxesReach, answers, executed, proposed } = scene(rates);
    muxesReach(1_000);
    for (const sequence of [1, 2]) {
      submit(ask(1, sequence));
      commit(10 + sequence);
      executed.set(sequence, { kind: "answered", result: granted(10 + sequence) });
    }
    submit(ask(1, 2));
    expect(answers.at(-1)).toBe("dip 1 #2: granted at 12");
    expect(proposed, "and costs no write").toEqual([]);
  });

  test("what its session has forgotten is not refused either: its outcome is not known", () => {
    const { ask, submit, answers, executed, stage } = scene(rates);
    executed.set(1, { kind: "expired", reason: "long ago" });
    for (let at = 0; at < 5; at++) submit(ask(1, 1));
    expect(new Set(answers)).toEqual(new Set(["dip 1 #1: SESSION_EXPIRED"]));
    expect(stage.refusedByRate).toEqual({ dip: 0, tenant: 0 });
  });

  test("buckets that are full again are forgotten", () => {
    const buckets = new RequestBuckets(rates);
    for (let dip = 1; dip <= 100; dip++) buckets.take({ dipId: dip as DipId, tenant: `t${dip}`, weight: 1 }, 0);
    expect(buckets.size).toBe(200);
    buckets.sweep(99);
    expect(buckets.size).toBe(100); // the tenants' are full after 50 ms
    buckets.sweep(100);
    expect(buckets.size).toBe(0);
  });
});

describe("a queue that has no room for its tenant", () => {
  const full = (): AnantaError => new AnantaError("STAGE_OVERLOADED", "full", { retryAfterMs: 700 });

  test("refuses a new request before anything is kept or paid of it: the same DIP may ask again", () => {
    const { stage, ask, submit, answers, proposed } = scene({
      dip: { perSecond: 1, burst: 1 },
      tenant: { perSecond: 0, burst: 1 },
    });
    for (let sequence = 1; sequence <= 5; sequence++) expect(stage.admit(ask(1, sequence), full)).toBeNull();
    expect(answers).toEqual([1, 2, 3, 4, 5].map((sequence) => `dip 1 #${sequence}: STAGE_OVERLOADED`));
    submit(ask(1, 6));
    expect(proposed, "neither an open request nor an empty bucket is in its way").toHaveLength(1);
  });

  test("still answers a retry of what was executed, and lets one of what is under way join it", () => {
    const { stage, ask, submit, commit, muxesReach, answers, executed } = scene();
    muxesReach(1_000);
    executed.set(1, { kind: "answered", result: granted(12) });
    expect(stage.admit(ask(1, 1), full)).toBeNull();
    submit(ask(2, 2));
    expect(stage.admit(ask(2, 2), full)).toBeNull();
    commit(20);
    expect(answers).toEqual(["dip 1 #1: granted at 12", "dip 2 #2: granted at 20", "dip 2 #2: granted at 20"]);
  });
});

describe("SNAT management", () => {
  test("a grant is answered only when every live MUX has its entry in force", () => {
    const { ask, submit, commit, muxesReach, answers } = scene();
    submit(ask(1, 1));
    commit(10);
    expect(answers).toEqual([]);
    muxesReach(9);
    expect(answers).toEqual([]);
    muxesReach(10);
    expect(answers).toEqual(["dip 1 #1: granted at 10"]);
  });

  test("a remembered answer waits for its own entry, not for the newest", () => {
    const { ask, submit, commit, muxesReach, answers } = scene();
    submit(ask(1, 1));
    submit(ask(2, 2));
    commit(12);
    commit(10); // a retry: the answer of an older entry, delivered later
    muxesReach(11);
    expect(answers).toEqual(["dip 2 #2: granted at 10"]);
    muxesReach(12);
    expect(answers).toEqual(["dip 2 #2: granted at 10", "dip 1 #1: granted at 12"]);
  });

  test("one open request per DIP: a second one is refused, another DIP's is not", () => {
    const { ask, submit, answers, proposed } = scene();
    submit(ask(1, 1));
    submit(ask(1, 2));
    submit(ask(2, 3));
    expect(answers).toEqual(["dip 1 #2: STAGE_OVERLOADED"]);
    expect(proposed).toHaveLength(2);
  });

  // The answer was lost, the agent's other stream has sent the next request, and the copy of the first one arrives last.
  test("a retry of what was executed gets its answer while the DIP has another request open", () => {
    const { ask, submit, muxesReach, answers, proposed, executed } = scene();
    executed.set(1, { kind: "answered", result: granted(10) });
    submit(ask(1, 2));
    submit(ask(1, 1));
    expect(answers, "but not before every live MUX has it in force").toEqual([]);
    muxesReach(10);
    expect(answers).toEqual(["dip 1 #1: granted at 10"]);
    expect(proposed).toHaveLength(1);
  });

  test("a retry of the open request joins it and gets the same answer", () => {
    const { ask, submit, commit, muxesReach, answers, proposed } = scene();
    submit(ask(1, 1));
    submit(ask(1, 1));
    expect(proposed).toHaveLength(1);
    commit(10);
    muxesReach(10);
    expect(answers).toEqual(["dip 1 #1: granted at 10", "dip 1 #1: granted at 10"]);
    submit(ask(1, 2)); // answered: the DIP may ask again
    expect(proposed).toHaveLength(1);
  });

  test("when MUXes stay behind, the caller hears at its deadline that the outcome is unknown", () => {
    const { stage, ask, submit, commit, answers } = scene();
    submit(ask(1, 1, 5_000));
    commit(10);
    stage.expire(4_999);
    expect(answers).toEqual([]);
    stage.expire(5_001);
    expect(answers).toEqual(["dip 1 #1: DEADLINE_EXCEEDED"]);
  });

  test("a leader that steps down answers what it held with LEADERSHIP_LOST", () => {
    const { stage, ask, submit, commit, muxesReach, answers } = scene();
    submit(ask(1, 1));
    commit(10);
    stage.stepDown();
    muxesReach(10);
    expect(answers).toEqual(["dip 1 #1: LEADERSHIP_LOST"]);
  });
});
