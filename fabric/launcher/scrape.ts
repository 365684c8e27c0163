/** Drop counters of the child processes, read from their metrics pages as a monitoring system would. */

/**
 * Sums of all counters named "..._drop_total" by their label `reason`, per child; a child that does not answer is left
 * out.
 */
export async function scrapeDrops(
  pages: readonly { readonly name: string; readonly address: string }[],
): Promise<ReadonlyMap<string, ReadonlyMap<string, number>>> {
  const found = new Map<string, ReadonlyMap<string, number>>();
  await Promise.all(
    pages.map(async ({ name, address }) => {
      try {
        const response = await fetch(`http://${address}/metrics`, { signal: AbortSignal.timeout(2_000) });
        if (response.ok) found.set(name, dropsIn(await response.text()));
      } catch {
        // down or still starting
      }
    }),
  );
  return found;
}

/** Prometheus text format: `name{labels} value`. */
export function dropsIn(text: string): ReadonlyMap<string, number> {
  const drops = new Map<string, number>();
  for (const line of text.split("\n")) {
    const match = /^\w*drops?_total\{(?:[^}]*,)?reason="([^"]*)"[^}]*\} ([0-9.e+]+)/.exec(line);
    if (match === null) continue;
    const [, reason = "", value = "0"] = match;
    if (Number(value) > 0) drops.set(reason, (drops.get(reason) ?? 0) + Number(value));
  }
  return drops;
}
