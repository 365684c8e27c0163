/** Every metric of a Manager replica. */
import type { Metric } from "../runtime/metrics.js";
import type { Manager } from "./manager.js";

export function managerMetrics(manager: Manager): readonly Metric[] {
  const stage = (
    pick: (counters: { queued: number; handled: number; refused: number; waitMs: number }) => number,
  ): (() => { labels: { stage: string }; value: number }[]) => {
    return () =>
      manager.pipeline.counters().map((counters) => ({ labels: { stage: counters.name }, value: pick(counters) }));
  };
  const one = (read: () => number): (() => { value: number }[]) => {
    return () => [{ value: read() }];
  };
  return [
    { name: "ananta_raft_term", help: "Current Raft term.", type: "gauge", read: one(() => manager.raftStatus().term) },
    {
      name: "ananta_raft_is_leader",
      help: "1 on the leader.",
      type: "gauge",
      read: one(() => (manager.raftStatus().role === "leader" ? 1 : 0)),
    },
    {
      name: "ananta_raft_commit_index",
      help: "Newest log index known to be committed.",
      type: "gauge",
      read: one(() => manager.raftStatus().commitIndex),
    },
    {
      name: "ananta_raft_applied_index",
      help: "Newest log index applied here.",
      type: "gauge",
      read: one(() => manager.raftStatus().appliedIndex),
    },
    {
      name: "ananta_mux_safe_index",
      help: "Log index that every live MUX has in force, as known here.",
      type: "gauge",
      read: one(() => manager.muxSafeIndex.value),
    },
    {
      name: "ananta_muxes",
      help: "MUXes by state.",
      type: "gauge",
      labels: ["state"],
      read: () =>
        (["live", "lost", "left"] as const).map((state) => ({
          labels: { state },
          value: manager.state.muxes().filter((mux) => mux.state === state).length,
        })),
    },
    {
      name: "ananta_vips",
      help: "Configured VIPs.",
      type: "gauge",
      read: one(() => manager.state.objects("Vip", null).length),
    },
    { name: "ananta_hosts", help: "Known hosts.", type: "gauge", read: one(() => manager.state.hosts().length) },
    {
      name: "ananta_snat_ranges",
      help: "SNAT ranges of 8 ports over all VIPs, by protocol and state.",
      type: "gauge",
      labels: ["protocol", "state"],
      read: () => {
        const sums = new Map<string, number>();
        for (const usage of manager.state.snatUsage()) {
          for (const state of ["owned", "quarantined", "excluded", "free"] as const) {
            const key = `${usage.protocol === 6 ? "tcp" : "udp"} ${state}`;
            sums.set(key, (sums.get(key) ?? 0) + usage[state]);
          }
        }
        return [...sums].map(([key, value]) => {
          const [protocol = "", state = ""] = key.split(" ");
          return { labels: { protocol, state }, value };
        });
      },
    },
    {
      name: "ananta_stage_queue_length",
      help: "Events that wait in a stage of the leader.",
      type: "gauge",
      labels: ["stage"],
      read: stage((counters) => counters.queued),
    },
    {
      name: "ananta_stage_events_total",
      help: "Events handled by a stage.",
      type: "counter",
      labels: ["stage"],
      read: stage((counters) => counters.handled),
    },
    {
      name: "ananta_stage_refused_total",
      help: "Events refused by a stage: queue full or waited too long.",
      type: "counter",
      labels: ["stage"],
      read: stage((counters) => counters.refused),
    },
    {
      name: "ananta_stage_wait_seconds_total",
      help: "Time that handled events spent in a stage's queue.",
      type: "counter",
      labels: ["stage"],
      read: stage((counters) => counters.waitMs / 1_000),
    },
  ];
}
