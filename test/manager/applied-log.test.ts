import { describe, expect, test } from "vitest";
import type { HostId, LogIndex, Term } from "../../core/brands.js";
import { AppliedLog } from "../../manager/applied-log.js";
import { StateDigests } from "../../manager/state-digests.js";
import { EffectLog } from "../../manager/projection/effect-log.js";
import { createStateMachine, decodeBatch, encodeBatch } from "../../manager/state/index.js";
import { COMMAND_FORMAT_VERSION, type Command } from "../../manager/state/commands/commands.js";
import { virtualTime } from "../kit/virtual-time.js";
import { HASH_KEY, pool, registerHost, vip, vipRef } from "./state/fixture.js";

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
  const failures: unknown[] = [];
  return {
    time,
    clock,
    state,
    effects,
    failures,
    log: new AppliedLog({ clock, state, effects, listener, failed: (error) => void failures.push(error) }),
  };
}

/** One host with all members of a pool, and rules that lead to it: more steps than one turn takes. */
const MEMBERS = 100;
const dipOf = (at: number): string => `10.0.0.${at + 1}`;
const many = Array.from({ length: MEMBERS }, (_, at) => dipOf(at));
const large = (backendPort: number): Command => ({
  kind: "apply-objects",
  objects: [
    pool("web", many, { maxMembers: MEMBERS }),
    vip("shop", "198.51.100.1", { rules: [`tcp/80 -> web:${backendPort}`] }),
  ],
});
const HOST = 1 as HostId;

async function largeScene() {
  const all = scene();
  void all.log.apply([
    entry(1, 0, { kind: "bootstrap", clusterId: "test", clusterEpoch: 1, hashKey: HASH_KEY }),
    entry(2, 0, registerHost("host-1", many)),
  ]);
  await all.time.advance(10);
  return all;
}

describe("a large entry", () => {
  test("takes several turns: nobody is told of it, and nothing after it is applied, before it is whole", async () => {
    const { time, log, state, effects } = await largeScene();
    void log.apply([entry(3, 0, large(8080)), entry(4, 0, { kind: "tick" })]);
    const heard: string[] = [];
    void log.whenApplied(at(3), 1_000).then(() => heard.push("3"));
    void log.whenCaughtUp(1_000).then(() => heard.push("all"));
    expect([log.busy, state.isWhole, state.appliedIndex]).toEqual([true, false, 2]);
    expect(effects.hostChanges(HOST, at(2), at(3), 10_000).changes).toEqual([]);
    expect(state.object(vipRef("shop"))?.generation).toBe(1); // the objects changed in one piece
    await time.advance(10);
    expect([log.busy, state.isWhole, state.appliedIndex]).toEqual([false, true, 4]);
    expect(effects.hostChanges(HOST, at(2), at(3), 10_000).changes.length).toBeGreaterThan(MEMBERS);
    expect(heard.sort()).toEqual(["3", "all"]);
  });

  test("is finished at once for who asks for a view, a snapshot or a digest in the middle of it", async () => {
    const whole = await largeScene();
    for (const [index, port] of [
      [3, 8080],
      [4, 8081],
      [5, 8082],
    ] as const)
      whole.state.apply(decodeBatch(entry(index, 0, large(port)).payload), at(index));
    const asked = await largeScene();
    void asked.log.apply([entry(3, 0, large(8080))]);
    const view = asked.state.captureHostView(HOST);
    expect([view.index, asked.state.isWhole]).toEqual([3, true]);
    void asked.log.apply([entry(4, 0, large(8081)), entry(5, 0, large(8082))]);
    expect(asked.log.busy).toBe(true);
    const chunks = [];
    for await (const chunk of asked.log.snapshot()) chunks.push(chunk);
    expect(asked.state.appliedIndex).toBe(5);
    expect(Buffer.concat(chunks).equals(Buffer.concat([...whole.state.snapshot()]))).toBe(true);
    expect(asked.state.hostDigest(HOST)).toBe(whole.state.hostDigest(HOST));
    expect(asked.state.digest()).toBe(whole.state.digest());
  });

  test("that cannot be applied in a later turn is told to whoever ends the process", async () => {
    const { time, log, failures } = await largeScene();
    void log.apply([entry(3, 0, large(8080)), { ...entry(4, 0), payload: new Uint8Array([1, 2, 3]) }]);
    expect(failures).toEqual([]);
    await time.advance(10);
    expect(failures).toHaveLength(1);
  });
});

describe("what is given", () => {
  test("asks for no more until it is applied, when it takes several turns", async () => {
    const { time, log } = await largeScene();
    const heard: string[] = [];
    void log.apply([entry(3, 0, large(8080)), entry(4, 0, { kind: "tick" })])?.then(() => heard.push("room"));
    expect([log.busy, heard]).toEqual([true, []]);
    await time.advance(10);
    expect([log.busy, heard]).toEqual([false, ["room"]]);
    expect(log.apply([entry(5, 0, { kind: "tick" })])).toBeUndefined();
  });

  test("as one entry with many commands is applied some at a time, and every command whole", async () => {
    const hosts = Array.from({ length: MEMBERS }, (_, host) =>
      registerHost(`host-${host + 2}`, [`10.1.0.${host + 1}`]),
    );
    const whole = await largeScene();
    whole.state.apply(decodeBatch(entry(3, 0, ...hosts).payload), at(3));
    const { time, log, state } = await largeScene();
    void log.apply([entry(3, 0, ...hosts)]);
    const registered = state.hosts();
    expect(registered.length).toBeGreaterThan(1);
    expect(registered.length).toBeLessThan(MEMBERS);
    expect(registered.map(({ dips }) => dips.length)).toEqual([MEMBERS, ...registered.slice(1).map(() => 1)]);
    expect(state.appliedIndex).toBe(2);
    await time.advance(100);
    expect([state.appliedIndex, state.hosts().length]).toEqual([3, MEMBERS + 1]);
    expect(state.digest()).toBe(whole.state.digest());
  });
});

describe("an entry that cannot be applied", () => {
  const damaged = (index: number) => ({ ...entry(index, 0), payload: new Uint8Array([1, 2, 3]) });

  test("is the last one: none that follows is applied to the state that it left, and no snapshot is made of it", async () => {
    const { time, log, state, failures } = await largeScene();
    void log.apply([entry(3, 0, large(8080)), damaged(4)]);
    await time.advance(10);
    expect(failures).toHaveLength(1);
    for (const index of [5, 6]) {
      expect(() => log.apply([entry(index, 0, { kind: "tick" })])).toThrow(failures[0]);
      await time.advance(10);
    }
    expect([state.appliedIndex, log.busy]).toEqual([3, true]);
    expect(() => log.snapshot()).toThrow(failures[0]);
  });
});

describe("a wait for what is committed", () => {
  test("ends with what was known when it began, however much has come since", async () => {
    const { time, log, state } = await largeScene();
    void log.apply([entry(3, 0, large(8080))]);
    const heard: number[] = [];
    void log.whenCaughtUp(1_000).then(() => heard.push(state.appliedIndex));
    void log.apply(Array.from({ length: 6 }, (_, at) => entry(4 + at, 0, large(8081 + at))));
    await time.advance(10);
    expect([state.appliedIndex, heard.length]).toEqual([9, 1]);
    expect(heard[0]).toBeLessThan(9);
  });

  test("ends with BEHIND when it takes too long", async () => {
    const { time, log } = await largeScene();
    void log.apply([entry(3, 0, large(8080))]);
    const heard: string[] = [];
    log.whenCaughtUp(0).catch((error: unknown) => heard.push((error as { code: string }).code));
    log.stop();
    await time.advance(10);
    expect(heard).toEqual(["BEHIND"]);
  });
});

describe("the digest of the state", () => {
  test("asked for while an entry is being applied is that of the index after it", async () => {
    const { time, clock, log, state } = await largeScene();
    const digests = new StateDigests(clock, state);
    void log.apply([entry(3, 0, large(8080))]);
    const asked = digests.ask();
    expect(state.appliedIndex).toBe(3);
    const again = digests.ask();
    await time.advance(100);
    expect([await asked, await again]).toEqual([state.digest(), state.digest()]);
  });
});

describe("the applied log", () => {
  test("a snapshot stored under the index of an election's empty entry still lets receivers follow by deltas", async () => {
    const source = scene();
    void source.log.apply([entry(1, 0, { kind: "tick" })]);
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
    void log.apply([entry(1, 0, { kind: "tick" }), entry(2, 0, { kind: "tick" })]);
    await time.advance(600);
    expect(heard).toEqual(["2 applied", "BEHIND"]);
  });

  test("cluster time passes between entries, and is never ahead of what the log says plus the time since", async () => {
    const { time, log } = scene();
    void log.apply([entry(1, 5_000, { kind: "tick" })]);
    await time.advance(70);
    expect(log.clusterTimeMs()).toBe(5_070);
  });

  test("cluster time is not ahead while an entry is being applied either", async () => {
    const { time, log } = await largeScene();
    await time.advance(60_000);
    void log.apply([entry(3, 60_000, large(8080))]);
    expect([log.busy, log.clusterTimeMs()]).toEqual([true, 60_000]);
  });
});
