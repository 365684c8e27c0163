/**
 * The raft storage on a real LevelDB and a real file system: what LevelDB says nothing about is noticed all the same, and a
 * disk that is full in earnest costs nothing that was promised.
 */
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { nodeId, type LogIndex, type Term } from "../../core/brands.js";
import { LevelStorage } from "../../manager/raft/storage/level-storage.js";
import type { OpenedStorage } from "../../manager/raft/storage/storage.js";
import { createNodeDisk } from "../../runtime/node/disk.js";
import { nodeClock } from "../../runtime/node/env.js";
import { batch, entries, meta, stored, texts } from "../raft/storage-contract.js";

const OWNER = { clusterId: "test", clusterEpoch: 1, nodeId: 1 };
const scratch = mkdtempSync(join(tmpdir(), "ananta-storage-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const storageIn = (folder: string): LevelStorage =>
  new LevelStorage({ disk: createNodeDisk(folder), clock: nodeClock, folder, owner: OWNER, bootstrap: true });

async function open(folder: string): Promise<OpenedStorage> {
  const storage = storageIn(folder);
  const opened = await storage.open();
  await storage.close();
  return opened;
}

describe("LevelDB's own log, damaged", () => {
  /** A storage with some history, closed in order, all of it in LevelDB's write-ahead log. */
  async function filled(folder: string): Promise<void> {
    const storage = storageIn(folder);
    await storage.open();
    await storage.persist(batch({ hardState: { term: 2 as Term, votedFor: nodeId(1) } }));
    for (let at = 0; at < 4; at++) await storage.persist(batch({ entries: entries(at * 2 + 1, at * 2 + 2, 2) }));
    await storage.persist(batch({ hardState: { term: 3 as Term, votedFor: null }, entries: entries(8, 9, 3) }));
    await storage.close();
  }

  const walOf = (folder: string): string => {
    const names = readdirSync(join(folder, "log")).filter((name) => name.endsWith(".log"));
    return join(folder, "log", names.sort().at(-1)!);
  };

  function judge(healthy: OpenedStorage, opened: OpenedStorage, what: string): void {
    // Without its newest batch the log may show what that batch replaced; never what nobody wrote.
    const written = texts([...entries(1, 8, 2), ...entries(8, 9, 3)]);
    expect(written, what).toEqual(expect.arrayContaining([...texts(opened.entries)]));
    if (opened.voting.kind === "never") return;
    expect(opened.hardState, what).toEqual(healthy.hardState);
    if (opened.voting.kind === "full") expect(texts(opened.entries), what).toEqual(texts(healthy.entries));
  }

  test("whatever it drops without a word is noticed: a flipped bit in any byte, a cut at any place", async () => {
    const whole = join(scratch, "whole");
    await filled(whole);
    const copy = join(scratch, "copy");
    const altered = async (change: (wal: Buffer) => Buffer): Promise<OpenedStorage> => {
      rmSync(copy, { recursive: true, force: true });
      cpSync(whole, copy, { recursive: true });
      const wal = walOf(copy);
      writeFileSync(wal, change(readFileSync(wal)));
      return open(copy);
    };
    const healthy = await altered((wal) => wal);
    expect(healthy.voting.kind).toBe("full");
    expect(texts(healthy.entries)).toEqual(texts([...entries(1, 7, 2), ...entries(8, 9, 3)]));
    const { size } = statSync(walOf(whole));
    expect(size).toBeGreaterThan(500);
    let noticed = 0;
    for (let at = 0; at < size; at += 9) {
      const flipped = await altered((wal) => {
        wal[at]! ^= 1 << (at & 7);
        return wal;
      });
      judge(healthy, flipped, `a bit of byte ${at}`);
      if (flipped.voting.kind !== "full") noticed++;
    }
    for (let length = 0; length < size; length += 23) {
      const cut = await altered((wal) => wal.subarray(0, length));
      judge(healthy, cut, `cut to ${length} bytes`);
      expect(cut.voting.kind, `cut to ${length} bytes`).not.toBe("full");
    }
    expect(noticed).toBeGreaterThan(size / 18); // LevelDB itself opened in all those cases
  }, 300_000);
});

/** A small file system of its own; null where that needs rights this user does not have. */
function smallFileSystem(): { readonly folder: string; unmount(): void } | null {
  const folder = mkdtempSync(join(tmpdir(), "ananta-full-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], { stdio: "ignore" });
  } catch {
    rmSync(folder, { recursive: true, force: true });
    return null;
  }
  return {
    folder,
    unmount: () => {
      execFileSync("umount", [folder]);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

describe("a file system that is full", () => {
  const writes: readonly [string, (storage: LevelStorage) => Promise<unknown>][] = [
    ["an append", (storage) => storage.persist(batch({ entries: [large(4)] }))],
    [
      "a vote together with an append",
      (storage) => storage.persist(batch({ hardState: { term: 5 as Term, votedFor: nodeId(2) }, entries: [large(4)] })),
    ],
    ["an own snapshot", (storage) => storage.writeSnapshotChunk(meta(3, 1), 0, new Uint8Array(900_000).fill(7))],
    [
      "a received snapshot",
      (storage) => storage.receiveSnapshotChunk(stored(meta(9, 1), ["x"]), 0, new Uint8Array(900_000).fill(7)),
    ],
  ];
  const large = (at: number) => ({ index: at as LogIndex, term: 1 as Term, payload: new Uint8Array(900_000).fill(9) });

  test.each(writes)(
    "met in %s: no acknowledgement, no half state, and all is well when there is room again",
    async (_what, write) => {
      const small = smallFileSystem();
      if (small === null) {
        process.stderr.write(
          "skipped: a small file system cannot be mounted here (root and CAP_SYS_ADMIN are needed)\n",
        );
        return;
      }
      try {
        const data = join(small.folder, "raft");
        const storage = storageIn(data);
        await storage.open();
        await storage.persist(
          batch({ hardState: { term: 1 as Term, votedFor: nodeId(1) }, entries: entries(1, 3, 1) }),
        );
        const filler = join(small.folder, "filler");
        execFileSync("sh", ["-c", `head -c 16000000 /dev/zero > "${filler}" 2>/dev/null || true`]);
        expect(await storage.freeBytes()).toBeLessThan(4_096);
        const failure: unknown = await write(storage).then(
          () => "acknowledged",
          (error: unknown) => error,
        );
        expect(failure).toMatchObject({ code: "STORAGE_FAILED", facts: { full: true } });
        expect((failure as Error).message).toMatch(/make room and start the process again/);
        await expect(storage.persist(batch({ entries: entries(4, 4, 1) }))).rejects.toMatchObject({
          code: "STORAGE_FAILED",
        });
        await storage.close();
        rmSync(filler);
        const again = storageIn(data);
        const opened = await again.open();
        expect(opened.voting.kind).toBe("full");
        expect(opened.hardState.term).toBeLessThanOrEqual(5);
        expect(opened.hardState.term).toBeGreaterThanOrEqual(1);
        expect(texts(opened.entries)).toEqual(texts(entries(1, 3, 1)));
        expect(opened.snapshot).toBeNull();
        await again.persist(batch({ entries: entries(4, 5, 6), hardState: { term: 6 as Term, votedFor: null } }));
        await again.close();
        expect(texts((await open(data)).entries)).toEqual(texts([...entries(1, 3, 1), ...entries(4, 5, 6)]));
      } finally {
        small.unmount();
      }
    },
  );
});
