/** Who owned which ports when, as one replica remembers it: over restarts, installed snapshots, and its own forgetting. */
import { MemoryLevel } from "memory-level";
import { describe, expect, test } from "vitest";
import type { DipId, IpAddress, LogIndex } from "../../../core/brands.js";
import { createRandom } from "../../../core/random.js";
import { alignedBlocks, blocksAround } from "../../../manager/history/history-keys.js";
import {
  HISTORY_SETTINGS,
  OwnershipHistory,
  type HistorySettings,
} from "../../../manager/history/ownership-history.js";
import { forecast, stockPoints, stockSample } from "../../../manager/history/stock-trend.js";
import type { EndedOwnership } from "../../../manager/state/snat/allocator.js";
import type { Disk, Store } from "../../../runtime/env.js";
import { silentLog } from "../../kit/silent-log.js";
import { virtualTime } from "../../kit/virtual-time.js";
import { testSeed } from "../../kit/virtual-world.js";

const VIP = "198.51.100.1" as IpAddress;
const TCP = { vip: VIP, protocol: 6 } as const;
const at = (index: number): LogIndex => index as LogIndex;
const HOUR_MS = 3_600_000;

/** A replica's disk, which outlives its processes. */
class Machine {
  readonly store = new MemoryLevel<Uint8Array, Uint8Array>({ keyEncoding: "view", valueEncoding: "view" }) as Store;
  readonly time = virtualTime();

  async start(settings: Partial<HistorySettings> = {}): Promise<OwnershipHistory> {
    const disk: Pick<Disk, "openStore" | "makeFolder"> = {
      makeFolder: () => Promise.resolve(),
      openStore: async () => {
        await this.store.open();
        return this.store;
      },
    };
    return OwnershipHistory.open({
      disk: disk as Disk,
      clock: this.time.clock,
      log: silentLog,
      folder: "history",
      settings: { ...HISTORY_SETTINGS, ...settings },
    });
  }
}

function ended(range: number, count: number, dip: number, grantedIndex: number): EndedOwnership {
  return { ...TCP, range, count, dip: dip as DipId, grantedIndex: at(grantedIndex) };
}

/** One entry; DIP n is 10.0.0.n. */
function entry(history: OwnershipHistory, index: number, wallMs: number, ...of: readonly EndedOwnership[]): void {
  history.applied({ index: at(index), ended: of }, wallMs, (dipId) => ({
    dipId,
    tenant: "default",
    address: `10.0.0.${dipId}` as IpAddress,
  }));
}

const told = async (history: OwnershipHistory, range: number) =>
  (await history.ownersOf(TCP, range)).map(({ dip, fromMs, untilMs }) => [dip, fromMs, untilMs]);

describe("the history of ownership", () => {
  test("names every owner of a range, with both ends, newest first", async () => {
    const history = await new Machine().start();
    entry(history, 10, 1_000); // granted to 1
    entry(history, 20, 50_000, ended(200, 13, 1, 10));
    entry(history, 30, 200_000); // granted to 2
    entry(history, 40, 260_000, ended(207, 1, 2, 30));
    expect(await told(history, 207)).toEqual([
      ["10.0.0.2", 200_000, 260_000],
      ["10.0.0.1", 1_000, 50_000],
    ]);
    expect(await told(history, 212)).toEqual([["10.0.0.1", 1_000, 50_000]]);
    expect(await told(history, 213)).toEqual([]);
    await history.stop();
  });

  test("keeps UDP, other VIPs and other ranges apart", async () => {
    const history = await new Machine().start();
    entry(history, 2, 1_000, ended(200, 8, 1, 1));
    expect(await history.ownersOf({ vip: VIP, protocol: 17 }, 200)).toEqual([]);
    expect(await history.ownersOf({ vip: "198.51.100.10" as IpAddress, protocol: 6 }, 200)).toEqual([]);
    await history.stop();
  });

  test("goes on after a restart: what was written is not written twice, what was lost is applied again", async () => {
    const machine = new Machine();
    const first = await machine.start();
    entry(first, 1, 1_000);
    entry(first, 2, 5_000, ended(200, 1, 1, 1));
    await first.stop();
    const second = await machine.start();
    second.restored(at(1)); // its own snapshot, then the log from there
    entry(second, 2, 5_000, ended(200, 1, 1, 1));
    entry(second, 3, 9_000, ended(201, 1, 1, 1));
    expect(second.gaps()).toEqual([]);
    expect(await told(second, 200)).toEqual([["10.0.0.1", 1_000, 5_000]]);
    expect(await told(second, 201)).toEqual([["10.0.0.1", 1_000, 9_000]]);
    await second.stop();
  });

  test("a snapshot of another replica is a gap, told also after the next restart", async () => {
    const machine = new Machine();
    const history = await machine.start();
    entry(history, 1, 1_000);
    await machine.time.time.advance(7_000);
    history.restored(at(50));
    entry(history, 51, 9_000, ended(200, 1, 1, 40)); // granted in the gap
    const gap = { fromIndex: 1, untilIndex: 50, fromMs: 1_000, untilMs: 7_000 };
    expect(history.gaps()).toEqual([gap]);
    await history.stop();
    const next = await machine.start();
    expect(next.gaps()).toEqual([gap]);
    await next.stop();
  });

  test("a snapshot of its own, after a quiet time, is no gap", async () => {
    const machine = new Machine();
    const first = await machine.start();
    for (let index = 1; index <= 9; index++) entry(first, index, 1_000);
    first.saved();
    await machine.time.time.advance(300);
    await first.stop();
    const second = await machine.start();
    second.restored(at(9));
    expect(second.gaps()).toEqual([]);
    await second.stop();
  });

  test("forgets what is older than its retention, an hour at a time", async () => {
    const machine = new Machine();
    const history = await machine.start({ retentionMs: 2 * HOUR_MS });
    for (let hour = 0; hour < 6; hour++) {
      entry(history, hour + 1, hour * HOUR_MS, ended(200 + hour, 1, 1, hour + 1));
      await history.flush();
    }
    const known = await Promise.all([0, 1, 2, 3, 4, 5].map(async (hour) => (await told(history, 200 + hour)).length));
    expect(known).toEqual([0, 0, 0, 1, 1, 1]);
    expect(history.sinceMs).toBe(3 * HOUR_MS);
    await history.stop();
    const next = await machine.start();
    expect(next.sinceMs).toBe(3 * HOUR_MS);
    await next.stop();
  });

  test("never keeps more intervals than its limit", async () => {
    const machine = new Machine();
    const history = await machine.start({ recordsMax: 160 });
    for (let index = 1; index <= 1_000; index++) {
      entry(history, index, index, ended(200 + (index % 50), 1, 1, index));
      if (index % 20 === 0) await history.flush();
    }
    await history.flush();
    const kept = (await machine.store.keys().all()).map((key) => new TextDecoder().decode(key));
    expect(kept.filter((key) => key.startsWith("ended/")).length).toBeLessThanOrEqual(160);
    expect((await told(history, 200 + (1_000 % 50))).length).toBeGreaterThan(0);
    await history.stop();
  });

  test("a store that fails is reported, and stands in nobody's way", async () => {
    const machine = new Machine();
    const history = await machine.start();
    await machine.store.close();
    entry(history, 1, 1_000, ended(200, 1, 1, 1));
    await history.flush();
    expect(history.failure?.code).toBe("STORAGE_FAILED");
    entry(history, 2, 2_000, ended(201, 1, 1, 1));
    await history.flush();
  });
});

test("any interval is cut into aligned blocks, and each of its ranges is found in exactly one", () => {
  const seed = testSeed("aligned blocks");
  const random = createRandom(seed);
  for (let round = 0; round < 200; round++) {
    const first = 128 + random.below(8_064);
    const count = 1 + random.below(8_192 - first);
    const blocks = alignedBlocks(first, count);
    expect(
      blocks.reduce((sum, { size }) => sum + (1 << size), 0),
      `seed ${seed}`,
    ).toBe(count);
    for (const range of [first, first + count - 1, first + random.below(count)]) {
      const hits = blocksAround(range).filter((around) =>
        blocks.some((block) => block.size === around.size && block.first === around.first),
      );
      expect(hits, `range ${range} of ${first} + ${count}, seed ${seed}`).toHaveLength(1);
    }
    const outside = first + count;
    const wrong = blocksAround(outside).filter((around) =>
      blocks.some((block) => block.size === around.size && block.first === around.first),
    );
    expect(wrong, `seed ${seed}`).toEqual([]);
  }
});

describe("the forecast", () => {
  const line = (ranges: readonly number[]) => ranges.map((taken, hour) => ({ atMs: hour * HOUR_MS, taken }));

  test("of a stock that fills steadily says when it is exhausted, and how many VIPs are needed", () => {
    const { rangesPerHour, exhaustedInMs, vipsNeeded } = forecast(line([100, 200, 300]), 800, 10 * HOUR_MS);
    expect(rangesPerHour).toBeCloseTo(100);
    expect(exhaustedInMs).toBeCloseTo(5 * HOUR_MS);
    expect(vipsNeeded).toBe(3); // 1,300 of 600 each
  });

  test.each([
    { ranges: [300, 200, 100], exhaustedInMs: null, why: "it shrinks" },
    { ranges: [300, 300], exhaustedInMs: null, why: "it stands still" },
    { ranges: [300], exhaustedInMs: null, why: "one point is no line" },
    { ranges: [700, 800], exhaustedInMs: 0, why: "it is exhausted" },
  ])("is $exhaustedInMs when $why", ({ ranges, exhaustedInMs }) => {
    expect(forecast(line(ranges), 800, HOUR_MS).exhaustedInMs).toBe(exhaustedInMs);
  });

  test("counts a VIP as empty in samples that leave it out", () => {
    const usage = { vip: VIP, protocol: 6 as const, owned: 5, quarantined: 2, excluded: 0, free: 1 };
    const samples = [
      { atMs: 1, sample: stockSample([{ ...usage, owned: 0, quarantined: 0 }]) },
      { atMs: 2, sample: stockSample([usage]) },
    ];
    expect(stockPoints(samples).get(`${VIP}/6`)).toEqual([
      { atMs: 1, taken: 0 },
      { atMs: 2, taken: 7 },
    ]);
  });
});
