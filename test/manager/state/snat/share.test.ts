/** Who may get how much of a VIP's ports when they are reserved, or scarce: against a naive model, from a printed seed. */
import { describe, expect, test } from "vitest";
import type { DipId, IpAddress, LogIndex } from "../../../../core/brands.js";
import { createRandom } from "../../../../core/random.js";
import { PortSpace } from "../../../../manager/state/snat/port-space.js";
import { RANGES_PER_SPACE } from "../../../../manager/state/snat/port-ranges.js";
import { grantable, SCARCE_BELOW, waterLevel } from "../../../../manager/state/snat/share.js";
import { testSeed } from "../../../kit/virtual-world.js";

const VIP = "198.51.100.1" as IpAddress;
const dip = (id: number): DipId => id as DipId;
const INDEX = 1 as LogIndex;

function space(members: number, minRanges = 0): PortSpace {
  const made = new PortSpace(VIP, 6);
  made.setMembers(new Set(Array.from({ length: members }, (_, at) => dip(at + 1))), minRanges);
  return made;
}

/** Single ranges, so that there always are some. */
function give(to: PortSpace, owner: DipId, ranges: number): void {
  for (let left = ranges; left > 0; left--) {
    const first = to.findBlock(1);
    to.grant(first, 1, owner, INDEX);
    to.moveCursor(first + 1);
  }
}

describe("a guaranteed minimum", () => {
  test("is free for its DIP whatever the others take", () => {
    const stock = space(3, 100);
    give(stock, dip(1), grantable(stock, dip(1)));
    // Poured over the three: what is left above the guarantees goes to those who have less.
    expect(stock.freeCount).toBeGreaterThanOrEqual(200);
    expect(grantable(stock, dip(2))).toBeGreaterThanOrEqual(100);
    expect(grantable(stock, dip(3))).toBeGreaterThanOrEqual(100);
  });

  test("keeps strangers off the reserve", () => {
    const stock = space(80, 100); // 8,000 of 8,064
    expect(grantable(stock, dip(99))).toBeLessThanOrEqual(64);
    expect(grantable(stock, dip(5))).toBeGreaterThanOrEqual(100);
  });

  test("follows the configuration", () => {
    const stock = space(2, 10);
    give(stock, dip(1), 4);
    expect(stock.shortfall).toBe(16);
    stock.setMembers(new Set([dip(1)]), 3);
    expect(stock.shortfall).toBe(0);
    stock.setMembers(new Set([dip(1), dip(2)]), 6);
    expect(stock.shortfall).toBe(8);
  });
});

describe("scarce ports", () => {
  test("are shared so that whoever has least gets most", () => {
    const stock = space(3);
    give(stock, dip(1), RANGES_PER_SPACE - 300);
    expect([grantable(stock, dip(1)), grantable(stock, dip(2)), grantable(stock, dip(3))]).toEqual([0, 150, 150]);
    give(stock, dip(2), 100);
    expect([grantable(stock, dip(2)), grantable(stock, dip(3))]).toEqual([50, 150]);
  });

  test("are the last sixteenth: what is above that is anybody's, and one request gets no further", () => {
    const stock = space(2);
    give(stock, dip(1), 1_000);
    expect(grantable(stock, dip(1))).toBe(RANGES_PER_SPACE - SCARCE_BELOW - 1_000);
    give(stock, dip(1), grantable(stock, dip(1)));
    expect(grantable(stock, dip(1))).toBe(0);
    expect(grantable(stock, dip(2))).toBe(SCARCE_BELOW);
  });

  test("are all for a DIP that is alone", () => {
    const stock = space(1);
    expect(grantable(stock, dip(1))).toBe(RANGES_PER_SPACE);
    give(stock, dip(1), 7_000);
    expect(grantable(stock, dip(1))).toBe(RANGES_PER_SPACE - 7_000);
  });
});

/** One range after the other to whoever has least. */
function pourOneByOne(owned: readonly number[], stock: number): number {
  const filled = [...owned];
  for (let left = stock; left > 0; left--) filled[filled.indexOf(Math.min(...filled))]! += 1;
  // The level that the poorest were lifted to, rounded up to whole ranges.
  const lifted = filled.filter((count, at) => count > owned[at]!);
  return lifted.length === 0 ? Math.min(...owned) : Math.max(...lifted);
}

test("the water level is that of pouring one range after the other", () => {
  const seed = testSeed("water level");
  const random = createRandom(seed);
  for (let round = 0; round < 300; round++) {
    const members = random.below(8) + 1;
    const stock = space(members);
    for (let id = 1; id <= members; id++) give(stock, dip(id), random.below(40));
    const owned = Array.from({ length: members }, (_, at) => stock.ownedBy(dip(at + 1)));
    const poured = random.below(120);
    expect(waterLevel(stock, poured), `${owned.join()} + ${poured}, seed ${seed}`).toBe(pourOneByOne(owned, poured));
  }
});

test("whatever is granted and given back, guarantees can be kept, and the rich get nothing of what is scarce", () => {
  const seed = testSeed("guarantees");
  const random = createRandom(seed);
  for (let round = 0; round < 20; round++) {
    const members = random.below(30) + 2;
    const minRanges = random.below(Math.floor((RANGES_PER_SPACE * 0.75) / members));
    const stock = space(members, minRanges);
    const owned = new Map<DipId, number[]>();
    for (let step = 0; step < 400; step++) {
      const id = dip(random.below(members) + 1);
      const held = owned.get(id) ?? [];
      owned.set(id, held);
      if (random.nextFloat() < 0.2 && held.length > 0) {
        for (const range of held.splice(0, random.below(held.length) + 1)) {
          stock.quarantine(range, 1, id);
          stock.endQuarantine(range, 1);
        }
      } else {
        const isScarce = stock.freeCount - stock.shortfall < SCARCE_BELOW;
        const poorest = Math.min(...Array.from({ length: members }, (_, at) => stock.ownedBy(dip(at + 1))));
        const most = grantable(stock, id);
        // Nobody is lifted above what the poorest could be lifted to, but for its own guarantee.
        if (isScarce && held.length > poorest + SCARCE_BELOW) {
          expect(most, `seed ${seed}`).toBeLessThanOrEqual(Math.max(0, minRanges - held.length));
        }
        const count = Math.min(most, random.below(1_500) + 1);
        for (let left = count; left > 0; left--) {
          const first = stock.findBlock(1);
          stock.grant(first, 1, id, INDEX);
          held.push(first);
        }
      }
      let lacking = 0;
      for (let at = 1; at <= members; at++) lacking += Math.max(0, minRanges - stock.ownedBy(dip(at)));
      expect(stock.shortfall, `seed ${seed}`).toBe(lacking);
      expect(stock.freeCount, `seed ${seed}`).toBeGreaterThanOrEqual(lacking);
    }
  }
});
