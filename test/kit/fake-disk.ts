/**
 * One machine's disk: it outlives the processes that use it. Faults are injected here, below everybody's checksums.
 *
 * What a process wrote is seen by later reads at once and survives the end of the process. Only what was synced survives a
 * power loss; of the rest nothing stays, or, with `unsyncedWrites: "by-chance"`, a part chosen by seed: of a store the
 * oldest writes, of a file any writes, each whole, torn (a prefix) or not at all.
 */
import { AnantaError } from "../../core/errors.js";
import type { Random } from "../../core/random.js";
import type { Disk, DiskFile, Store } from "../../runtime/env.js";
import { FakeStore, StoreImage, type StoreWrite } from "./fake-store.js";
import { type VirtualProcess, never } from "./virtual-process.js";

export interface DiskOptions {
  /** Duration of a synced write or fdatasync, uniform in [lo, hi] ms. */
  readonly syncMs: readonly [number, number];
  /** Duration of any other operation. */
  readonly operationMs: readonly [number, number];
  readonly unsyncedWrites: "lost" | "by-chance";
  readonly capacityBytes: number;
}

export const DEFAULT_DISK_OPTIONS: DiskOptions = {
  syncMs: [0.2, 0.6], // one fdatasync on the machine of our measurements: 0.2 alone, 0.4 when five share the disk
  operationMs: [0.01, 0.05],
  unsyncedWrites: "lost",
  capacityBytes: 2 ** 40,
};

interface FileWrite {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

class FileImage {
  content = new Uint8Array(0);
  #durable = new Uint8Array(0);
  #unsynced: FileWrite[] = [];

  write(write: FileWrite): void {
    this.content = applied(this.content, write);
    this.#unsynced.push(write);
  }

  /** A sync makes durable what was written before it was asked for. */
  beginSync(): () => void {
    const covered = new Set(this.#unsynced);
    return () => {
      for (const write of this.#unsynced) if (covered.has(write)) this.#durable = applied(this.#durable, write);
      this.#unsynced = this.#unsynced.filter((write) => !covered.has(write));
    };
  }

  powerLoss(chance: Random | null): void {
    for (const write of this.#unsynced) {
      const fate = chance?.below(3) ?? 0;
      if (fate === 1) this.#durable = applied(this.#durable, write);
      if (fate === 2) {
        const torn = write.bytes.subarray(0, chance?.below(write.bytes.length + 1));
        this.#durable = applied(this.#durable, { offset: write.offset, bytes: torn });
      }
    }
    this.#unsynced = [];
    this.content = this.#durable.slice();
  }

  /** The medium itself changes: present content and durable content alike. */
  tamper(content: Uint8Array): void {
    this.content = content.slice();
    this.#durable = content.slice();
    this.#unsynced = [];
  }
}

function applied(content: Uint8Array<ArrayBuffer>, { offset, bytes }: FileWrite): Uint8Array<ArrayBuffer> {
  const size = Math.max(content.length, offset + bytes.length);
  const out = size === content.length ? content : new Uint8Array(size);
  if (out !== content) out.set(content);
  out.set(bytes, offset);
  return out;
}

export class FakeDisk {
  readonly #options: DiskOptions;
  readonly #random: Random;
  readonly #files = new Map<string, FileImage>();
  readonly #stores = new Map<string, StoreImage>();
  readonly #folders = new Set<string>();
  #capacityBytes: number;
  #failingSyncs = 0;
  #failingWrites = 0;
  #extraSyncMs = 0;
  #failingReads = 0;
  /** Called around every write and sync: a crash before, inside or after one begins here. */
  onWrite: ((moment: "issued" | "completed") => void) | null = null;

  constructor(random: Random, options: DiskOptions) {
    this.#random = random;
    this.#options = options;
    this.#capacityBytes = options.capacityBytes;
  }

  // ---- faults ----

  /** The next `count` fdatasyncs and synced store writes fail; nothing of them is durable. */
  failNextSync(count = 1): void {
    this.#failingSyncs = count;
  }

  /** The next `count` writes of any kind fail. */
  failNextWrite(count = 1): void {
    this.#failingWrites = count;
  }

  /** The next `count` reads of stores and files fail. */
  failNextRead(count = 1): void {
    this.#failingReads = count;
  }

  /** Ends every fault that lasts, and those that have not struck yet. */
  mend(): void {
    this.#failingSyncs = 0;
    this.#failingWrites = 0;
    this.#failingReads = 0;
    this.#extraSyncMs = 0;
    this.#capacityBytes = this.#options.capacityBytes;
    this.onWrite = null;
  }

  /** Stores on this disk, by folder. */
  get storeFolders(): readonly string[] {
    return [...this.#stores.keys()];
  }

  get filePaths(): readonly string[] {
    return [...this.#files.keys()];
  }

  /** Every sync takes so much longer from now on; 0 ends it. */
  slowSync(extraMs: number): void {
    this.#extraSyncMs = extraMs;
  }

  /** Leaves so many bytes free; 0 is a full disk. */
  setFreeBytes(bytes: number): void {
    this.#capacityBytes = this.usedBytes() + bytes;
  }

  /** The store in `folder` cannot be opened any more. */
  damageStore(folder: string): void {
    this.#existingStore(folder).damaged = true;
  }

  /** Changes records without anybody noticing: a value of null loses the record. */
  tamperStore(folder: string, writes: readonly StoreWrite[]): void {
    this.#existingStore(folder).tamper(writes);
  }

  /** The records of a store, as they would be read. */
  storeEntries(folder: string): readonly { readonly key: Uint8Array; readonly value: Uint8Array }[] {
    return this.#existingStore(folder).entries;
  }

  /** What a power loss now would leave of one key, at least; undefined where there is no such store or key. */
  durableRecord(folder: string, key: Uint8Array): Uint8Array | undefined {
    return this.#stores.get(normal(folder))?.durable(key);
  }

  /** Replaces a file's content: flipped bytes, an old version, a cut tail. */
  tamperFile(path: string, change: (content: Uint8Array) => Uint8Array): void {
    const image = this.#existingFile(path);
    image.tamper(change(image.content.slice()));
  }

  fileContent(path: string): Uint8Array {
    return this.#existingFile(path).content.slice();
  }

  /** A new, empty disk. */
  wipe(): void {
    this.#files.clear();
    this.#stores.clear();
    this.#folders.clear();
  }

  powerLoss(): void {
    const chance = this.#options.unsyncedWrites === "by-chance" ? this.#random : null;
    for (const image of this.#files.values()) image.powerLoss(chance);
    for (const image of this.#stores.values()) image.powerLoss(chance);
  }

  /** Frees the locks of an ended process. */
  processEnd(process: VirtualProcess): void {
    for (const image of this.#stores.values()) {
      if (image.openedBy !== process) continue;
      image.openedBy = null;
      image.processEnd();
    }
  }

  usedBytes(): number {
    let sum = 0;
    for (const image of this.#files.values()) sum += image.content.length;
    for (const image of this.#stores.values()) sum += image.bytes;
    return sum;
  }

  // ---- what one process sees ----

  forProcess(process: VirtualProcess): Disk {
    const operation = <T>(effect: () => T): Promise<T> => process.operation(this.#operationMs(), effect);
    return {
      openStore: (folder) => this.#openStore(process, normal(folder)),
      openFile: (path) =>
        operation(() => {
          const at = normal(path);
          this.#makeParents(at);
          let image = this.#files.get(at);
          if (image === undefined) this.#files.set(at, (image = new FileImage()));
          return this.#openedFile(process, at, image);
        }),
      makeFolder: (path) =>
        operation(() => {
          const at = normal(path);
          this.#makeParents(at);
          this.#folders.add(at);
        }),
      list: (folder) => operation(() => this.#list(normal(folder))),
      remove: (path) => operation(() => this.#remove(normal(path))),
      freeBytes: () => operation(() => Math.max(0, this.#capacityBytes - this.usedBytes())),
    };
  }

  async #openStore(process: VirtualProcess, folder: string): Promise<Store> {
    await process.operation(this.#operationMs(), () => {
      this.#makeParents(folder);
      this.#folders.add(folder);
    });
    let image = this.#stores.get(folder);
    if (image === undefined) this.#stores.set(folder, (image = new StoreImage()));
    if (image.openedBy !== null) {
      throw new AnantaError("STORAGE_LOCKED", `the store in ${folder} is in use by another process`, { folder });
    }
    if (image.damaged) throw new AnantaError("STORAGE_DAMAGED", `the store in ${folder} cannot be opened`, { folder });
    image.openedBy = process;
    const released = process.hold("store", folder);
    let busyUntilMs = 0;
    const store = new FakeStore({
      process,
      image,
      readMs: () => this.#operationMs(),
      readFailure: () =>
        this.#readFails() ? Object.assign(new Error("input/output error"), { code: "LEVEL_IO_ERROR" }) : null,
      watch: (moment) => this.onWrite?.(moment),
      writeMs: (_byteCount, sync) => {
        const nowMs = process.clock.nowMs;
        busyUntilMs = Math.max(busyUntilMs, nowMs) + (sync ? this.#syncMs() : this.#operationMs());
        return busyUntilMs - nowMs;
      },
      writeFailure: (byteCount, sync) => {
        const message = this.#failure(byteCount, sync);
        return message === null ? null : Object.assign(new Error(message), { code: "LEVEL_IO_ERROR" });
      },
      closed: () => {
        image.openedBy = null;
        released();
      },
    });
    await store.open();
    return store;
  }

  #openedFile(process: VirtualProcess, path: string, image: FileImage): DiskFile {
    const released = process.hold("file", path);
    const operation = <T>(effect: () => T): Promise<T> => process.operation(this.#operationMs(), effect);
    const failed = (what: string, reason: string): AnantaError =>
      new AnantaError("STORAGE_FAILED", `${what} ${path}: ${reason}`, { path });
    return {
      size: () => operation(() => image.content.length),
      readAt: (offset, byteCount) =>
        operation(() => {
          if (this.#readFails()) throw failed("read", "input/output error");
          return image.content.slice(offset, offset + byteCount);
        }),
      writeAt: (offset, bytes) => {
        const write: FileWrite = { offset, bytes: bytes.slice() };
        this.onWrite?.("issued");
        return operation(() => {
          const growth = Math.max(0, offset + bytes.length - image.content.length);
          const failure = this.#failure(growth, false);
          if (failure !== null) throw failed("write", failure);
          image.write(write);
          this.onWrite?.("completed");
        });
      },
      sync: () => {
        this.onWrite?.("issued");
        if (process.crashed) return never();
        const completed = image.beginSync();
        return process.operation(this.#syncMs(), () => {
          const failure = this.#failure(0, true);
          if (failure !== null) throw failed("sync", failure);
          completed();
          this.onWrite?.("completed");
        });
      },
      close: () => operation(released).then(() => undefined),
    };
  }

  /** Why this write must fail, or null. */
  #failure(growthBytes: number, sync: boolean): string | null {
    if (sync && this.#failingSyncs > 0) {
      this.#failingSyncs--;
      return "input/output error";
    }
    if (this.#failingWrites > 0) {
      this.#failingWrites--;
      return "input/output error";
    }
    if (growthBytes > 0 && this.usedBytes() + growthBytes > this.#capacityBytes) return "no space left on device";
    return null;
  }

  #readFails(): boolean {
    if (this.#failingReads === 0) return false;
    this.#failingReads--;
    return true;
  }

  #operationMs(): number {
    return this.#between(this.#options.operationMs);
  }

  #syncMs(): number {
    return this.#between(this.#options.syncMs) + this.#extraSyncMs;
  }

  #between([lo, hi]: readonly [number, number]): number {
    return lo + (hi - lo) * this.#random.nextFloat();
  }

  #makeParents(path: string): void {
    for (let at = path.lastIndexOf("/"); at > 0; at = path.lastIndexOf("/", at - 1))
      this.#folders.add(path.slice(0, at));
  }

  #list(folder: string): readonly string[] {
    const names = new Set<string>();
    const prefix = `${folder}/`;
    for (const path of [...this.#files.keys(), ...this.#stores.keys(), ...this.#folders]) {
      if (path.startsWith(prefix)) names.add(path.slice(prefix.length).split("/")[0] ?? "");
    }
    return [...names].sort();
  }

  #remove(path: string): void {
    const below = (other: string): boolean => other === path || other.startsWith(`${path}/`);
    for (const key of this.#files.keys()) if (below(key)) this.#files.delete(key);
    for (const key of this.#stores.keys()) if (below(key)) this.#stores.delete(key);
    for (const key of this.#folders) if (below(key)) this.#folders.delete(key);
  }

  #existingStore(folder: string): StoreImage {
    const image = this.#stores.get(normal(folder));
    if (image === undefined) throw new AnantaError("NOT_FOUND", `no store in ${folder}`);
    return image;
  }

  #existingFile(path: string): FileImage {
    const image = this.#files.get(normal(path));
    if (image === undefined) throw new AnantaError("NOT_FOUND", `no file ${path}`);
    return image;
  }
}

/** One spelling per path: no empty parts, no ".", no slash at the end. */
function normal(path: string): string {
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  return (path.startsWith("/") ? "/" : "") + parts.join("/");
}
