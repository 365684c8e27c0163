/**
 * [pure] When will a VIP's ports run out? A straight line through how many were taken (owned or resting), by least squares:
 * crude, but what it says is easy to check, and an operator sees from how long a time it was drawn.
 */
import type { IpAddress } from "../../core/brands.js";
import type { SnatProtocol } from "../state/snat/port-ranges.js";
import type { SnatUsage } from "../state/state-machine.js";

/** One VIP and protocol in a sample: address, protocol, ranges owned, resting. */
type SampledSpace = readonly [vip: IpAddress, protocol: SnatProtocol, owned: number, quarantined: number];

/** As it is stored. VIPs whose ports nobody has are left out. */
export function stockSample(usage: readonly SnatUsage[]): string {
  const taken = usage.filter(({ owned, quarantined }) => owned + quarantined > 0);
  return JSON.stringify(
    taken.map(({ vip, protocol, owned, quarantined }): SampledSpace => [vip, protocol, owned, quarantined]),
  );
}

export interface StockPoint {
  readonly atMs: number;
  /** Ranges owned or resting. */
  readonly taken: number;
}

/** Points of every VIP and protocol that some sample names, "vip/protocol" as key; 0 where a sample leaves it out. */
export function stockPoints(
  samples: readonly { readonly atMs: number; readonly sample: string }[],
): ReadonlyMap<string, readonly StockPoint[]> {
  const parsed = samples.map(({ atMs, sample }) => ({
    atMs,
    taken: new Map(
      (JSON.parse(sample) as readonly SampledSpace[]).map(([vip, protocol, owned, resting]) => [
        `${vip}/${protocol}`,
        owned + resting,
      ]),
    ),
  }));
  const names = new Set(parsed.flatMap(({ taken }) => [...taken.keys()]));
  return new Map(
    [...names].map((name) => [name, parsed.map(({ atMs, taken }) => ({ atMs, taken: taken.get(name) ?? 0 }))]),
  );
}

/** Ranges per ms by least squares; 0 of fewer than two points. */
export function slope(points: readonly StockPoint[]): number {
  const count = points.length;
  if (count < 2) return 0;
  const meanMs = points.reduce((sum, { atMs }) => sum + atMs, 0) / count;
  const mean = points.reduce((sum, { taken }) => sum + taken, 0) / count;
  let covariance = 0;
  let variance = 0;
  for (const { atMs, taken } of points) {
    covariance += (atMs - meanMs) * (taken - mean);
    variance += (atMs - meanMs) ** 2;
  }
  return variance === 0 ? 0 : covariance / variance;
}

export interface Forecast {
  /** Ranges per hour that the VIP gains or loses. */
  readonly rangesPerHour: number;
  /** Ms from the last point until nothing is free; null: not at this rate. */
  readonly exhaustedInMs: number | null;
  /** VIPs of this stock that what will be taken at the horizon needs, a quarter left free; at least 1. */
  readonly vipsNeeded: number;
}

/** Of a VIP's stock, how much may be taken without a shortage: the rest is for bursts, and for ranges that rest. */
const TAKEN_SHARE_MAX = 0.75;

export function forecast(points: readonly StockPoint[], stock: number, horizonMs: number): Forecast {
  const perMs = slope(points);
  const taken = points.at(-1)?.taken ?? 0;
  const free = Math.max(0, stock - taken);
  const atHorizon = Math.max(taken, taken + perMs * horizonMs);
  return {
    rangesPerHour: perMs * 3_600_000,
    exhaustedInMs: free === 0 ? 0 : perMs > 0 ? free / perMs : null,
    vipsNeeded: Math.max(1, Math.ceil(atHorizon / (Math.max(1, stock) * TAKEN_SHARE_MAX))),
  };
}
