import { describe, expect, test } from "vitest";
import type { DipId, HostId, IpAddress, LogIndex } from "../../../core/brands.js";
import { SnatManagement } from "../../../manager/stages/snat-management.js";
import type { Deliver } from "../../../manager/stages/proposer.js";
import type { Submission } from "../../../manager/stages/submission.js";
import type { CommandResult } from "../../../manager/state/results.js";

const SESSION = "0123456789abcdef0123456789abcdef";

const granted = (index: number): CommandResult => ({
  ok: true,
  index: index as LogIndex,
  value: { kind: "snat-allocated", blocks: [{ vip: "203.0.113.10" as IpAddress, protocol: 6, range: 200, count: 1 }] },
});

/** The stage over a log that the test commits by hand. */
function scene() {
  let safe = 0 as LogIndex;
  const proposed: { readonly batch: readonly Submission[]; readonly deliver: Deliver }[] = [];
  const stage = new SnatManagement({
    proposer: { propose: (batch, deliver) => void proposed.push({ batch, deliver: deliver ?? (() => undefined) }) },
    muxSafeIndex: () => safe,
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
  return { stage, ask, submit, commit, muxesReach, answers, proposed };
}

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
