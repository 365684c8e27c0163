/**
 * Who owned the slot of a flow: for each pool that a DIP of this host owns slots of, or did, the Maglev tables that MUXes use and
 * used, newest first. The owners of a flow are the members that its slot belongs to in these tables, each once.
 *
 *     VIP:port -> rule -> pool, distribution -> hash -> slot -> owners, newest first, eight at most -> their locators
 *
 * Invariants
 *  (S1) Owners and their order follow from the items and the site's hash key alone: hosts with the same view agree.
 *  (S2) Tables take `tableSlots` slots together. Beyond that the oldest table of the pool with the most of them is forgotten: newer
 *       owners stay, the newest table of each pool always, and nothing is refused.
 *
 * Tables are built between packets, a few per tick; one that a packet needs earlier is built for it.
 */
import type { DipId, PoolId } from "../../core/brands.js";
import type { HostOwnerItem, HostRuleItem, HostTableItem } from "../../dataplane/host-items.js";
import type { HostLayout } from "../../dataplane/layouts.js";
import { buildMaglevTable, maglevMember, maglevSize, type MaglevTable } from "../../dataplane/maglev.js";
import { RecordTable } from "../../dataplane/record-table.js";
import { TokenBucket } from "../../dataplane/token-bucket.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import { type Addresses, NO_ADDRESS } from "./addresses.js";

/** Of one slot. A segment without state visits so many hosts at most. */
const OWNERS_MAX = 8;

/** Segments of a pool passed on per second: more are no flows that moved but a flood, which hosts must not multiply by eight. */
const PASSES_PER_SECOND = 50_000;

/** Slots of tables built in one tick, about 3 ms of work. */
const SLOTS_PER_TICK = 262_144;

interface KnownTable {
  readonly item: HostTableItem;
  /** Null: not built yet. */
  built: MaglevTable | null;
}

interface OwnedPool {
  readonly poolId: PoolId;
  /** Newest first. */
  readonly tables: KnownTable[];
  readonly passes: TokenBucket;
}

export class SlotOwners {
  /** Of the flow that was looked up last, newest first. */
  readonly owners = new Int32Array(OWNERS_MAX);
  /** Flows looked up that had more than eight owners; tables that found no room (S2). */
  overflowed = 0;
  forgotten = 0;
  readonly #addresses: Addresses;
  readonly #slotsMax: number;
  readonly #pools = new Map<PoolId, OwnedPool>();
  readonly #rules: RecordTable;
  readonly #ruleItems: (HostRuleItem | undefined)[] = [];
  readonly #distribution: Uint8Array;
  /** By pool and DIP. */
  readonly #places: RecordTable;
  readonly #locator: Int32Array;
  /** By locator: the DIP, and how many pools it is in. */
  readonly #locators: RecordTable;
  readonly #dipAt: Uint32Array;
  readonly #uses: Uint32Array;
  #slots = 0;
  #hasUnbuilt = false;

  constructor(layout: HostLayout, addresses: Addresses) {
    this.#addresses = addresses;
    this.#slotsMax = layout.tableSlots;
    this.#rules = new RecordTable(layout.rules);
    this.#distribution = new Uint8Array(layout.rules);
    this.#places = new RecordTable(layout.owners);
    this.#locator = new Int32Array(layout.owners);
    this.#locators = new RecordTable(layout.owners);
    this.#dipAt = new Uint32Array(layout.owners);
    this.#uses = new Uint32Array(layout.owners);
  }

  // ---- what packets ask ----

  /** Rule for exactly this port, or with port 0 for all others; `NOT_FOUND`. */
  findRule(vip: number, port: number): number {
    return this.#rules.find(vip, port);
  }

  distribution(rule: number): number {
    return this.#distribution[rule]!; // of a rule in use
  }

  poolId(rule: number): PoolId {
    return this.#ruleItems[rule]!.poolId; // of a rule in use
  }

  /** Puts the owners of the hash's slot into `owners`; answers how many. */
  lookUp(poolId: PoolId, hash: number): number {
    const pool = this.#pools.get(poolId);
    if (pool === undefined) return 0;
    const { owners } = this;
    const { tables } = pool;
    let count = 0;
    for (let at = 0; at < tables.length; at++) {
      const owner = maglevMember(this.#built(pool, tables[at]!), hash); // at < length
      if (owner === 0 || this.placeOf(owner, count) >= 0 || this.locatorOf(poolId, owner) === NO_ADDRESS) continue;
      if (count === OWNERS_MAX) {
        this.overflowed++;
        break;
      }
      owners[count++] = owner;
    }
    return count;
  }

  /** One more segment of the pool may be passed on now; each pool has its own bound, so that no other pays for its flood. */
  mayPass(poolId: PoolId, nowMs: number): boolean {
    return this.#pools.get(poolId)?.passes.take(nowMs) ?? false;
  }

  /** Place of the DIP among the first `count` of `owners`, or -1. */
  placeOf(dipId: number, count: number): number {
    for (let at = 0; at < count; at++) if (this.owners[at] === dipId) return at;
    return -1;
  }

  /** Where the DIP is found, or `NO_ADDRESS`: it owns nothing of this pool, or no host runs it. */
  locatorOf(poolId: PoolId, dipId: number): number {
    const record = this.#places.find(poolId, dipId);
    return record === NOT_FOUND ? NO_ADDRESS : this.#locator[record]!;
  }

  /** The DIP that is found there, or 0: no owner's locator. */
  dipAt(locator: number): DipId {
    const record = this.#locators.find(locator);
    return (record === NOT_FOUND ? 0 : this.#dipAt[record]!) as DipId;
  }

  // ---- what the tables put in ----

  putRule(item: HostRuleItem): void {
    const vip = this.#addresses.take(item.vip);
    const record = vip === NO_ADDRESS ? NOT_FOUND : this.#rules.upsert(vip, item.port);
    if (record === NOT_FOUND) {
      if (vip !== NO_ADDRESS) this.#addresses.release(vip);
      this.forgotten++;
      return;
    }
    if (this.#ruleItems[record] !== undefined) this.#addresses.release(vip); // kept already
    this.#ruleItems[record] = item;
    this.#distribution[record] = item.distribution ?? 0;
  }

  removeRule(item: HostRuleItem): void {
    const vip = this.#addresses.find(item.vip);
    const record = vip === NO_ADDRESS ? NOT_FOUND : this.#rules.find(vip, item.port);
    if (record === NOT_FOUND || this.#ruleItems[record]?.poolId !== item.poolId) return;
    this.#ruleItems[record] = undefined;
    this.#rules.remove(record);
    this.#addresses.release(vip);
  }

  putTable(item: HostTableItem): void {
    let pool = this.#pools.get(item.poolId);
    if (pool === undefined) {
      const passes = new TokenBucket(PASSES_PER_SECOND, PASSES_PER_SECOND);
      this.#pools.set(item.poolId, (pool = { poolId: item.poolId, tables: [], passes }));
    }
    const { tables } = pool;
    const at = tables.findIndex((other) => other.item.revision < item.revision);
    tables.splice(at < 0 ? tables.length : at, 0, { item, built: null });
    this.#hasUnbuilt = true;
  }

  removeTable({ poolId, revision }: HostTableItem): void {
    const pool = this.#pools.get(poolId);
    const at = pool?.tables.findIndex(({ item }) => item.revision === revision) ?? -1;
    if (pool === undefined || at < 0) return;
    this.#take(pool, at);
    if (pool.tables.length === 0) this.#pools.delete(poolId);
  }

  putOwner({ poolId, dipId, locator }: HostOwnerItem): void {
    const address = this.#addresses.take(locator);
    if (address === NO_ADDRESS) return;
    const record = this.#places.upsert(poolId, dipId);
    const reached = record === NOT_FOUND ? NOT_FOUND : this.#locators.upsert(address);
    if (reached === NOT_FOUND) {
      if (record !== NOT_FOUND) this.#places.remove(record);
      this.#addresses.release(address);
      this.forgotten++;
      return;
    }
    this.#locator[record] = address;
    this.#dipAt[reached] = dipId;
    this.#uses[reached]!++;
  }

  removeOwner({ poolId, dipId }: HostOwnerItem): void {
    const record = this.#places.find(poolId, dipId);
    if (record === NOT_FOUND) return;
    const address = this.#locator[record]!;
    const reached = this.#locators.find(address);
    if (--this.#uses[reached]! === 0) this.#locators.remove(reached);
    this.#places.remove(record);
    this.#addresses.release(address);
  }

  /** Builds what is not built yet, some of it. */
  tick(): void {
    if (!this.#hasUnbuilt) return;
    let budget = SLOTS_PER_TICK;
    for (const pool of this.#pools.values()) {
      for (let at = 0; at < pool.tables.length; at++) {
        const table = pool.tables[at]!; // the ones at the end may go meanwhile (S2)
        if (table.built !== null) continue;
        if (budget <= 0) return;
        budget -= this.#built(pool, table).slots.length;
      }
    }
    this.#hasUnbuilt = false;
  }

  /** Tables that are known. */
  get tableCount(): number {
    let count = 0;
    for (const { tables } of this.#pools.values()) count += tables.length;
    return count;
  }

  #built(pool: OwnedPool, table: KnownTable): MaglevTable {
    if (table.built !== null) return table.built;
    const { maxMembers, members } = table.item;
    table.built = buildMaglevTable(maglevSize(maxMembers), members);
    this.#slots += table.built.slots.length;
    while (this.#slots > this.#slotsMax && this.#forgetOldest(pool)) this.forgotten++;
    return table.built;
  }

  /** Of the pool with the most tables, this one of equals (S2). False: none has more than one. */
  #forgetOldest(preferred: OwnedPool): boolean {
    let most = preferred;
    for (const pool of this.#pools.values()) if (pool.tables.length > most.tables.length) most = pool;
    if (most.tables.length < 2) return false;
    this.#take(most, most.tables.length - 1);
    return true;
  }

  #take(pool: OwnedPool, at: number): void {
    const [gone] = pool.tables.splice(at, 1);
    this.#slots -= gone?.built?.slots.length ?? 0;
  }
}
