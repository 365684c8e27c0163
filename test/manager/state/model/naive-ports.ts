/** Who owns which range and what rests, as two Maps by name ("198.51.100.1/6/128"). */
import { expect } from "vitest";
import type { IpAddress } from "../../../../core/brands.js";
import type { HeldRange, RangeBlock } from "../../../../manager/state/commands/commands.js";
import { type NaiveVip, takenRanges, versions } from "./naive-objects.js";

/** Of one VIP and protocol: 1024 to 65535, by eights. */
const RANGES = 8_064;
const REST_MS = 120_000;

interface NaiveStock {
  readonly free: readonly number[];
  /** Ranges that the DIP owns here. */
  readonly owned: number;
  /** Most that it may get now. */
  readonly most: number;
}

interface NaiveClaim {
  readonly dip: number;
  wanted: number;
  /** Of these, up to the fair share. */
  ranges: number;
  readonly sinceMs: number;
  readonly untilMs: number;
}

export class NaivePorts {
  /** Of a VIP and protocol ("198.51.100.1/6/"), in the order in which they were made. */
  readonly claims = new Map<string, NaiveClaim[]>();
  /** "198.51.100.1/6/7" -> ranges that DIP 7 is asked to give back. */
  readonly surplus = new Map<string, number>();

  /** Name of the range -> id of the DIP. */
  readonly owners = new Map<string, number>();
  readonly resting = new Map<string, { readonly dip: number; readonly atMs: number; readonly index: number }>();

  rangesOf(dip: number): readonly string[] {
    return [...this.owners].filter(([, owner]) => owner === dip).map(([range]) => range);
  }

  ownedAt(vip: IpAddress, protocol: number, dip: number): number {
    return this.rangesOf(dip).filter((range) => range.startsWith(`${vip}/${protocol}/`)).length;
  }

  isTaken(range: string): boolean {
    return this.owners.has(range) || this.resting.has(range);
  }

  /** Whether anything of the VIP and protocol is owned or rests. */
  isInUse(vip: IpAddress, protocol: number): boolean {
    const at = `${vip}/${protocol}/`;
    return [...this.owners.keys(), ...this.resting.keys()].some((name) => name.startsWith(at));
  }

  /** Declared in vain, joined where neighbours of one declared block are. `dipOf`: null for one that has no say. */
  notOwned(declared: readonly HeldRange[], dipOf: (range: HeldRange) => number | null): readonly RangeBlock[] {
    return declared.flatMap((block) => {
      const { vip, protocol, range, count } = block;
      const dip = dipOf(block);
      const blocks: { vip: IpAddress; protocol: 6 | 17; range: number; count: number }[] = [];
      for (let at = range; at < range + count; at++) {
        if (dip !== null && this.owners.get(`${vip}/${protocol}/${at}`) === dip) continue;
        const last = blocks.at(-1);
        if (last !== undefined && last.range + last.count === at) last.count += 1;
        else blocks.push({ vip, protocol, range: at, count: 1 });
      }
      return blocks;
    });
  }

  /** Follows a grant of so many of the free ranges of the VIP and protocol `at`, if it may be the answer. */
  grant(
    at: string,
    dip: number,
    blocks: readonly RangeBlock[],
    { free, need, most }: { readonly free: readonly number[]; readonly need: number; readonly most: number },
  ): void {
    const granted = blocks.flatMap(rangesIn);
    for (const range of granted) {
      expect(range.startsWith(at), `${range} is of the VIP with most free ports, ${at}`).toBe(true);
      expect(free.includes(Number(range.slice(at.length))), `${range} was free`).toBe(true);
      this.owners.set(range, dip);
    }
    expect(new Set(granted).size, "no range is granted twice").toBe(granted.length);
    const block = 2 ** Math.ceil(Math.log2(need));
    const hasBlock = block <= most && hasAlignedBlock(free, block);
    expect(granted.length, `of ${need}, at most ${most}`).toBe(hasBlock ? block : Math.min(need, most, free.length));
    expect(!hasBlock || blocks.length === 1, "one block where there is one").toBe(true);
  }

  rest(range: string, atMs: number, index: number): void {
    this.ended(range);
    this.resting.set(range, { dip: this.owners.get(range) ?? 0, atMs, index });
    this.owners.delete(range);
  }

  /** Its owner has it no more: one less to be asked for. */
  ended(range: string): void {
    const owner = this.owners.get(range);
    const key = `${range.slice(0, range.lastIndexOf("/") + 1)}${owner ?? 0}`;
    const asked = this.surplus.get(key) ?? 0;
    if (asked > 1) this.surplus.set(key, asked - 1);
    else this.surplus.delete(key);
  }

  /** Those to VIPs that grant no more. */
  dropClaims(vipAt: (address: IpAddress) => NaiveVip | null): void {
    for (const at of [...this.claims.keys()]) {
      const vip = vipAt(at.slice(0, at.indexOf("/")) as IpAddress);
      if (vip !== null && !vip.deleting && vip.spec.outbound !== null) continue;
      this.claims.delete(at);
      for (const key of [...this.surplus.keys()]) if (key.startsWith(at)) this.surplus.delete(key);
    }
  }

  /** `wanted` ranges more than before for the DIP; less than 0: it was granted so many. True: it waits for some. */
  claim(at: string, dip: number, wanted: number, site: NaiveClaimants): boolean {
    const claims = this.claims.get(at) ?? [];
    const before = claims.find((claim) => claim.dip === dip);
    if (wanted < 0) {
      if (before === undefined) return false;
      before.wanted += wanted;
      if (before.wanted <= 0) claims.splice(claims.indexOf(before), 1);
    } else {
      const claim = { dip, wanted, ranges: 0, sinceMs: before?.sinceMs ?? site.nowMs, untilMs: site.nowMs + 60_000 };
      if (before !== undefined) claims.splice(claims.indexOf(before), 1);
      claims.push(claim);
    }
    this.claims.set(at, claims);
    this.settle(at, site);
    return (this.claims.get(at) ?? []).some((claim) => claim.dip === dip);
  }

  lapse(at: string, site: NaiveClaimants): void {
    const claims = this.claims.get(at) ?? [];
    const left = claims.filter(({ untilMs }) => untilMs > site.nowMs);
    if (left.length === claims.length) return;
    this.claims.set(at, left);
    this.settle(at, site);
  }

  /** Everybody's share of all but a sixteenth, as a level that is raised range by range; who is above it is asked. */
  private settle(at: string, { members, minRanges, free, canGive }: NaiveClaimants): void {
    const claims = (this.claims.get(at) ?? []).sort((a, b) => a.sinceMs - b.sinceMs || a.dip - b.dip);
    const owned = new Map<number, number>();
    for (const [name, dip] of this.owners) if (name.startsWith(at)) owned.set(dip, (owned.get(dip) ?? 0) + 1);
    const resting = [...this.resting.keys()].filter((name) => name.startsWith(at)).length;
    const least = (dip: number): number => (members.has(dip) ? minRanges : 0);
    const lack = (dip: number): number => Math.max(0, least(dip) - (owned.get(dip) ?? 0));
    const demand = (dip: number): number => {
      const wanted = claims.find((claim) => claim.dip === dip)?.wanted ?? 0;
      return Math.max((owned.get(dip) ?? 0) + wanted, least(dip));
    };
    const dips = [...new Set([...owned.keys(), ...claims.map(({ dip }) => dip), ...members])];
    const stock = [...owned.values()].reduce((sum, count) => sum + count, 0) + resting + free - RANGES / 16;
    const used = (level: number): number =>
      dips.reduce((sum, dip) => sum + Math.min(demand(dip), Math.max(level, least(dip))), 0);
    const most = Math.max(0, ...dips.map(demand));
    let level = 0;
    while (level < most && used(level + 1) <= stock) level += 1;
    const isShort = used(most) > stock;
    if (!isShort) level = Infinity;

    for (const claim of claims)
      claim.ranges = Math.min(demand(claim.dip), Math.max(level, least(claim.dip))) - (owned.get(claim.dip) ?? 0);
    const waiting = claims.filter(({ ranges }) => ranges > 0);
    this.claims.set(at, waiting);
    for (const key of [...this.surplus.keys()]) if (key.startsWith(at)) this.surplus.delete(key);
    if (waiting.length === 0 || !isShort) return;
    const best = Math.max(...waiting.map(({ dip, ranges }) => (owned.get(dip) ?? 0) + ranges));
    let missing = RANGES / 16 - free - resting;
    for (const dip of members) missing += lack(dip);
    for (const { dip, ranges } of waiting) missing += ranges - lack(dip);
    const rich = [...owned]
      .map(([dip, count]) => ({ dip, count, excess: count - Math.max(level, least(dip)) }))
      .filter(({ dip, count, excess }) => count >= best + 2 && count >= best * 1.125 && excess > 0 && canGive(dip))
      .sort((a, b) => b.count - a.count || a.dip - b.dip)
      .slice(0, 64);
    for (const { dip, excess } of rich) {
      const asked = Math.max(0, Math.min(excess, missing));
      if (asked > 0) this.surplus.set(`${at}${dip}`, asked);
      missing -= excess;
    }
  }

  /** `knownTo`: index that every live MUX has in force; Infinity when there never was a MUX. */
  endRests(nowMs: number, knownTo: number): void {
    for (const [range, { atMs, index }] of this.resting)
      if (nowMs >= atMs + REST_MS && knownTo >= index) this.resting.delete(range);
  }

  /** What the VIP has left, and how much of it the DIP may get: its own minimum, and its part of what nobody was promised. */
  stock(vip: NaiveVip, protocol: number, dip: number, members: ReadonlySet<number>): NaiveStock {
    const { address, outbound } = vip.spec;
    const at = `${address}/${protocol}/`;
    const held = new Set<number>();
    for (const taken of [this.owners, this.resting])
      for (const name of taken.keys()) if (name.startsWith(at)) held.add(Number(name.slice(at.length)));
    for (const spec of versions(vip)) for (const range of takenRanges(spec, protocol)) held.add(range);
    const free: number[] = [];
    for (let range = 128; range < 8_192; range++) if (!held.has(range)) free.push(range);

    const shares = new Map<number, number>();
    for (const [name, owner] of this.owners) if (name.startsWith(at)) shares.set(owner, (shares.get(owner) ?? 0) + 1);
    const owned = shares.get(dip) ?? 0;
    const minRanges = (outbound?.minPorts ?? 0) / 8;
    const lack = (id: number): number => Math.max(0, minRanges - (shares.get(id) ?? 0));
    const promised = [...members].reduce((sum, id) => sum + lack(id), 0);
    const own = members.has(dip) ? Math.min(lack(dip), free.length) : 0;
    const claims = (this.claims.get(at) ?? []).sort((a, b) => a.sinceMs - b.sinceMs || a.dip - b.dip);
    const place = claims.findIndex((claim) => claim.dip === dip);
    const ahead = claims.slice(0, place < 0 ? claims.length : place);
    const claimed = ahead.reduce(
      (sum, claim) => sum + claim.ranges - (members.has(claim.dip) ? lack(claim.dip) : 0),
      0,
    );
    const unpromised = Math.max(0, free.length - promised - claimed);
    const scarce = Math.min(unpromised, RANGES / 16);
    const plenty = own + unpromised - scarce;
    for (const id of members) if (!shares.has(id)) shares.set(id, 0);
    shares.set(dip, owned + plenty);
    const level = levelAfterPouring([...shares.values()], scarce);
    const fair = plenty + Math.min(scarce, Math.max(0, level - owned - plenty));
    return { free, owned, most: Math.min(fair, (outbound?.maxPorts ?? 0) / 8 - owned) };
  }
}

/** What a claim depends on, besides who owns and what rests. */
export interface NaiveClaimants {
  readonly nowMs: number;
  readonly members: ReadonlySet<number>;
  readonly minRanges: number;
  /** Ranges of the VIP and protocol. */
  readonly free: number;
  readonly canGive: (dip: number) => boolean;
}

export const rangesIn = ({ vip, protocol, range, count }: RangeBlock): readonly string[] =>
  Array.from({ length: count }, (_, at) => `${vip}/${protocol}/${range + at}`);

function hasAlignedBlock(free: readonly number[], size: number): boolean {
  const all = new Set(free);
  return free.some(
    (first) => first % size === 0 && Array.from({ length: size }, (_, at) => first + at).every((at) => all.has(at)),
  );
}

/** One range after the other to whoever has least; the level that the poorest were lifted to. */
function levelAfterPouring(owned: readonly number[], stock: number): number {
  const filled = [...owned];
  for (let left = stock; left > 0; left--) filled[filled.indexOf(Math.min(...filled))]! += 1; // the least is among them
  const lifted = filled.filter((count, at) => count > owned[at]!); // of equal length
  return lifted.length === 0 ? Math.min(...owned) : Math.max(...lifted);
}
