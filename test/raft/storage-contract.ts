/** What every `RaftStorage` must do; run on all of them by `storage.test.ts`. */
import { expect, test } from "vitest";
import { nodeId, type LogIndex, type Term } from "../../core/brands.js";
import { createRandom } from "../../core/random.js";
import { simpleMembership } from "../../manager/raft/core/membership.js";
import type { Entry, SnapshotMeta } from "../../manager/raft/core/types.js";
import { SnapshotDigest } from "../../manager/raft/snapshot-digest.js";
import type { OpenedStorage, RaftStorage, StorageBatch, StoredSnapshot } from "../../manager/raft/storage/storage.js";
import { testSeed } from "../kit/virtual-world.js";

export interface StorageUnderTest {
  /** Opens nothing yet; a second call stands for the next process on the same disk, after a power loss. */
  create(): RaftStorage;
  /** Lets (virtual) time run until the promise settles. */
  run<Result>(promise: Promise<Result>): Promise<Result>;
}

export const entry = (at: number, of: number, text = `e${at}.${of}`): Entry => ({
  index: at as LogIndex,
  term: of as Term,
  payload: Buffer.from(text),
});
export const entries = (from: number, to: number, of: number): readonly Entry[] =>
  Array.from({ length: to - from + 1 }, (_, at) => entry(from + at, of));
export const meta = (at: number, of: number): SnapshotMeta => ({
  index: at as LogIndex,
  term: of as Term,
  membership: simpleMembership([nodeId(1), nodeId(2), nodeId(3)]),
});
/** What is known of a snapshot with these chunks. */
export function stored(of: SnapshotMeta, chunks: readonly string[]): StoredSnapshot {
  const digest = new SnapshotDigest();
  for (const chunk of chunks) digest.add(Buffer.from(chunk));
  const { chunkCount, byteCount } = digest;
  return { meta: of, chunkCount, byteCount, digest: digest.finish() };
}
export const batch = (changes: Partial<StorageBatch>): StorageBatch => ({
  hardState: null,
  entries: [],
  snapshot: null,
  commitIndex: 0 as LogIndex,
  ...changes,
});
export const texts = (all: readonly Entry[]): readonly string[] =>
  all.map((one) => `${one.index}:${one.term}:${Buffer.from(one.payload).toString()}`);

const bound = (under: StorageUnderTest): StorageUnderTest => ({
  create: () => under.create(),
  run: (promise) => under.run(promise),
});

/** Its chunks as texts; null in place of each that is not there. */
async function chunksOf(
  storage: RaftStorage,
  run: StorageUnderTest["run"],
  of: StoredSnapshot | null,
): Promise<readonly (string | null)[]> {
  const chunks: (string | null)[] = [];
  for (let number = 0; number < (of?.chunkCount ?? 0); number++) {
    const chunk = await run(storage.readSnapshotChunk(of!.digest, number)); // chunkCount > 0: there is one
    chunks.push(chunk === null ? null : Buffer.from(chunk).toString());
  }
  return chunks;
}

export function storageContract(name: string, make: () => StorageUnderTest): void {
  test(`${name}: a new storage is empty and has every right`, async () => {
    const { create, run } = bound(make());
    const opened = await run(create().open());
    expect(opened).toMatchObject({
      hardState: { term: 0, votedFor: null },
      snapshot: null,
      receiving: null,
      entries: [],
      commitIndex: 0,
      voting: { kind: "full" },
      findings: [],
    });
  });

  test(`${name}: what was persisted is there when it is opened again`, async () => {
    const { create, run } = bound(make());
    const storage = create();
    await run(storage.open());
    await run(storage.persist(batch({ hardState: { term: 3 as Term, votedFor: nodeId(2) } })));
    await run(storage.persist(batch({ entries: entries(1, 5, 3), commitIndex: 2 as LogIndex })));
    await run(
      storage.persist(
        batch({
          hardState: { term: 4 as Term, votedFor: null },
          entries: entries(6, 7, 4),
          commitIndex: 6 as LogIndex,
        }),
      ),
    );
    const opened = await run(create().open());
    expect(opened.hardState).toEqual({ term: 4, votedFor: null });
    expect(texts(opened.entries)).toEqual(texts([...entries(1, 5, 3), ...entries(6, 7, 4)]));
    expect(opened.commitIndex).toBeLessThanOrEqual(6);
    expect(opened.voting.kind).toBe("full");
  });

  test(`${name}: entries replace everything from their first index on, also inside a block`, async () => {
    const { create, run } = bound(make());
    const storage = create();
    await run(storage.open());
    await run(storage.persist(batch({ entries: entries(1, 4, 1) })));
    await run(storage.persist(batch({ entries: entries(5, 8, 1) })));
    await run(storage.persist(batch({ entries: entries(9, 9, 1) })));
    await run(storage.persist(batch({ entries: entries(7, 7, 2) })));
    expect(texts((await run(create().open())).entries)).toEqual(texts([...entries(1, 6, 1), ...entries(7, 7, 2)]));
  });

  test(`${name}: a snapshot of its own state leaves the log, which then can be compacted`, async () => {
    const { create, run } = bound(make());
    const storage = create();
    await run(storage.open());
    for (let at = 1; at <= 10; at++) await run(storage.persist(batch({ entries: entries(at, at, 1) })));
    await run(storage.writeSnapshotChunk(meta(8, 1), 0, Buffer.from("first ")));
    await run(storage.writeSnapshotChunk(meta(8, 1), 1, Buffer.from("second")));
    await run(storage.completeSnapshot(stored(meta(8, 1), ["first ", "second"])));
    await run(storage.compactTo(5 as LogIndex));
    await run(storage.persist(batch({ entries: entries(11, 11, 2) })));
    const again = create();
    const opened = await run(again.open());
    expect(opened.snapshot).toEqual(stored(meta(8, 1), ["first ", "second"]));
    expect(await chunksOf(again, run, opened.snapshot)).toEqual(["first ", "second"]);
    expect(texts(opened.entries)).toEqual(texts([...entries(6, 10, 1), entry(11, 2)]));
    expect(opened.voting.kind).toBe("full");
  });

  test(`${name}: a received snapshot empties the log; entries go on behind it`, async () => {
    const { create, run } = bound(make());
    const storage = create();
    await run(storage.open());
    await run(storage.persist(batch({ entries: entries(1, 4, 1) })));
    const snapshot = stored(meta(20, 2), ["state"]);
    await run(storage.receiveSnapshotChunk(snapshot, 0, Buffer.from("state")));
    expect(await run(storage.verifyReceived())).toBe(true);
    await run(
      storage.persist(
        batch({
          snapshot,
          entries: entries(21, 22, 3),
          hardState: { term: 3 as Term, votedFor: null },
        }),
      ),
    );
    const again = create();
    const opened = await run(again.open());
    expect(opened).toMatchObject({ snapshot, receiving: null, findings: [] });
    expect(await chunksOf(again, run, snapshot)).toEqual(["state"]);
    expect(texts(opened.entries)).toEqual(texts(entries(21, 22, 3)));
    expect(opened.hardState.term).toBe(3);
  });

  test(`${name}: a transfer that broke off goes on where it stopped, in the next process too`, async () => {
    const { create, run } = bound(make());
    const first = create();
    await run(first.open());
    const chunks = ["one", "two", "three"];
    const snapshot = stored(meta(20, 2), chunks);
    for (const number of [0, 1]) await run(first.receiveSnapshotChunk(snapshot, number, Buffer.from(chunks[number]!)));
    const second = create();
    expect((await run(second.open())).receiving).toEqual({ snapshot, next: 2 });
    await run(second.receiveSnapshotChunk(snapshot, 2, Buffer.from("three")));
    expect(await run(second.verifyReceived())).toBe(true);
    await run(second.persist(batch({ snapshot })));
    expect(await run(create().open())).toMatchObject({ snapshot, receiving: null });
  });

  test(`${name}: what was received and has another digest than was promised is dropped`, async () => {
    const { create, run } = bound(make());
    const storage = create();
    await run(storage.open());
    const snapshot = stored(meta(20, 2), ["one", "two"]);
    await run(storage.receiveSnapshotChunk(snapshot, 0, Buffer.from("one")));
    await run(storage.receiveSnapshotChunk(snapshot, 1, Buffer.from("TWO")));
    expect(await run(storage.verifyReceived())).toBe(false);
    expect((await run(create().open())).receiving).toBeNull();
  });

  test(`${name}: another transfer takes the place of the one before`, async () => {
    const { create, run } = bound(make());
    const storage = create();
    await run(storage.open());
    const abandoned = stored(meta(20, 2), ["one", "two", "three"]);
    for (const [number, text] of ["one", "two", "three"].entries())
      await run(storage.receiveSnapshotChunk(abandoned, number, Buffer.from(text)));
    const snapshot = stored(meta(20, 2), ["uno", "due"]);
    await run(storage.receiveSnapshotChunk(snapshot, 0, Buffer.from("uno")));
    expect((await run(create().open())).receiving).toEqual({ snapshot, next: 1 });
  });

  test(`${name}: a snapshot being taken and one being received at the same index do not meet`, async () => {
    const { create, run } = bound(make());
    const storage = create();
    await run(storage.open());
    await run(storage.persist(batch({ entries: entries(1, 9, 1) })));
    const theirs = stored(meta(9, 1), ["theirs"]);
    await run(storage.writeSnapshotChunk(meta(9, 1), 0, Buffer.from("ours")));
    await run(storage.receiveSnapshotChunk(theirs, 0, Buffer.from("theirs")));
    const ours = stored(meta(9, 1), ["ours"]);
    expect(await run(storage.completeSnapshot(ours))).toBe(true);
    expect(await chunksOf(storage, run, ours)).toEqual(["ours"]);
    expect((await run(create().open())).snapshot).toEqual(stored(meta(9, 1), ["ours"]));
  });

  test(`${name}: chunks are given out only of the snapshot that is asked for, also when its successor has fewer`, async () => {
    const { create, run } = bound(make());
    const storage = create();
    await run(storage.open());
    await run(storage.persist(batch({ entries: entries(1, 9, 1) })));
    const old = stored(meta(5, 1), ["a", "b", "c"]);
    for (const [number, text] of ["a", "b", "c"].entries())
      await run(storage.writeSnapshotChunk(old.meta, number, Buffer.from(text)));
    await run(storage.completeSnapshot(old));
    expect(await chunksOf(storage, run, old)).toEqual(["a", "b", "c"]);
    const next = stored(meta(9, 1), ["A"]);
    await run(storage.writeSnapshotChunk(next.meta, 0, Buffer.from("A")));
    // One is asked for before the switch and answered behind it: the old chunk or none, never the new one.
    const late = storage.readSnapshotChunk(old.digest, 2);
    expect(await run(storage.completeSnapshot(next))).toBe(true);
    expect([null, "c"]).toContain(await run(late.then((chunk) => chunk && Buffer.from(chunk).toString())));
    expect(await chunksOf(storage, run, old)).toEqual([null, null, null]);
    expect(await chunksOf(storage, run, next)).toEqual(["A"]);
  });

  test(`${name}: an own snapshot that does not read back changes nothing, and another one can be taken`, async () => {
    const { create, run } = bound(make());
    const storage = create();
    await run(storage.open());
    await run(storage.persist(batch({ entries: entries(1, 9, 1) })));
    await run(storage.writeSnapshotChunk(meta(9, 1), 0, Buffer.from("other")));
    expect(await run(storage.completeSnapshot(stored(meta(9, 1), ["whole"])))).toBe(false);
    await run(storage.writeSnapshotChunk(meta(9, 1), 0, Buffer.from("whole")));
    expect(await run(storage.completeSnapshot(stored(meta(9, 1), ["whole"])))).toBe(true);
    expect((await run(create().open())).snapshot).toEqual(stored(meta(9, 1), ["whole"]));
  });

  test(`${name}: an own snapshot begun while another's first chunk comes in is not cleared away with the rest`, async () => {
    const { create, run } = bound(make());
    const storage = create();
    await run(storage.open());
    await run(storage.persist(batch({ entries: entries(1, 9, 1) })));
    const theirs = stored(meta(20, 1), ["theirs"]);
    for (let round = 0; round < 3; round++) {
      const index = 7 + round;
      const ours = stored(meta(index, 1), ["our", "s"]);
      await run(
        Promise.all([
          storage.receiveSnapshotChunk(theirs, 0, Buffer.from("theirs")),
          storage.writeSnapshotChunk(ours.meta, 0, Buffer.from("our")),
        ]),
      );
      await run(storage.writeSnapshotChunk(ours.meta, 1, Buffer.from("s")));
      expect(await run(storage.completeSnapshot(ours))).toBe(true);
      expect(await chunksOf(storage, run, ours)).toEqual(["our", "s"]);
    }
    expect((await run(create().open())).receiving).toEqual({ snapshot: theirs, next: 1 });
  });

  test(`${name}: after a compaction of everything, and a restart, entries go on`, async () => {
    const { create, run } = bound(make());
    const storage = create();
    await run(storage.open());
    await run(storage.persist(batch({ entries: entries(1, 9, 1) })));
    await run(storage.writeSnapshotChunk(meta(9, 1), 0, Buffer.from("all")));
    await run(storage.completeSnapshot(stored(meta(9, 1), ["all"])));
    await run(storage.compactTo(9 as LogIndex));
    await run(storage.close());
    const next = create();
    // The power may have gone before the compaction was on disk: then the entries are merely still there.
    const beyond = (opened: OpenedStorage): readonly string[] => texts(opened.entries.filter(({ index }) => index > 9));
    const first = await run(next.open());
    expect(beyond(first)).toEqual([]);
    expect(first).toMatchObject({ voting: { kind: "full" }, findings: [] });
    await run(next.persist(batch({ entries: entries(10, 11, 1) })));
    await run(next.persist(batch({ entries: entries(11, 12, 2) })));
    const opened = await run(create().open());
    expect(beyond(opened)).toEqual(texts([entry(10, 1), ...entries(11, 12, 2)]));
    expect(opened.voting.kind).toBe("full");
  });

  test(`${name}: a snapshot that was staged and never switched to is not there`, async () => {
    const { create, run } = bound(make());
    const storage = create();
    await run(storage.open());
    await run(storage.persist(batch({ entries: entries(1, 3, 1) })));
    await run(storage.writeSnapshotChunk(meta(20, 2), 0, Buffer.from("state")));
    const opened = await run(create().open());
    expect(opened.snapshot).toBeNull();
    expect(opened.entries).toHaveLength(3);
  });

  test(`${name}: random batches, cuts and restarts leave what a plain array would hold`, async () => {
    const { create, run } = bound(make());
    const random = createRandom(testSeed("storage contract"));
    let storage = create();
    await run(storage.open());
    let model: Entry[] = [];
    let term = 1;
    for (let step = 0; step < 120; step++) {
      if (random.below(8) === 0) {
        storage = create();
        const opened = await run(storage.open());
        expect(texts(opened.entries)).toEqual(texts(model));
        expect(opened.voting.kind).toBe("full");
        continue;
      }
      if (random.below(4) === 0) term++;
      const from = model.length === 0 || random.below(3) > 0 ? model.length + 1 : 1 + random.below(model.length);
      const added = entries(from, from + random.below(6), term);
      model = [...model.slice(0, from - 1), ...added];
      await run(
        storage.persist(
          batch({ entries: added, hardState: random.below(3) === 0 ? { term: term as Term, votedFor: null } : null }),
        ),
      );
    }
  });
}
