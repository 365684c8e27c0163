/**
 * Who owns which SNAT port ranges. Ownership is keyed by VIP *address*, so that it outlives deleting and re-creating the
 * VIP; silence never ends it. Checks of who may ask are in `apply/snat`; here is only the stock.
 *
 * Invariants: (I1) a range of a (VIP, protocol) has at most one owner. (I2) A range goes from one DIP to another only
 * through quarantine, but for what a host turns out to hold after a restore. (I3) A range that holds a rule's port is not
 * granted; one that is owned already is recalled, and excluded once it has rested. (I4) Counts equal what the ranges' states say.
 */
import type { DipId, IpAddress, LogIndex } from "../../../core/brands.js";
import { BeforeImages } from "../snapshot/before-images.js";
import type { RangeBlock } from "../commands/commands.js";
import { byAddress, inOrderOfAddress } from "../order.js";
import type { VipLending } from "./outbound-index.js";
import { RANGES_PER_SPACE, SNAT_PROTOCOLS, type SnatProtocol } from "./port-ranges.js";
import { PortSpace } from "./port-space.js";
import { RANGE_OWNED, RANGE_QUARANTINED } from "./range-records.js";
import { Recalls } from "./recalls.js";
import { type Quarantine, QuarantineQueue, quarantineIsOver } from "./quarantine.js";
import { TenantRanges } from "./tenant-ranges.js";

interface SpacePair {
  tcp: PortSpace | null;
  udp: PortSpace | null;
}

/** What the stock follows from, besides who owns what. */
export interface SnatSources {
  /** Ranges that rules of a VIP address hold, in the spec or in the active configuration. */
  readonly excludedRanges: (vip: IpAddress, protocol: SnatProtocol) => ReadonlySet<number>;
  readonly lendingOf: (vip: IpAddress) => VipLending | null;
  readonly tenantOf: (dip: DipId) => string;
  readonly weightOf: (tenant: string) => number;
}

/** When a range was given back: both clocks of the quarantine. */
export interface ReleaseMoment {
  readonly nowMs: number;
  readonly index: LogIndex;
}

/** Neighbouring ranges of one grant whose ownership has ended. */
export interface EndedOwnership extends RangeBlock {
  readonly dip: DipId;
  /** Entry that granted them. */
  readonly grantedIndex: LogIndex;
}

const NOTHING_ENDED: readonly EndedOwnership[] = [];
const NOBODY_ASKED: ReadonlyMap<DipId, number> = new Map();
const NOTHING: ReadonlySet<number> = new Set();
const NO_MEMBERS: ReadonlySet<DipId> = new Set();

export class SnatAllocator {
  /** Of the MUXes' tables. */
  readonly tenants: TenantRanges;
  readonly quarantines = new QuarantineQueue();
  readonly recalls = new Recalls();
  private readonly pairs = new Map<IpAddress, SpacePair>();
  /** Keys of `pairs` in order; null: to be sorted anew. */
  private inOrder: readonly IpAddress[] | null = null;
  private readonly contestedSpaces = new Set<PortSpace>();
  private readonly spacesOfDip = new Map<DipId, Set<PortSpace>>();
  private readonly sources: SnatSources;
  /** Since the last `takeEnded`: for the history, no part of the state. */
  private ended: EndedOwnership[] = [];
  private readonly images: BeforeImages;

  constructor(sources: SnatSources, images = new BeforeImages()) {
    this.sources = sources;
    this.tenants = new TenantRanges(sources.weightOf);
    this.images = images;
  }

  /** Ranges owned in all spaces: what MUX tables must hold. */
  get ownedTotal(): number {
    return this.tenants.ownedTotal;
  }

  space(vip: IpAddress, protocol: SnatProtocol): PortSpace | null {
    const pair = this.pairs.get(vip);
    if (pair === undefined) return null;
    return protocol === 6 ? pair.tcp : pair.udp;
  }

  /** The space, made now if there is none yet. */
  openSpace(vip: IpAddress, protocol: SnatProtocol): PortSpace {
    let pair = this.pairs.get(vip);
    if (pair === undefined) {
      pair = { tcp: null, udp: null };
      this.pairs.set(vip, pair);
      this.inOrder = null;
    }
    const existing = protocol === 6 ? pair.tcp : pair.udp;
    if (existing !== null) return existing;
    const space = new PortSpace(vip, protocol, this.images);
    space.setWanted(this.sources.excludedRanges(vip, protocol));
    const lending = this.sources.lendingOf(vip);
    if (lending !== null) space.setMembers(lending.members, lending.minRanges);
    if (protocol === 6) pair.tcp = space;
    else pair.udp = space;
    return space;
  }

  /** All spaces, ordered by (address, protocol). */
  spaces(): readonly PortSpace[] {
    this.inOrder ??= inOrderOfAddress(this.pairs.keys());
    return this.inOrder.flatMap((vip) => SNAT_PROTOCOLS.flatMap((protocol) => this.space(vip, protocol) ?? []));
  }

  /** Spaces in which `dip` owns ranges, ordered by (address, protocol). */
  spacesOf(dip: DipId): readonly PortSpace[] {
    const spaces = this.spacesOfDip.get(dip);
    return spaces === undefined ? [] : [...spaces].sort(bySpace);
  }

  ownsRanges(dip: DipId): boolean {
    return this.spacesOfDip.has(dip);
  }

  /**
   * Grants `need` ranges, one aligned block of the next power of two where there is one and `most` allows it, otherwise
   * pieces that add up to no more than `need`. Gives at least one range when `most` >= 1 and the space has any free.
   */
  grant(space: PortSpace, dip: DipId, need: number, most: number, index: LogIndex): RangeBlock[] {
    const rounded = nextPowerOfTwo(need);
    if (rounded <= most) {
      const first = space.findBlock(rounded);
      if (first >= 0) return [this.take(space, first, rounded, dip, index)];
    }
    const blocks: RangeBlock[] = [];
    let left = Math.min(need, most, space.freeCount);
    let size = rounded;
    while (left > 0) {
      while (size > left) size >>>= 1;
      const first = space.findBlock(size);
      if (first < 0) {
        size >>>= 1; // ends: a block of one exists while any range is free
        continue;
      }
      blocks.push(this.take(space, first, size, dip, index));
      left -= size;
    }
    return blocks;
  }

  /** Grants exactly this block, which is free: the end of `grant`, and how a snapshot is read back. */
  take(space: PortSpace, first: number, count: number, dip: DipId, index: LogIndex): RangeBlock {
    const shortfall = space.shortfall;
    space.grant(first, count, dip, index);
    space.moveCursor(first + count);
    this.tenants.changed(this.sources.tenantOf(dip), space.vip, {
      owned: count,
      reserved: space.shortfall - shortfall,
    });
    let spaces = this.spacesOfDip.get(dip);
    if (spaces === undefined) {
      spaces = new Set();
      this.spacesOfDip.set(dip, spaces);
    }
    spaces.add(space);
    return { vip: space.vip, protocol: space.protocol, range: first, count };
  }

  /** Ends the ownership of `dip` over the block, all of which it owns; the block's quarantine begins. */
  release(space: PortSpace, first: number, count: number, dip: DipId, moment: ReleaseMoment): void {
    this.disown(space, first, count, dip);
    this.quarantines.push({
      space,
      range: first,
      count,
      dip,
      releasedAtMs: moment.nowMs,
      releaseIndex: moment.index,
      nextInSpace: null,
    });
  }

  /** Makes `dip` the owner of one range that is not excluded, whatever it was. Only after a restore: it skips quarantine. */
  takeOver(space: PortSpace, range: number, dip: DipId, index: LogIndex): void {
    if (space.stateOf(range) === RANGE_OWNED) this.disown(space, range, 1, space.ownerOf(range));
    else if (space.stateOf(range) === RANGE_QUARANTINED) this.quarantines.remove(space, range);
    if (space.stateOf(range) === RANGE_QUARANTINED) space.endQuarantine(range, 1);
    const { cursor } = space;
    this.take(space, range, 1, dip, index);
    space.cursor = cursor;
  }

  /** What has ended since the last call, in order. */
  takeEnded(): readonly EndedOwnership[] {
    if (this.ended.length === 0) return NOTHING_ENDED;
    const ended = this.ended;
    this.ended = [];
    return ended;
  }

  private disown(space: PortSpace, first: number, count: number, dip: DipId): void {
    for (const run of space.grantRuns(first, count)) {
      const { vip, protocol } = space;
      this.ended.push({ vip, protocol, range: run.first, count: run.count, dip, grantedIndex: run.grantedIndex });
    }
    this.recalls.disowned(space, first, count, dip);
    const shortfall = space.shortfall;
    space.quarantine(first, count, dip);
    this.tenants.changed(this.sources.tenantOf(dip), space.vip, {
      owned: -count,
      reserved: space.shortfall - shortfall,
    });
    if (space.ownedBy(dip) > 0) return;
    const spaces = this.spacesOfDip.get(dip);
    spaces?.delete(space);
    if (spaces?.size === 0) this.spacesOfDip.delete(dip);
  }

  /** Ends every quarantine that is over. */
  endQuarantines(nowMs: number, muxSafeIndex: LogIndex, muxEverJoined: boolean): Quarantine[] {
    const ended: Quarantine[] = [];
    for (;;) {
      const quarantine = this.quarantines.peek();
      if (quarantine === null || !quarantineIsOver(quarantine, nowMs, muxSafeIndex, muxEverJoined)) return ended;
      this.quarantines.shift();
      quarantine.space.endQuarantine(quarantine.range, quarantine.count);
      ended.push(quarantine);
    }
  }

  /** Spaces in which DIPs wait for their share, in order of (address, protocol). */
  contested(): readonly PortSpace[] {
    return [...this.contestedSpaces].sort(bySpace);
  }

  /** To be called when claims were made or ended in the space. */
  claimsChanged(space: PortSpace): void {
    if (space.claims.size > 0) this.contestedSpaces.add(space);
    else this.contestedSpaces.delete(space);
  }

  /** Cluster time at which the first claim lapses, or null. */
  nextClaimEndMs(): number | null {
    let next = Infinity;
    for (const { claims } of this.contestedSpaces)
      for (const { untilMs } of claims.values()) next = Math.min(next, untilMs);
    return next === Infinity ? null : next;
  }

  /** The VIP grants ports no more: nobody waits for them, and nobody is asked for any. */
  dropClaims(vip: IpAddress, nowMs: number): void {
    for (const protocol of SNAT_PROTOCOLS) {
      const space = this.space(vip, protocol);
      if (space === null) continue;
      space.claims.clear();
      this.claimsChanged(space);
      this.recalls.askForSurplus(space, NOBODY_ASKED, nowMs);
    }
  }

  /**
   * The rules of the VIP have changed: take their ranges out of the stock or recall them, and put back what no rule wants any
   * more.
   */
  rulesChanged(vip: IpAddress, nowMs: number): void {
    for (const protocol of SNAT_PROTOCOLS) {
      const space = this.space(vip, protocol);
      if (space === null) continue;
      space.setWanted(this.sources.excludedRanges(vip, protocol));
      this.recalls.refresh(space, nowMs);
    }
  }

  /** Who may own ports of the VIP, or how many, has changed. O(members). */
  lendingChanged(vip: IpAddress): void {
    const lending = this.sources.lendingOf(vip);
    const { members, minRanges } = lending ?? { members: NO_MEMBERS, minRanges: 0 };
    let reserved = 0;
    for (const protocol of SNAT_PROTOCOLS) {
      const space = this.space(vip, protocol);
      space?.setMembers(members, minRanges);
      reserved += space?.shortfall ?? members.size * minRanges;
    }
    if (lending === null) {
      this.tenants.promised(vip, null);
      return;
    }
    const most = SNAT_PROTOCOLS.length * Math.min(RANGES_PER_SPACE, members.size * lending.maxRanges);
    this.tenants.promised(vip, { tenant: lending.tenant, reserved, most });
  }

  /** While a snapshot is read: what is owned and what rests may lie where rules want to be. `rulesChanged` follows. */
  openForReading(vip: IpAddress, protocol: SnatProtocol): PortSpace {
    const space = this.openSpace(vip, protocol);
    space.setWanted(NOTHING);
    return space;
  }

  /** Forgets spaces in which nothing is owned or rests. For addresses that no VIP has any more. */
  closeIfEmpty(vip: IpAddress): void {
    const pair = this.pairs.get(vip);
    if (pair === undefined) return;
    if (isEmpty(pair.tcp)) pair.tcp = null;
    if (isEmpty(pair.udp)) pair.udp = null;
    if (pair.tcp === null && pair.udp === null) {
      this.pairs.delete(vip);
      this.inOrder = null;
    }
  }
}

/** For 1..2^30. */
const nextPowerOfTwo = (count: number): number => (count <= 1 ? 1 : 1 << (32 - Math.clz32(count - 1)));

const isEmpty = (space: PortSpace | null): boolean =>
  space !== null && space.ownedCount === 0 && space.quarantinedCount === 0;

const bySpace = (a: PortSpace, b: PortSpace): number => byAddress(a.vip, b.vip) || a.protocol - b.protocol;
