/** Snapshots as bytes; that restored machines behave alike is in `random-log.test.ts`. */
import { expect, test } from "vitest";
import type { LogIndex } from "../../../../core/brands.js";
import { createStateMachine } from "../../../../manager/state/index.js";
import { CHUNK_BYTES_MAX } from "../../../../manager/state/snapshot/text-chunks.js";
import { COMMAND_FORMAT_VERSION, type CommandBatch } from "../../../../manager/state/commands/commands.js";
import { blockText, pool, smallSite } from "../fixture.js";

function busySite(): ReturnType<typeof smallSite> {
  const site = smallSite();
  site.allocate("10.0.0.1", 100);
  site.allocate("10.0.0.2", 8, 17);
  site.release("10.0.0.1", "198.51.100.1/6:1032-1047");
  site.applyObjects(pool("web", ["10.0.0.1"]));
  site.apply({ kind: "tick" }, { session: "c".repeat(32), sequence: 3 });
  return site;
}

const whole = (chunks: Iterable<Uint8Array>): Uint8Array => Uint8Array.from([...chunks].flatMap((chunk) => [...chunk]));

test("may be cut anywhere on its way", () => {
  const site = busySite();
  const bytes = whole(site.machine.snapshot());
  for (const size of [1, 7, 100, bytes.length]) {
    const chunks: Uint8Array[] = [new Uint8Array(0)];
    for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size));
    const machine = createStateMachine();
    machine.restore(chunks, site.index as LogIndex);
    expect(machine.digest()).toBe(site.machine.digest());
  }
});

test("comes in chunks of at most 1 MiB, also when it is larger", () => {
  const site = smallSite();
  const objects = Array.from({ length: 2_000 }, (_, at) =>
    pool(`pool-${at}`, [], { labels: { note: "é".repeat(300) } }),
  );
  site.applyObjects(...objects);
  const chunks = [...site.machine.snapshot()];
  expect(chunks.length).toBeGreaterThan(1);
  expect(Math.max(...chunks.map((chunk) => chunk.length))).toBe(CHUNK_BYTES_MAX);
  const machine = createStateMachine();
  machine.restore(chunks, site.index as LogIndex);
  expect(machine.digest()).toBe(site.machine.digest());
});

test("holds the state at the moment it was taken, whatever is applied while it is written", () => {
  const site = busySite();
  const digest = site.machine.digest();
  const chunks = site.machine.snapshot();
  site.allocate("10.0.0.1", 64);
  const machine = createStateMachine();
  machine.restore(chunks, site.index as LogIndex);
  expect(machine.digest()).toBe(digest);
});

test("of another format is refused with a typed error, and the state stays as it was", () => {
  const site = busySite();
  const bytes = whole(site.machine.snapshot());
  const digest = site.machine.digest();
  bytes[0] = 9;
  expect(() => site.machine.restore([bytes], site.index as LogIndex)).toThrow(
    expect.objectContaining({ code: "UNIMPLEMENTED", facts: { formatVersion: 9 } }),
  );
  expect(site.machine.digest()).toBe(digest);
});

test("that is cut short or stored under an earlier index is not taken for whole", () => {
  const site = busySite();
  const bytes = whole(site.machine.snapshot());
  const restore = (part: Uint8Array, index: number) => () => createStateMachine().restore([part], index as LogIndex);
  expect(restore(bytes.subarray(0, bytes.length - 1), site.index)).toThrow(/complete/);
  expect(restore(bytes.subarray(0, bytes.lastIndexOf(10, bytes.length - 2) + 1), site.index)).toThrow(/complete/);
  expect(restore(bytes, site.index - 1)).toThrow(/beyond/);
  expect(restore(new Uint8Array(0), site.index)).toThrow(/complete/);
});

test("keeps the index of the last entry that carried a batch, though it is stored under a later one", () => {
  const site = busySite();
  const machine = createStateMachine();
  machine.restore(site.machine.snapshot(), (site.index + 5) as LogIndex);
  expect(machine.appliedIndex).toBe(site.index);
  expect(machine.digest()).toBe(site.machine.digest());
});

/** The cursor stands at the first range again after each lap, the one position that a snapshot does not spell out. */
test("a restored replica grants the very ranges that the others grant, also when the cursor has just wrapped", () => {
  const site = smallSite();
  const [low = ""] = site.allocate("10.0.0.1", 8);
  site.allocate("10.0.0.1", 8);
  const [high = ""] = site.allocate("10.0.0.1", 32_768);
  expect(high).toContain("-65535"); // the cursor has wrapped
  site.release("10.0.0.1", low, high);
  site.muxSafeIndex = site.index;
  site.elapse(130_000);
  const restored = createStateMachine();
  restored.restore(site.machine.snapshot(), site.index as LogIndex);
  const batch: CommandBatch = {
    formatVersion: COMMAND_FORMAT_VERSION,
    clusterTimeMs: site.nowMs,
    wallMs: 0,
    muxSafeIndex: site.muxSafeIndex as LogIndex,
    commands: [{ origin: null, command: site.allocation("10.0.0.2", 8) }],
  };
  const [result] = restored.apply(batch, (site.index + 1) as LogIndex).results;
  const blocks =
    result?.ok === true && result.value.kind === "snat-allocated" ? result.value.blocks.map(blockText) : [];
  expect(blocks).toEqual(site.allocate("10.0.0.2", 8));
  expect(restored.digest()).toBe(site.machine.digest());
});

/** A capture reads for seconds while the leader goes on granting: every part that can change is changed between its steps. */
test("captured at one index, it is written in steps while everything else of the state changes", () => {
  const site = smallSite();
  const [first = ""] = site.allocate("10.0.0.1", 512);
  site.allocate("10.0.0.2", 8, 17);
  site.release("10.0.0.1", "198.51.100.1/6:1032-1047");
  for (let session = 0; session < 400; session++)
    site.apply({ kind: "tick" }, { session: session.toString(16).padStart(32, "0"), sequence: 1 });
  site.applyObjects(
    ...Array.from({ length: 200 }, (_, at) => pool(`pool-${at}`, [], { labels: { note: "x".repeat(300) } })),
  );
  const digest = site.machine.digest();
  const index = site.index as LogIndex;
  const chunks: Uint8Array[] = [];
  const steps = site.machine.capture().steps();
  let count = 0;
  for (const full of steps) {
    chunks.push(...full);
    count++;
    site.allocate("10.0.0.1", 8);
    site.allocate("10.0.0.2", 8, 17);
    if (count === 1) site.release("10.0.0.1", first.replace("1024-", "1048-"));
    site.apply({ kind: "tick" }, { session: (count % 400).toString(16).padStart(32, "0"), sequence: 2 });
    site.applyObjects(pool("pool-7", ["10.0.0.1"], { labels: { step: String(count) } }), pool(`late-${count}`, []));
    site.elapse(count * 10_000);
  }
  expect(count).toBeGreaterThan(2);
  const machine = createStateMachine();
  machine.restore(chunks, index);
  expect(machine.digest()).toBe(digest);
  expect(site.machine.digest()).not.toBe(digest);
});

test("a capture that nobody wants any more keeps nothing", () => {
  const site = busySite();
  const { images } = site.machine.inspect();
  const capture = site.machine.capture();
  let copies = 0;
  const keep = (): void => images.keep({ part: 1 }, (part) => (copies++, { ...part }));
  keep();
  capture.end();
  keep();
  expect(copies).toBe(1);
});
