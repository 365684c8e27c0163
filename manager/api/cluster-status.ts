/** What this replica knows of the cluster, without asking anybody: it must answer when nothing else does. */
import { given } from "../../core/present.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { AgentStreams } from "../projection/agent-streams.js";
import { ownIdentity } from "../projection/identity.js";
import type { MuxStreams } from "../projection/mux-streams.js";
import type { Acknowledgements } from "../projection/acknowledgements.js";
import type { ReplicaView } from "../replica-view.js";
import type { Pipeline } from "../stages/pipeline.js";
import type { StateDigests } from "../state-digests.js";
import type { MuxDrain, StateMachine } from "../state/state-machine.js";

const HOSTS_NAMED_MAX = 10;

export interface ClusterStatusOptions {
  readonly replica: ReplicaView;
  readonly pipeline: Pipeline;
  readonly muxStreams: MuxStreams;
  readonly agentStreams: AgentStreams;
  readonly acknowledgements: Acknowledgements;
  readonly digests: StateDigests;
  readonly version: string;
  readonly pid: number;
}

/** After a restore: what must happen before ports are granted again. */
function withheld(state: StateMachine): string {
  const unsettled = state.unsettledEpoch();
  if (unsettled === null) return "";
  const names = unsettled.missing.slice(0, HOSTS_NAMED_MAX).map((id) => state.host(id)?.name ?? String(id));
  const more = unsettled.missing.length - names.length;
  const waitMs = Math.max(0, unsettled.notBeforeMs - state.clusterTimeMs);
  const hosts = `${unsettled.missing.length} hosts have yet to declare their ports or be fenced: ${names.join(", ")}`;
  const why = [
    ...(names.length === 0 ? [] : [more > 0 ? `${hosts} and ${more} more` : hosts]),
    ...(waitMs === 0 ? [] : [`ports rest for another ${Math.ceil(waitMs / 1_000)} s`]),
  ];
  return `epoch ${unsettled.clusterEpoch} began with a restore: ${why.join("; ")}`;
}

const drainOf = ({ reason, sinceMs }: MuxDrain, { clusterTimeMs }: StateMachine) => ({
  reason,
  ageMs: Math.max(0, clusterTimeMs - sinceMs),
});

const sum = <One>(all: readonly One[], of: (one: One) => number): number =>
  all.reduce((total, one) => total + of(one), 0);

/** The digest is that of the index in the answer, though it takes longer than the rest. */
export async function clusterStatus(
  options: ClusterStatusOptions,
  request: ananta.v1.ClusterStatusRequest.$Properties,
): Promise<ananta.v1.ClusterStatusResponse.$Properties> {
  const digest = request.digest === true ? options.digests.ask() : "";
  const status = statusNow(options);
  return { ...status, digest: await digest };
}

function statusNow(options: ClusterStatusOptions): ananta.v1.ClusterStatusResponse.$Properties {
  const { replica, pipeline, acknowledgements } = options;
  const { state } = replica;
  const raft = replica.raft().status();
  const appliedIndex = replica.appliedIndex();
  const connected = options.agentStreams.connectedHosts();
  const acknowledged = new Map(acknowledgements.muxes().map((report) => [report.name, report]));
  const reports = new Map(pipeline.muxPool.confirmations().map((report) => [report.name, report]));
  return {
    identity: ownIdentity(replica),
    role: raft.role,
    term: raft.term,
    leader: raft.leader ?? 0,
    commitIndex: raft.commitIndex,
    appliedIndex,
    // No-ops and memberships change nothing that a MUX could have in force.
    muxSafeIndex:
      replica.muxSafeIndex.value >= state.appliedIndex
        ? Math.max(replica.muxSafeIndex.value, appliedIndex)
        : replica.muxSafeIndex.value,
    ageMs: replica.quorumAgeMs(),
    pid: options.pid,
    version: options.version,
    notVoting: raft.notVoting ?? "",
    replicas: replica.members().map(({ nodeId, apiAddress, raftAddress, role }) => {
      const peer = raft.peers.find(({ id }) => id === nodeId);
      return {
        nodeId,
        address: apiAddress,
        raftAddress,
        membership: role,
        ...(peer === undefined ? {} : { matchIndex: peer.matchIndex, replication: peer.state }),
        ...(peer?.lastHeardMsAgo === undefined || peer.lastHeardMsAgo === null
          ? {}
          : { heardMsAgo: Math.round(peer.lastHeardMsAgo) }),
      };
    }),
    muxes: state.muxes().map((mux) => {
      const report = reports.get(mux.name) ?? acknowledged.get(mux.name);
      const renewedMsAgo = pipeline.inOffice ? pipeline.muxPool.renewedMsAgo(mux) : null;
      const counters = options.muxStreams.counters(mux.name);
      return {
        muxId: mux.muxId,
        name: mux.name,
        incarnation: mux.incarnation,
        state: mux.state,
        address: mux.address,
        ...given({
          addressIpv6: mux.addressIpv6,
          drain: mux.drain === undefined ? undefined : drainOf(mux.drain, state),
        }),
        index: report?.bootId === mux.bootId ? report.index : 0,
        ...(renewedMsAgo === null ? {} : { renewedMsAgo: Math.round(renewedMsAgo) }),
        ...(counters === null ? {} : { counters }),
        connectedHere: options.muxStreams.isConnected(mux.name),
      };
    }),
    hosts: state.hosts().map((host) => ({
      hostId: host.hostId,
      name: host.name,
      incarnation: host.incarnation,
      dips: host.dips.map((id) => state.dip(id)?.address ?? ""),
      connectedHere: connected.has(host.hostId),
      fenced: state.fence(host.hostId)?.reason ?? "",
    })),
    grantsWithheld: withheld(state),
    vips: state.vipCount,
    stages: pipeline.counters().map(({ name, priority, events }) => ({
      name,
      priority,
      queued: sum(events, ({ queued }) => queued),
      handled: sum(events, ({ handled }) => handled),
      refused: sum(events, ({ refusedFull, refusedShare, refusedLate }) => refusedFull + refusedShare + refusedLate),
      events: events.map((event) => ({ ...event, refusedFull: event.refusedFull + event.refusedShare })),
    })),
  };
}
