/** Every metric of a Manager replica. */
import type { Metric, Sample } from "../runtime/metrics.js";
import type { Manager } from "./manager.js";
import type { EventCounters } from "./seda/stage.js";
import type { SnatContest } from "./state/state-machine.js";

export function managerMetrics(manager: Manager): readonly Metric[] {
  return [...raftMetrics(manager), ...stateMetrics(manager), ...streamMetrics(manager), ...stageMetrics(manager)];
}

const one = (read: () => number): (() => readonly Sample[]) => {
  return () => [{ value: read() }];
};

const gauge = (name: string, help: string, read: () => number): Metric => ({
  name,
  help,
  type: "gauge",
  read: one(read),
});

function raftMetrics(manager: Manager): readonly Metric[] {
  return [
    gauge("ananta_raft_term", "Current Raft term.", () => manager.raftStatus().term),
    gauge("ananta_raft_is_leader", "1 on the leader.", () => (manager.raftStatus().role === "leader" ? 1 : 0)),
    gauge(
      "ananta_raft_commit_index",
      "Newest log index known to be committed.",
      () => manager.raftStatus().commitIndex,
    ),
    gauge("ananta_raft_applied_index", "Newest log index applied here.", () => manager.raftStatus().appliedIndex),
    gauge("ananta_raft_first_index", "Oldest log index kept here.", () => manager.raftStatus().firstIndex),
    gauge(
      "ananta_raft_snapshot_index",
      "Log index of the newest snapshot here.",
      () => manager.raftStatus().snapshotIndex,
    ),
    gauge(
      "ananta_raft_snapshot_duration_seconds",
      "Time that writing the newest snapshot took; 0 before the first one of this process.",
      () => manager.raftStatus().snapshotMs / 1_000,
    ),
    gauge(
      "ananta_raft_restore_duration_seconds",
      "Time that the last restore from a snapshot took; 0 without one in this process.",
      () => manager.raftStatus().restoreMs / 1_000,
    ),
    {
      name: "ananta_raft_peer_lag_entries",
      help: "Log entries by which a peer is behind; on the leader.",
      type: "gauge",
      labels: ["peer"],
      read: () => {
        const { peers, lastIndex } = manager.raftStatus();
        return peers.map(({ id, matchIndex }) => ({ labels: { peer: String(id) }, value: lastIndex - matchIndex }));
      },
    },
  ];
}

function stateMetrics(manager: Manager): readonly Metric[] {
  const { state } = manager;
  return [
    gauge(
      "ananta_mux_safe_index",
      "Log index that every live MUX has in force, as known here.",
      () => manager.muxSafeIndex.value,
    ),
    {
      name: "ananta_muxes",
      help: "MUXes by state.",
      type: "gauge",
      labels: ["state"],
      read: () =>
        (["live", "lost", "left"] as const).map((of) => ({
          labels: { state: of },
          value: state.muxes().filter((mux) => mux.state === of).length,
        })),
    },
    gauge(
      "ananta_muxes_drained",
      "MUXes that an operator has drained, whatever their state.",
      () => state.muxes().filter(({ drain }) => drain !== undefined).length,
    ),
    gauge("ananta_vips", "Configured VIPs.", () => state.vipCount),
    gauge(
      "ananta_vips_withdrawn",
      "VIPs whose routes are withdrawn for a time, by overload or by an operator.",
      () => state.withdrawnVips,
    ),
    gauge(
      "ananta_muxes_overloaded",
      "MUXes that report overload; on the leader.",
      () => manager.pipeline.overload.overloadedMuxes,
    ),
    {
      name: "ananta_overload_withdrawals_total",
      help: "Withdrawals by this replica, as the leader, of VIPs that overloaded MUXes; those that were committed.",
      type: "counter",
      read: one(() => manager.pipeline.overload.withdrawals),
    },
    gauge("ananta_hosts", "Known hosts.", () => state.hosts().length),
    gauge(
      "ananta_hosts_expired",
      "Hosts whose lease has run out.",
      () => state.hosts().filter(({ isExpired }) => isExpired).length,
    ),
    {
      name: "ananta_snat_ranges",
      help: "SNAT ranges of 8 ports over all VIPs, by protocol and state.",
      type: "gauge",
      labels: ["protocol", "state"],
      read: () => {
        const usage = state.snatUsage();
        return ([6, 17] as const).flatMap((protocol) =>
          (["owned", "quarantined", "excluded", "free"] as const).map((of) => ({
            labels: { protocol: protocol === 6 ? "tcp" : "udp", state: of },
            value: usage.reduce((sum, vip) => sum + (vip.protocol === protocol ? vip[of] : 0), 0),
          })),
        );
      },
    },
    {
      name: "ananta_snat_recalled_ranges",
      help: "SNAT ranges that owners are asked to give back, because others lack their fair share of a VIP's ports.",
      type: "gauge",
      labels: ["protocol"],
      read: () => contested(state, ({ asked }) => asked.reduce((sum, { ranges }) => sum + ranges, 0)),
    },
    {
      name: "ananta_snat_waiting_ranges",
      help: "SNAT ranges that DIPs lack of their fair share and have asked for in vain.",
      type: "gauge",
      labels: ["protocol"],
      read: () => contested(state, ({ waiting }) => waiting.reduce((sum, { ranges }) => sum + ranges, 0)),
    },
  ];
}

const contested = (state: Manager["state"], of: (contest: SnatContest) => number): ReturnType<Metric["read"]> => {
  const contests = state.snatContests();
  return ([6, 17] as const).map((number) => ({
    labels: { protocol: number === 6 ? "tcp" : "udp" },
    value: contests.reduce((sum, contest) => sum + (contest.protocol === number ? of(contest) : 0), 0),
  }));
};

function streamMetrics(manager: Manager): readonly Metric[] {
  return [
    {
      name: "ananta_streams",
      help: "Streams of agents and MUXes to this replica.",
      type: "gauge",
      labels: ["role"],
      read: () => {
        const { agents, muxes } = manager.streams();
        return [
          { labels: { role: "agent" }, value: agents },
          { labels: { role: "mux" }, value: muxes },
        ];
      },
    },
    {
      name: "ananta_snat_requests_refused_by_rate_total",
      help: "Requests for SNAT ports refused because a DIP, or its tenant, asked too often; on the leader.",
      type: "counter",
      labels: ["by"],
      read: () =>
        (["dip", "tenant"] as const).map((by) => ({ labels: { by }, value: manager.pipeline.grantsRefusedByRate[by] })),
    },
    gauge(
      "ananta_grants_waiting",
      "SNAT grants that are committed and wait until every live MUX has them in force; on the leader.",
      () => manager.pipeline.grantsWaiting,
    ),
  ];
}

/** By stage and kind of event; a kind is one priority within its stage. On the leader. */
function stageMetrics(manager: Manager): readonly Metric[] {
  const each = (read: (counters: EventCounters) => readonly Sample[]): (() => readonly Sample[]) => {
    return () =>
      manager.stageReadings().flatMap(({ name, events }) =>
        events.flatMap((counters) =>
          read(counters).map(({ labels, value }) => {
            return { labels: { stage: name, event: counters.kind, ...labels }, value };
          }),
        ),
      );
  };
  const labels = ["stage", "event"];
  return [
    {
      name: "ananta_stage_queue_length",
      help: "Events that wait.",
      type: "gauge",
      labels,
      read: each(({ queued }) => [{ value: queued }]),
    },
    {
      name: "ananta_stage_events_total",
      help: "Events handled.",
      type: "counter",
      labels,
      read: each(({ handled }) => [{ value: handled }]),
    },
    {
      name: "ananta_stage_refused_total",
      help: "Events refused: the queue was full, their tenant had its share of it, or they waited past a deadline.",
      type: "counter",
      labels: [...labels, "reason"],
      read: each(({ refusedFull, refusedShare, refusedLate }) => [
        { labels: { reason: "full" }, value: refusedFull },
        { labels: { reason: "share" }, value: refusedShare },
        { labels: { reason: "late" }, value: refusedLate },
      ]),
    },
    {
      name: "ananta_stage_wait_seconds_total",
      help: "Time that handled events spent in the queue.",
      type: "counter",
      labels,
      read: each(({ waitMs }) => [{ value: waitMs / 1_000 }]),
    },
    {
      name: "ananta_stage_longest_wait_seconds",
      help: "Longest time that a handled event spent in the queue.",
      type: "gauge",
      labels,
      read: each(({ waitMaxMs }) => [{ value: waitMaxMs / 1_000 }]),
    },
    {
      name: "ananta_stage_service_seconds_total",
      help: "Time that handling events took, without the wait for their commit.",
      type: "counter",
      labels,
      read: each(({ serviceMs }) => [{ value: serviceMs / 1_000 }]),
    },
  ];
}
