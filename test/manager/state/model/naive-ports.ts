/** Who owns which range and what rests, as two Maps by name ("198.51.100.1/6/128"). */
import type { IpAddress } from "../../../../core/brands.js";
import type { HeldRange, RangeBlock } from "../../../../manager/state/commands.js";
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

export class NaivePorts {
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

  rest(range: string, atMs: number, index: number): void {
    this.resting.set(range, { dip: this.owners.get(range) ?? 0, atMs, index });
    this.owners.delete(range);
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
    const unpromised = Math.max(0, free.length - promised);
    for (const id of members) if (!shares.has(id)) shares.set(id, 0);
    const level = unpromised >= RANGES / 16 ? Infinity : levelAfterPouring([...shares.values()], unpromised);
    const fair = own + Math.min(unpromised, Math.max(0, level - owned - own));
    return { free, owned, most: Math.min(fair, (outbound?.maxPorts ?? 0) / 8 - owned) };
  }
}

export const rangesIn = ({ vip, protocol, range, count }: RangeBlock): readonly string[] =>
  Array.from({ length: count }, (_, at) => `${vip}/${protocol}/${range + at}`);

export function hasAlignedBlock(free: readonly number[], size: number): boolean {
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
