/**
 * The medium changes behind everybody's back: one bit, one record, or all that was written last. Nothing of it may pass for
 * what was written. All bits are tried, of every record and of the hard-state file, at several moments of a storage's life.
 */
import { describe, expect, test } from "vitest";
import { LevelStorage } from "../../manager/raft/storage/level-storage.js";
import type { OpenedStorage } from "../../manager/raft/storage/storage.js";
import { HandClock, ImageDisk, quiet, type DiskImage } from "./image-disk.js";
import { batch, entries, texts } from "./storage-contract.js";
import { seen, STORY } from "./storage-story.js";

const OWNER = { clusterId: "test", clusterEpoch: 1, nodeId: 1 };

const storageOn = (disk: ImageDisk, clock = new HandClock()): LevelStorage =>
  new LevelStorage({ disk: disk.disk, clock, folder: "/raft", owner: OWNER, bootstrap: true });

/** The disk after so many steps of the story, all marks written. */
async function imageAfter(steps: number): Promise<DiskImage> {
  const disk = new ImageDisk(null);
  const clock = new HandClock();
  const storage = storageOn(disk, clock);
  const pass = async (): Promise<void> => {
    clock.pass(30); // a mark is written 25 ms after its batch
    await quiet();
  };
  for (const step of STORY.slice(0, steps)) await step(storage, pass);
  await pass();
  return disk.image();
}

async function open(image: DiskImage): Promise<OpenedStorage> {
  const storage = storageOn(new ImageDisk(image));
  const opened = await storage.open();
  await storage.close();
  return opened;
}

const withRecord = (image: DiskImage, key: string, value: Uint8Array | null): DiskImage => {
  const records = new Map(image.records);
  if (value === null) records.delete(key);
  else records.set(key, value);
  return { ...image, records };
};

const flipped = (bytes: Uint8Array, bit: number): Uint8Array => {
  const copy = bytes.slice();
  copy[bit >> 3]! ^= 1 << (bit & 7);
  return copy;
};

/** Nothing that is given out is other than what was written, and whatever is less is said to be. */
function judge(healthy: OpenedStorage, opened: OpenedStorage, what: string): void {
  const trusted = opened.voting.kind === "full";
  expect(texts(healthy.entries), what).toEqual(expect.arrayContaining([...texts(opened.entries)]));
  if (opened.snapshot !== null) expect(opened.snapshot, what).toEqual(healthy.snapshot);
  if (opened.voting.kind !== "never") expect(opened.hardState, what).toEqual(healthy.hardState);
  if (trusted) expect(seen({ ...opened, receiving: null }), what).toEqual(seen({ ...healthy, receiving: null }));
}

const noticed = (opened: OpenedStorage): boolean => opened.voting.kind !== "full" || opened.findings.length > 0;

// Steps of the story: an own snapshot not yet compacted to; compacted and written on; receiving; received and written on.
const MOMENTS = [10, 15, 17, 23] as const;

describe.each(MOMENTS)("after %i steps of its life", (steps) => {
  test("every single flipped bit of every record is noticed", async () => {
    const image = await imageAfter(steps);
    const healthy = await open(image);
    expect(healthy).toMatchObject({ voting: { kind: "full" }, findings: [] });
    let flips = 0;
    for (const [key, value] of image.records) {
      for (let bit = 0; bit < value.length * 8; bit++) {
        flips++;
        const disk = new ImageDisk(withRecord(image, key, flipped(value, bit)));
        const storage = storageOn(disk);
        const opened = await storage.open();
        const what = `bit ${bit} of record ${key}`;
        expect(noticed(opened), what).toBe(true);
        judge(healthy, opened, what);
        if (opened.voting.kind === "full" || bit % 64 !== 0) continue;
        // The damage was written down: the next start says the same, although the bad record is gone.
        await storage.close();
        expect((await open(disk.image())).voting.kind, what).toBe(opened.voting.kind);
      }
    }
    const bits = [...image.records.values()].reduce((sum, value) => sum + value.length * 8, 0);
    expect(flips).toBe(bits);
    expect(flips).toBeGreaterThan(4_500);
  });

  test("every single flipped bit of term, vote and mark is noticed, and the newest stay in force", async () => {
    const image = await imageAfter(steps);
    const healthy = await open(image);
    let flips = 0;
    for (let bit = 0; bit < image.file.length * 8; bit++) {
      if ((bit >> 3) % 4096 >= 33) continue; // behind the slots nothing is ever written
      flips++;
      const opened = await open({ ...image, file: flipped(image.file, bit) });
      const padding = (bit >> 3) % 4096 >= 28 && bit >> 3 < 8192; // a slot of term and vote is the shorter one
      if (!padding) expect(noticed(opened), `bit ${bit}`).toBe(true);
      expect(opened.voting.kind, `bit ${bit}`).toBe("full");
      judge(healthy, opened, `bit ${bit}`);
    }
    expect(flips).toBe(4 * 33 * 8);
  });

  test("every lost record is noticed", async () => {
    const image = await imageAfter(steps);
    const healthy = await open(image);
    for (const key of image.records.keys()) {
      const opened = await open(withRecord(image, key, null));
      judge(healthy, opened, key);
      // Not state: what is missing of a transfer is fetched again, and an old block inside the snapshot is needed no more.
      const covered = key.startsWith("42") && parseInt(key.slice(2), 16) <= (healthy.snapshot?.meta.index ?? 0);
      const ofTransfer =
        key === Buffer.from("R").toString("hex") || (key.startsWith("43") && healthy.receiving !== null);
      if (!covered && (!ofTransfer || opened.snapshot === null)) expect(noticed(opened), key).toBe(true);
    }
  });

  test("a store that lost its newest batches, however many, is noticed", async () => {
    const image = await imageAfter(steps);
    for (let earlier = 1; earlier < steps; earlier++) {
      const older = await imageAfter(earlier);
      if (texts((await open(older)).entries).join() === texts((await open(image)).entries).join()) continue;
      const opened = await open({ records: older.records, file: image.file });
      expect(opened.voting.kind, `the store of ${earlier} steps`).toBe("until-caught-up");
      expect(opened.hardState).toEqual((await open(image)).hardState);
    }
  });

  test("a lost hard-state file means that this node id never votes again", async () => {
    const image = await imageAfter(steps);
    for (const file of [new Uint8Array(0), new Uint8Array(image.file.length), image.file.map(() => 0xff)]) {
      const disk = new ImageDisk({ ...image, file });
      expect((await storageOn(disk).open()).voting.kind).toBe("never");
      expect((await open(disk.image())).voting.kind).toBe("never");
    }
  });
});

test("the reason names where the log ends and where it ought to", async () => {
  const disk = new ImageDisk(null);
  const storage = storageOn(disk);
  await storage.open();
  await storage.persist(batch({ entries: entries(1, 3, 1) }));
  const older = disk.image();
  await storage.persist(batch({ entries: entries(4, 8, 1) }));
  await storage.close(); // writes the mark
  const opened = await open({ records: older.records, file: disk.image().file });
  expect(opened.voting).toEqual({
    kind: "until-caught-up",
    reason: "the log's store lost its newest batches: it ends at 3, and 8 was durable",
  });
});

test("a compaction that the disk undid costs nothing", async () => {
  const disk = new ImageDisk(null);
  const storage = storageOn(disk);
  await storage.open();
  for (let at = 1; at <= 6; at++) await storage.persist(batch({ entries: entries(at, at, 1) }));
  const before = disk.image();
  const snapshot = STORY[9]!; // completes a snapshot of index 4
  await STORY[7]!(storage, () => Promise.resolve());
  await STORY[8]!(storage, () => Promise.resolve());
  await snapshot(storage, () => Promise.resolve());
  await storage.compactTo(4 as never);
  await storage.persist(batch({ entries: entries(5, 7, 2) }));
  await storage.close();
  // Any subset of the compacted blocks comes back.
  const compacted = [...before.records].filter(([key]) => key.startsWith("42") && parseInt(key.slice(2), 16) <= 4);
  expect(compacted).toHaveLength(4);
  expect(compacted.some(([key]) => disk.image().records.has(key))).toBe(false);
  for (let subset = 0; subset < 2 ** compacted.length; subset++) {
    const records = new Map(disk.image().records);
    for (const [bit, [key, value]] of compacted.entries()) if ((subset >> bit) & 1) records.set(key, value);
    const opened = await open({ ...disk.image(), records });
    expect(opened.voting.kind, `subset ${subset}`).toBe("full");
    expect(texts(opened.entries.filter(({ index }) => index > 4))).toEqual(texts(entries(5, 7, 2)));
  }
});

test("a folder of another format is refused, and nothing of it is changed", async () => {
  const image = await imageAfter(3);
  const { sealFacts } = await import("../../manager/raft/storage/records.js");
  const meta = Buffer.from("M").toString("hex");
  const old = withRecord(image, meta, sealFacts({ format: 1, ...OWNER, lost: null, damage: null }));
  const disk = new ImageDisk(old);
  await expect(storageOn(disk).open()).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
  expect(disk.image()).toEqual(old);
});
