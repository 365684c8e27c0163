/**
 * A disk as two values, the store's records and the hard-state file's bytes, that can be copied, altered and opened again a
 * thousand times a second. Every operation that changes it can be the one at which something happens.
 *
 *   before   the operation is not done, and nothing after it: the process was killed there
 *   after    it is done, and nothing after it
 *   never    this one is never answered; what was asked for beside it is still done; then the process is killed
 *   torn     half of a file's bytes are written (a store's batch not at all), and nothing after it
 *   error    it fails, and so does every write of the store from then on, as in LevelDB
 *   full     as error, with ENOSPC, and only where the operation needs room
 *
 * `powerLoss` takes back what was not synced.
 */
import { MemoryLevel } from "memory-level";
import type { Clock, Disk, DiskFile, Store, Timer } from "../../runtime/env.js";

export type FaultKind = "before" | "after" | "never" | "torn" | "error" | "full";

export interface DiskImage {
  /** Key in hex -> value. */
  readonly records: ReadonlyMap<string, Uint8Array>;
  readonly file: Uint8Array;
}

type Write = { readonly key: string; readonly value: Uint8Array | null };
type Batch = readonly { readonly type: "put" | "del"; readonly key: Uint8Array; readonly value?: Uint8Array }[];

const hex = (key: Uint8Array): string => Buffer.from(key).toString("hex");
const never = <T>(): Promise<T> => new Promise(() => undefined);
const full = (): Error =>
  Object.assign(new Error("IO error: 000005.log: No space left on device"), { code: "LEVEL_IO_ERROR" });
const broken = (): Error =>
  Object.assign(new Error("IO error: 000005.log: Input/output error"), { code: "LEVEL_IO_ERROR" });

export class ImageDisk {
  readonly #fault: { readonly at: number; readonly kind: FaultKind } | null;
  #records: Map<string, Uint8Array>;
  #synced: Map<string, Uint8Array>;
  #file: Uint8Array;
  #syncedFile: Uint8Array;
  #level: MemoryLevel<Uint8Array, Uint8Array> | null = null;
  #dead = false;
  #storeBroken = false;
  /** Operations that changed, or would have changed, something. */
  operations = 0;
  hit = false;

  constructor(image: DiskImage | null, fault: { readonly at: number; readonly kind: FaultKind } | null = null) {
    this.#fault = fault;
    this.#records = new Map(image?.records);
    this.#synced = new Map(image?.records);
    this.#file = image?.file.slice() ?? new Uint8Array(0);
    this.#syncedFile = this.#file.slice();
  }

  image(powerLoss = false): DiskImage {
    return powerLoss
      ? { records: new Map(this.#synced), file: this.#syncedFile.slice() }
      : { records: new Map(this.#records), file: this.#file.slice() };
  }

  get disk(): Disk {
    return {
      openStore: () => this.#openStore(),
      openFile: () => Promise.resolve(this.#openFile()),
      makeFolder: () => Promise.resolve(),
      list: () => Promise.resolve([]),
      remove: () => Promise.resolve(),
      freeBytes: () => Promise.resolve(1e12),
    };
  }

  async #openStore(): Promise<Store> {
    const level = new MemoryLevel<Uint8Array, Uint8Array>({
      keyEncoding: "view",
      valueEncoding: "view",
      storeEncoding: "view",
    });
    await level.batch([...this.#records].map(([key, value]) => ({ type: "put", key: Buffer.from(key, "hex"), value })));
    this.#level = level;
    const put = (key: Uint8Array, value: Uint8Array, options?: { sync?: boolean }): Promise<void> =>
      this.#write([{ key: hex(key), value }], options?.sync === true);
    const del = (key: Uint8Array, options?: { sync?: boolean }): Promise<void> =>
      this.#write([{ key: hex(key), value: null }], options?.sync === true);
    const batch = (operations: Batch, options?: { sync?: boolean }): Promise<void> =>
      this.#write(
        operations.map(({ key, value }) => ({ key: hex(key), value: value ?? null })),
        options?.sync === true,
      );
    const clear = ({ gte, lt }: { gte: Uint8Array; lt: Uint8Array }): Promise<void> => {
      const [from, to] = [hex(gte), hex(lt)];
      const covered = [...this.#records.keys()].filter((key) => key >= from && key < to);
      return covered.length === 0
        ? Promise.resolve()
        : this.#write(
            covered.map((key) => ({ key, value: null })),
            false,
          );
    };
    const reads = {
      get: (key: Uint8Array) => (this.#dead ? never() : level.get(key)),
      keys: (options: object) => level.keys(options),
      iterator: (options: object) => level.iterator(options),
      close: () => Promise.resolve(),
    };
    return { ...reads, put, del, batch, clear } as unknown as Store;
  }

  #openFile(): DiskFile {
    return {
      size: () => (this.#dead ? never() : Promise.resolve(this.#file.length)),
      readAt: (offset, count) => (this.#dead ? never() : Promise.resolve(this.#file.slice(offset, offset + count))),
      writeAt: (offset, bytes) =>
        this.#operation({
          needsRoom: offset + bytes.length > this.#file.length,
          whole: () => this.#writeFile(offset, bytes),
          torn: () => this.#writeFile(offset, bytes.subarray(0, bytes.length >> 1)),
        }),
      sync: () => {
        const content = this.#file.slice();
        return this.#operation({
          needsRoom: false,
          whole: () => {
            this.#syncedFile = content;
          },
        });
      },
      close: () => Promise.resolve(),
    };
  }

  #writeFile(offset: number, bytes: Uint8Array): void {
    const grown = new Uint8Array(Math.max(this.#file.length, offset + bytes.length));
    grown.set(this.#file);
    grown.set(bytes, offset);
    this.#file = grown;
  }

  async #write(writes: readonly Write[], sync: boolean): Promise<void> {
    if (this.#storeBroken) throw broken();
    await this.#operation({
      needsRoom: true,
      store: true,
      whole: () => {
        for (const { key, value } of writes) {
          if (value === null) this.#records.delete(key);
          else this.#records.set(key, value.slice());
        }
        if (sync) this.#synced = new Map(this.#records);
        return this.#level?.batch(
          writes.map(({ key, value }) =>
            value === null
              ? { type: "del" as const, key: Buffer.from(key, "hex") }
              : { type: "put" as const, key: Buffer.from(key, "hex"), value },
          ),
        );
      },
    });
  }

  async #operation(operation: {
    readonly needsRoom: boolean;
    readonly store?: boolean;
    readonly whole: () => unknown;
    readonly torn?: () => void;
  }): Promise<void> {
    if (this.#dead) return never();
    this.operations++;
    const fault = this.#fault?.at === this.operations ? this.#fault : null;
    const harmless = fault === null || (fault.kind === "full" && !operation.needsRoom);
    if (harmless) {
      await operation.whole();
      return this.#dead ? never() : undefined;
    }
    this.hit = true;
    switch (fault.kind) {
      case "after":
        this.#dead = true;
        await operation.whole();
        return never();
      case "never":
        return never();
      case "before":
        this.#dead = true;
        return never();
      case "torn":
        this.#dead = true;
        operation.torn?.();
        return never();
      case "error":
      case "full":
        if (operation.store === true) this.#storeBroken = true;
        throw fault.kind === "full" ? full() : broken();
    }
  }
}

/** Time that passes only when a test says so. */
export class HandClock implements Clock {
  #now = 0;
  readonly #timers = new Map<object, { readonly atMs: number; readonly callback: () => void }>();

  nowMs(): number {
    return this.#now;
  }

  wallMs(): number {
    return 0;
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    const id = {};
    this.#timers.set(id, { atMs: this.#now + delayMs, callback });
    return { cancel: () => this.#timers.delete(id) };
  }

  nextTurn(callback: () => void): Timer {
    return this.setTimer(0, callback);
  }

  /** Calls everything that is due by then. */
  pass(ms: number): void {
    this.#now += ms;
    for (const [id, { atMs, callback }] of [...this.#timers]) {
      if (atMs > this.#now || !this.#timers.delete(id)) continue;
      callback();
    }
  }

  get timers(): number {
    return this.#timers.size;
  }
}

/** Lets everything that can happen without time happen. */
export async function quiet(): Promise<void> {
  for (let turn = 0; turn < 300; turn++) await new Promise<void>((resolve) => process.nextTick(resolve)); // eslint-disable-line no-restricted-syntax -- a microtask, not time
}
