import { describe, expect, it } from "vitest";
import { createRandom } from "../../../core/random.js";
import { dropThreshold, fairShares, type Demand } from "../../../mux/fairness/fair-share.js";
import { Fairness } from "../../../mux/fairness/fairness.js";
import { HeavyHitters } from "../../../mux/fairness/heavy-hitters.js";
import { OverloadDetector } from "../../../mux/fairness/overload.js";
import { VipTable } from "../../../mux/dataplane/vip-table.js";
import { formatWords } from "../../../packet/address-words.js";
import { MAPPED_WORD } from "../../../packet/header.js";
import { SEED } from "../../packet/packet-kit.js";

describe("fair shares", () => {
  const rows = [
    { asks: [10, 20, 200], weights: [1, 1, 1], capacity: 100, then: [10, 20, 70] },
    { asks: [100, 100], weights: [1, 3], capacity: 100, then: [25, 75] },
    { asks: [10, 10], weights: [1, 1], capacity: 100, then: [10, 10] },
    { asks: [], weights: [], capacity: 100, then: [] },
    { asks: [50, 500, 500], weights: [1, 1, 2], capacity: 350, then: [50, 100, 200] },
  ] as const;
  it.each(rows)("of $capacity for $asks with weights $weights are $then", ({ asks, weights, capacity, then }) => {
    const demands = asks.map((packetsPerSecond, i): Demand => ({ packetsPerSecond, weight: weights[i]! }));
    expect(fairShares(demands, capacity)).toEqual(then);
  });

  it("are max-min: nobody could have more without taking from somebody who has less for its weight", () => {
    const random = createRandom(SEED);
    for (let round = 0; round < 500; round++) {
      const demands = Array.from({ length: 1 + random.below(20) }, (): Demand => {
        return { packetsPerSecond: random.below(1_000), weight: 1 + random.below(5) };
      });
      const capacity = 1 + random.below(5_000);
      const shares = fairShares(demands, capacity);
      const sum = shares.reduce((a, b) => a + b, 0);
      expect(sum, `seed ${SEED} round ${round}`).toBeLessThanOrEqual(capacity + 1e-6);
      const unmet = demands.flatMap(({ packetsPerSecond, weight }, i) =>
        shares[i]! < packetsPerSecond - 1e-9 ? [shares[i]! / weight] : [],
      );
      if (unmet.length === 0) continue;
      expect(sum).toBeCloseTo(capacity, 3);
      const level = Math.max(...shares.map((share, i) => share / demands[i]!.weight));
      for (const one of unmet) expect(one).toBeCloseTo(level, 6);
    }
  });

  it("become a drop probability", () => {
    expect([dropThreshold(100, 100), dropThreshold(100, 25) / 2 ** 31, dropThreshold(100, 0)]).toEqual([
      0, 0.75, 0x7fff_ffff,
    ]);
  });
});

describe("overload", () => {
  it("is told after two bad intervals, and is over after ten good ones", () => {
    const detector = new OverloadDetector({ packetsPerSecondMax: 1_000 });
    const see = (packets: number): boolean => {
      detector.observe({ packets, lost: 0, intervalMs: 500 });
      return detector.isOverloaded;
    };
    expect([see(900), see(100), see(900), see(900)]).toEqual([false, false, false, true]);
    expect(Array.from({ length: 9 }, () => see(300))).not.toContain(false);
    expect([see(450), see(300)]).toEqual([true, true]); // 900 a second is not good: the count begins again
    expect(Array.from({ length: 9 }, () => see(300)).at(-1)).toBe(false);
  });

  it("learns its capacity from what got through while packets were lost", () => {
    const detector = new OverloadDetector({ packetsPerSecondMax: 0 });
    detector.observe({ packets: 5_000, lost: 0, intervalMs: 500 });
    expect([detector.isOverloaded, detector.capacity]).toEqual([false, 0]);
    detector.observe({ packets: 400, lost: 100, intervalMs: 500 });
    detector.observe({ packets: 500, lost: 100, intervalMs: 500 });
    expect([detector.isOverloaded, detector.capacity]).toEqual([true, 1_000]);
  });
});

describe("a MUX that knows no limit of its own", () => {
  const INTERVAL_MS = 500;
  type Row = readonly [packets: readonly number[], lost: number];
  /** In each interval VIPs 1..n get so many packets, and so many are lost on the way in. */
  function feeder(fairness: Fairness, vips: VipTable): (rows: readonly Row[]) => void {
    let [lost, nowMs] = [0, 0];
    fairness.tick(nowMs, lost);
    return (rows) => {
      for (const [packets, lostNow] of rows) {
        packets.forEach((count, slot) => (vips.packets[slot]! += count));
        lost += lostNow;
        fairness.tick((nowMs += INTERVAL_MS), lost);
      }
    };
  }
  const vipsOf = (count: number): VipTable => {
    const vips = new VipTable(count);
    for (let id = 1; id <= count; id++) vips.put(id, Int32Array.of(0, 0, 0xffff, id), true, 1);
    return vips;
  };

  it("drops of the VIP that floods, and of nobody else, when packets are lost on the way in", () => {
    const vips = vipsOf(3);
    const fairness = new Fairness(vips, { packetsPerSecondMax: 0 });
    const flood = [[50, 100, 850], 500] as const;
    feeder(fairness, vips)([flood, flood]);
    const { isOverloaded, capacity, packetsPerSecond, topTalkers } = fairness.report;
    expect({ isOverloaded, capacity, packetsPerSecond }).toEqual({
      isOverloaded: true,
      capacity: 2_000,
      packetsPerSecond: 3_000,
    });
    // The three ask for 150, 300 and 2,550; of 2,000 the third gets 1,550.
    expect(topTalkers[0]).toMatchObject({ vipId: 3, share: 1_550 });
    expect(topTalkers[0]!.packetsPerSecond).toBeCloseTo(2_550);
    const [first, second, third] = [...vips.dropThresholds].map((threshold) => threshold / 2 ** 31);
    expect([first, second]).toEqual([0, 0]);
    expect(third).toBeCloseTo(1 - 1_550 / 2_550);
  });

  it("drops nothing without losses, and stops when they have stopped", () => {
    const vips = vipsOf(1);
    const fairness = new Fairness(vips, { packetsPerSecondMax: 0 });
    const feed = feeder(fairness, vips);
    feed([
      [[100_000], 0],
      [[100_000], 0],
    ]);
    expect(fairness.report.isOverloaded).toBe(false);
    const lossy: Row = [[1_000], 100];
    feed([lossy, lossy]);
    expect(vips.dropThresholds[0]).toBeGreaterThan(0);
    feed(Array.from({ length: 10 }, (): Row => [[500], 0]));
    expect([fairness.report.isOverloaded, vips.dropThresholds[0]]).toEqual([false, 0]);
  });
});

describe("heavy hitters", () => {
  it("are all in the sketch, and counts are bounded as promised, beside exact counts", () => {
    const random = createRandom(SEED);
    const sketch = new HeavyHitters(20);
    const exact = new Map<string, number>();
    for (let i = 0; i < 20_000; i++) {
      // The same few clients send much to two VIPs, many others little; clients of both families differ in one word alone.
      const isHeavy = random.below(3) === 0;
      const vipId = 1 + random.below(2);
      const word = isHeavy ? random.below(3) : 100 + random.below(5_000);
      const isIpv6 = random.below(2) === 0;
      const words: readonly [number, number, number, number] = isIpv6
        ? [0x2001_0db8, word, 0, 7]
        : [0, 0, MAPPED_WORD, word];
      sketch.add(vipId, ...words);
      const key = `${vipId} ${formatWords(...words)}`;
      exact.set(key, (exact.get(key) ?? 0) + 1);
    }
    const found = new Map(sketch.top(20).map((hitter) => [`${hitter.vipId} ${hitter.client}`, hitter]));
    expect(found.size).toBe(20);
    for (const [key, count] of exact) {
      const hitter = found.get(key);
      if (count > sketch.total / 20) expect(hitter, `seed ${SEED}: ${key}`).toBeDefined();
      if (hitter === undefined) continue;
      expect(hitter.count).toBeGreaterThanOrEqual(count);
      expect(hitter.count - hitter.error).toBeLessThanOrEqual(count);
    }
    const before = sketch.top(20);
    sketch.fade();
    expect(sketch.total).toBe(10_000);
    const halves = before
      .filter(({ count }) => count >= 2)
      .map((hitter) => {
        return { ...hitter, count: Math.floor(hitter.count / 2), error: Math.floor(hitter.error / 2) };
      });
    expect(new Set(sketch.top(20))).toEqual(new Set(halves));
  });
});
