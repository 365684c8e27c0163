/**
 * Which DIP gets a new flow: the pool's Maglev table at the flow's hash. Also where DIPs are: dipId -> slot -> locator.
 *
 * Tables are built when a pool changes, between packets; rules share the table of their pool. A DIP's slot carries a
 * generation, raised when the DIP goes, which is what makes its flow entries stale.
 */
import type { DipId, PoolId } from "../../core/brands.js";
import type { TrafficCounter } from "../../dataplane/contract.js";
import { buildMaglevTable, maglevMember, maglevSize, type MaglevTable } from "../../dataplane/maglev.js";
import type { MuxPoolItem } from "../../dataplane/mux-items.js";
import { RecordTable } from "../../dataplane/record-table.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";

export class PoolTable {
  readonly #pools = new Map<number, MaglevTable>();

  get size(): number {
    return this.#pools.size;
  }

  put(item: MuxPoolItem): void {
    this.#pools.set(item.poolId, buildMaglevTable(maglevSize(item.maxMembers), item.members));
  }

  remove(poolId: PoolId): void {
    this.#pools.delete(poolId);
  }

  /** DIP for a new flow, or 0: the pool is not known or takes no flows. */
  select(poolId: number, hash: number): number {
    const table = this.#pools.get(poolId);
    return table === undefined ? 0 : maglevMember(table, hash);
  }
}

export class DipTable {
  readonly #slots: RecordTable;
  /** Outer destination, by slot. */
  readonly locator: Uint32Array;
  /** By slot; raised when the DIP in it goes. */
  readonly generation: Uint32Array;
  readonly packets: Float64Array;
  readonly bytes: Float64Array;

  constructor(capacity: number) {
    this.#slots = new RecordTable(capacity);
    this.locator = new Uint32Array(capacity);
    this.generation = new Uint32Array(capacity);
    this.packets = new Float64Array(capacity);
    this.bytes = new Float64Array(capacity);
  }

  get size(): number {
    return this.#slots.size;
  }

  /** Slot of a DIP, or `NOT_FOUND`. */
  find(dipId: number): number {
    return this.#slots.find(dipId);
  }

  dipId(slot: number): DipId {
    return this.#slots.keyWord(slot, 0) as DipId;
  }

  /** A DIP that moved keeps slot and generation: its flows follow it to the new host. */
  put(dipId: number, locator: number): void {
    const isNew = this.#slots.find(dipId) === NOT_FOUND;
    const slot = this.#slots.upsert(dipId);
    if (isNew) {
      this.packets[slot] = 0;
      this.bytes[slot] = 0;
    }
    this.locator[slot] = locator;
  }

  remove(dipId: number): void {
    const slot = this.#slots.find(dipId);
    if (slot === NOT_FOUND) return;
    this.generation[slot]!++;
    this.#slots.remove(slot);
  }

  traffic(): Map<DipId, TrafficCounter> {
    const traffic = new Map<DipId, TrafficCounter>();
    for (let slot = 0; slot < this.#slots.capacity; slot++) {
      if (!this.#slots.isUsed(slot)) continue;
      traffic.set(this.dipId(slot), { packets: this.packets[slot]!, bytes: this.bytes[slot]! });
    }
    return traffic;
  }
}
