/**
 * Port ranges that their owners are asked to give back, because a rule wants a port of them. A question, never a seizure: new
 * flows stay off the range, and its owner returns it when the last flow is over (Ananta §3.5.1 gives idle ranges back; ours
 * are asked for). Until then, and until the range has rested, the rule waits (`item-sources`).
 *
 *     a rule wants it --> recalled (owned) --release--> at rest --120 s, and every MUX knows--> the rule's
 *                           `-- no rule wants it any more --> owned as before
 */
import type { DipId, IpAddress } from "../../core/brands.js";
import { byAddress, byNumber } from "./order.js";
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

export class Recalls {
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

  /** The DIP owns the block no more. */
  disowned(space: PortSpace, first: number, count: number, dip: DipId): void {
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

  private remove(space: PortSpace, range: number, dip: DipId): void {
    const recalls = this.ofDips.get(dip);
    if (recalls?.delete(name(space, range)) !== true) return;
    this.touched.add(dip);
    if (recalls.size === 0) this.ofDips.delete(dip);
  }
}

const NOBODY: readonly DipId[] = [];

const name = ({ vip, protocol }: Pick<PortSpace, "vip" | "protocol">, range: number): string =>
  `${vip}/${protocol}/${range}`;

const byPlace = (a: Recall, b: Recall): number =>
  byAddress(a.vip, b.vip) || a.protocol - b.protocol || a.range - b.range;
