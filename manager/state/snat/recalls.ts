/**
 * Port ranges that their owners are asked to give back, for one of two reasons. A question, never a seizure: new flows stay
 * off a recalled range, and its owner returns it when the last flow is over (Ananta §3.5.1 gives idle ranges back; ours
 * are asked for).
 *
 *     a rule wants a port of it --> recalled (owned) --release--> at rest --120 s, and every MUX knows--> the rule's
 *                                     `-- no rule wants it any more --> owned as before
 *     others lack their fair share --> so many of the owner's, whichever its host can do without --release--> at rest --> free
 *                                     `-- nobody waits any more --> owned as before
 *
 * Until a rule's range has rested, the rule waits (`item-sources`); who waits for its fair share is told (`snat-claims`).
 */
import type { DipId, IpAddress } from "../../../core/brands.js";
import { byAddress, byNumber } from "../order.js";
import type { SnatProtocol } from "./port-ranges.js";
import type { PortSpace } from "./port-space.js";

export interface Recall {
  readonly vip: IpAddress;
  readonly protocol: SnatProtocol;
  readonly range: number;
  /** The owner who is asked. */
  readonly dip: DipId;
  /** Cluster time. */
  readonly sinceMs: number;
}

/** Ranges of the owner's choice: what it owns above its fair share, or less. */
export interface SurplusRecall {
  readonly vip: IpAddress;
  readonly protocol: SnatProtocol;
  readonly dip: DipId;
  /** At least 1. */
  readonly ranges: number;
  /** Cluster time since when it is asked for any. */
  readonly sinceMs: number;
}

export class Recalls {
  /** Spaces whose ports have run short, and who is asked there. */
  private readonly surplus = new Map<PortSpace, Map<DipId, SurplusRecall>>();
  private readonly ofDips = new Map<DipId, Map<string, Recall>>();
  private touched = new Set<DipId>();

  get(space: PortSpace, range: number): Recall | null {
    return this.ofDips.get(space.ownerOf(range))?.get(name(space, range)) ?? null;
  }

  put(recall: Recall): void {
    let recalls = this.ofDips.get(recall.dip);
    if (recalls === undefined) {
      recalls = new Map();
      this.ofDips.set(recall.dip, recalls);
    }
    recalls.set(name(recall, recall.range), recall);
    this.touched.add(recall.dip);
  }

  /** What is owned in the space and wanted by a rule is recalled, nothing else. O(ranges that rules want + recalls). */
  refresh(space: PortSpace, nowMs: number): void {
    for (const recalls of [...this.ofDips.values()])
      for (const { vip, protocol, range, dip } of [...recalls.values()])
        if (vip === space.vip && protocol === space.protocol && !space.isWanted(range)) this.remove(space, range, dip);
    for (const range of space.wantedAndOwned()) {
      if (this.get(space, range) !== null) continue;
      this.put({ vip: space.vip, protocol: space.protocol, range, dip: space.ownerOf(range), sinceMs: nowMs });
    }
  }

  /** In the space exactly these DIPs are asked, each for so many ranges. */
  askForSurplus(space: PortSpace, asked: ReadonlyMap<DipId, number>, nowMs: number): void {
    const before = this.surplus.get(space);
    if (before === undefined && asked.size === 0) return;
    for (const dip of before?.keys() ?? []) if (!asked.has(dip)) this.touched.add(dip);
    const { vip, protocol } = space;
    const now = new Map<DipId, SurplusRecall>();
    for (const [dip, ranges] of asked) {
      const known = before?.get(dip);
      if (known?.ranges !== ranges) this.touched.add(dip);
      now.set(dip, { vip, protocol, dip, ranges, sinceMs: known?.sinceMs ?? nowMs });
    }
    if (now.size === 0) this.surplus.delete(space);
    else this.surplus.set(space, now);
  }

  /** As it was written to a snapshot. */
  putSurplus(space: PortSpace, recall: SurplusRecall): void {
    const recalls = this.surplus.get(space) ?? new Map<DipId, SurplusRecall>();
    this.surplus.set(space, recalls.set(recall.dip, recall));
    this.touched.add(recall.dip);
  }

  /** Who is asked in the space, who owns most of it first. */
  surplusIn(space: PortSpace): readonly SurplusRecall[] {
    return [...(this.surplus.get(space)?.values() ?? [])].sort(
      (a, b) => space.ownedBy(b.dip) - space.ownedBy(a.dip) || a.dip - b.dip,
    );
  }

  /** Null: the DIP is not asked. */
  surplusOf(space: PortSpace, dip: DipId): SurplusRecall | null {
    return this.surplus.get(space)?.get(dip) ?? null;
  }

  /** In order of (VIP, protocol). */
  surplusOfDip(dip: DipId): readonly SurplusRecall[] {
    if (this.surplus.size === 0) return NO_SURPLUS; // nearly always
    return [...this.surplus.values()].flatMap((recalls) => recalls.get(dip) ?? []).sort(bySpace);
  }

  /** In order of (VIP, protocol, DIP). */
  allSurplus(): readonly SurplusRecall[] {
    return [...this.surplus.values()]
      .flatMap((recalls) => [...recalls.values()])
      .sort((a, b) => bySpace(a, b) || a.dip - b.dip);
  }

  /** The DIP owns the block no more. */
  disowned(space: PortSpace, first: number, count: number, dip: DipId): void {
    this.surplusDisowned(space, count, dip);
    if (!this.ofDips.has(dip)) return; // nearly always
    for (let range = first; range < first + count; range++) this.remove(space, range, dip);
  }

  /** In order of (VIP, protocol, range). */
  ofDip(dip: DipId): readonly Recall[] {
    return [...(this.ofDips.get(dip)?.values() ?? [])].sort(byPlace);
  }

  /** In the same order. */
  all(): readonly Recall[] {
    return [...this.ofDips.values()].flatMap((recalls) => [...recalls.values()]).sort(byPlace);
  }

  /** DIPs whose recalls have changed since the last call, in order of id. */
  takeTouched(): readonly DipId[] {
    if (this.touched.size === 0) return NOBODY;
    const touched = [...this.touched].sort(byNumber);
    this.touched = new Set();
    return touched;
  }

  private surplusDisowned(space: PortSpace, count: number, dip: DipId): void {
    const recalls = this.surplus.get(space);
    const recall = recalls?.get(dip);
    if (recalls === undefined || recall === undefined) return; // nearly always
    this.touched.add(dip);
    if (recall.ranges > count) recalls.set(dip, { ...recall, ranges: recall.ranges - count });
    else recalls.delete(dip);
    if (recalls.size === 0) this.surplus.delete(space);
  }

  private remove(space: PortSpace, range: number, dip: DipId): void {
    const recalls = this.ofDips.get(dip);
    if (recalls?.delete(name(space, range)) !== true) return;
    this.touched.add(dip);
    if (recalls.size === 0) this.ofDips.delete(dip);
  }
}

const NOBODY: readonly DipId[] = [];

type SnatSpaceName = Pick<PortSpace, "vip" | "protocol">;

const name = ({ vip, protocol }: SnatSpaceName, range: number): string => `${vip}/${protocol}/${range}`;

const NO_SURPLUS: readonly SurplusRecall[] = [];

const bySpace = (a: SnatSpaceName, b: SnatSpaceName): number => byAddress(a.vip, b.vip) || a.protocol - b.protocol;
const byPlace = (a: Recall, b: Recall): number => bySpace(a, b) || a.range - b.range;
