/** What `Disk` promises, as one suite for every implementation. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { AnantaError } from "../../core/errors.js";
import type { Disk } from "../../runtime/env.js";

export interface DiskFixture {
  readonly disk: Disk;
  /** A folder that exists for this test alone. */
  readonly folder: string;
  run<T>(promise: Promise<T>): Promise<T>;
  /** Makes the store in the folder impossible to open. It is closed. */
  damageStore(folder: string): Promise<void>;
  dispose(): Promise<void>;
}

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
const plain = (view: Uint8Array | undefined): number[] | undefined => (view === undefined ? undefined : [...view]);

export function diskContract(name: string, create: () => Promise<DiskFixture>): void {
  describe(`disk contract: ${name}`, () => {
    let fixture: DiskFixture;
    let disk: Disk;
    let run: DiskFixture["run"];
    beforeEach(async () => {
      fixture = await create();
      disk = fixture.disk;
      run = (promise) => fixture.run(promise);
    });
    afterEach(() => fixture.dispose());

    it("keeps a store's content over closing and opening", async () => {
      const folder = `${fixture.folder}/a/b/store`;
      const first = await run(disk.openStore(folder));
      await run(first.put(bytes(1), bytes(10, 11), { sync: true } as object));
      await run(
        first.batch(
          [
            { type: "put", key: bytes(2), value: bytes(20) },
            { type: "del", key: bytes(1) },
          ],
          { sync: true } as object,
        ),
      );
      await run(first.close());
      const second = await run(disk.openStore(folder));
      expect(plain(await run(second.get(bytes(2))))).toEqual([20]);
      expect(await run(second.get(bytes(1)))).toBeUndefined();
      expect(await run(second.has(bytes(2)))).toBe(true);
      await run(second.close());
    });

    it("iterates keys in the order of their bytes, within bounds, both ways", async () => {
      const store = await run(disk.openStore(`${fixture.folder}/store`));
      const keys = [[0], [0, 0], [1], [1, 255], [2], [127], [128], [255]];
      await run(
        store.batch(
          [...keys].reverse().map((key) => ({ type: "put", key: bytes(...key), value: bytes(key.length) }) as const),
        ),
      );
      const all = await run(store.keys().all());
      expect(all.map((key) => [...key])).toEqual(keys);
      expect(all.every((key) => key instanceof Uint8Array)).toBe(true);
      const inner = await run(store.keys({ gt: bytes(0), lte: bytes(2) }).all());
      expect(inner.map((key) => [...key])).toEqual([[0, 0], [1], [1, 255], [2]]);
      const last = await run(store.iterator({ lt: bytes(128), reverse: true, limit: 2 }).all());
      expect(last.map(([key, value]) => [[...key], [...value]])).toEqual([
        [[127], [1]],
        [[2], [1]],
      ]);
      await run(store.clear({ gte: bytes(1), lt: bytes(128) }));
      expect((await run(store.keys().all())).map((key) => [...key])).toEqual([[0], [0, 0], [128], [255]]);
      await run(store.close());
    });

    it("gives an iterator the content of the moment it was made", async () => {
      const store = await run(disk.openStore(`${fixture.folder}/store`));
      await run(store.put(bytes(1), bytes(1)));
      const iterator = store.iterator();
      await run(store.put(bytes(2), bytes(2)));
      expect(await run(iterator.all())).toHaveLength(1);
      await run(store.close());
    });

    it("opens a store once at a time", async () => {
      const folder = `${fixture.folder}/store`;
      const store = await run(disk.openStore(folder));
      const error = await run(disk.openStore(folder).then(() => null, AnantaError.from));
      expect(error?.code).toBe("STORAGE_LOCKED");
      expect(error?.message).toContain(folder);
      await run(store.close());
      await run((await run(disk.openStore(folder))).close());
    });

    it("says STORAGE_DAMAGED for a store that cannot be opened", async () => {
      const folder = `${fixture.folder}/store`;
      const store = await run(disk.openStore(folder));
      await run(store.put(bytes(1), bytes(1)));
      await run(store.close());
      await fixture.damageStore(folder);
      const error = await run(disk.openStore(folder).then(() => null, AnantaError.from));
      expect(error?.code).toBe("STORAGE_DAMAGED");
    });

    it("keeps a file's content over closing and opening", async () => {
      const path = `${fixture.folder}/sub/file`;
      const file = await run(disk.openFile(path));
      expect(await run(file.size())).toBe(0);
      await run(file.writeAt(4, bytes(4, 5, 6)));
      await run(file.writeAt(0, bytes(9)));
      await run(file.sync());
      await run(file.close());
      const again = await run(disk.openFile(path));
      expect(await run(again.size())).toBe(7);
      expect([...(await run(again.readAt(0, 100)))]).toEqual([9, 0, 0, 0, 4, 5, 6]);
      expect([...(await run(again.readAt(5, 1)))]).toEqual([5]);
      expect(await run(again.readAt(100, 1))).toHaveLength(0);
      await run(again.close());
    });

    it("copies what it is given to write", async () => {
      const file = await run(disk.openFile(`${fixture.folder}/file`));
      const buffer = bytes(1, 2, 3);
      const written = file.writeAt(0, buffer);
      await run(written);
      buffer.fill(0);
      expect([...(await run(file.readAt(0, 3)))]).toEqual([1, 2, 3]);
      await run(file.close());
    });

    it("lists and removes", async () => {
      expect(await run(disk.list(`${fixture.folder}/nothing`))).toEqual([]);
      await run(disk.makeFolder(`${fixture.folder}/x/y`));
      await run(disk.makeFolder(`${fixture.folder}/x/y`));
      await run((await run(disk.openFile(`${fixture.folder}/x/file`))).close());
      expect([...(await run(disk.list(`${fixture.folder}/x`)))].sort()).toEqual(["file", "y"]);
      await run(disk.remove(`${fixture.folder}/x`));
      await run(disk.remove(`${fixture.folder}/x`));
      expect(await run(disk.list(`${fixture.folder}/x`))).toEqual([]);
    });

    it("knows how many bytes are free", async () => {
      expect(await run(disk.freeBytes(fixture.folder))).toBeGreaterThan(1_000_000);
    });
  });
}
