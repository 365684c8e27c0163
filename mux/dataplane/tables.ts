/**
 * The MUX's side of `Tables`: items from the control plane into packed tables. Everything that could fail is checked on the
 * plan first; after that nothing can, so a delta is in force as a whole or not at all (D1).
 */
import { assertNever } from "../../core/assert.js";
import { parseIpv4 } from "../../core/address.js";
import type { LogIndex } from "../../core/brands.js";
import type { ApplyResult, TableDelta, Tables } from "../../dataplane/contract.js";
import { FlowHasher } from "../../dataplane/flow-hash.js";
import type { MuxLayout } from "../../dataplane/layouts.js";
import { maglevSize } from "../../dataplane/maglev.js";
import { muxItemKey, type MuxChange, type MuxItem } from "../../dataplane/mux-items.js";
import { ProjectionStore, type PlanStep } from "../../dataplane/projection-store.js";
import { DipTable, PoolTable } from "./select-dip.js";
import { SnatTable } from "./snat-table.js";
import { RuleTable, VipTable } from "./vip-table.js";

export class MuxTables implements Tables<MuxItem, MuxChange> {
  readonly vips: VipTable;
  readonly rules: RuleTable;
  readonly pools = new PoolTable();
  readonly dips: DipTable;
  readonly snat: SnatTable;
  /** Null until the site's hash key is known: no packet is handled before. */
  hasher: FlowHasher | null = null;
  /** Counts changes of the hash key; flows hashed by another key cannot be found again. */
  hasherGeneration = 0;
  readonly #layout: MuxLayout;
  readonly #store = new ProjectionStore<MuxItem>(muxItemKey);
  #index = 0 as LogIndex;
  #generation = 0;

  constructor(layout: MuxLayout) {
    this.#layout = layout;
    this.vips = new VipTable(layout.vips);
    this.rules = new RuleTable(layout.rules);
    this.dips = new DipTable(layout.dips);
    this.snat = new SnatTable(layout.snatRanges);
  }

  apply(delta: TableDelta<MuxItem, MuxChange>, index: LogIndex): ApplyResult {
    const steps = this.#store.plan(delta);
    if (!steps.every((step) => step.after === null || isSupported(step.after))) return "unsupported";
    if (!this.#fits(steps)) return "full";
    // Everything that goes, goes first: a VIP's address may pass to another VIP within one delta.
    for (const { before, after } of steps) if (before !== null) this.#take(before, after);
    for (const { after } of steps) if (after !== null) this.#put(after);
    this.#store.commit(steps);
    this.#index = index;
    this.#generation++;
    return "in-force";
  }

  #fits(steps: readonly PlanStep<MuxItem>[]): boolean {
    const count = (kind: MuxItem["kind"]): number => this.#store.countAfter(kind, steps);
    return (
      count("vip") <= this.#layout.vips &&
      count("rule") <= this.#layout.rules &&
      count("pool") <= this.#layout.pools &&
      count("dip") <= this.#layout.dips &&
      count("snat") <= this.#layout.snatRanges
    );
  }

  /** Takes out what `before` put in, unless `after`, under the same key, will overwrite it in place. */
  #take(before: MuxItem, after: MuxItem | null): void {
    switch (before.kind) {
      case "vip":
        this.vips.unlinkAddress(before.vipId);
        if (after === null) this.vips.remove(before.vipId);
        return;
      case "rule":
        if (after === null) this.rules.remove(before.vipId, before.protocol, before.port);
        return;
      case "pool":
        if (after === null) this.pools.remove(before.poolId);
        return;
      case "dip":
        if (after === null) this.dips.remove(before.dipId);
        return;
      case "snat":
        if (after === null) this.snat.remove(before.vipId, before.protocol, before.range);
        return;
      case "mux":
      case "nat":
        return;
      case "site":
        this.hasher = null;
        return;
      default:
        assertNever(before);
    }
  }

  #put(item: MuxItem): void {
    switch (item.kind) {
      case "vip":
        this.vips.put(item.vipId, parseIpv4(item.address)!, item.announced); // supported: IPv4
        return;
      case "rule":
        this.rules.put(item.vipId, item.protocol, item.port, item.poolId);
        return;
      case "pool":
        this.pools.put(item);
        return;
      case "dip":
        this.dips.put(item.dipId, parseIpv4(item.locator)!); // supported: IPv4
        return;
      case "snat":
        this.snat.put(item.vipId, item.protocol, item.range, item.dipId);
        return;
      case "nat":
      case "mux":
        return; // no packet is forwarded by it: control follows the pool
      case "site":
        this.hasher = new FlowHasher(item.hashKey);
        this.hasherGeneration++;
        return;
      default:
        assertNever(item);
    }
  }

  index(): LogIndex {
    return this.#index;
  }

  generation(): number {
    return this.#generation;
  }

  digest(): string {
    return this.#store.digest();
  }

  items(): Iterable<MuxItem> {
    return this.#store.items();
  }

  get(key: string): MuxItem | undefined {
    return this.#store.get(key);
  }

  adopt(): { readonly index: LogIndex; readonly digest: string } {
    return { index: this.#index, digest: this.#store.digest() };
  }
}

/** IPv4 only, so far; pools that their Maglev table can hold. */
function isSupported(item: MuxItem): boolean {
  switch (item.kind) {
    case "vip":
      return parseIpv4(item.address) !== null;
    case "dip":
      return parseIpv4(item.locator) !== null;
    case "pool":
      return item.members.length < maglevSize(item.maxMembers);
    case "site":
      return item.hashKey.length === 8;
    case "rule":
    case "snat":
    case "mux":
      return true;
    default:
      return false; // of a newer version of the control plane
  }
}
