/** Every metric of a MUX. */
import type { Metric } from "../runtime/metrics.js";
import type { Mux, MuxStatus } from "./mux.js";

const MEMBERSHIP = [
  "catching-up",
  "joining",
  "joined",
  "announcing",
  "drained",
  "stale",
  "withdrawn",
  "leaving",
  "replaced",
  "stopped",
] as const;

export function muxMetrics(mux: Mux): readonly Metric[] {
  const one = (read: (status: MuxStatus) => number): (() => { value: number }[]) => {
    return () => [{ value: read(mux.status()) }];
  };
  const traffic = (pick: (counters: MuxStatus["counters"]) => number): (() => { value: number }[]) =>
    one(({ counters }) => pick(counters));
  return [
    {
      name: "ananta_mux_received_packets_total",
      help: "Packets that arrived.",
      type: "counter",
      read: traffic(({ received }) => received.packets),
    },
    {
      name: "ananta_mux_received_bytes_total",
      help: "Bytes that arrived.",
      type: "counter",
      read: traffic(({ received }) => received.bytes),
    },
    {
      name: "ananta_mux_sent_packets_total",
      help: "Encapsulated packets that left.",
      type: "counter",
      read: traffic(({ sent }) => sent.packets),
    },
    {
      name: "ananta_mux_sent_bytes_total",
      help: "Bytes that left, with outer headers.",
      type: "counter",
      read: traffic(({ sent }) => sent.bytes),
    },
    {
      name: "ananta_mux_packet_drop_total",
      help: "Packets dropped, by reason.",
      type: "counter",
      labels: ["reason"],
      read: () => Object.entries(mux.status().counters.drops).map(([reason, value]) => ({ labels: { reason }, value })),
    },
    {
      name: "ananta_mux_relayed_packets_total",
      help: "Packets relayed to another MUX of the pool (out), and by another one (in).",
      type: "counter",
      labels: ["direction"],
      read: () =>
        Object.entries(mux.dataplane.relayed()).map(([direction, value]) => ({ labels: { direction }, value })),
    },
    {
      name: "ananta_mux_peer_messages_total",
      help: "What MUXes tell each other: sent, and received and believed. Those that were not are drops, by reason.",
      type: "counter",
      labels: ["direction"],
      read: () => {
        const { sent, received } = mux.status().peers;
        return [
          { labels: { direction: "sent" }, value: sent },
          { labels: { direction: "received" }, value: received },
        ];
      },
    },
    {
      name: "ananta_mux_peers_heard",
      help: "Other MUXes of the pool that told something in the last 2 s.",
      type: "gauge",
      read: one(({ peers }) => peers.heard),
    },
    {
      name: "ananta_mux_bad_frames_total",
      help: "Datagrams that were no packets.",
      type: "counter",
      read: one(({ badFrames }) => badFrames),
    },
    {
      name: "ananta_mux_input_lost_total",
      help: "Packets that were lost on the way in: the socket had no room for them.",
      type: "counter",
      read: one(({ inputLost }) => inputLost),
    },
    {
      name: "ananta_mux_flows",
      help: "Entries of the flow table.",
      type: "gauge",
      read: one(({ gauges }) => gauges.flows),
    },
    {
      name: "ananta_mux_flow_capacity",
      help: "Entries that the flow table holds.",
      type: "gauge",
      read: one(({ gauges }) => gauges.flowCapacity),
    },
    {
      name: "ananta_mux_table_entries",
      help: "Entries in use, by table.",
      type: "gauge",
      labels: ["table"],
      read: () => Object.entries(mux.status().gauges.entries).map(([table, value]) => ({ labels: { table }, value })),
    },
    {
      name: "ananta_mux_overloaded",
      help: "1 while this MUX holds tenants to their fair shares.",
      type: "gauge",
      read: () => [{ value: mux.dataplane.overload().isOverloaded ? 1 : 0 }],
    },
    {
      name: "ananta_mux_path_mtu_learned_total",
      help: "Messages of routers that a path to a host is narrower than the fabric, and that were believed. Others are drops, by reason.",
      type: "counter",
      read: () => [{ value: mux.dataplane.pathMtusLearned() }],
    },
    {
      name: "ananta_mux_fastpath_flows_total",
      help: "Flows that FastPath took off this MUX (redirected), and took back (revoked).",
      type: "counter",
      labels: ["change"],
      read: () => Object.entries(mux.dataplane.fastpath()).map(([change, value]) => ({ labels: { change }, value })),
    },
    {
      name: "ananta_mux_top_talker_packets_per_second",
      help: "Packets of the VIPs that are most above their share, or send most.",
      type: "gauge",
      labels: ["vip_id"],
      read: () =>
        mux.dataplane.overload().topTalkers.map(({ vipId, packetsPerSecond }) => {
          return { labels: { vip_id: String(vipId) }, value: packetsPerSecond };
        }),
    },
    {
      name: "ananta_mux_vip_packets_total",
      help: "Packets that arrived for a VIP.",
      type: "counter",
      labels: ["vip_id"],
      read: () =>
        [...mux.status().counters.vips].map(([vipId, { packets }]) => {
          return { labels: { vip_id: String(vipId) }, value: packets };
        }),
    },
    {
      name: "ananta_mux_in_force_index",
      help: "Log index in force in the tables.",
      type: "gauge",
      read: one(({ inForce }) => inForce.index),
    },
    {
      name: "ananta_mux_vips_announced",
      help: "VIPs that routers were told of.",
      type: "gauge",
      read: one(({ announced }) => announced.length),
    },
    {
      name: "ananta_mux_lease_left_seconds",
      help: "What is left of the lease by this MUX's own count.",
      type: "gauge",
      read: one(({ leaseLeftMs }) => leaseLeftMs / 1_000),
    },
    {
      name: "ananta_mux_stream_switches_total",
      help: "Times the other replica became the active one.",
      type: "counter",
      read: one(({ switches }) => switches),
    },
    {
      name: "ananta_mux_resyncs_total",
      help: "Whole views asked for because the tables were out of step.",
      type: "counter",
      read: one(({ resyncs }) => resyncs),
    },
    {
      name: "ananta_mux_membership",
      help: "1 for the present state of membership.",
      type: "gauge",
      labels: ["state"],
      read: () => {
        const { membership } = mux.status();
        return MEMBERSHIP.map((state) => ({ labels: { state }, value: state === membership ? 1 : 0 }));
      },
    },
  ];
}
