import { describe, expect, test } from "vitest";
import type { LogIndex, Term } from "../../core/brands.js";
import { AppliedLog } from "../../manager/applied-log.js";
import { EffectLog } from "../../manager/projection/effect-log.js";
import { createStateMachine, encodeBatch } from "../../manager/state/index.js";
import { COMMAND_FORMAT_VERSION, type Command } from "../../manager/state/commands.js";
import { virtualTime } from "../kit/virtual-time.js";

const at = (index: number): LogIndex => index as LogIndex;

const entry = (index: number, clusterTimeMs: number, ...commands: readonly Command[]) => ({
  index: at(index),
  term: 1 as Term,
  payload: encodeBatch({
    formatVersion: COMMAND_FORMAT_VERSION,
    clusterTimeMs,
    wallMs: 0,
    muxSafeIndex: at(0),
    commands: commands.map((command) => ({ origin: null, command })),
  }),
});

function scene() {
  const { time, clock } = virtualTime();
  const state = createStateMachine();
  const effects = new EffectLog(state.appliedIndex);
  const listener = {
    applied: () => undefined,
    caughtUp: () => undefined,
    restored: () => undefined,
    saved: () => undefined,
  };
  return { time, state, effects, log: new AppliedLog({ clock, state, effects, listener }) };
}

describe("the applied log", () => {
  test("a snapshot stored under the index of an election's empty entry still lets receivers follow by deltas", async () => {
    const source = scene();
    source.log.apply([entry(1, 0, { kind: "tick" })]);
    const { state, effects, log } = scene();
    await log.restore(source.state.snapshot(), at(3)); // 2 and 3 are no-ops that the state machine is not shown
    expect(state.appliedIndex).toBe(1);
    expect(effects.covers(state.appliedIndex)).toBe(true);
  });

  test("wakes who waits for an index, and tells who waits too long that this replica is behind", async () => {
    const { time, log } = scene();
    const heard: string[] = [];
    void log.whenApplied(at(2), 1_000).then(() => heard.push("2 applied"));
    log.whenApplied(at(9), 500).catch((error: unknown) => heard.push((error as { code: string }).code));
    log.apply([entry(1, 0, { kind: "tick" }), entry(2, 0, { kind: "tick" })]);
    await time.advance(600);
    expect(heard).toEqual(["2 applied", "BEHIND"]);
  });

  test("cluster time passes between entries, and is never ahead of what the log says plus the time since", async () => {
    const { time, log } = scene();
    log.apply([entry(1, 5_000, { kind: "tick" })]);
    await time.advance(70);
    expect(log.clusterTimeMs()).toBe(5_070);
  });
});
