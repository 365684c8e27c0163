/**
 * [pure] What the control side itself needs of the host's view: DIPs, VIPs to leave by, ranges; and the few ranges that are
 * in the tables although the view does not show them yet.
 *
 * Such *early* ranges come from an answer that overtook the projection (the active replica was slow, the other one
 * answered). Every live MUX knows them already, so they are used at once.
 *
 *  (V1) tables = view + early ranges. An early range whose index the view has reached, and that the view does not show, is
 *       gone again, and leaves the tables with that very update.
 */
import type { DipId, IpAddress, LogIndex, VipId } from "../../core/brands.js";
import type { TableDelta } from "../../dataplane/contract.js";
import { digestOf, EMPTY_DIGEST, formatDigest, xorDigests, type Digest } from "../../dataplane/digest.js";
import {
  hostItemKey,
  type HostChange,
  type HostDipItem,
  type HostItem,
  type HostRangeItem,
} from "../../dataplane/host-items.js";
import type { ReceivedDelta } from "../../dataplane/projection-receiver.js";
import { rangeName, type HeldRange } from "./held-range.js";

type RangeName = Pick<HeldRange, "vip" | "protocol" | "range">;

export class HostView {
  private readonly dips = new Map<DipId, HostDipItem>();
  /** Counts changes of the DIPs. */
  dipsVersion = 0;
  private readonly vipIds = new Map<IpAddress, VipId>();
  /** In the tables, by item key. */
  private readonly ranges = new Map<string, HostRangeItem>();
  /** Item key by address, protocol and range: ids mean nothing outside the view. */
  private readonly keys = new Map<string, string>();
  private readonly early = new Map<string, { readonly item: HostRangeItem; readonly index: LogIndex }>();

  get rangeCount(): number {
    return this.ranges.size;
  }

  dip(dipId: DipId): HostDipItem | null {
    return this.dips.get(dipId) ?? null;
  }

  allDips(): Iterable<HostDipItem> {
    return this.dips.values();
  }

  /** Null while the view shows no outbound by this VIP. */
  vipId(vip: IpAddress): VipId | null {
    return this.vipIds.get(vip) ?? null;
  }

  /** Ranges in the tables. */
  hasRange(range: RangeName): boolean {
    return this.keys.has(rangeName(range));
  }

  /** DIP that the tables show the range for, or null. */
  ownerOf(range: RangeName): HostDipItem | null {
    const item = this.ranges.get(this.keys.get(rangeName(range)) ?? "");
    return item === undefined ? null : this.dip(item.dipId);
  }

  keyOfRange(range: RangeName): string | null {
    return this.keys.get(rangeName(range)) ?? null;
  }

  /** The update as the tables shall take it (V1). */
  tableDelta({ delta, position }: ReceivedDelta<HostItem>): TableDelta<HostItem, HostChange> {
    if (this.early.size === 0) return delta;
    const stays = [...this.early.values()].filter(({ index }) => index > position.index).map(({ item }) => item);
    if (delta.kind === "snapshot") return { kind: "snapshot", items: [...stays, ...delta.items] }; // of one key the last counts
    const due = [...this.early].filter(([, { index }]) => index <= position.index);
    const gone = due.map(([key]): HostChange => ({ op: "remove", key }));
    return { kind: "changes", changes: [...gone, ...delta.changes] };
  }

  /** The update is in force, as `tableDelta` said. */
  follow(received: ReceivedDelta<HostItem>): void {
    const { position } = received;
    const applied = this.tableDelta(received);
    if (applied.kind === "snapshot") {
      this.dips.clear();
      this.vipIds.clear();
      this.ranges.clear();
      this.keys.clear();
      for (const item of applied.items) this.put(item);
    } else {
      for (const change of applied.changes) {
        if (change.op === "upsert") this.put(change.item);
        else this.remove(change.key);
      }
    }
    const shown = received.delta.kind === "snapshot" ? received.delta.items : upserts(received.delta.changes);
    for (const item of shown) if (item.kind === "range") this.early.delete(hostItemKey(item));
    for (const [key, { index }] of this.early) if (index <= position.index) this.early.delete(key);
  }

  /** The ranges are in the tables before the view shows them at `index`. */
  putEarly(items: readonly HostRangeItem[], index: LogIndex): void {
    for (const item of items) {
      const key = hostItemKey(item);
      this.put(item);
      this.early.set(key, { item, index });
    }
  }

  /** They were taken out of the tables, whatever the view shows. */
  takeOut(keys: readonly string[]): void {
    for (const key of keys) {
      this.remove(key);
      this.early.delete(key);
    }
  }

  /** Digest of the view, given that of the tables: without the early ranges. */
  viewDigest(tables: string): string {
    let digest: Digest = EMPTY_DIGEST;
    for (const [key, { item }] of this.early) digest = xorDigests(digest, digestOf(key, item));
    const ofTables = { high: parseInt(tables.slice(0, 8), 16), low: parseInt(tables.slice(8), 16) };
    return formatDigest(xorDigests(ofTables, digest));
  }

  private put(item: HostItem): void {
    if (item.kind === "dip") {
      this.dips.set(item.dipId, item);
      this.dipsVersion++;
    }
    if (item.kind === "outbound") this.vipIds.set(item.vip, item.vipId);
    else if (item.kind === "range") {
      const key = hostItemKey(item);
      this.ranges.set(key, item);
      this.keys.set(rangeName(item), key);
    }
  }

  private remove(key: string): void {
    const range = this.ranges.get(key);
    if (range !== undefined) {
      this.ranges.delete(key);
      this.keys.delete(rangeName(range));
    }
    if (key.startsWith("dip/")) this.dips.delete(Number(key.slice("dip/".length)) as DipId);
    // A VIP id stays known: the address keeps it for ever, and it is only asked for with a grant in hand.
  }
}

function* upserts(changes: readonly HostChange[]): Iterable<HostItem> {
  for (const change of changes) if (change.op === "upsert") yield change.item;
}
