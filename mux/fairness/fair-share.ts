/**
 * Shares of an overloaded MUX: weighted max-min. Every VIP gets what it asks for, up to its weight's part of what the others
 * leave; what is above is dropped with a probability that grows with the excess (Ananta §3.6.2).
 *
 *     capacity 100, weights 1 each:   asks 10, 20, 200  ->  10, 20, 70     the third loses 65 %
 */

export interface Demand {
  readonly packetsPerSecond: number;
  /** At least 1. */
  readonly weight: number;
}

/** What each may have; the sum is at most `capacity` and, if they ask for it, all of it. O(n log n). */
export function fairShares(demands: readonly Demand[], capacity: number): number[] {
  const shares = new Array<number>(demands.length).fill(0);
  // In order of what one unit of weight asks for: who asks least is served in full first.
  const order = demands.map((_, i) => i).sort((a, b) => perWeight(demands[a]!) - perWeight(demands[b]!));
  let left = capacity;
  let weightLeft = demands.reduce((sum, { weight }) => sum + weight, 0);
  for (const i of order) {
    const { packetsPerSecond, weight } = demands[i]!;
    const share = Math.min(packetsPerSecond, (left * weight) / weightLeft);
    shares[i] = share;
    left -= share;
    weightLeft -= weight;
  }
  return shares;
}

const perWeight = ({ packetsPerSecond, weight }: Demand): number => packetsPerSecond / weight;

/** Share of packets to drop, as the pipeline compares it with 31 bits of chance. */
export function dropThreshold(packetsPerSecond: number, share: number): number {
  if (packetsPerSecond <= share || packetsPerSecond <= 0) return 0;
  return Math.min(0x7fff_ffff, Math.floor((1 - share / packetsPerSecond) * 2 ** 31));
}
