/** Which sets of members a pool remembers, and in what order: hosts pass segments on along it. */
import { describe, expect, test } from "vitest";
import type { DipId, LogIndex, PoolId } from "../../../core/brands.js";
import { createRandom } from "../../../core/random.js";
import { createStateMachine } from "../../../manager/state/index.js";
import { assertInvariants, assertTables } from "../../../manager/state/invariants.js";
import { type MemberSet, TABLES_MAX, TableHistory } from "../../../manager/state/table-history.js";
import { Site, pool, smallSite, vip } from "./fixture.js";

const SEED = Number(process.env["ANANTA_TEST_SEED"] ?? 1);
const POOL = 1 as PoolId;

/** DIPs of weight 1, in order. */
const set = (...dips: readonly number[]): MemberSet => dips.map((dip) => ({ dipId: dip as DipId, weight: 1 }));
const dipsOf = (history: TableHistory, of = POOL): readonly (readonly number[])[] =>
  history.tablesOf(of).map(({ members }) => members.map(({ dipId }) => dipId));
const poolsOf = (history: TableHistory, dip: number): readonly number[] => [...history.poolsOf(dip as DipId)].sort();
const owners = (history: TableHistory, of = POOL): readonly number[] => [...history.owners(of)].sort((a, b) => a - b);

describe("the sets of a pool", () => {
  test("are listed newest first; noting the newest again changes nothing (T1)", () => {
    const history = new TableHistory();
    history.note(POOL, [set(1, 2)]);
    history.note(POOL, [set(1)]);
    const before = history.tablesOf(POOL);
    history.note(POOL, [set(1)]);
    expect(history.tablesOf(POOL)).toBe(before);
    expect(dipsOf(history)).toEqual([[1], [1, 2]]);
    expect(before.map(({ revision }) => revision)).toEqual([2, 1]);
  });

  test("have what is prepared before what MUXes use, and one that is both once", () => {
    const history = new TableHistory();
    history.note(POOL, [set(1, 2, 3), set(1, 2)]);
    expect(dipsOf(history)).toEqual([
      [1, 2, 3],
      [1, 2],
    ]);
    history.note(POOL, [set(1, 2, 3), set(1, 2, 3)]);
    expect(dipsOf(history)).toEqual([
      [1, 2, 3],
      [1, 2],
    ]);
  });

  test("that come back move to the front under a new revision, and the others keep their order (T2)", () => {
    const history = new TableHistory();
    for (const one of [set(1), set(2), set(3), set(1)]) history.note(POOL, [one]);
    expect(dipsOf(history)).toEqual([[1], [3], [2]]);
    expect(history.tablesOf(POOL).map(({ revision }) => revision)).toEqual([4, 3, 2]);
  });

  test("differ when a weight does", () => {
    const history = new TableHistory();
    history.note(POOL, [set(1, 2)]);
    history.note(POOL, [[...set(1), { dipId: 2 as DipId, weight: 5 }]]);
    expect(history.tablesOf(POOL)).toHaveLength(2);
  });

  test("are forgotten from the oldest on beyond TABLES_MAX, and who was only in those owns nothing any more", () => {
    const history = new TableHistory();
    for (let dip = 1; dip <= TABLES_MAX + 1; dip++) history.note(POOL, [set(dip)]);
    expect(history.tablesOf(POOL)).toHaveLength(TABLES_MAX);
    expect(poolsOf(history, 1)).toEqual([]);
    expect(poolsOf(history, 2)).toEqual([POOL]);
    expect(owners(history)).toHaveLength(TABLES_MAX);
  });

  test("stay when nobody serves: flows of before still have owners", () => {
    const history = new TableHistory();
    history.note(POOL, [set(1)]);
    history.note(POOL, [[]]);
    expect(dipsOf(history)).toEqual([[1]]);
  });

  test("go with the pool, and only with it", () => {
    const history = new TableHistory();
    history.note(POOL, [set(1, 2)]);
    history.note(2 as PoolId, [set(2, 3)]);
    expect(poolsOf(history, 2)).toEqual([1, 2]);
    history.remove(POOL);
    expect([poolsOf(history, 1), poolsOf(history, 2), owners(history)]).toEqual([[], [2], []]);
    history.note(POOL, [set(9)]);
    expect(history.tablesOf(POOL).map(({ revision }) => revision)).toEqual([1]);
  });

  test("share the members that they have in common, also after a restore: 32 sets of 655 are 32 lists, not 20,960 members", () => {
    const noted = new TableHistory();
    const all = Array.from({ length: 655 }, (_, at) => at + 1);
    for (let out = 1; out <= TABLES_MAX; out++) noted.note(POOL, [set(...all.filter((dip) => dip !== out))]);
    const restored = new TableHistory();
    for (const tables of structuredClone(noted.all())) restored.put(tables);
    expect(restored.all()).toEqual(noted.all());
    for (const history of [noted, restored]) {
      const members = new Set(history.tablesOf(POOL).flatMap((table) => table.members));
      expect(members.size).toBeLessThanOrEqual(all.length + TABLES_MAX); // who comes back may be a member anew
    }
  });

  test(`agree with a plain list, in random order (seed ${SEED})`, () => {
    const random = createRandom(SEED);
    const history = new TableHistory();
    const lists = new Map<number, readonly (readonly number[])[]>();
    for (let step = 0; step < 600; step++) {
      const id = (random.below(3) + 1) as PoolId;
      const list = lists.get(id) ?? [];
      if (random.below(100) === 0) {
        history.remove(id);
        lists.delete(id);
      } else {
        const one = Array.from({ length: 7 }, (_, at) => at + 1).filter(() => random.below(2) === 0);
        history.note(id, [set(...one)]);
        const isOther = (other: readonly number[]): boolean => other.join() !== one.join();
        if (one.length > 0) lists.set(id, [one, ...list.filter(isOther)].slice(0, TABLES_MAX));
      }
      expect(dipsOf(history, id)).toEqual(lists.get(id) ?? []);
      expect(owners(history, id)).toEqual([...new Set((lists.get(id) ?? []).flat())].sort((a, b) => a - b));
      for (let dip = 1; dip <= 7; dip++) {
        const pools = [...lists].filter(([, tables]) => tables.some((members) => members.includes(dip)));
        expect(poolsOf(history, dip)).toEqual(pools.map(([of]) => of).sort());
      }
    }
  });
});

describe("the checker", () => {
  test("sees a set that was not noted, and does not mend it", () => {
    const site = smallSite();
    const state = site.machine.inspect();
    state.tables.put({ poolId: POOL, nextRevision: 9, tables: [{ revision: 8, members: set(1) }] });
    expect(() => assertTables(state)).toThrow(/default\/web: the sets that serve are in front/);
    expect(() => assertInvariants(state)).toThrow();
    expect(dipsOf(state.tables)).toEqual([[1]]);
  });

  test("sees a set that is listed twice, and too many", () => {
    const site = smallSite();
    const state = site.machine.inspect();
    const [now] = state.tables.tablesOf(POOL);
    if (now === undefined) throw new Error("the pool has a table");
    const tables = [now, { revision: 0, members: now.members.map((member) => ({ ...member })) }];
    state.tables.put({ poolId: POOL, nextRevision: 9, tables });
    expect(() => assertTables(state)).toThrow(/lists a set once/);
    const many = Array.from({ length: TABLES_MAX }, (_, at) => ({ revision: -at, members: set(1, 2, at + 3) }));
    state.tables.put({ poolId: POOL, nextRevision: 9, tables: [now, ...many] });
    expect(() => assertTables(state)).toThrow(/at most so many/);
  });
});

test("a pool that changed more often than it remembers is the same after a restore, with TABLES_MAX sets", () => {
  const site = new Site();
  site.bootstrap();
  site.register("host-1", ["10.0.0.1", "10.0.0.2"]);
  site.configure(pool("web", ["10.0.0.1"]), vip("v", "198.51.100.1", { rules: ["tcp/80 -> web"] }));
  for (let weight = 1; weight <= TABLES_MAX + 8; weight++)
    site.configure(pool("web", [`10.0.0.1*${weight}`, "10.0.0.2"]));
  expect(site.hostKeys("host-1", "table")).toHaveLength(TABLES_MAX);
  const restored = createStateMachine();
  restored.restore([...site.machine.snapshot()], site.index as LogIndex);
  assertInvariants(restored.inspect());
  expect(restored.inspect().tables.all()).toEqual(site.machine.inspect().tables.all());
  expect(restored.digest()).toBe(site.machine.digest());
});
