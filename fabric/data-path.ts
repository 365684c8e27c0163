/**
 * [pure] What the data paths of MUXes and Host Agents count, out of their metrics pages (Prometheus text format): drops by
 * reason, and the few numbers that tell how the rarer paths are used.
 */

export interface DataPathCounters {
  /** By reason; only reasons that occurred. */
  readonly drops: ReadonlyMap<string, number>;
  /** By caption, in the order of `SHOWN`; only what the process has and is above 0. */
  readonly counts: ReadonlyMap<string, number>;
}

/** Metric; label value or null where there is no label; how it is called here. */
const SHOWN: readonly (readonly [metric: string, label: string | null, caption: string])[] = [
  ["ananta_mux_received_packets_total", null, "received"],
  ["ananta_mux_sent_packets_total", null, "sent"],
  ["ananta_mux_table_entries", "flows-trusted", "trusted flows"],
  ["ananta_mux_table_entries", "flows-untrusted", "untrusted flows"],
  ["ananta_mux_table_entries", "flows-refused", "flows without room"],
  ["ananta_mux_table_entries", "peers", "peers"],
  ["ananta_mux_relayed_packets_total", "out", "relayed to peers"],
  ["ananta_mux_relayed_packets_total", "in", "relayed by peers"],
  ["ananta_mux_table_entries", "fragments", "fragmented packets"],
  ["ananta_mux_table_entries", "fragments-held", "fragments held"],
  ["ananta_mux_overloaded", null, "overloaded"],
  ["ananta_agent_received_packets_total", null, "received"],
  ["ananta_agent_sent_packets_total", null, "sent"],
  ["ananta_agent_flows", null, "flows"],
  ["ananta_agent_table_entries", "held-packets", "packets held"],
  ["ananta_agent_snat_waited_total", null, "waited for a port"],
  ["ananta_agent_fastpath_packets_total", "sent", "straight to peers"],
  ["ananta_agent_fastpath_packets_total", "received", "straight from peers"],
  ["ananta_agent_table_entries", "fragments", "fragmented packets"],
  ["ananta_agent_table_entries", "fragments-held", "fragments held"],
  ["ananta_agent_events_lost_total", null, "events lost"],
];
/** Its label tells how flows ended: each of them is shown. */
const FLOWS_ENDED = "ananta_agent_flows_ended_total";
const DROPS = /drops?_total$/;

/** A page that holds none of them has empty maps. */
export function dataPathIn(page: string): DataPathCounters {
  const drops = new Map<string, number>();
  const found = new Map<string, number>();
  const ends = new Map<string, number>();
  for (const text of page.split("\n")) {
    // The labels that matter here hold no quotation marks; the last one names the series.
    const match = /^(\w+)(?:\{.*?(\w+)="([^"]*)"\})? ([0-9.eE+-]+)$/.exec(text);
    if (match === null || Number(match[4]) <= 0) continue;
    const [, metric = "", label, labelValue] = match;
    const value = Number(match[4]);
    if (DROPS.test(metric) && label === "reason") add(drops, labelValue!, value);
    else if (metric === FLOWS_ENDED) add(ends, `ended: ${labelValue ?? ""}`, value);
    else {
      const shown = SHOWN.find(([name, wanted]) => name === metric && wanted === (labelValue ?? null));
      if (shown !== undefined) add(found, shown[2], value);
    }
  }
  const counts = new Map<string, number>();
  for (const [, , caption] of SHOWN) if (found.has(caption)) counts.set(caption, found.get(caption)!);
  for (const [caption, value] of ends) counts.set(caption, value);
  return { drops, counts };
}

/** "received 12, sent 11"; "none" for nothing. */
export const countsText = (counts: ReadonlyMap<string, number>): string =>
  counts.size === 0 ? "none" : [...counts].map(([name, value]) => `${name} ${value}`).join(", ");

function add(counts: Map<string, number>, key: string, value: number): void {
  counts.set(key, (counts.get(key) ?? 0) + value);
}
