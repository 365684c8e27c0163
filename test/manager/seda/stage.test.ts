import { describe, expect, test } from "vitest";
import type { AnantaError } from "../../../core/errors.js";
import { Executor } from "../../../manager/seda/executor.js";
import { Stage, type StageEvent, type StagePolicy } from "../../../manager/seda/stage.js";
import { virtualTime } from "../../kit/virtual-time.js";

type Kind = "urgent" | "usual";

const POLICY: StagePolicy<Kind> = {
  name: "snat",
  priority: 5,
  batchMax: 4,
  kinds: [
    { kind: "urgent", fairness: "tenant", whenFull: "refuse", lengthMax: 2, retryAfterMs: 10, waitMaxMs: 100 },
    { kind: "usual", fairness: "tenant", whenFull: "refuse", lengthMax: 6, retryAfterMs: 20, waitMaxMs: 100 },
  ],
};

interface NamedEvent extends StageEvent {
  readonly name: string;
}

/** A stage whose room the test opens and closes, on virtual time. */
function scene() {
  const { time, clock } = virtualTime();
  const batches: string[][] = [];
  const refusals: { readonly name: string; readonly error: AnantaError }[] = [];
  let room = true;
  const executor = new Executor((error) => {
    throw error;
  });
  const stage = new Stage<Kind, NamedEvent>({
    policy: POLICY,
    executor,
    clock,
    hasRoom: () => room,
    handle: (batch) => {
      batches.push(batch.map((event) => event.name));
    },
  });
  const offer = (
    kind: Kind,
    name: string,
    options: { readonly key?: string; readonly deadlineAtMs?: number } = {},
  ): void => {
    stage.offer(kind, {
      name,
      fairnessKey: options.key ?? "tenant",
      deadlineAtMs: options.deadlineAtMs ?? Infinity,
      refused: (error) => refusals.push({ name, error }),
    });
  };
  const setRoom = (open: boolean): void => {
    room = open;
    if (open) stage.poke();
  };
  return { time, stage, offer, setRoom, batches, refusals };
}

describe("a SEDA stage", () => {
  test("what arrives in one turn is handled as one batch, the more urgent kind first", async () => {
    const { time, offer, batches } = scene();
    offer("usual", "allocate-1");
    offer("usual", "allocate-2");
    offer("urgent", "release-1");
    await time.advance(1);
    expect(batches).toEqual([["release-1", "allocate-1", "allocate-2"]]);
  });

  test("a batch is bounded, and the rest follows in the next one", async () => {
    const { time, offer, batches } = scene();
    for (let count = 1; count <= 6; count++) offer("usual", `e${count}`);
    await time.advance(1);
    expect(batches).toEqual([
      ["e1", "e2", "e3", "e4"],
      ["e5", "e6"],
    ]);
  });

  test("while the log is busy events wait here, where priority counts, and not in Raft", async () => {
    const { time, offer, setRoom, batches } = scene();
    setRoom(false);
    offer("usual", "waits");
    await time.advance(50);
    offer("urgent", "overtakes");
    expect(batches).toEqual([]);
    setRoom(true);
    await time.advance(1);
    expect(batches).toEqual([["overtakes", "waits"]]);
  });

  test("a full queue answers with STAGE_OVERLOADED and when to come back; the other kind still has room", async () => {
    const { time, offer, setRoom, batches, refusals } = scene();
    setRoom(false);
    offer("urgent", "u1");
    offer("urgent", "u2");
    offer("urgent", "u3");
    offer("usual", "a1");
    expect(refusals.map(({ name, error }) => [name, error.code, error.facts["retryAfterMs"]])).toEqual([
      ["u3", "STAGE_OVERLOADED", 10],
    ]);
    setRoom(true);
    await time.advance(1);
    expect(batches).toEqual([["u1", "u2", "a1"]]);
  });

  test("an event that waited past its deadline is refused, never handled late", async () => {
    const { time, stage, offer, setRoom, batches, refusals } = scene();
    setRoom(false);
    offer("usual", "impatient", { deadlineAtMs: 30 });
    offer("usual", "patient");
    await time.advance(50);
    setRoom(true);
    await time.advance(1);
    expect(batches).toEqual([["patient"]]);
    expect(refusals.map(({ name }) => name)).toEqual(["impatient"]);
    expect(stage.counters).toMatchObject([
      { kind: "urgent", queued: 0, handled: 0, refusedLate: 0 },
      { kind: "usual", queued: 0, handled: 1, refusedFull: 0, refusedLate: 1 },
    ]);
  });

  test("whoever gave too little time hears that, and only a wait beyond the stage's own limit is overload", async () => {
    const { time, offer, setRoom, refusals } = scene();
    setRoom(false);
    offer("usual", "impatient", { deadlineAtMs: 30 });
    offer("usual", "patient", { deadlineAtMs: 1_000 });
    await time.advance(150);
    setRoom(true);
    await time.advance(1);
    expect(refusals.map(({ name, error }) => [name, error.code, error.outcomeUnknown, error.message])).toEqual([
      [
        "impatient",
        "DEADLINE_EXCEEDED",
        false,
        "nothing was done: the caller's deadline passed while it waited 150 ms",
      ],
      ["patient", "STAGE_OVERLOADED", false, "stage snat refused a usual event: it waited 150 ms; retry after 20 ms"],
    ]);
  });

  test("tenants take turns: a flood of one does not keep another waiting", async () => {
    const { time, offer, setRoom, batches } = scene();
    setRoom(false);
    for (let count = 1; count <= 5; count++) offer("usual", `abuser-${count}`, { key: "abuser" });
    offer("usual", "victim-1", { key: "victim" });
    setRoom(true);
    await time.advance(1);
    expect(batches[0]).toEqual(["abuser-1", "victim-1", "abuser-2", "abuser-3"]);
  });
});
