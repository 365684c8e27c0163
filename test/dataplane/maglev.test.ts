import { describe, expect, it } from "vitest";
import type { DipId } from "../../core/brands.js";
import { createRandom } from "../../core/random.js";
import { buildMaglevTable, maglevMember, maglevSize } from "../../dataplane/maglev.js";
import type { MuxPoolMember } from "../../dataplane/mux-items.js";
import { SEED } from "../packet/packet-kit.js";

const member = (dipId: number, weight = 1): MuxPoolMember => ({ dipId: dipId as DipId, weight });
const members = (count: number): MuxPoolMember[] => Array.from({ length: count }, (_, i) => member(i + 1));

function slotsPerDip(size: number, pool: readonly MuxPoolMember[]): Map<number, number> {
  const table = buildMaglevTable(size, pool);
  const counts = new Map<number, number>();
  for (let slot = 0; slot < size; slot++) {
    const dipId = maglevMember(table, slot);
    counts.set(dipId, (counts.get(dipId) ?? 0) + 1);
  }
  return counts;
}

describe("the size of a Maglev table", () => {
  const rows = [
    { given: 1, then: 127 },
    { given: 2, then: 251 },
    { given: 10, then: 1_021 },
    { given: 327, then: 32_749 },
    { given: 655, then: 65_537 },
    { given: 5_000, then: 65_537 },
  ];
  it.each(rows)(
    "for $given members at most is $then: a prime, 100 slots each where that is possible",
    ({ given, then }) => {
      expect(maglevSize(given)).toBe(then);
    },
  );
});

describe("a Maglev table", () => {
  it("is a function of the set: the order of members means nothing", () => {
    const random = createRandom(SEED);
    const pool = Array.from({ length: 40 }, (_, i) => member(i * 7 + 1, random.below(10)));
    const shuffled = [...pool].sort(() => random.nextFloat() - 0.5);
    expect(buildMaglevTable(4_093, shuffled)).toEqual(buildMaglevTable(4_093, pool));
  });

  it("gives slots by weight, to within two percent of the share", () => {
    const pool = [member(1, 1), member(2, 2), member(3, 3), member(4, 4)];
    const counts = slotsPerDip(1_021, pool);
    for (const { dipId, weight } of pool) {
      expect(Math.abs(counts.get(dipId)! - (1_021 * weight) / 10)).toBeLessThan(1_021 * 0.02);
    }
  });

  it("gives equal weights shares that differ by one slot at most (Maglev §5.3)", () => {
    const counts = [...slotsPerDip(65_537, members(600)).values()];
    expect(counts).toHaveLength(600);
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
  });

  it("gives any weight above 0 a slot, and weight 0 none", () => {
    const counts = slotsPerDip(127, [member(1, 1_000), member(2, 1), member(3, 0)]);
    expect(counts.get(2)).toBeGreaterThanOrEqual(1);
    expect(counts.has(3)).toBe(false);
    expect(maglevMember(buildMaglevTable(127, [member(3, 0)]), 5)).toBe(0);
  });

  it("holds as many members as it has slots", () => {
    expect(slotsPerDip(127, members(127)).size).toBe(127);
  });

  it("moves few flows beyond the share of a member that goes", () => {
    const size = maglevSize(20);
    const before = buildMaglevTable(size, members(20));
    const after = buildMaglevTable(
      size,
      members(20).filter(({ dipId }) => dipId !== 7),
    );
    let moved = 0;
    for (let slot = 0; slot < size; slot++) {
      const owner = maglevMember(before, slot);
      if (owner !== 7 && owner !== maglevMember(after, slot)) moved++;
    }
    expect(moved / size).toBeLessThan(0.05);
  });
});
