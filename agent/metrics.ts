/** Every metric of a Host Agent. */
import type { Metric } from "../runtime/metrics.js";
import type { Agent, AgentStatus } from "./agent.js";

export function agentMetrics(agent: Agent): readonly Metric[] {
  const one = (read: (status: AgentStatus) => number): (() => { value: number }[]) => {
    return () => [{ value: read(agent.status()) }];
  };
  return [
    {
      name: "ananta_agent_received_packets_total",
      help: "Packets from the wire and from VMs.",
      type: "counter",
      read: one(({ counters }) => counters.received.packets),
    },
    {
      name: "ananta_agent_received_bytes_total",
      help: "Bytes from the wire and from VMs.",
      type: "counter",
      read: one(({ counters }) => counters.received.bytes),
    },
    {
      name: "ananta_agent_sent_packets_total",
      help: "Packets to the wire and to VMs.",
      type: "counter",
      read: one(({ counters }) => counters.sent.packets),
    },
    {
      name: "ananta_agent_sent_bytes_total",
      help: "Bytes to the wire and to VMs.",
      type: "counter",
      read: one(({ counters }) => counters.sent.bytes),
    },
    {
      name: "ananta_agent_packet_drop_total",
      help: "Packets dropped, by reason.",
      type: "counter",
      labels: ["reason"],
      read: () =>
        Object.entries(agent.status().counters.drops).map(([reason, value]) => ({ labels: { reason }, value })),
    },
    {
      name: "ananta_agent_bad_frames_total",
      help: "Datagrams that were no packets.",
      type: "counter",
      read: one(({ badFrames }) => badFrames),
    },
    {
      name: "ananta_agent_unknown_nic_total",
      help: "Datagrams from no network card of this host.",
      type: "counter",
      read: one(({ unknownNic }) => unknownNic),
    },
    {
      name: "ananta_agent_events_lost_total",
      help: "Events that found the ring full.",
      type: "counter",
      read: one(({ counters }) => counters.eventsLost),
    },
    {
      name: "ananta_agent_flows",
      help: "Entries of the NAT table.",
      type: "gauge",
      read: one(({ gauges }) => gauges.flows),
    },
    {
      name: "ananta_agent_flows_ended_total",
      help: "Flows that ended, by who or what ended them.",
      type: "counter",
      labels: ["end"],
      read: () => [...agent.dataplane.endedFlowCounts()].map(([end, value]) => ({ labels: { end }, value })),
    },
    {
      name: "ananta_agent_second_chance_packets_total",
      help: "Segments without state: passed on to a former owner of their slot, received from another owner, and of these found here.",
      type: "counter",
      labels: ["direction"],
      read: () => {
        const { passed, received, found } = agent.dataplane.secondChance();
        return Object.entries({ passed, received, found }).map(([direction, value]) => ({
          labels: { direction },
          value,
        }));
      },
    },
    {
      name: "ananta_agent_second_chance_limits_total",
      help: "Second chance: look-ups of slots with more owners than are asked (owners), and tables, rules and owners that there was no room for (tables).",
      type: "counter",
      labels: ["limit"],
      read: () => {
        const { ownersLeftOut, forgotten } = agent.dataplane.secondChance();
        return [
          { labels: { limit: "owners" }, value: ownersLeftOut },
          { labels: { limit: "tables" }, value: forgotten },
        ];
      },
    },
    {
      name: "ananta_agent_untracked_packets_total",
      help: "Packets of inbound flows that were served without an entry of the NAT table, because it had no room for them.",
      type: "counter",
      read: () => [{ value: agent.dataplane.untracked() }],
    },
    {
      name: "ananta_agent_path_mtu_learned_total",
      help: "Messages of routers that a path to another host is narrower than the fabric, and that were believed. Others are drops, by reason.",
      type: "counter",
      read: () => [{ value: agent.dataplane.pathMtusLearned() }],
    },
    {
      name: "ananta_agent_fastpath_flows_total",
      help: "FastPath: messages of MUXes that were believed (redirected, revoked), and flows that went back because the peer was silent (fell-back).",
      type: "counter",
      labels: ["change"],
      read: () => {
        const { redirected, revoked, fellBack } = agent.dataplane.fastpath();
        return Object.entries({ redirected, revoked, "fell-back": fellBack }).map(([change, value]) => ({
          labels: { change },
          value,
        }));
      },
    },
    {
      name: "ananta_agent_fastpath_packets_total",
      help: "FastPath: packets straight from host to host, by direction.",
      type: "counter",
      labels: ["direction"],
      read: () => {
        const { sent, received } = agent.dataplane.fastpath();
        return Object.entries({ sent, received }).map(([direction, value]) => ({ labels: { direction }, value }));
      },
    },
    {
      name: "ananta_agent_flow_capacity",
      help: "Entries that the NAT table holds.",
      type: "gauge",
      read: one(({ gauges }) => gauges.flowCapacity),
    },
    {
      name: "ananta_agent_table_entries",
      help: "Entries in use, by table.",
      type: "gauge",
      labels: ["table"],
      read: () => Object.entries(agent.status().gauges.entries).map(([table, value]) => ({ labels: { table }, value })),
    },
    {
      name: "ananta_agent_in_force_index",
      help: "Log index in force in the tables.",
      type: "gauge",
      read: one(({ inForce }) => inForce.index),
    },
    {
      name: "ananta_agent_held_ranges",
      help: "SNAT ranges of 8 ports on disk.",
      type: "gauge",
      read: one(({ heldRanges }) => heldRanges),
    },
    {
      name: "ananta_agent_ranges_in_force",
      help: "SNAT ranges of 8 ports in the tables.",
      type: "gauge",
      read: one(({ rangesInForce }) => rangesInForce),
    },
    {
      name: "ananta_agent_open_requests",
      help: "Requests for ports without an answer.",
      type: "gauge",
      read: one(({ openRequests }) => openRequests),
    },
    {
      name: "ananta_agent_snat_grants_total",
      help: "Requests for ports that were granted.",
      type: "counter",
      read: one(({ grants }) => grants),
    },
    {
      name: "ananta_agent_snat_refusals_total",
      help: "Requests that were refused.",
      type: "counter",
      read: one(({ refusals }) => refusals),
    },
    {
      name: "ananta_agent_snat_waited_total",
      help: "Connections whose first packet found no port in the reserve.",
      type: "counter",
      read: one(({ snatWaited }) => snatWaited),
    },
    {
      name: "ananta_agent_stream_switches_total",
      help: "Times the other replica became the active one.",
      type: "counter",
      read: one(({ switches }) => switches),
    },
    {
      name: "ananta_agent_resyncs_total",
      help: "Whole views asked for because the tables were out of step.",
      type: "counter",
      read: one(({ resyncs }) => resyncs),
    },
    {
      name: "ananta_agent_probed_members",
      help: "Members whose health this host probes.",
      type: "gauge",
      read: one(({ probed }) => probed),
    },
    {
      name: "ananta_agent_unhealthy_members",
      help: "Members that are unhealthy.",
      type: "gauge",
      read: one(({ health }) => health.filter(({ healthy }) => !healthy).length),
    },
    {
      name: "ananta_agent_probes_total",
      help: "Health probes sent.",
      type: "counter",
      read: one(({ probes }) => probes),
    },
    {
      name: "ananta_agent_probe_failures_total",
      help: "Health probes that failed.",
      type: "counter",
      read: one(({ probeFailures }) => probeFailures),
    },
  ];
}
