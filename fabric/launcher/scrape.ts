/** What the data paths of the child processes count, read from their metrics pages as a monitoring system would. */
import { dataPathIn, type DataPathCounters } from "../data-path.js";

export interface MetricsPage {
  readonly name: string;
  /** "host:port". */
  readonly address: string;
}

/** Counters per child, by name in order; a child that does not answer is left out. */
export async function scrapeDataPaths(pages: readonly MetricsPage[]): Promise<ReadonlyMap<string, DataPathCounters>> {
  const found = await Promise.all(
    pages.map(async ({ name, address }): Promise<readonly [string, DataPathCounters] | null> => {
      try {
        const response = await fetch(`http://${address}/metrics`, { signal: AbortSignal.timeout(2_000) });
        return response.ok ? [name, dataPathIn(await response.text())] : null;
      } catch {
        return null; // down or still starting
      }
    }),
  );
  return new Map(found.filter((entry) => entry !== null));
}
