/**
 * The MUX's side of `Tables`: items from the control plane into packed tables. Everything that could fail is checked on the
 * plan first; after that nothing can, so a delta is in force as a whole or not at all (D1).
 */
import { assertNever } from "../../core/assert.js";
import type { LogIndex } from "../../core/brands.js";
import type { ApplyResult, TableDelta, Tables } from "../../dataplane/contract.js";
import { FlowHasher } from "../../dataplane/flow-hash.js";
import { RANGE_SHIFT, type MuxLayout } from "../../dataplane/layouts.js";
import { maglevSize } from "../../dataplane/maglev.js";
import { muxItemKey, type MuxChange, type MuxItem } from "../../dataplane/mux-items.js";
import { ProjectionStore, type PlanStep } from "../../dataplane/projection-store.js";
import { addressWords, isIpv4Words } from "../../packet/address-words.js";
import { DipByPort } from "./dip-by-port.js";
import { DipTable } from "./dip-table.js";
import type { FlowTable } from "./flow-table.js";
import { MemberTable } from "./members.js";
import { PeerTable } from "./peer-table.js";
import { PoolTable } from "./pool-table.js";
import { RuleTable } from "./rule-table.js";
import { VipTable } from "./vip-table.js";

export class MuxTables implements Tables<MuxItem, MuxChange> {
  readonly vips: VipTable;
  readonly rules: RuleTable;
  readonly pools = new PoolTable();
  readonly dips: DipTable;
  /** Ranges that DIPs own for source NAT. */
  readonly snat: DipByPort;
  /** Ports of inbound NAT. */
  readonly nats: DipByPort;
  readonly members: MemberTable;
  readonly peers = new PeerTable();
  /** Null until the site's hash key is known: no packet is handled before. */
  hasher: FlowHasher | null = null;
  /** Counts changes of the hash key; flows hashed by another key cannot be found again. */
  hasherGeneration = 0;
  /** Master key of FastPath; null: the site has none. */
  muxKey: Uint8Array | null = null;
  /** Counts changes after which a redirected flow may have to go elsewhere; and the DIPs that moved or went, until FastPath takes them. */
  endsGeneration = 0;
  readonly movedDips = new Set<number>();
  readonly #layout: MuxLayout;
  /** An IPv6 locator needs an IPv6 outer source, which this MUX may not have. */
  readonly #options: { readonly hasIpv6Locators: boolean };
  readonly #flows: Pick<FlowTable, "idleClass">;
  readonly #store = new ProjectionStore<MuxItem>(muxItemKey);
  #index = 0 as LogIndex;
  #generation = 0;

  /** `flows` says in which class of idle time a rule's flows are. */
  constructor(
    layout: MuxLayout,
    flows: Pick<FlowTable, "idleClass">,
    options: { readonly hasIpv6Locators: boolean } = { hasIpv6Locators: true },
  ) {
    this.#options = options;
    this.#layout = layout;
    this.#flows = flows;
    this.vips = new VipTable(layout.vips);
    this.rules = new RuleTable(layout.rules);
    this.dips = new DipTable(layout.dips);
    this.snat = new DipByPort(layout.snatRanges, RANGE_SHIFT);
    this.nats = new DipByPort(layout.nats);
    this.members = new MemberTable(layout.members);
  }

  apply(delta: TableDelta<MuxItem, MuxChange>, index: LogIndex): ApplyResult {
    const steps = this.#store.plan(delta);
    if (!steps.every((step) => step.after === null || isSupported(step.after, this.#options.hasIpv6Locators)))
      return "unsupported";
    if (!this.#fits(steps)) return "full";
    // Everything that goes, goes first: a VIP's address may pass to another VIP within one delta.
    for (const { before, after } of steps) if (before !== null) this.#take(before, after);
    for (const { before, after } of steps) if (after !== null) this.#put(after, before);
    this.#store.commit(steps);
    this.#index = index;
    this.#generation++;
    return "in-force";
  }

  /**
   * Parts of a view that is still arriving, as one list that grows; `apply` is given the same list in the end. Takes as much
   * of the work ahead as packets cannot see: compares, and while nothing is in force yet puts the parts in at once, all but
   * the site's hash key, without which no packet is handled.
   */
  stage(items: readonly MuxItem[]): void {
    this.#store.compare(items);
    if (this.#index !== 0 || this.hasher !== null) return;
    const steps = this.#store.additions().filter(({ after }) => after !== null && after.kind !== "site");
    const isSound = steps.every(({ after }) => after === null || isSupported(after, this.#options.hasIpv6Locators));
    if (!isSound || !this.#fits(steps)) return; // `apply` will say so
    for (const { after } of steps) if (after !== null) this.#put(after, null);
    this.#store.commitAhead(steps);
  }

  #fits(steps: readonly PlanStep<MuxItem>[]): boolean {
    const count = (kind: MuxItem["kind"]): number => this.#store.countAfter(kind, steps);
    return (
      count("vip") <= this.#layout.vips &&
      count("rule") <= this.#layout.rules &&
      count("pool") <= this.#layout.pools &&
      count("dip") <= this.#layout.dips &&
      count("snat") <= this.#layout.snatRanges &&
      count("nat") <= this.#layout.nats &&
      this.#membersAfter(steps) <= this.#layout.members
    );
  }

  #membersAfter(steps: readonly PlanStep<MuxItem>[]): number {
    let count = this.members.size;
    for (const { before, after } of steps) {
      if (before?.kind === "pool") count -= before.members.length;
      if (after?.kind === "pool") count += after.members.length;
    }
    return count;
  }

  /** Takes out what `before` put in, unless `after`, under the same key, will overwrite it in place. */
  #take(before: MuxItem, after: MuxItem | null): void {
    switch (before.kind) {
      case "vip":
        this.vips.unlinkAddress(before.vipId);
        if (after === null) this.vips.remove(before.vipId);
        return;
      case "rule":
        if (after === null) this.rules.remove(before, this.pools);
        return;
      case "nat":
        if (after === null) this.nats.remove(before.vipId, before.protocol, before.port);
        return;
      case "pool":
        if (after !== null) return;
        this.members.removePool(before);
        this.pools.remove(before.poolId);
        return;
      case "dip":
        if (after !== null) return;
        this.#ended(before.dipId);
        this.dips.remove(before.dipId);
        this.members.dipRemoved(before.dipId);
        return;
      case "snat":
        if (after === null) this.snat.remove(before.vipId, before.protocol, before.range);
        return;
      case "mux":
        this.peers.remove(before);
        return;
      case "site":
        this.hasher = null;
        this.muxKey = null;
        return;
      default:
        assertNever(before);
    }
  }

  #put(item: MuxItem, before: MuxItem | null): void {
    switch (item.kind) {
      case "vip":
        this.vips.put(item.vipId, addressWords(item.address)!, item.announced, item.weight ?? 0); // supported: an address
        return;
      case "rule":
        this.rules.put(item, this.pools, this.#flows.idleClass(item.idleTimeoutMs ?? 0));
        if (item.fastpath === false && before?.kind === "rule" && before.fastpath !== false) this.endsGeneration++;
        return;
      case "nat":
        this.nats.put(item.vipId, item.protocol, item.port, item.dipId);
        return;
      case "pool":
        this.members.putPool(item, before?.kind === "pool" ? before : null, this.dips);
        this.pools.put(item, this.members);
        this.endsGeneration++;
        return;
      case "dip":
        if (before?.kind === "dip" && (before.locator !== item.locator || before.hostId !== item.hostId))
          this.#ended(item.dipId);
        this.members.dipPut(item.dipId, this.dips.put(item.dipId, addressWords(item.locator)!, item.hostId)); // likewise
        return;
      case "snat":
        this.snat.put(item.vipId, item.protocol, item.range, item.dipId);
        return;
      case "mux":
        this.peers.put(item);
        return;
      case "site":
        this.hasher = new FlowHasher(item.hashKey);
        // Another key of FastPath alone leaves the flows where they are.
        if (before?.kind !== "site" || !before.hashKey.every((byte, place) => byte === item.hashKey[place]))
          this.hasherGeneration++;
        this.muxKey = item.muxKey ?? null;
        return;
      default:
        assertNever(item);
    }
  }

  /** Flows of this DIP that hosts send to each other go by the MUXes again. */
  #ended(dipId: number): void {
    this.movedDips.add(dipId);
    this.endsGeneration++;
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

/** What the tables can hold: pools that fit their Maglev table, protocols and ports that a rule may have. */
function isSupported(item: MuxItem, hasIpv6Locators: boolean): boolean {
  switch (item.kind) {
    case "vip":
      return addressWords(item.address) !== null;
    case "dip": {
      const words = addressWords(item.locator);
      return words !== null && (hasIpv6Locators || isIpv4Words(words[0]!, words[1]!, words[2]!));
    }
    case "pool":
      // Members without weight have no slot: those that have left drain beside the others, hundreds of them at times.
      return item.members.filter(({ weight }) => weight > 0).length < maglevSize(item.maxMembers);
    case "site":
      return item.hashKey.length === 8;
    case "rule":
      return item.protocol !== 0 || item.port === 0;
    case "nat":
    case "snat":
    case "mux":
      return true;
    default:
      return false; // of a newer version of the control plane
  }
}
