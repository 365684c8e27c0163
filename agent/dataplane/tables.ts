/**
 * The agent's side of `Tables`: items from the control plane into packed tables. As in the MUX, everything that could fail
 * is checked on the plan first, so a delta is in force as a whole or not at all (D1).
 *
 * Flows outlive changes of rules: an endpoint that goes takes no new flows, and its flows end by themselves. Three things end
 * flows at once: a DIP that leaves the host, a port range that is no longer owned, and the end of a drain. `onGone` hears of
 * them before they take effect.
 */
import { assertNever } from "../../core/assert.js";
import type { DipId, IpAddress, LogIndex, VipId } from "../../core/brands.js";
import { RecordTable } from "../../dataplane/record-table.js";
import type { ApplyResult, TableDelta, Tables } from "../../dataplane/contract.js";
import { FlowHasher, mixWords } from "../../dataplane/flow-hash.js";
import {
  hostItemKey,
  type HostChange,
  type HostDipItem,
  type HostEndpointItem,
  type HostItem,
  type HostOutboundItem,
  type HostProbeItem,
} from "../../dataplane/host-items.js";
import type { HostLayout } from "../../dataplane/layouts.js";
import { ProjectionStore, type PlanStep } from "../../dataplane/projection-store.js";
import { NOT_FOUND, WordIndex } from "../../dataplane/word-index.js";
import { type Addresses, isIpv6Number, NO_ADDRESS } from "./addresses.js";
import { EndpointTable } from "./endpoint-table.js";
import { parsePrefix, PrefixList } from "./prefix-list.js";
import { SecurityGroups } from "./security-groups.js";
import { SlotOwners } from "./slot-owners.js";
import type { SnatPorts } from "./snat/snat-ports.js";

export interface OutboundVip {
  readonly vipId: VipId;
  readonly vip: number;
  /** All flows of a DIP leave as one VIP. */
  readonly isPaired: boolean;
  /** Undefined: the data plane's own. */
  readonly tcpIdleMs: number | undefined;
  readonly udpIdleMs: number | undefined;
  readonly resetsWhenIdle: boolean;
  /** UDP of one port of the machine leaves by one port of the VIP, whatever its destination. */
  readonly mapsEndpointIndependently: boolean;
  /** How long a first packet waits for a port; undefined: the data plane's own time. */
  readonly holdSeconds: number | undefined;
  /** A first packet that got no port in time is answered, not just dropped. */
  readonly answersExhaustion: boolean;
}

const NO_VIPS: readonly OutboundVip[] = [];
const NO_GROUPS: readonly string[] = [];

/** Told before tables change: slots of DIPs and records of ranges that are about to go, endpoints whose flows end. */
export type OnGone = (
  dipSlots: ReadonlySet<number>,
  rangeRecords: ReadonlySet<number>,
  ended: readonly HostEndpointItem[],
) => void;

export class HostTables implements Tables<HostItem, HostChange> {
  readonly endpoints: EndpointTable;
  readonly owners: SlotOwners;
  readonly internal: PrefixList;
  readonly security: SecurityGroups;
  readonly addresses: Addresses;
  /** Address of each DIP, by slot. */
  readonly address: Int32Array;
  readonly #dipItems: (HostDipItem | undefined)[] = [];
  readonly #layout: HostLayout;
  readonly #store = new ProjectionStore<HostItem>(hostItemKey);
  readonly #dips: RecordTable;
  readonly #byLocator: WordIndex;
  readonly #locator: Int32Array;
  readonly #muxes: RecordTable;
  /** Items with this address: a MUX that starts again has another id and the same address. */
  readonly #muxCount: Uint32Array;
  readonly #muxIds = new Set<number>();
  readonly #outbound = new Map<number, readonly OutboundVip[]>();
  readonly #ports: SnatPorts;
  readonly #onGone: OnGone;
  readonly #probes = new Map<string, HostProbeItem>();
  /** Counts changes of the probes. */
  probesVersion = 0;
  readonly #nowMs: () => number;
  /** Flow hash of the site, by which MUXes choose; null: not told yet. */
  #hasher: FlowHasher | null = null;
  #index = 0 as LogIndex;
  #generation = 0;

  constructor(layout: HostLayout, addresses: Addresses, ports: SnatPorts, nowMs: () => number, onGone: OnGone) {
    this.#layout = layout;
    this.addresses = addresses;
    this.internal = new PrefixList(addresses);
    this.security = new SecurityGroups(addresses);
    this.#ports = ports;
    this.#nowMs = nowMs;
    this.#onGone = onGone;
    this.endpoints = new EndpointTable(layout.endpoints, addresses);
    this.owners = new SlotOwners(layout, addresses);
    this.#dips = new RecordTable(layout.dips);
    this.#byLocator = new WordIndex(layout.dips);
    this.#locator = new Int32Array(layout.dips);
    this.address = new Int32Array(layout.dips);
    this.#muxes = new RecordTable(2 * layout.muxes); // an address of either family
    this.#muxCount = new Uint32Array(2 * layout.muxes);
  }

  // ---- what packets ask ----

  get hasher(): FlowHasher | null {
    return this.#hasher;
  }

  /** Slot of a DIP of this host, or `NOT_FOUND`. */
  findDip(dipId: number): number {
    return this.#dips.find(dipId);
  }

  dipId(slot: number): DipId {
    return this.#dips.keyWord(slot, 0) as DipId;
  }

  findLocator(locator: number): number {
    return this.#byLocator.find(mixWords(locator, 0, 0, 0), locator, 0, 0, 0);
  }

  /** Packets to the DIP in `slot` have an outer header of IPv6. */
  hasIpv6Locator(slot: number): boolean {
    return isIpv6Number(this.#locator[slot]!); // a slot in use
  }

  isMux(address: number): boolean {
    return this.#muxes.find(address) !== NOT_FOUND;
  }

  knowsMux(muxId: number): boolean {
    return this.#muxIds.has(muxId);
  }

  /** Locator of the DIP in `slot`: the outer source of what it sends to peers. */
  locator(slot: number): number {
    return this.#locator[slot]!; // a slot in use
  }

  /** Key of this host, as the DIP has it; null: FastPath messages about its flows are not believed. */
  fastpathKey(slot: number): Uint8Array | null {
    return this.#dipItems[slot]?.fastpathKey ?? null;
  }

  /** Security groups of the DIP. */
  groupsOf(slot: number): readonly string[] {
    return this.#dipItems[slot]?.groups ?? NO_GROUPS;
  }

  /** Packets of the DIP in `slot` and this address go untranslated. */
  isInternal(address: number, slot: number): boolean {
    return this.internal.contains(address, this.#dipItems[slot]?.tenant ?? "");
  }

  /** VIPs that the DIP's flows may leave by, ascending by id. */
  outboundVips(dipId: number): readonly OutboundVip[] {
    return this.#outbound.get(dipId) ?? NO_VIPS;
  }

  probes(): readonly HostProbeItem[] {
    return [...this.#probes.values()];
  }

  dipSlots(): readonly number[] {
    return Array.from({ length: this.#dips.capacity }, (_, slot) => slot).filter((slot) => this.#dips.isUsed(slot));
  }

  // ---- Tables ----

  apply(delta: TableDelta<HostItem, HostChange>, index: LogIndex): ApplyResult {
    const steps = this.#store.plan(delta);
    if (!steps.every((step) => step.after === null || this.#isSupported(step.after))) return "unsupported";
    if (!this.#fits(steps)) return "full";
    this.#announceGone(steps);
    for (const { before, after } of steps) if (before !== null) this.#take(before, after);
    for (const { after } of steps) if (after !== null) this.#put(after);
    this.#store.commit(steps);
    this.#index = index;
    this.#generation++;
    return "in-force";
  }

  #fits(steps: readonly PlanStep<HostItem>[]): boolean {
    const count = (kind: HostItem["kind"]): number => this.#store.countAfter(kind, steps);
    return (
      count("dip") <= this.#layout.dips &&
      count("endpoint") <= this.#layout.endpoints &&
      count("outbound") <= this.#layout.outbounds &&
      count("range") <= this.#layout.ranges &&
      count("mux") <= this.#layout.muxes &&
      count("internal") <= this.#layout.internalPrefixes
    );
  }

  #announceGone(steps: readonly PlanStep<HostItem>[]): void {
    const dipSlots = new Set<number>();
    const ranges = new Set<number>();
    const ended: HostEndpointItem[] = [];
    for (const { before, after } of steps) {
      if (after?.kind === "endpoint" && after.ended === true && !isEnded(before)) ended.push(after);
      if (before?.kind === "dip" && (after as HostDipItem | null)?.address !== before.address) {
        dipSlots.add(this.findDip(before.dipId));
      }
      if (before?.kind === "range") {
        ranges.add(this.#ports.findRange(this.addresses.find(before.vip), before.protocol, before.range));
      }
    }
    if (dipSlots.size > 0 || ranges.size > 0 || ended.length > 0) this.#onGone(dipSlots, ranges, ended);
  }

  #take(before: HostItem, after: HostItem | null): void {
    switch (before.kind) {
      case "dip": {
        const slot = this.findDip(before.dipId);
        this.#byLocator.remove(slot);
        this.#dipItems[slot] = undefined;
        this.addresses.release(this.#locator[slot]!);
        this.addresses.release(this.address[slot]!);
        if (after === null) this.#dips.remove(slot);
        return;
      }
      case "endpoint":
        this.endpoints.remove(before);
        return;
      case "outbound": {
        const rest = this.outboundVips(before.dipId).filter(({ vipId }) => vipId !== before.vipId);
        this.addresses.release(this.addresses.find(before.vip));
        if (rest.length === 0) this.#outbound.delete(before.dipId);
        else this.#outbound.set(before.dipId, rest);
        return;
      }
      case "range": {
        const vip = this.addresses.find(before.vip);
        this.#ports.removeRange(vip, before.protocol, before.range);
        this.addresses.release(vip);
        return;
      }
      case "recall": {
        const vip = this.addresses.find(before.vip);
        for (const range of before.ranges) this.#ports.endRecall(vip, before.protocol, range);
        this.#ports.recallSurplus(before.dipId, vip, before.protocol, 0);
        this.addresses.release(vip);
        return;
      }
      case "mux":
        this.#muxIds.delete(before.muxId);
        this.#forgetMux(before.address);
        if (before.addressIpv6 !== undefined) this.#forgetMux(before.addressIpv6);
        return;
      case "internal":
        this.internal.remove(before.prefix, before.tenant);
        return;
      case "probe":
        this.#probes.delete(hostItemKey(before));
        this.probesVersion++;
        return;
      case "group":
        this.security.remove(before);
        return;
      case "rule":
        this.owners.removeRule(before);
        return;
      case "table":
        this.owners.removeTable(before);
        return;
      case "owner":
        this.owners.removeOwner(before);
        return;
      case "site":
        this.#hasher = null;
        return;
      default:
        assertNever(before);
    }
  }

  #put(item: HostItem): void {
    switch (item.kind) {
      case "dip": {
        const slot = this.#dips.upsert(item.dipId);
        const locator = this.addresses.take(item.locator); // an address, as all below: `#isSupported`
        this.#locator[slot] = locator;
        this.address[slot] = this.addresses.take(item.address);
        this.#dipItems[slot] = item;
        this.#byLocator.insert(slot, mixWords(locator, 0, 0, 0), locator, 0, 0, 0);
        return;
      }
      case "endpoint":
        this.endpoints.put(item);
        return;
      case "outbound": {
        const added = outboundVip(item, this.addresses.take(item.vip));
        const vips = [...this.outboundVips(item.dipId), added].sort((a, b) => a.vipId - b.vipId);
        this.#outbound.set(item.dipId, vips);
        return;
      }
      case "range":
        this.#ports.addRange(item, this.addresses.take(item.vip), this.#nowMs());
        return;
      case "recall": {
        const vip = this.addresses.take(item.vip);
        for (const range of item.ranges) this.#ports.recall(vip, item.protocol, range);
        this.#ports.recallSurplus(item.dipId, vip, item.protocol, item.surplus ?? 0);
        return;
      }
      case "mux":
        this.#muxIds.add(item.muxId);
        this.#knowMux(item.address);
        if (item.addressIpv6 !== undefined) this.#knowMux(item.addressIpv6);
        return;
      case "internal":
        this.internal.add(item.prefix, item.tenant);
        return;
      case "probe": // the health monitor's, no packet's
        this.#probes.set(hostItemKey(item), item);
        this.probesVersion++;
        return;
      case "group":
        this.security.put(item);
        return;
      case "rule":
        this.owners.putRule(item);
        return;
      case "table":
        this.owners.putTable(item);
        return;
      case "owner":
        this.owners.putOwner(item);
        return;
      case "site":
        this.#hasher = new FlowHasher(item.hashKey);
        return;
      default:
        assertNever(item);
    }
  }

  #knowMux(address: IpAddress): void {
    this.#muxCount[this.#muxes.upsert(this.addresses.take(address))]!++;
  }

  #forgetMux(address: IpAddress): void {
    const number = this.addresses.find(address);
    const record = this.#muxes.find(number);
    if (--this.#muxCount[record]! === 0) this.#muxes.remove(record);
    this.addresses.release(number);
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

  items(): Iterable<HostItem> {
    return this.#store.items();
  }

  count(kind: HostItem["kind"]): number {
    return this.#store.countAfter(kind, []);
  }

  adopt(): { readonly index: LogIndex; readonly digest: string } {
    return { index: this.#index, digest: this.#store.digest() };
  }

  /** Addresses of either family; VIP and DIP of one flow are of one. */
  #isSupported(item: HostItem): boolean {
    switch (item.kind) {
      case "dip":
        return this.#isAddress(item.address) && this.#isAddress(item.locator);
      case "endpoint":
      case "outbound":
      case "range":
      case "recall":
      case "rule":
        return this.#isAddress(item.vip);
      case "owner":
        return this.#isAddress(item.locator);
      case "mux":
        return this.#isAddress(item.address) && (item.addressIpv6 === undefined || this.#isAddress(item.addressIpv6));
      case "internal":
        return parsePrefix(item.prefix) !== null;
      case "site":
        return item.hashKey.length === 8;
      case "probe":
      case "group":
      case "table":
        return true;
      default:
        return false; // of a newer version of the control plane
    }
  }

  #isAddress(text: string): boolean {
    const number = this.addresses.take(text);
    if (number !== NO_ADDRESS) this.addresses.release(number);
    return number !== NO_ADDRESS;
  }
}

const isEnded = (item: HostItem | null): boolean => item?.kind === "endpoint" && item.ended === true;

function outboundVip(item: HostOutboundItem, vip: number): OutboundVip {
  const {
    vipId,
    selection,
    tcpIdleSeconds: tcp,
    udpIdleSeconds: udp,
    idleReset,
    onExhaustion,
    udpMapping,
    queueSeconds,
  } = item;
  return {
    vipId,
    vip,
    isPaired: selection === "paired",
    tcpIdleMs: tcp === undefined ? undefined : tcp * 1_000,
    udpIdleMs: udp === undefined ? undefined : udp * 1_000,
    resetsWhenIdle: idleReset !== false,
    mapsEndpointIndependently: udpMapping === "endpointIndependent",
    holdSeconds: queueSeconds,
    answersExhaustion: onExhaustion !== "drop",
  };
}
