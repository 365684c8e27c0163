/** Pages of range records against plain Maps. */
import { expect, test } from "vitest";
import type { DipId, LogIndex } from "../../../../core/brands.js";
import { createRandom } from "../../../../core/random.js";
import { END_RANGE } from "../../../../manager/state/snat/port-ranges.js";
import {
  RANGE_EXCLUDED,
  RANGE_FREE,
  RANGE_OWNED,
  RANGE_QUARANTINED,
  RangeRecords,
  type RangeState,
} from "../../../../manager/state/snat/range-records.js";

const SEED = Number(process.env["ANANTA_TEST_SEED"] ?? 1);
const STATES: readonly RangeState[] = [RANGE_FREE, RANGE_OWNED, RANGE_QUARANTINED, RANGE_EXCLUDED];

interface Known {
  state: RangeState;
  owner: number;
  granted: number;
}

const NOTHING_KNOWN: Known = { state: RANGE_FREE, owner: 0, granted: 0 };

function expectSame(records: RangeRecords, model: ReadonlyMap<number, Known>): void {
  for (let range = 0; range < END_RANGE; range++) {
    const { state, owner, granted } = model.get(range) ?? NOTHING_KNOWN;
    const found = [records.stateOf(range), records.ownerOf(range), records.grantedIndexOf(range)];
    expect(found, `range ${range}`).toEqual([state, owner, granted]);
  }
}

test.each([SEED, SEED + 1])("what is set is read again, and a copy stays as it was (seed %i)", (seed) => {
  const random = createRandom(seed);
  const records = new RangeRecords();
  const model = new Map<number, Known>();
  const change = (): void => {
    // Near each other at first, then anywhere: few pages, then all of them.
    const range = model.size < 200 ? 1_000 + random.below(400) : random.below(END_RANGE);
    const state = STATES[random.below(STATES.length)]!; // in range
    if (random.below(4) === 0) {
      records.setState(range, state);
      model.set(range, { ...(model.get(range) ?? NOTHING_KNOWN), state });
      return;
    }
    const owner = random.below(2 ** 31);
    const granted = random.below(2 ** 31) * 2 ** 20; // as large as log indexes get
    records.set(range, state, owner as DipId, granted as LogIndex);
    model.set(range, { state, owner, granted });
  };
  for (let step = 0; step < 300; step++) change();
  expectSame(records, model);
  const copy = records.copy();
  const before = new Map([...model].map(([range, known]) => [range, { ...known }]));
  for (let step = 0; step < 2_000; step++) change();
  expectSame(records, model);
  expectSame(copy, before);
});

test("a walk passes over what nobody ever touched, and misses nothing", () => {
  const records = new RangeRecords();
  expect(records.nextKnown(128, END_RANGE), "nothing is known").toBe(END_RANGE);
  for (const range of [130, 4_095, END_RANGE - 1]) records.setState(range, RANGE_EXCLUDED);
  const known: number[] = [];
  let looked = 0;
  for (let range = 0; range < END_RANGE; range++) {
    range = records.nextKnown(range, END_RANGE);
    looked++;
    if (range < END_RANGE && records.stateOf(range) !== RANGE_FREE) known.push(range);
  }
  expect(known).toEqual([130, 4_095, END_RANGE - 1]);
  expect(looked, "a page each").toBeLessThanOrEqual(3 * 256 + 1);
});
