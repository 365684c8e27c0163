/**
 * Pools: which member gets a new flow. Tables are built when a pool changes, between packets; rules share the table of their
 * pool. A `Pool` object is the same as long as anything names it, so that a rule need not look it up for each packet.
 */
import type { PoolId } from "../../core/brands.js";
import { buildMaglevTable, maglevSize } from "../../dataplane/maglev.js";
import type { MuxPoolItem } from "../../dataplane/mux-items.js";
import { servingMembers } from "../../dataplane/serving-members.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import type { MemberTable } from "./members.js";

const NO_SLOTS = new Uint16Array(0);
const NO_MEMBERS = new Int32Array(0);

export class Pool {
  readonly poolId: PoolId;
  /** Rules that name it. */
  uses = 0;
  /** Null: a rule names it, but it is not there. */
  item: MuxPoolItem | null = null;
  /** Maglev table: place in `members` by slot. */
  slots: Uint16Array = NO_SLOTS;
  /** Slots in the member table. */
  members: Int32Array = NO_MEMBERS;

  constructor(poolId: PoolId) {
    this.poolId = poolId;
  }

  /** Member slot for a new flow, or `NOT_FOUND`: nobody takes flows. */
  select(hash: number): number {
    const size = this.slots.length;
    return size === 0 ? NOT_FOUND : this.members[this.slots[(hash >>> 0) % size]!]!; // both in range by construction
  }
}

export class PoolTable {
  readonly #pools = new Map<number, Pool>();
  #count = 0;

  /** Pools that are there. */
  get size(): number {
    return this.#count;
  }

  /** After the member table knows the pool's members. */
  put(item: MuxPoolItem, members: MemberTable): void {
    const pool = this.#ref(item.poolId);
    if (pool.item === null) this.#count++;
    const table = buildMaglevTable(maglevSize(item.maxMembers), servingMembers(item));
    pool.item = item;
    pool.slots = table.slots;
    pool.members = Int32Array.from(table.dipIds, (dipId) => members.find(item.poolId, dipId));
  }

  /** Rules that name it keep the object, which takes no flows. */
  remove(poolId: PoolId): void {
    const pool = this.#pools.get(poolId);
    if (pool === undefined || pool.item === null) return;
    pool.item = null;
    pool.slots = NO_SLOTS;
    pool.members = NO_MEMBERS;
    this.#count--;
    this.#forgetUnused(pool);
  }

  /** A rule names the pool. */
  use(poolId: PoolId): Pool {
    const pool = this.#ref(poolId);
    pool.uses++;
    return pool;
  }

  /** A rule names it no more. */
  release(pool: Pool): void {
    pool.uses--;
    this.#forgetUnused(pool);
  }

  #forgetUnused(pool: Pool): void {
    if (pool.item === null && pool.uses === 0) this.#pools.delete(pool.poolId);
  }

  /** The pool's object, made now if nobody has named it before. */
  #ref(poolId: PoolId): Pool {
    let pool = this.#pools.get(poolId);
    if (pool === undefined) {
      pool = new Pool(poolId);
      this.#pools.set(poolId, pool);
    }
    return pool;
  }
}
