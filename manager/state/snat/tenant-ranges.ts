/**
 * What tenants own of the one stock that they share: the SNAT table that every MUX keeps, as large as that of the smallest live
 * MUX. Ports of a VIP are its tenant's own; entries of this table are anybody's.
 *
 *     |<------------------------------ table of the smallest live MUX ----------------------------->|
 *     | owned by tenants            | reserved: minPorts, less what is owned | plenty    | last 1/16 |
 *
 *  (T1) What is reserved is free, but only for the DIPs that lack it. Configuration that reserves more than is left is refused, and so
 *       is a MUX whose table is smaller than what is owned and reserved.
 *  (T2) Of what is not reserved anybody may take, up to the last sixteenth of the table.
 *  (T3) That is shared by weighted max-min: poured over the tenants, those first that have least for their weight. What a tenant owns or has
 *       reserved is never less for it, and no tenant gets more than its VIPs could ever own.
 *  (T4) A grant within the tenant's share leaves everybody's share as it is. So the level is computed once, and again when a tenant gives
 *       back, takes more, or the configuration or the table changes: not with every grant. It follows from the state; no snapshot has it.
 */
import { assert } from "../../../core/assert.js";
import type { IpAddress } from "../../../core/brands.js";

/** Below this part of the table sharing begins. Of 262,144 ranges 16,384 are kept for those who have little. */
const SCARCE_SHARE = 1 / 16;

/** What a VIP lets its tenant's DIPs own, in ranges of both protocols. */
export interface VipPromise {
  readonly tenant: string;
  /** Guaranteed, and not owned yet. */
  readonly reserved: number;
  /** All that they could ever own. */
  readonly most: number;
}

/** In ranges of the table. */
export interface TenantShare {
  readonly tenant: string;
  readonly weight: number;
  readonly owned: number;
  readonly reserved: number;
  /** What it may own and have reserved, in all. */
  readonly share: number;
}

interface Stock {
  owned: number;
  reserved: number;
  most: number;
}

/** Ranges for each unit of weight, as a fraction of whole numbers: equal levels divide to equal numbers. */
interface Level {
  readonly capacity: number;
  readonly ranges: number;
  readonly weight: number;
}

export class TenantRanges {
  ownedTotal = 0;
  reservedTotal = 0;
  private readonly stocks = new Map<string, Stock>();
  private readonly promises = new Map<IpAddress, VipPromise>();
  private readonly weightOf: (tenant: string) => number;
  /** Null: not known any more. */
  private known: Level | null = null;

  constructor(weightOf: (tenant: string) => number) {
    this.weightOf = weightOf;
  }

  /** The tenant owns so many more ranges of the VIP, and as many less are reserved as `reserved` says. */
  changed(
    tenant: string,
    vip: IpAddress,
    { owned, reserved }: { readonly owned: number; readonly reserved: number },
  ): void {
    const stock = this.stockOf(tenant);
    stock.owned += owned;
    this.ownedTotal += owned;
    if (reserved !== 0) {
      const promise = this.promises.get(vip);
      assert(promise?.tenant === tenant, "only a VIP's own tenant is promised its ports");
      this.promises.set(vip, { ...promise, reserved: promise.reserved + reserved });
      stock.reserved += reserved;
      this.reservedTotal += reserved;
    }
    if (owned + reserved !== 0 && !(owned > 0 && this.isWithinShare(tenant, stock))) this.known = null; // (T4)
    this.forgetIfEmpty(tenant, stock);
  }

  /** The configuration has changed. Null: the VIP lends no ports. */
  promised(vip: IpAddress, promise: VipPromise | null): void {
    const before = this.promises.get(vip);
    if (before !== undefined) this.count(before, -1);
    if (promise === null) this.promises.delete(vip);
    else {
      this.promises.set(vip, promise);
      this.count(promise, 1);
    }
    this.known = null;
  }

  weightsChanged(): void {
    this.known = null;
  }

  /**
   * Ranges that the tenant may get beyond what is reserved for the asking DIP: 0.. From `enough` on it may be less than that: found
   * out sooner.
   */
  grantable(tenant: string, capacity: number, enough: number): number {
    const left = capacity - this.ownedTotal - this.reservedTotal;
    const plenty = left - scarceBelow(capacity);
    if (plenty >= enough) return plenty; // nearly always
    if (left <= 0) return 0;
    const { owned = 0, reserved = 0 } = this.stocks.get(tenant) ?? {};
    return Math.max(plenty, Math.min(left, this.shareOf(tenant, capacity) - owned - reserved));
  }

  /** What the tenant may own and have reserved when the table is scarce. */
  shareOf(tenant: string, capacity: number): number {
    const { owned, reserved, most } = this.stocks.get(tenant) ?? { owned: 0, reserved: 0, most: 0 };
    const held = owned + reserved;
    const level = this.level(capacity);
    if (level === null) return Math.max(held, most);
    // One range at least, so that whoever has nothing finds something however many there are.
    const fair = Math.max(1, Math.floor((this.weightOf(tenant) * level.ranges) / level.weight));
    return Math.max(held, Math.min(most, fair));
  }

  /** Those that own or are promised anything: who is furthest above what its weight alone would give first. */
  shares(capacity: number): readonly TenantShare[] {
    return [...this.stocks]
      .map(([tenant, { owned, reserved }]) => {
        return { tenant, owned, reserved, weight: this.weightOf(tenant), share: this.shareOf(tenant, capacity) };
      })
      .sort((a, b) => b.owned * a.weight - a.owned * b.weight || (a.tenant < b.tenant ? -1 : 1));
  }

  /** Guaranteed to DIPs of the VIP, and not owned yet. */
  reservedFor(vip: IpAddress): number {
    return this.promises.get(vip)?.reserved ?? 0;
  }

  private stockOf(tenant: string): Stock {
    const known = this.stocks.get(tenant);
    if (known !== undefined) return known;
    const stock = { owned: 0, reserved: 0, most: 0 };
    this.stocks.set(tenant, stock);
    return stock;
  }

  private count({ tenant, reserved, most }: VipPromise, sign: 1 | -1): void {
    const stock = this.stockOf(tenant);
    stock.reserved += sign * reserved;
    stock.most += sign * most;
    this.reservedTotal += sign * reserved;
    this.forgetIfEmpty(tenant, stock);
  }

  private forgetIfEmpty(tenant: string, { owned, reserved, most }: Stock): void {
    if (owned === 0 && reserved === 0 && most === 0) this.stocks.delete(tenant);
  }

  private isWithinShare(tenant: string, { owned, reserved, most }: Stock): boolean {
    if (this.known === null) return false;
    const { ranges, weight } = this.known;
    return owned + reserved <= Math.min(most, Math.floor((this.weightOf(tenant) * ranges) / weight));
  }

  /** Null: all could own all that their VIPs let them. O(tenants log tenants), seldom: see (T4). */
  private level(capacity: number): Level | null {
    if (this.known?.capacity === capacity) return this.known;
    const filled = levelOf(
      [...this.stocks].map(([tenant, { owned, reserved, most }]) => {
        const held = owned + reserved;
        return { weight: this.weightOf(tenant), held, most: Math.max(held, most) };
      }),
      capacity,
    );
    this.known = filled === null ? null : { capacity, ...filled };
    return this.known;
  }
}

/** Free and unreserved ranges below which the table is scarce. */
export const scarceBelow = (capacity: number): number => Math.max(1, Math.floor(capacity * SCARCE_SHARE));

interface Vessel {
  readonly weight: number;
  /** It holds so much already. */
  readonly held: number;
  /** It holds no more than this; >= held. */
  readonly most: number;
}

/**
 * The level, in ranges for each unit of weight, at which the vessels hold `capacity` together, each no less than it holds and no more than it
 * can. Null: they cannot hold that much. Comparisons are of whole numbers, so that every replica finds the same.
 */
function levelOf(vessels: readonly Vessel[], capacity: number): { ranges: number; weight: number } | null {
  // A vessel rises with the level between two marks, at held / weight and at most / weight.
  const marks = vessels.flatMap(({ weight, held, most }) => [
    { at: held, per: weight, rising: weight, still: -held },
    { at: most, per: weight, rising: -weight, still: most },
  ]);
  marks.sort((a, b) => a.at * b.per - b.at * a.per || b.rising - a.rising);
  let weight = 0;
  let still = vessels.reduce((sum, { held }) => sum + held, 0);
  for (const mark of marks) {
    if (still * mark.per + weight * mark.at >= capacity * mark.per) {
      // With nothing left to pour the level is that of whoever has least: nobody rises.
      return weight === 0 ? { ranges: mark.at, weight: mark.per } : { ranges: capacity - still, weight };
    }
    weight += mark.rising;
    still += mark.still;
  }
  return null;
}
