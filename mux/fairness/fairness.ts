/**
 * Fairness of one MUX, put together: what every VIP asked for in the last interval, whether the MUX is overloaded, and what is
 * dropped of whom meanwhile. It also says who the top talkers are, which is what the Managers need to withdraw one.
 *
 *     counters of VIPs -> rates -> overloaded? -> shares -> drop thresholds, which the pipeline reads for every packet
 *
 * What was lost on the way in was asked for, too: it is taken to be of the VIPs in proportion to what came of each. So demand is above what
 * got through, and with losses alone, without a configured limit, shares are below it.
 */
import type { VipId } from "../../core/brands.js";
import type { VipTable } from "../dataplane/vip-table.js";
import { dropThreshold, fairShares } from "./fair-share.js";
import { OverloadDetector, type OverloadOptions } from "./overload.js";

/** Long enough for a rate, short enough that five of them are over before anybody calls. */
export const FAIRNESS_INTERVAL_MS = 500;

interface TopTalker {
  readonly vipId: VipId;
  readonly packetsPerSecond: number;
  /** What it may have; equal to what it asks for while nothing is dropped. */
  readonly share: number;
}

/** What this MUX says of its load. */
export interface Load {
  readonly isOverloaded: boolean;
  readonly packetsPerSecond: number;
  readonly capacity: number;
  /** Most excess first, at most ten. */
  readonly topTalkers: readonly TopTalker[];
}

/** The Managers take no more (`MuxOverload.top_talkers`). */
const TALKERS_TOLD = 10;

export class Fairness {
  report: Load = { isOverloaded: false, packetsPerSecond: 0, capacity: 0, topTalkers: [] };
  readonly #vips: VipTable;
  readonly #detector: OverloadDetector;
  /** Packets of each VIP slot at the last look, and whose they were. */
  readonly #before: Float64Array;
  readonly #vipIds: Uint32Array;
  #atMs: number | null = null;
  #lostBefore = 0;

  constructor(vips: VipTable, options: OverloadOptions) {
    this.#vips = vips;
    this.#detector = new OverloadDetector(options);
    this.#before = new Float64Array(vips.capacity);
    this.#vipIds = new Uint32Array(vips.capacity);
  }

  /** Call often; looks once per interval. `lost`: packets lost on the way in since the start. */
  tick(nowMs: number, lost: number): void {
    if (this.#atMs === null) {
      this.#atMs = nowMs;
      this.#lostBefore = lost;
      return;
    }
    const intervalMs = nowMs - this.#atMs;
    if (intervalMs < FAIRNESS_INTERVAL_MS) return;
    this.#atMs = nowMs;
    const slots: number[] = [];
    const demands: { packetsPerSecond: number; weight: number }[] = [];
    let packets = 0;
    for (let slot = 0; slot < this.#vips.capacity; slot++) {
      if (!this.#vips.isUsed(slot)) continue;
      const vipId = this.#vips.vipId(slot);
      const now = this.#vips.packets[slot]!;
      const grown = this.#vipIds[slot] === vipId ? now - this.#before[slot]! : now;
      this.#vipIds[slot] = vipId;
      this.#before[slot] = now;
      this.#vips.dropThresholds[slot] = 0;
      if (grown === 0) continue;
      packets += grown;
      slots.push(slot);
      demands.push({ packetsPerSecond: (grown * 1_000) / intervalMs, weight: this.#vips.weights[slot]! });
    }
    const lostNow = lost - this.#lostBefore;
    this.#lostBefore = lost;
    for (const demand of demands) demand.packetsPerSecond *= (packets + lostNow) / packets; // no demand, no packets
    this.#detector.observe({ packets, lost: lostNow, intervalMs });
    const { isOverloaded, capacity } = this.#detector;
    const shares = isOverloaded
      ? fairShares(demands, capacity)
      : demands.map(({ packetsPerSecond }) => packetsPerSecond);
    slots.forEach((slot, i) => {
      this.#vips.dropThresholds[slot] = dropThreshold(demands[i]!.packetsPerSecond, shares[i]!);
    });
    const topTalkers = slots
      .map((slot, i) => ({
        vipId: this.#vips.vipId(slot),
        packetsPerSecond: demands[i]!.packetsPerSecond,
        share: shares[i]!,
      }))
      .sort(
        (a, b) =>
          b.packetsPerSecond - b.share - (a.packetsPerSecond - a.share) || b.packetsPerSecond - a.packetsPerSecond,
      )
      .slice(0, TALKERS_TOLD);
    this.report = { isOverloaded, packetsPerSecond: ((packets + lostNow) * 1_000) / intervalMs, capacity, topTalkers };
  }
}
