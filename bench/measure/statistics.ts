/** [pure] Percentiles of one run, median and spread of several. */

/** Nearest rank: the smallest value that at least `share` (0..1) of all values do not exceed. NaN of none. Sorts in place. */
export function percentile(values: Float64Array | number[], share: number): number {
  values.sort(ascending);
  return values.length === 0 ? Number.NaN : values[Math.max(0, Math.ceil(values.length * share) - 1)]!; // in range
}

const ascending = (a: number, b: number): number => a - b;

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly runs: number;
}

/** The median of an even number of values is the mean of the middle two. */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort(ascending);
  const middle = (sorted.length - 1) / 2;
  const median = sorted.length === 0 ? Number.NaN : (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle)]!) / 2;
  return { median, min: sorted[0] ?? Number.NaN, max: sorted.at(-1) ?? Number.NaN, runs: sorted.length };
}

/** "4,816 [4,778..4,892]" */
export function spreadText(spread: Spread, digits = 0): string {
  return `${numberText(spread.median, digits)} [${numberText(spread.min, digits)}..${numberText(spread.max, digits)}]`;
}

export const numberText = (value: number, digits = 0): string =>
  value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** For RESULT lines: plain digits, no more of them than mean something; null for what was not measured. */
export function resultNumber(value: number | null, digits = 0): number | null {
  return value === null || !Number.isFinite(value) ? null : Number(value.toFixed(digits));
}
