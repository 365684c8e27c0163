/**
 * What receivers see of the state: the MUX view, and one view per host. Each command leaves marks of what it
 * touched; `flushing`, once per entry, recomputes just that and finds the differences, while port ranges, which change most, are
 * told one by one. Applying the changes of an entry to a view before it gives exactly the view after it. Only reads what it
 * projects.
 *
 * A range is in the MUX view while the VIP with its address is: from the VIP's first activation until its deletion is
 * activated. It is in a host's view when it is in the MUX view and the host runs the DIP. Ownership does not depend on
 * either: a VIP that comes back under the same address brings its ranges back into the views.
 */
import { fastpathHostKey } from "../../../dataplane/fastpath-message.js";
import { assert } from "../../../core/assert.js";
import type { DipId, HostId, IpAddress, LogIndex, PoolId, VipId } from "../../../core/brands.js";
import { type Digest, EMPTY_DIGEST, formatDigest, xorDigests } from "../../../dataplane/digest.js";
import { type HostChange, type HostItem, hostItemKey } from "../../../dataplane/host-items.js";
import { type MuxItem, muxItemKey } from "../../../dataplane/mux-items.js";
import type { BeforeImages } from "../snapshot/before-images.js";
import type { RangeBlock } from "../commands/commands.js";
import type { DipRecord } from "../dip-table.js";
import { HostTables } from "./host-tables.js";
import {
  dipItems,
  hostDipItems,
  hostMuxItems,
  hostSharedItems,
  keyBytes,
  internalVipItems,
  type ItemSources,
  muxItems,
  type SiteKeys,
  poolItems,
  recallItems,
  vipItems,
} from "./item-sources.js";
import type { MuxPool } from "../mux-pool.js";
import { byNumber } from "../order.js";
import { SNAT_PROTOCOLS } from "../snat/port-ranges.js";
import type { PortSpace } from "../snat/port-space.js";
import type { AppliedBatch } from "../commands/results.js";
import { tableItems } from "./table-items.js";
import type { TableReadings } from "../table-history.js";
import { View } from "./view.js";
import { ViewCapture } from "./view-capture.js";

/**
 * In one step of `rebuild`: of whatever has many parts, one. A VIP brings its port ranges along, up to 16,128; a pool its rows,
 * some 700, and as many hosts; 16 DIPs some 300 endpoints.
 */
const PER_STEP = 1;
const DIPS_PER_STEP = 16;

export interface ProjectionSources extends ItemSources {
  readonly muxes: MuxPool;
  readonly tables: TableReadings;
}

export class Projection {
  private readonly sources: ProjectionSources;
  private readonly mux = new View<MuxItem>(muxItemKey);
  /** What every host sees alike: the site and the live MUXes. */
  private readonly common = new View<HostItem>(hostItemKey);
  private readonly hosts = new Map<HostId, View<HostItem>>();
  /** Hosts with changes that were not collected yet, and those that did not exist before. */
  private readonly touchedHosts = new Set<HostId>();
  private readonly newHosts = new Set<HostId>();
  /** VIPs that are in the MUX view. */
  private readonly shownVips = new Map<IpAddress, VipId>();
  private readonly shownAddresses = new Map<VipId, IpAddress>();
  /** Hosts in whose views the DIPs are. */
  private readonly shownHosts = new Map<DipId, HostId>();
  private readonly tables = new HostTables();

  private readonly dirtyVips = new Set<VipId>();
  private readonly dirtyPools = new Set<PoolId>();
  private readonly dirtyDips = new Set<DipId>();
  private readonly dirtyMembers = new Set<DipId>();
  private readonly dirtyHosts = new Set<HostId>();
  private readonly dirtyShared = new Set<HostId>();
  /** Pools whose rows in hosts' views are to be looked at, once per entry however often they changed. */
  private readonly dirtyTables = new Set<PoolId>();
  private muxesAreDirty = false;
  /** Master key of FastPath; null: the site has none. */
  private muxKey: Uint8Array | null = null;
  private readonly fastpathKeys = new Map<HostId, Uint8Array>();

  constructor(sources: ProjectionSources) {
    this.sources = sources;
  }

  setSite({ hashKey, muxKey }: SiteKeys): void {
    const site = { kind: "site" as const, hashKey: keyBytes(hashKey) };
    this.muxKey = muxKey === undefined ? null : keyBytes(muxKey);
    this.fastpathKeys.clear();
    this.mux.replaceGroup("site", [this.muxKey === null ? site : { ...site, muxKey: this.muxKey }]);
    this.common.replaceGroup("site", [site]);
  }

  muxesChanged(): void {
    this.muxesAreDirty = true;
  }

  vipChanged(id: VipId): void {
    this.dirtyVips.add(id);
  }

  poolChanged(id: PoolId): void {
    this.dirtyPools.add(id);
  }

  /** What its pools, or the VIPs that name them, say has changed. */
  memberChanged(id: DipId): void {
    this.dirtyMembers.add(id);
  }

  /** The DIP has a host, has another locator, or has no host any more. */
  dipChanged(id: DipId): void {
    this.dirtyDips.add(id);
  }

  /** It has registered, or something that all its DIPs see has changed. */
  hostChanged(id: HostId): void {
    this.dirtyHosts.add(id);
  }

  rangesGranted({ vip, protocol, range, count }: RangeBlock, { dipId }: DipRecord): void {
    const vipId = this.shownVips.get(vip);
    if (vipId === undefined) return;
    const host = this.viewOfDip(dipId);
    for (let at = range; at < range + count; at++) {
      this.mux.rangePut({ kind: "snat", vipId, protocol, range: at, dipId });
      host?.rangePut({ kind: "range", vipId, vip, protocol, range: at, dipId });
    }
  }

  rangesReleased({ vip, protocol, range, count }: RangeBlock, { dipId }: DipRecord): void {
    const vipId = this.shownVips.get(vip);
    if (vipId === undefined) return;
    const host = this.viewOfDip(dipId);
    for (let at = range; at < range + count; at++) {
      this.mux.rangeRemoved({ kind: "snat", vipId, protocol, range: at, dipId });
      host?.rangeRemoved({ kind: "range", vipId, vip, protocol, range: at, dipId });
    }
  }

  /** Pools marked since the last flush, or of a DIP that was: their members may serve otherwise now. In order. */
  markedPools(): readonly PoolId[] {
    const pools = new Set(this.dirtyPools);
    for (const id of this.dirtyDips) for (const pool of this.sources.dips.must(id).pools) pools.add(pool);
    return [...pools].sort(byNumber);
  }

  /** Brings the views up to date with everything marked, in steps; nothing else is marked meanwhile. After the commands of an entry. */
  *flushing(): Generator<void, void> {
    if (this.muxesAreDirty) this.flushMuxes();
    for (const dip of this.sources.snat.recalls.takeTouched()) this.dirtyMembers.add(dip);
    const { dirtyVips, dirtyPools, dirtyDips, dirtyMembers, dirtyHosts } = this;
    if (dirtyVips.size + dirtyPools.size + dirtyDips.size + dirtyMembers.size + dirtyHosts.size === 0) return;
    if (dirtyVips.size > 0) this.common.replaceGroup("internal", internalVipItems(this.sources.objects));
    yield* each(drain(dirtyVips), (id) => this.flushVip(id));
    yield* each(drain(dirtyDips), (id) => this.flushDip(id));
    yield* each(drain(dirtyPools), (id) => this.flushPool(id));
    for (const id of drain(dirtyHosts)) {
      this.view(id); // also of a host without DIPs
      this.dirtyShared.add(id);
      for (const dip of this.sources.hosts.must(id).dips) dirtyMembers.add(dip);
    }
    yield* each(drain(dirtyMembers), (id) => this.flushMember(id));
    yield* each(drain(this.dirtyShared), (id) => this.flushShared(id));
    yield* each(drain(this.dirtyTables), (id) => this.flushTables(id));
  }

  /** The changes since the last call; hosts in order of id. */
  takeChanges(): Pick<AppliedBatch, "muxChanges" | "hostChanges"> {
    const hostChanges = new Map<HostId, readonly HostChange[]>();
    const common = this.common.takeChanges();
    const touched = common.length > 0 ? [...this.hosts.keys()] : [...this.touchedHosts];
    for (const id of touched.sort(byNumber)) {
      const own = this.hosts.get(id)?.takeChanges() ?? [];
      // A host that is new has seen nothing yet, so it gets all of what hosts see alike.
      const shared = this.newHosts.has(id) ? this.commonItems() : common;
      const lists = [shared, own, ...this.tables.takeChanges(id)].filter((changes) => changes.length > 0);
      // Mostly it is one list, which many hosts have alike: not copied for each.
      if (lists.length > 0) hostChanges.set(id, lists.length === 1 ? lists[0]! : noChanges.concat(...lists));
    }
    this.touchedHosts.clear();
    this.newHosts.clear();
    return { muxChanges: this.mux.takeChanges(), hostChanges };
  }

  muxItems(): Iterable<MuxItem> {
    return this.mux.walk(this.muxRanges());
  }

  muxDigest(): string {
    return formatDigest(this.mux.digest(() => this.muxRanges()));
  }

  /** Null: only a walk over the view, `captureMux` say, can tell. */
  knownMuxDigest(): string | null {
    const known = this.mux.knownDigest();
    return known === null ? null : formatDigest(known);
  }

  /** The MUX view as it is now, at `index`. */
  captureMux(index: LogIndex, images: BeforeImages): ViewCapture<MuxItem> {
    const { groups, counted } = this.mux.capture();
    const reading = images.begin();
    const spaces = [...this.shownAddresses].flatMap(([vipId, vip]) =>
      SNAT_PROTOCOLS.flatMap((protocol) => {
        const space = this.sources.snat.space(vip, protocol);
        return space === null ? [] : [{ vipId, space }];
      }),
    );
    function* all(): Generator<Iterable<MuxItem>, void> {
      yield* groups;
      for (const { vipId, space } of spaces) yield rangeItems(vipId, reading.of(space));
    }
    return new ViewCapture({ index, keyOf: muxItemKey, groups: all(), counted, ended: () => reading.end() });
  }

  /** A host's view as it is now, at `index`. The walk over it tells the digest of what it shares with no other host, too. */
  captureHost(id: HostId, index: LogIndex): ViewCapture<HostItem> {
    const items = [...this.hostItems(id)];
    const view = this.hosts.get(id);
    if (view === undefined) return new ViewCapture({ index, keyOf: hostItemKey, groups: once(items) });
    const alike = this.sharedDigest(id);
    const { counted } = view.capture();
    return new ViewCapture({
      ...{ index, keyOf: hostItemKey, groups: once(items) },
      counted: (digest) => counted(xorDigests(digest, alike)),
    });
  }

  *hostItems(id: HostId): Iterable<HostItem> {
    const view = this.hosts.get(id);
    if (view === undefined) return;
    yield* this.common.walk([]);
    yield* view.walk(this.hostRanges(id));
    yield* this.tables.walk(id);
  }

  hostDigest(id: HostId): string {
    const view = this.hosts.get(id);
    if (view === undefined) return formatDigest(EMPTY_DIGEST);
    return formatDigest(
      xorDigests(
        this.sharedDigest(id),
        view.digest(() => this.hostRanges(id)),
      ),
    );
  }

  /** Of what the host sees as others do. */
  private sharedDigest(id: HostId): Digest {
    return xorDigests(
      this.common.digest(() => []),
      this.tables.digest(id),
    );
  }

  /**
   * Computes all views from scratch, in steps: after the sources were read from a snapshot, before anybody looks at them.
   * Nothing counts as a change.
   */
  *rebuild(site: SiteKeys | null): Generator<void, void> {
    if (site !== null) this.setSite(site);
    const { objects, dips, hosts } = this.sources;
    this.flushMuxes();
    this.common.replaceGroup("internal", internalVipItems(objects));
    yield* this.rebuildEach(objects.allVips(), PER_STEP, ({ vipId }) => this.flushVip(vipId));
    yield* this.rebuildEach(dips.all(), DIPS_PER_STEP, ({ dipId }) => this.flushDip(dipId));
    this.dirtyPools.clear(); // every pool follows
    this.dirtyMembers.clear(); // with their hosts
    yield* this.rebuildEach(objects.allPools(), PER_STEP, ({ poolId }) => this.flushPool(poolId));
    for (const { hostId, dips: ofHost } of hosts.all()) {
      this.view(hostId); // also of a host without DIPs
      yield* this.rebuildEach(ofHost, DIPS_PER_STEP, (id) => this.flushMember(id));
      this.flushShared(hostId);
    }
    this.dirtyShared.clear();
    this.forgetChanges();
  }

  private *rebuildEach<Source>(
    sources: Iterable<Source>,
    perStep: number,
    flush: (source: Source) => void,
  ): Generator<void, void> {
    let count = 0;
    for (const source of sources) {
      flush(source);
      if (++count % perStep !== 0) continue;
      this.forgetChanges();
      yield;
    }
  }

  private forgetChanges(): void {
    for (const id of drain(this.dirtyTables)) this.flushTables(id);
    this.mux.takeChanges();
    this.common.takeChanges();
    for (const host of this.touchedHosts) {
      this.hosts.get(host)?.takeChanges();
      this.tables.takeChanges(host);
    }
    this.touchedHosts.clear();
    this.newHosts.clear();
  }

  private flushMuxes(): void {
    this.muxesAreDirty = false;
    const muxes = this.sources.muxes.all();
    this.mux.replaceGroup("mux", muxItems(muxes));
    this.common.replaceGroup("mux", hostMuxItems(muxes));
  }

  private flushVip(id: VipId): void {
    const vip = this.sources.objects.vipById(id);
    const address = vip?.active?.address;
    const shown = this.shownAddresses.get(id);
    assert(address === undefined || shown === undefined || address === shown, "the address of a VIP never changes");
    if (shown !== undefined && address === undefined) {
      this.visitRanges(shown, (block, dip) => this.rangesReleased(block, dip));
      this.shownVips.delete(shown);
      this.shownAddresses.delete(id);
    }
    this.mux.replaceGroup(`vip/${id}`, vip === null ? [] : vipItems(this.sources, vip));
    if (shown === undefined && address !== undefined) {
      this.shownVips.set(address, id);
      this.shownAddresses.set(id, address);
      this.visitRanges(address, (block, dip) => this.rangesGranted(block, dip));
    }
  }

  private flushDip(id: DipId): void {
    const dip = this.sources.dips.must(id);
    this.mux.replaceGroup(`dip/${id}`, dipItems(dip));
    for (const pool of dip.pools) this.dirtyPools.add(pool);
    for (const pool of this.sources.tables.poolsOf(id)) this.dirtyPools.add(pool);
    for (const pool of this.sources.drains.poolsLeftBy(id)) this.dirtyPools.add(pool);
    this.dirtyMembers.add(id);
    const shown = this.shownHosts.get(id) ?? null;
    if (shown === dip.hostId) return;
    if (shown !== null) {
      this.view(shown).replaceGroup(`dip/${id}`, []);
      this.dirtyShared.add(shown);
      for (const item of this.dipRanges(id)) this.view(shown).rangeRemoved(item);
    }
    if (dip.hostId === null) this.shownHosts.delete(id);
    else {
      this.shownHosts.set(id, dip.hostId);
      for (const item of this.dipRanges(id)) this.view(dip.hostId).rangePut(item);
    }
  }

  private flushPool(id: PoolId): void {
    const pool = this.sources.objects.poolById(id);
    this.mux.replaceGroup(`pool/${id}`, pool === null ? [] : poolItems(this.sources, pool));
    this.dirtyTables.add(id);
  }

  private flushTables(id: PoolId): void {
    const { objects, tables, dips } = this.sources;
    const pool = objects.poolById(id);
    const items = pool === null ? [] : tableItems(this.sources, pool);
    const hosts = new Set<HostId>();
    if (items.length > 0)
      for (const dip of tables.owners(id)) {
        const { hostId } = dips.must(dip);
        if (hostId !== null) hosts.add(hostId);
      }
    for (const host of this.tables.replace(id, items, hosts)) this.view(host);
  }

  /** What the DIP's host sees of it alone. */
  private flushMember(id: DipId): void {
    const dip = this.sources.dips.must(id);
    const { hostId } = dip;
    if (hostId === null) return;
    const items = hostDipItems(this.sources, dip, this.fastpathKey(hostId));
    this.view(hostId).replaceGroup(`dip/${id}`, [...items, ...recallItems(this.sources, dip)]);
    this.dirtyShared.add(hostId); // its security groups
  }

  /** What the host sees of all its DIPs together. */
  private flushShared(id: HostId): void {
    const dips = this.sources.hosts.must(id).dips.map((dip) => this.sources.dips.must(dip));
    this.view(id).replaceGroup("shared", hostSharedItems(this.sources, dips));
  }

  private fastpathKey(id: HostId): Uint8Array | null {
    if (this.muxKey === null) return null;
    let key = this.fastpathKeys.get(id);
    if (key === undefined) this.fastpathKeys.set(id, (key = fastpathHostKey(this.muxKey, id)));
    return key;
  }

  /** The view of a host, made now if it is new; what the host sees is about to change, or has. */
  private view(id: HostId): View<HostItem> {
    this.touchedHosts.add(id);
    let view = this.hosts.get(id);
    if (view === undefined) {
      view = new View<HostItem>(hostItemKey, false); // four of five replicas do not serve the host
      this.hosts.set(id, view);
      this.newHosts.add(id);
    }
    return view;
  }

  private viewOfDip(id: DipId): View<HostItem> | null {
    const host = this.shownHosts.get(id);
    return host === undefined ? null : this.view(host);
  }

  private commonItems(): readonly HostChange[] {
    return [...this.common.walkInOrder()].map((item) => ({ op: "upsert", item }));
  }

  private visitRanges(vip: IpAddress, visit: (block: RangeBlock, dip: DipRecord) => void): void {
    for (const protocol of SNAT_PROTOCOLS) {
      this.sources.snat.space(vip, protocol)?.visitAllOwned((range, count, dip) => {
        visit({ vip, protocol, range, count }, this.sources.dips.must(dip));
      });
    }
  }

  private *muxRanges(): Iterable<MuxItem> {
    for (const [vipId, vip] of this.shownAddresses)
      for (const protocol of SNAT_PROTOCOLS) {
        const space = this.sources.snat.space(vip, protocol);
        if (space !== null) yield* rangeItems(vipId, space);
      }
  }

  private *hostRanges(id: HostId): Iterable<HostItem> {
    for (const dip of this.sources.hosts.must(id).dips) yield* this.dipRanges(dip);
  }

  private dipRanges(dipId: DipId): readonly HostItem[] {
    const items: HostItem[] = [];
    for (const space of this.sources.snat.spacesOf(dipId)) {
      const { vip, protocol } = space;
      const vipId = this.shownVips.get(vip);
      if (vipId === undefined) continue;
      space.visitOwned(dipId, (first, count) => {
        for (let range = first; range < first + count; range++)
          items.push({ kind: "range", vipId, vip, protocol, range, dipId });
      });
    }
    return items;
  }
}

const noChanges: readonly HostChange[] = [];

function rangeItems(vipId: VipId, space: PortSpace): readonly MuxItem[] {
  const items: MuxItem[] = [];
  const { protocol } = space;
  space.visitAllOwned((range, count, dipId) => {
    for (let at = range; at < range + count; at++) items.push({ kind: "snat", vipId, protocol, range: at, dipId });
  });
  return items;
}

function* once<Item>(items: Iterable<Item>): Generator<Iterable<Item>, void> {
  yield items;
}

/** One id in a step. */
function* each<Id>(ids: readonly Id[], flush: (id: Id) => void): Generator<void, void> {
  for (const id of ids) {
    flush(id);
    yield;
  }
}

/** The ids in order, and the set empty. */
function drain<Id extends number>(ids: Set<Id>): readonly Id[] {
  const all = [...ids].sort(byNumber);
  ids.clear();
  return all;
}
