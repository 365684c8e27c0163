/**
 * The process dies, or a write fails, at every single operation on the disk: before it, after it, within it, beside it. What
 * the next process finds is what was promised, or that and the one step that was under way.
 */
import { describe, expect, test } from "vitest";
import { LevelStorage } from "../../manager/raft/storage/level-storage.js";
import { MemoryStorage } from "../../manager/raft/storage/memory-storage.js";
import type { OpenedStorage } from "../../manager/raft/storage/storage.js";
import { HandClock, ImageDisk, quiet, type DiskImage, type FaultKind } from "./image-disk.js";
import { batch, entries } from "./storage-contract.js";
import { seen, STORY, type Seen } from "./storage-story.js";

const OWNER = { clusterId: "test", clusterEpoch: 1, nodeId: 1 };
const MARK_MS = 30;

const storageOn = (disk: ImageDisk, clock: HandClock): LevelStorage =>
  new LevelStorage({ disk: disk.disk, clock, folder: "/raft", owner: OWNER, bootstrap: true });

/** After each step of the story, by the plainest storage there is. [0] is before the first. */
async function expectations(): Promise<readonly Seen[]> {
  const model = new MemoryStorage();
  const all = [seen(await model.open())];
  for (const step of STORY) {
    await step(model, () => Promise.resolve());
    all.push(seen(await model.open()));
  }
  return all;
}

interface Outcome {
  /** Steps that were answered. */
  readonly answered: number;
  readonly failure: unknown;
  readonly storage: LevelStorage;
}

/** Tells the story until it ends, fails, or is never answered again. */
async function tell(disk: ImageDisk): Promise<Outcome> {
  const clock = new HandClock();
  const storage = storageOn(disk, clock);
  const outcome = { answered: 0, failure: undefined as unknown };
  const pass = async (): Promise<void> => {
    clock.pass(MARK_MS);
    await quiet();
  };
  const telling = (async () => {
    for (const step of STORY) {
      await step(storage, pass);
      outcome.answered++;
    }
  })().catch((error: unknown) => {
    outcome.failure = error;
  });
  let over = false;
  void telling.then(() => {
    over = true;
  });
  for (let turn = 0; turn < 60 && !over; turn++) await quiet();
  return { ...outcome, storage };
}

async function reopen(image: DiskImage): Promise<OpenedStorage> {
  const storage = storageOn(new ImageDisk(image), new HandClock());
  const opened = await storage.open();
  await storage.close();
  return opened;
}

describe.each<[FaultKind, string]>([
  ["before", "is killed before the operation"],
  ["after", "is killed after it"],
  ["torn", "is killed in the middle of it"],
  ["never", "is killed while it hangs and others beside it are done"],
  ["error", "finds that it fails"],
  ["full", "finds the disk full"],
])("at every operation the process %s", (kind) => {
  test(`it ${kind}: what was answered is there, of what was not all or nothing`, async () => {
    const expected = await expectations();
    let points = 0;
    for (let at = 1; ; at++) {
      const disk = new ImageDisk(null, { at, kind });
      const { answered, failure, storage } = await tell(disk);
      if (!disk.hit) {
        if (answered === STORY.length && disk.operations < at) break;
        continue; // this operation needs no room
      }
      points++;
      for (const powerLoss of [false, true]) {
        const what = `operation ${at}, ${answered} steps answered${powerLoss ? ", power lost" : ""}`;
        const opened = await reopen(disk.image(powerLoss));
        const now = seen(opened);
        const allowed = expected.slice(answered, answered + 2);
        expect(opened.voting.kind, what).toBe("full");
        expect(
          allowed.map((one) => one.hardState),
          what,
        ).toContain(now.hardState);
        expect(
          allowed.map((one) => one.log),
          what,
        ).toContain(now.log);
        // A transfer may always begin anew; it may not be further than it was.
        expect(["none", ...allowed.map((one) => one.receiving)], what).toContain(now.receiving);
        // Opened once more, it is the same: what was made good stays so.
        expect(seen(await reopen(disk.image(powerLoss))), what).toEqual(now);
      }
      if (kind !== "error" && kind !== "full") continue;
      // (A mark that fails shows at the next write; at the very end nobody is left to be told.)
      if (failure === undefined) continue;
      expect(failure, `operation ${at}`).toMatchObject({ code: "STORAGE_FAILED" });
      expect((failure as Error).message, `operation ${at}`).toMatch(
        kind === "full" ? /no space left.*make room and start/i : /input\/output error/i,
      );
      if (answered > 0)
        await expect(storage.persist(batch({ entries: entries(1, 1, 1) }))).rejects.toMatchObject({
          code: "STORAGE_FAILED",
        });
    }
    expect(points).toBe(kind === "full" ? 20 : 41); // all there are: a story that changes changes them
  });
});

test("two interrupted writes of term and vote in a row are not taken for a loss", async () => {
  // Whichever of file and store was the one that got its half each time.
  for (const first of ["before", "never"] as const) {
    for (const second of ["before", "never"] as const) {
      for (let at = 1; at <= 3; at++) {
        for (let again = 1; again <= 4; again++) {
          const healthy = new ImageDisk(null);
          const storage = storageOn(healthy, new HandClock());
          await storage.open();
          await storage.persist(batch({ hardState: { term: 1 as never, votedFor: null } }));
          await storage.close();
          let image = healthy.image();
          for (const [term, fault] of [
            [2, { at, kind: first }],
            [3, { at: again, kind: second }],
          ] as const) {
            const disk = new ImageDisk(image, fault);
            const one = storageOn(disk, new HandClock());
            void one
              .open()
              .then(() => one.persist(batch({ hardState: { term: term as never, votedFor: null } })))
              .catch(() => undefined);
            await quiet();
            image = disk.image(true);
          }
          expect((await reopen(image)).voting.kind, `${first} ${at}, ${second} ${again}`).toBe("full");
        }
      }
    }
  }
});

describe("a write that hangs", () => {
  test("is known from its first moment, and ends the storage after 20 s", async () => {
    const clock = new HandClock();
    const disk = new ImageDisk(null, { at: 8, kind: "never" });
    const storage = storageOn(disk, clock);
    await storage.open();
    let failure: unknown;
    for (let at = 1; !disk.hit; at++) {
      void storage.persist(batch({ entries: entries(at, at, 1) })).catch((error: unknown) => (failure = error));
      await quiet();
    }
    clock.pass(700);
    expect(storage.oldestWriteMs()).toBe(700);
    for (let second = 0; second < 19; second++) {
      clock.pass(1_000);
      await quiet();
      expect(failure).toBeUndefined();
    }
    clock.pass(1_000);
    await quiet();
    expect(failure).toMatchObject({ code: "STORAGE_FAILED" });
    expect((failure as Error).message).toContain("has not answered a write for 20 s");
  });

  test("is not blamed for the time in which the process itself stood still", async () => {
    const clock = new HandClock();
    const disk = new ImageDisk(null, { at: 8, kind: "never" });
    const storage = storageOn(disk, clock);
    await storage.open();
    let failure: unknown;
    for (let at = 1; !disk.hit; at++) {
      void storage.persist(batch({ entries: entries(at, at, 1) })).catch((error: unknown) => (failure = error));
      await quiet();
    }
    clock.pass(60_000);
    await quiet();
    expect(failure).toBeUndefined();
  });

  test("leaves no timer behind when all is written", async () => {
    const clock = new HandClock();
    const storage = storageOn(new ImageDisk(null), clock);
    await storage.open();
    await storage.persist(batch({ entries: entries(1, 1, 1) }));
    expect(storage.oldestWriteMs()).toBe(0);
    for (let second = 0; second < 3; second++) {
      clock.pass(1_000);
      await quiet();
    }
    expect(clock.timers).toBe(0);
    await storage.close();
  });
});
