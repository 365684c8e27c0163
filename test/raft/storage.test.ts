import { MemoryLevel } from "memory-level";
import { describe, expect, test } from "vitest";
import { nodeId, type LogIndex, type Term } from "../../core/brands.js";
import { LevelStorage, type LevelStorageOptions } from "../../manager/raft/storage/level-storage.js";
import { MemoryStorage } from "../../manager/raft/storage/memory-storage.js";
import type { OpenedStorage } from "../../manager/raft/storage/storage.js";
import type { Clock, Disk, DiskFile, Store } from "../../runtime/env.js";
import { VirtualWorld, testSeed } from "../kit/virtual-world.js";
import { batch, entries, meta, storageContract, stored, type StorageUnderTest } from "./storage-contract.js";

const OWNER = { clusterId: "test", clusterEpoch: 1, nodeId: 1 };
const MACHINE = "m1";

/** Time stands still: no timer ever fires. */
const STILL: Clock = {
  nowMs: () => 0,
  wallMs: () => 0,
  setTimer: () => ({ cancel: () => undefined }),
  nextTurn: () => ({ cancel: () => undefined }),
};

class LevelUnderTest implements StorageUnderTest {
  readonly world = new VirtualWorld({ seed: testSeed("level storage"), disk: { unsyncedWrites: "by-chance" } });
  #started = false;

  create(options: Partial<LevelStorageOptions> = {}): LevelStorage {
    const env = this.#started ? this.world.restart(MACHINE) : this.world.env(MACHINE);
    this.#started = true;
    return new LevelStorage({
      disk: env.disk,
      clock: env.clock,
      folder: "/raft",
      owner: OWNER,
      bootstrap: true,
      ...options,
    });
  }

  run<Result>(promise: Promise<Result>): Promise<Result> {
    return this.world.run(promise);
  }

  /** A storage with some history, closed by a power loss. */
  async filled(): Promise<this> {
    const storage = this.create();
    await this.run(storage.open());
    await this.run(storage.persist(batch({ hardState: { term: 2 as Term, votedFor: nodeId(1) } })));
    for (let at = 0; at < 5; at++)
      await this.run(
        storage.persist(batch({ entries: entries(at * 3 + 1, at * 3 + 3, 2), commitIndex: (at * 3) as LogIndex })),
      );
    await this.run(storage.writeSnapshotChunk(meta(4, 2), 0, Buffer.from("the state")));
    await this.run(storage.completeSnapshot(stored(meta(4, 2), ["the state"])));
    await this.run(
      storage.persist(batch({ hardState: { term: 5 as Term, votedFor: nodeId(3) }, entries: entries(16, 18, 5) })),
    );
    await this.run(storage.compactTo(4 as LogIndex));
    await this.run(storage.persist(batch({ entries: entries(19, 19, 5) })));
    this.world.crash(MACHINE);
    return this;
  }

  open(options: Partial<LevelStorageOptions> = {}): Promise<OpenedStorage> {
    return this.run(this.create(options).open());
  }
}

storageContract("memory storage", () => {
  const storage = new MemoryStorage();
  return { create: () => storage, run: (promise) => promise };
});

storageContract("level storage on the simulated disk", () => new LevelUnderTest());

/** memory-level below the same code: nothing here depends on what our own simulated store does. */
storageContract("level storage on memory-level", () => {
  const store = new MemoryLevel<Uint8Array, Uint8Array>({
    keyEncoding: "view",
    valueEncoding: "view",
    storeEncoding: "view",
  });
  let content = new Uint8Array(0);
  const file: DiskFile = {
    size: () => Promise.resolve(content.length),
    readAt: (offset, count) => Promise.resolve(content.slice(offset, offset + count)),
    writeAt: (offset, bytes) => {
      const grown = new Uint8Array(Math.max(content.length, offset + bytes.length));
      grown.set(content);
      grown.set(bytes, offset);
      content = grown;
      return Promise.resolve();
    },
    sync: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
  const disk: Disk = {
    openStore: () => store.open().then(() => store as unknown as Store),
    openFile: () => Promise.resolve(file),
    makeFolder: () => Promise.resolve(),
    list: () => Promise.resolve([]),
    remove: () => Promise.resolve(),
    freeBytes: () => Promise.resolve(1e12),
  };
  return {
    create: () => new LevelStorage({ disk, clock: STILL, folder: "/raft", owner: OWNER, bootstrap: true }),
    run: (promise) => promise,
  };
});

describe("damage", () => {
  const logFolder = "/raft/log";

  test("an older version of a block that comes back is noticed by the block after it", async () => {
    const one = new LevelUnderTest();
    const storage = one.create();
    await one.run(storage.open());
    await one.run(storage.persist(batch({ entries: entries(1, 3, 1) })));
    const old = one.world
      .disk(MACHINE)
      .storeEntries(logFolder)
      .filter((record) => record.key[0] === "B".charCodeAt(0));
    await one.run(storage.persist(batch({ entries: entries(1, 3, 2) })));
    await one.run(storage.persist(batch({ entries: entries(4, 6, 2) })));
    one.world.crash(MACHINE);
    one.world.disk(MACHINE).tamperStore(logFolder, old);
    const opened = await one.open();
    expect(opened.voting.kind).toBe("until-caught-up");
    expect(opened.entries).toHaveLength(3);
  });

  test("term and vote lost in the file means that this replica never votes again, also after the next start", async () => {
    const one = await new LevelUnderTest().filled();
    one.world.disk(MACHINE).tamperFile("/raft/hard-state", (content) => content.fill(0));
    expect((await one.open()).voting).toMatchObject({ kind: "never" });
    expect((await one.open()).voting).toMatchObject({ kind: "never" });
  });

  test("a store that went back in time is told from an interrupted write by more than one generation", async () => {
    const one = await new LevelUnderTest().filled();
    const early = [...one.world.disk(MACHINE).storeEntries(logFolder)];
    const storage = one.create();
    await one.run(storage.open());
    for (let term = 6; term < 9; term++)
      await one.run(storage.persist(batch({ hardState: { term: term as Term, votedFor: null } })));
    one.world.crash(MACHINE);
    one.world.disk(MACHINE).tamperStore(logFolder, early);
    const opened = await one.open();
    expect(opened.hardState.term).toBe(8);
    expect(opened.voting.kind).toBe("until-caught-up");
  });

  test("a repaired log has its rights back after the next start", async () => {
    const one = await new LevelUnderTest().filled();
    const block = one.world
      .disk(MACHINE)
      .storeEntries(logFolder)
      .find((record) => record.key[0] === "B".charCodeAt(0))!;
    one.world.disk(MACHINE).tamperStore(logFolder, [{ key: block.key, value: null }]);
    const storage = one.create();
    const opened = await one.run(storage.open());
    expect(opened.voting.kind).toBe("until-caught-up");
    await one.run(storage.markRepaired());
    expect((await one.open()).voting.kind).toBe("full");
  });

  test("a failed write is final: nothing is written after it", async () => {
    const one = new LevelUnderTest();
    const storage = one.create();
    await one.run(storage.open());
    one.world.disk(MACHINE).failNextSync();
    await expect(one.run(storage.persist(batch({ entries: entries(1, 1, 1) })))).rejects.toMatchObject({
      code: "STORAGE_FAILED",
    });
    await expect(one.run(storage.persist(batch({ entries: entries(1, 1, 1) })))).rejects.toMatchObject({
      code: "STORAGE_FAILED",
    });
  });
});

describe("whose folder", () => {
  test("an empty folder without bootstrap counts as lost state, for ever", async () => {
    const one = new LevelUnderTest();
    expect((await one.open({ bootstrap: false })).voting).toMatchObject({ kind: "never" });
    expect((await one.open({ bootstrap: true })).voting).toMatchObject({ kind: "never" });
  });

  test.each([{ clusterId: "other" }, { clusterEpoch: 2 }, { nodeId: 2 }])(
    "a folder of another owner is refused: %o",
    async (changes) => {
      const one = await new LevelUnderTest().filled();
      await expect(one.open({ owner: { ...OWNER, ...changes } })).rejects.toMatchObject({ code: "WRONG_CLUSTER" });
    },
  );

  test("formatting that was interrupted by a power loss is done again", async () => {
    for (let ms = 0.1; ms < 2; ms += 0.1) {
      const one = new LevelUnderTest();
      void one.create().open();
      await one.world.advance(ms);
      one.world.crash(MACHINE);
      expect((await one.open()).voting.kind).toBe("full");
    }
  });
});
