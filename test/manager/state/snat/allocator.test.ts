/** The allocator against a naive model: a map from range to owner, and a list of resting ranges. */
import { expect, test } from "vitest";
import type { DipId, LogIndex } from "../../../../core/brands.js";
import { createRandom } from "../../../../core/random.js";
import { END_RANGE, FIRST_RANGE, RANGES_PER_SPACE } from "../../../../manager/state/snat/port-ranges.js";
import {
  RANGE_EXCLUDED,
  RANGE_FREE,
  RANGE_OWNED,
  RANGE_QUARANTINED,
} from "../../../../manager/state/snat/range-records.js";
import { QUARANTINE_MS } from "../../../../manager/state/snat/quarantine.js";
import { SnatAllocator, type SnatSources } from "../../../../manager/state/snat/allocator.js";
import { ip } from "../fixture.js";

const SEED = Number(process.env["ANANTA_TEST_SEED"] ?? 1);
const VIP = ip("198.51.100.1");
const dip = (id: number): DipId => id as DipId;

/** Of DIPs of one tenant, none of whom is promised anything. */
const allocatorOf = (excludedRanges: SnatSources["excludedRanges"]): SnatAllocator =>
  new SnatAllocator({ excludedRanges, lendingOf: () => null, tenantOf: () => "default", weightOf: () => 1 });

interface Resting {
  readonly range: number;
  readonly releasedAtMs: number;
  readonly index: number;
}

const isPowerOfTwo = (count: number): boolean => (count & (count - 1)) === 0;

test.each([SEED, SEED + 1, SEED + 2])("random grants and releases agree with a naive model (seed %i)", (seed) => {
  const random = createRandom(seed);
  const excluded = new Set([FIRST_RANGE, 200, 201, 4000, END_RANGE - 1]);
  const allocator = allocatorOf(() => excluded);
  const space = allocator.openSpace(VIP, 6);
  const owners = new Map<number, DipId>();
  let resting: Resting[] = [];
  let nowMs = 0;
  for (let index = 1; index <= 1500; index++) {
    nowMs += random.below(8_000);
    const safeIndex = random.below(index + 1) as LogIndex;
    allocator.endQuarantines(nowMs, safeIndex, true);
    // In order of release: the first that may not end keeps the rest.
    const stays = resting.findIndex((rest) => nowMs < rest.releasedAtMs + QUARANTINE_MS || safeIndex < rest.index);
    resting = stays < 0 ? [] : resting.slice(stays);

    const who = dip(random.below(5) + 1);
    if (random.below(100) < 55) {
      const need = random.below(random.below(4) === 0 ? 3000 : 40) + 1;
      const most = random.below(4) === 0 ? random.below(100) + 1 : RANGES_PER_SPACE;
      const free = RANGES_PER_SPACE - owners.size - resting.length - excluded.size;
      const blocks = allocator.grant(space, who, need, most, index as LogIndex);
      const got = blocks.reduce((sum, block) => sum + block.count, 0);
      if (blocks.length === 1 && got > need) expect(got, "one block is the next power of two").toBeLessThan(need * 2);
      else expect(got, "pieces add up to what there is of the need").toBe(Math.min(need, most, free));
      expect(got).toBeLessThanOrEqual(most);
      for (const block of blocks) {
        expect(isPowerOfTwo(block.count) && block.range % block.count === 0, "blocks are aligned powers of two").toBe(
          true,
        );
        for (let range = block.range; range < block.range + block.count; range++) {
          expect(owners.has(range) || excluded.has(range) || resting.some((rest) => rest.range === range)).toBe(false);
          owners.set(range, who);
        }
      }
    } else {
      const runs: [first: number, count: number][] = [];
      space.visitOwned(who, (first, count) => runs.push([first, count]));
      const run = runs[random.below(Math.max(1, runs.length))];
      if (run === undefined) continue;
      const skip = random.below(run[1]);
      const count = random.below(run[1] - skip) + 1;
      allocator.release(space, run[0] + skip, count, who, { nowMs, index: index as LogIndex });
      for (let range = run[0] + skip; range < run[0] + skip + count; range++) {
        expect(owners.get(range)).toBe(who);
        owners.delete(range);
        resting.push({ range, releasedAtMs: nowMs, index });
      }
    }
    expect([space.ownedCount, space.quarantinedCount]).toEqual([owners.size, resting.length]);
    expect(space.freeCount).toBe(RANGES_PER_SPACE - owners.size - resting.length - excluded.size);
    if (index % 50 === 0) compare(space, owners, resting, excluded);
  }
});

function compare(
  space: ReturnType<SnatAllocator["openSpace"]>,
  owners: ReadonlyMap<number, DipId>,
  resting: readonly Resting[],
  excluded: ReadonlySet<number>,
): void {
  const rests = new Set(resting.map(({ range }) => range));
  for (let range = FIRST_RANGE; range < END_RANGE; range++) {
    const wanted = owners.has(range)
      ? RANGE_OWNED
      : rests.has(range)
        ? RANGE_QUARANTINED
        : excluded.has(range)
          ? RANGE_EXCLUDED
          : RANGE_FREE;
    if (space.stateOf(range) !== wanted) expect(space.stateOf(range), `state of range ${range}`).toBe(wanted);
    const owner = owners.get(range);
    if (owner !== undefined && space.ownerOf(range) !== owner)
      expect(space.ownerOf(range), `owner of ${range}`).toBe(owner);
  }
}

test("what was just freed is handed out last", () => {
  const allocator = allocatorOf(() => new Set());
  const space = allocator.openSpace(VIP, 6);
  const [first] = allocator.grant(space, dip(1), 4, 4, 1 as LogIndex);
  expect(first?.range).toBe(FIRST_RANGE);
  allocator.release(space, FIRST_RANGE, 4, dip(1), { nowMs: 0, index: 2 as LogIndex });
  allocator.endQuarantines(QUARANTINE_MS, 2 as LogIndex, true);
  const [second] = allocator.grant(space, dip(2), 4, 4, 3 as LogIndex);
  expect(second?.range).toBe(FIRST_RANGE + 4);
});

test("the search wraps around, so that every free range is found in the end", () => {
  const allocator = allocatorOf(() => new Set());
  const space = allocator.openSpace(VIP, 17);
  let granted = 0;
  for (let index = 1; space.freeCount > 0; index++) {
    for (const block of allocator.grant(space, dip(1), 3, RANGES_PER_SPACE, index as LogIndex)) granted += block.count;
  }
  expect(granted).toBe(RANGES_PER_SPACE);
  expect(allocator.grant(space, dip(1), 1, 1, 9000 as LogIndex)).toEqual([]);
});

test("a need that no single block meets is met by pieces, largest first", () => {
  const allocator = allocatorOf(() => new Set());
  const space = allocator.openSpace(VIP, 6);
  const blocks = allocator.grant(space, dip(1), RANGES_PER_SPACE, RANGES_PER_SPACE, 1 as LogIndex);
  expect(blocks.map((block) => block.count)).toEqual([4096, 2048, 1024, 512, 256, 128]);
});
