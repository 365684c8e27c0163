/**
 * An ordered key-value store over simulated durable media. Its content lives in a `StoreImage` that belongs to the disk and
 * survives the process; the `Store` that a process opens is a short-lived abstract-level over it.
 *
 * As LevelDB: writes take effect one after another; one with `sync` makes itself and all before it durable; after a failed
 * sync every later write fails. A power loss takes back the writes after the last sync, from the newest on.
 */
import { AbstractIterator, AbstractLevel, type AbstractIteratorOptions } from "abstract-level";
import { assert } from "../../core/assert.js";
import type { Random } from "../../core/random.js";
import { type VirtualProcess, never } from "./virtual-process.js";

export interface StoreWrite {
  readonly key: Uint8Array;
  /** Null deletes the key. */
  readonly value: Uint8Array | null;
}

export interface StoreEntry {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** Undoes one batch: the values that its keys had before, newest write last. */
type Undo = readonly StoreWrite[];

function compare(a: Uint8Array, b: Uint8Array): number {
  return Buffer.compare(a, b);
}

/** The content of one store on one disk. */
export class StoreImage {
  /** Sorted by key; appending at the end, as a log does, is cheap. */
  #entries: StoreEntry[] = [];
  #unsynced: Undo[] = [];
  /** Issued, but not completed when the power went. */
  #inFlight: (readonly StoreWrite[])[] = [];
  /** Only one process may have it open. */
  openedBy: VirtualProcess | null = null;
  /** Makes the next open fail, as a missing or broken MANIFEST would. */
  damaged = false;
  bytes = 0;

  get entries(): readonly StoreEntry[] {
    return this.#entries;
  }

  get(key: Uint8Array): Uint8Array | undefined {
    const at = this.#find(key);
    const entry = this.#entries[at];
    return entry !== undefined && compare(entry.key, key) === 0 ? entry.value : undefined;
  }

  /** What a power loss now would leave of this key, at least. */
  durable(key: Uint8Array): Uint8Array | undefined {
    for (const undo of this.#unsynced)
      for (const write of undo) if (compare(write.key, key) === 0) return write.value ?? undefined;
    return this.get(key);
  }

  begin(writes: readonly StoreWrite[]): void {
    this.#inFlight.push(writes);
  }

  abandon(writes: readonly StoreWrite[]): void {
    const at = this.#inFlight.indexOf(writes);
    if (at >= 0) this.#inFlight.splice(at, 1);
  }

  complete(writes: readonly StoreWrite[], sync: boolean): void {
    this.abandon(writes);
    const undo = this.#apply(writes);
    if (sync) this.#unsynced = [];
    else this.#unsynced.push(undo);
  }

  /** Changes the medium behind everybody's back: lost or altered records. */
  tamper(writes: readonly StoreWrite[]): void {
    this.#apply(writes);
  }

  powerLoss(chance: Random | null): void {
    const kept = chance === null ? 0 : chance.below(this.#unsynced.length + this.#inFlight.length + 1);
    const unsynced = this.#unsynced.splice(0);
    for (const undo of unsynced.slice(kept).reverse()) this.#apply([...undo].reverse());
    for (const writes of this.#inFlight.splice(0, Math.max(0, kept - unsynced.length))) this.#apply(writes);
    this.#inFlight = [];
  }

  /** The process ends, the machine does not: what was written stays, what was only asked for does not. */
  processEnd(): void {
    this.#inFlight = [];
  }

  /** The entries of a range, in order; the array is the caller's. */
  range(options: Range): StoreEntry[] {
    let lo = 0;
    let hi = this.#entries.length;
    if (options.gte !== undefined) lo = this.#find(options.gte);
    if (options.gt !== undefined) lo = Math.max(lo, this.#findAfter(options.gt));
    if (options.lt !== undefined) hi = this.#find(options.lt);
    if (options.lte !== undefined) hi = Math.min(hi, this.#findAfter(options.lte));
    const limit = options.limit ?? -1;
    const all = options.reverse === true;
    if (limit >= 0 && hi - lo > limit) {
      if (all) lo = hi - limit;
      else hi = lo + limit;
    }
    const found = this.#entries.slice(lo, Math.max(lo, hi));
    return all ? found.reverse() : found;
  }

  #apply(writes: readonly StoreWrite[]): Undo {
    const undo: StoreWrite[] = [];
    for (const write of writes) {
      const at = this.#find(write.key);
      const old = this.#entries[at];
      const present = old !== undefined && compare(old.key, write.key) === 0;
      undo.push({ key: write.key, value: present ? old.value : null });
      if (present) this.bytes -= old.key.length + old.value.length;
      if (write.value === null) {
        if (present) this.#entries.splice(at, 1);
        continue;
      }
      this.bytes += write.key.length + write.value.length;
      const entry: StoreEntry = { key: write.key, value: write.value };
      if (present) this.#entries[at] = entry;
      else if (at === this.#entries.length) this.#entries.push(entry);
      else this.#entries.splice(at, 0, entry);
    }
    return undo;
  }

  /** The first position whose key is >= `key`. */
  #find(key: Uint8Array): number {
    let lo = 0;
    let hi = this.#entries.length;
    const last = this.#entries[hi - 1];
    if (last !== undefined && compare(last.key, key) < 0) return hi;
    while (lo < hi) {
      const middle = (lo + hi) >> 1;
      if (compare(this.#entries[middle]!.key, key) < 0)
        lo = middle + 1; // middle < hi <= length
      else hi = middle;
    }
    return lo;
  }

  #findAfter(key: Uint8Array): number {
    const at = this.#find(key);
    const entry = this.#entries[at];
    return entry !== undefined && compare(entry.key, key) === 0 ? at + 1 : at;
  }
}

interface Range {
  readonly gt?: Uint8Array;
  readonly gte?: Uint8Array;
  readonly lt?: Uint8Array;
  readonly lte?: Uint8Array;
  readonly reverse?: boolean;
  readonly limit?: number;
}

/** What the store asks of the disk it lies on. */
export interface StoreMedium {
  readonly process: VirtualProcess;
  readonly image: StoreImage;
  readMs(): number;
  /** The error a read must fail with, or null. Consumes injected failures. */
  readFailure(): Error | null;
  /** Told around every write. */
  watch(moment: "issued" | "completed"): void;
  /** Delay of a write from now; writes of one store complete in order. */
  writeMs(byteCount: number, sync: boolean): number;
  /** The error a write must fail with, or null. Consumes injected failures. */
  writeFailure(byteCount: number, sync: boolean): Error | null;
  closed(): void;
}

type Key = string | Buffer | Uint8Array;

/** The private half of abstract-level: names with an underscore are called by its base class. */
export class FakeStore extends AbstractLevel<Key, Uint8Array, Uint8Array> {
  readonly #medium: StoreMedium;
  #broken: Error | null = null;
  #open = false;

  constructor(medium: StoreMedium) {
    super(
      { encodings: { view: true }, permanence: true, createIfMissing: true, seek: false },
      { keyEncoding: "view", valueEncoding: "view" },
    );
    this.#medium = medium;
  }

  async _open(): Promise<void> {
    await this.#read(() => undefined);
    this.#open = true;
  }

  async _close(): Promise<void> {
    this.#open = false;
    await this.#read(() => this.#medium.closed());
  }

  _get(key: Uint8Array): Promise<Uint8Array | undefined> {
    return this.#read(() => copy(this.#medium.image.get(key)));
  }

  _getMany(keys: readonly Uint8Array[]): Promise<(Uint8Array | undefined)[]> {
    return this.#read(() => keys.map((key) => copy(this.#medium.image.get(key))));
  }

  _has(key: Uint8Array): Promise<boolean> {
    return this.#read(() => this.#medium.image.get(key) !== undefined);
  }

  _put(key: Uint8Array, value: Uint8Array, options: { readonly sync?: boolean }): Promise<void> {
    return this.#write([{ key: key.slice(), value: value.slice() }], options.sync === true);
  }

  _del(key: Uint8Array, options: { readonly sync?: boolean }): Promise<void> {
    return this.#write([{ key: key.slice(), value: null }], options.sync === true);
  }

  _batch(
    operations: readonly { readonly type: "put" | "del"; readonly key: Uint8Array; readonly value?: Uint8Array }[],
    options: { readonly sync?: boolean },
  ): Promise<void> {
    const writes = operations.map(({ type, key, value }): StoreWrite => {
      assert(type === "del" || value !== undefined, "a put has a value");
      return { key: key.slice(), value: type === "put" ? value!.slice() : null };
    });
    return this.#write(writes, options.sync === true);
  }

  _clear(options: Range): Promise<void> {
    const writes = this.#medium.image.range(options).map(({ key }): StoreWrite => ({ key, value: null }));
    return this.#write(writes, false);
  }

  _iterator(options: AbstractIteratorOptions<Uint8Array, Uint8Array> & Range): FakeIterator {
    // The snapshot of an iterator is taken when it is made.
    return new FakeIterator(this, options, this.#medium.image.range(options), (effect) => this.#read(effect));
  }

  #read<T>(effect: () => T): Promise<T> {
    return this.#medium.process.operation(this.#medium.readMs(), () => {
      const failure = this.#open ? this.#medium.readFailure() : null;
      if (failure !== null) throw failure;
      return effect();
    });
  }

  #write(writes: readonly StoreWrite[], sync: boolean): Promise<void> {
    const medium = this.#medium;
    medium.watch("issued");
    if (medium.process.crashed) return never();
    const byteCount = writes.reduce((sum, { key, value }) => sum + key.length + (value?.length ?? 0), 0);
    medium.image.begin(writes);
    return medium.process.operation(medium.writeMs(byteCount, sync), () => {
      const failure = this.#broken ?? medium.writeFailure(byteCount, sync);
      if (failure !== null) {
        this.#broken = failure;
        medium.image.abandon(writes);
        throw failure;
      }
      medium.image.complete(writes, sync);
      medium.watch("completed");
    });
  }
}

const copy = (bytes: Uint8Array | undefined): Uint8Array | undefined => bytes?.slice();

class FakeIterator extends AbstractIterator<FakeStore, Uint8Array, Uint8Array> {
  readonly #entries: readonly StoreEntry[];
  readonly #read: <T>(effect: () => T) => Promise<T>;
  #at = 0;

  constructor(
    store: FakeStore,
    options: AbstractIteratorOptions<Uint8Array, Uint8Array>,
    entries: readonly StoreEntry[],
    read: <T>(effect: () => T) => Promise<T>,
  ) {
    super(store, options);
    this.#entries = entries;
    this.#read = read;
  }

  async _next(): Promise<[Uint8Array, Uint8Array] | undefined> {
    return (await this._nextv(1))[0];
  }

  _nextv(size: number): Promise<[Uint8Array, Uint8Array][]> {
    return this.#read(() => {
      const entries = this.#entries.slice(this.#at, this.#at + size);
      this.#at += entries.length;
      return entries.map(({ key, value }): [Uint8Array, Uint8Array] => [key.slice(), value.slice()]);
    });
  }

  _all(): Promise<[Uint8Array, Uint8Array][]> {
    return this._nextv(this.#entries.length - this.#at);
  }
}
