/**
 * One Manager replica: everything built from an `Env`, started in order, stopped in reverse.
 *
 *   agents, MUXes, operators -> api, projection -> (link to the leader) -> stages -> raft -> state -> projection -> back
 *
 * This file is the wiring and nothing else; docs/ARCHITECTURE.md follows a request through it.
 */
import type { NodeId, Term } from "../core/brands.js";
import { hex } from "../core/hex.js";
import { CLUSTER_EPOCH_MAX, isClusterEpoch } from "../core/cluster-epoch.js";
import { AnantaError } from "../core/errors.js";
import type { Env, Server, Timer } from "../runtime/env.js";
import { ClusterService } from "./api/cluster-service.js";
import { clusterStatus } from "./api/cluster-status.js";
import { ExplainFlow } from "./api/flows/explain-flow.js";
import { ResetFlows } from "./api/flows/reset-flows.js";
import { LeaderForwarding } from "./api/link/leader-forwarding.js";
import { OperatorService } from "./api/operator-service.js";
import { ReplicaLink } from "./api/link/replica-link.js";
import { ReplicaService } from "./api/link/replica-service.js";
import { handlers } from "./api/services.js";
import { SnatReports } from "./api/snat-reports.js";
import { SnatService } from "./api/snat-service.js";
import { Watches } from "./api/watch.js";
import { AppliedLog } from "./applied-log.js";
import type { ManagerConfig } from "./config.js";
import { OwnershipHistory } from "./history/ownership-history.js";
import { stockSample } from "./history/stock-trend.js";
import { Acknowledgements } from "./projection/acknowledgements.js";
import { AgentStreams } from "./projection/agent-streams.js";
import { EffectLog } from "./projection/effect-log.js";
import { MuxSafeIndex } from "./projection/mux-safe-index.js";
import { MuxStreams } from "./projection/mux-streams.js";
import { createRaftNode, type RaftNode, type RaftStatus } from "./raft/index.js";
import type { ReplicaView } from "./replica-view.js";
import { StateDigests } from "./state-digests.js";
import { Pipeline, type StageReading } from "./stages/pipeline.js";
import { createStateMachine } from "./state/index.js";
import type { StateMachine } from "./state/state-machine.js";

/** Shown by gRPC reflection and health. */
const PUBLIC_SERVICES = [
  "ananta.v1.OperatorService",
  "ananta.v1.ClusterService",
  "ananta.v1.SnatService",
  "ananta.v1.AgentService",
  "ananta.v1.MuxService",
];
const STOP_GRACE_MS = 500;
/** Five replicas write their snapshots down one after the other. */
const SNAPSHOT_TURNS = 5;
const ANNOUNCE_DEADLINE_MS = 5_000;
const ANNOUNCE_PAUSE_MS = 500;
/** How often the stock of SNAT ports is written down for the forecast. */
const STOCK_SAMPLE_MS = 60_000;
const INT32_MAX = 2 ** 31 - 1;

export interface Manager {
  /** Rejects with STORAGE_LOCKED, STORAGE_DAMAGED, or FAILED_PRECONDITION (a port is taken). */
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Where its API listens. */
  readonly address: string;
  raftStatus(): RaftStatus;
  readonly state: StateMachine;
  readonly muxSafeIndex: MuxSafeIndex;
  readonly pipeline: Pipeline;
  /** What waits and waited in its stages, and before its link to the leader. */
  stageReadings(): readonly StageReading[];
  /** To this replica. */
  streams(): { readonly agents: number; readonly muxes: number };
}

export interface ManagerOutside {
  /** Shown in status. */
  readonly version: string;
  readonly pid: number;
  /** Durable state failed or an invariant broke: the process must end. */
  readonly failed: (error: Error) => void;
}

export function createManager(env: Env, config: ManagerConfig, outside: ManagerOutside): Manager {
  const bootId = hex(env.entropy(16));
  const log = env.log;
  const addresses = config.replicas.find(({ nodeId }) => nodeId === config.nodeId);
  if (addresses === undefined)
    throw new AnantaError("INVALID_ARGUMENT", `replicas: node ${config.nodeId} itself is not among them`);

  if (!isClusterEpoch(config.clusterEpoch))
    throw new AnantaError(
      "INVALID_ARGUMENT",
      `clusterEpoch: is an integer from 1 to ${CLUSTER_EPOCH_MAX}, not ${config.clusterEpoch}`,
    );
  if (config.join && config.bootstrap)
    throw new AnantaError("INVALID_ARGUMENT", "a replica is told to bootstrap a cluster or to join one, not both");
  const founders = config.join ? config.replicas.filter(({ nodeId }) => nodeId !== config.nodeId) : config.replicas;

  const state = createStateMachine();
  const effects = new EffectLog(state.appliedIndex);
  const muxSafeIndex = new MuxSafeIndex();
  const forwarding = new LeaderForwarding(env.clock, ({ command }) =>
    command.kind === "allocate-snat" || command.kind === "release-snat"
      ? (state.dip(command.dipId)?.tenant ?? "unknown")
      : null,
  );
  let raft: RaftNode | null = null;
  let server: Server | null = null;
  let stopped = false;
  let announcePause: Timer | null = null;
  let leader: { readonly nodeId: NodeId; readonly term: Term } | null = null;
  let history: OwnershipHistory | null = null;
  let stockTimer: Timer | null = null;

  const appliedLog = new AppliedLog({
    clock: env.clock,
    state,
    effects,
    listener: {
      applied: (term, batch, wallMs) => {
        pipeline.applied(term, batch);
        replicas.applied(batch);
        watches.applied(batch);
        history?.applied(batch, wallMs, (id) => state.dip(id));
      },
      caughtUp: () => {
        pipeline.caughtUp();
        muxStreams.advanced();
        agentStreams.advanced();
      },
      restored: () => {
        watches.restored();
        history?.restored(state.appliedIndex);
      },
      saved: () => history?.saved(),
    },
    failed: (error) => outside.failed(AnantaError.from(error)),
  });

  const replica: ReplicaView = {
    env,
    config,
    bootId,
    incarnation: () =>
      state.replicas().find(({ nodeId, bootId: boot }) => nodeId === config.nodeId && boot === bootId)?.incarnation ??
      0,
    state,
    effects,
    muxSafeIndex,
    history: () => history,
    raft: () => {
      if (raft === null) throw new AnantaError("UNAVAILABLE", "this replica is starting");
      return raft;
    },
    members: () =>
      replica
        .raft()
        .status()
        .members.map(({ id, address, service, role }) => ({
          nodeId: id,
          raftAddress: address,
          apiAddress: service,
          role,
        })),
    leader: () => leader,
    submit: (submitted, deadlineMs, wanted) => forwarding.submit(submitted, deadlineMs, wanted),
    whenApplied: (index, deadlineMs) => appliedLog.whenApplied(index, deadlineMs),
    whenCaughtUp: (deadlineMs) => appliedLog.whenCaughtUp(deadlineMs),
    // The consensus module counts what it gave away, of which some may wait still.
    appliedIndex: () => (appliedLog.busy ? state.appliedIndex : replica.raft().status().appliedIndex),
    quorumAgeMs: () => Math.round(Math.min(INT32_MAX, env.clock.nowMs() - (raft?.quorumSeenAtMs() ?? -Infinity))),
  };

  const pipeline = new Pipeline({
    env,
    state,
    raft: () => replica.raft(),
    muxSafeIndex,
    clusterTimeMs: () => appliedLog.clusterTimeMs(),
    muxTimings: config.mux,
    requestRates: config.requestRates,
    bootstrap: () => ({
      kind: "bootstrap",
      clusterId: config.clusterId,
      clusterEpoch: config.clusterEpoch,
      hashKey: hex(env.entropy(8)),
      muxKey: hex(env.entropy(16)),
    }),
    configuredEpoch: config.clusterEpoch,
    failed: (error) => outside.failed(AnantaError.from(error)),
  });

  const acknowledgements = new Acknowledgements({
    muxReported: (report) => (pipeline.inOffice ? pipeline.muxReported(report) : link.muxReported(report)),
    hostReported: (host, index) =>
      pipeline.inOffice ? pipeline.hostReported(host, index) : link.hostReported(host, index),
  });
  const link = new ReplicaLink({
    replica,
    acknowledgements,
    routeChanged: (route) => {
      if (!pipeline.inOffice) forwarding.setRoute(route);
    },
    failed: (error) => outside.failed(AnantaError.from(error)),
  });
  const muxStreams = new MuxStreams({
    replica,
    acknowledgements,
    confirmedRenewal: (name, boot) =>
      pipeline.inOffice ? ownConfirmation(name, boot) : link.confirmedRenewal(name, boot),
    overloadReported: (report) =>
      pipeline.inOffice ? pipeline.overloadReported(report) : link.overloadReported(report),
    leaderInOfficeMs: () => (pipeline.inOffice ? pipeline.muxPool.inOfficeMs() : link.leaderInOfficeMs()),
  });
  const agentStreams = new AgentStreams({ replica, acknowledgements });
  const watches = new Watches(replica);
  const digests = new StateDigests(env.clock, state);
  const replicas = new ReplicaService(replica, pipeline);
  muxSafeIndex.onAdvance(() => agentStreams.advanced());

  /** As for followers' MUXes: a leader that is cut off from the quorum confirms nothing. */
  function ownConfirmation(name: string, boot: string): number {
    if (replica.quorumAgeMs() >= config.mux.leaseMs / 4) return 0;
    return (
      pipeline.muxPool.confirmations().find((report) => report.name === name && report.bootId === boot)?.renewal ?? 0
    );
  }

  function roleChanged(status: RaftStatus): void {
    log.info("role changed", { role: status.role, term: status.term, leader: status.leader });
    if (status.role !== "leader" && pipeline.inOffice) leaveOffice();
    leader = status.leader === null ? null : { nodeId: status.leader, term: status.term };
    const other =
      status.leader !== null && status.leader !== config.nodeId ? { node: status.leader, term: status.term } : null;
    link.follow(other);
    server?.setServing(status.leader !== null);
  }

  function leads(term: Term): boolean {
    const status = raft?.status();
    return !stopped && status?.role === "leader" && status.term === term;
  }

  /** When all that former leaders committed is applied. */
  function takeOffice(term: Term): void {
    log.info("took office", { term });
    pipeline.takeOffice(term);
    for (const report of acknowledgements.muxes()) pipeline.muxReported(report);
    for (const [host, index] of acknowledgements.hosts()) pipeline.hostReported(host, index);
    forwarding.setRoute(pipeline);
    replicas.takeOffice();
    pipeline.caughtUp();
  }

  function leaveOffice(): void {
    log.info("left office", {});
    forwarding.setRoute(null);
    pipeline.leaveOffice();
    replicas.leaveOffice();
  }

  /** A start is a fact that the log knows: it gives this process its incarnation. */
  async function announceStart(): Promise<void> {
    while (!stopped) {
      const result = await forwarding.submit(
        { origin: null, command: { kind: "start-replica", nodeId: config.nodeId, bootId } },
        ANNOUNCE_DEADLINE_MS,
      );
      if (result.ok) return;
      await new Promise<void>((resolve) => {
        announcePause = env.clock.setTimer(ANNOUNCE_PAUSE_MS, resolve);
      });
    }
  }

  /** Null: it cannot be opened, and the replica works without it; what is asked of it is answered with the reason. */
  async function openHistory(): Promise<OwnershipHistory | null> {
    try {
      const folder = `${config.dataFolder}/history`;
      return await OwnershipHistory.open({ disk: env.disk, clock: env.clock, log, folder, settings: config.history });
    } catch (caught) {
      log.error("ownership history cannot be opened: this replica works without it", {
        reason: AnantaError.from(caught).message,
      });
      return null;
    }
  }

  function sampleStock(): void {
    stockTimer = env.clock.setTimer(STOCK_SAMPLE_MS, () => {
      sampleStock();
      history?.recordStock(env.clock.wallMs(), stockSample(state.snatUsage()));
    });
  }

  /** A leader that stops hands over first: its clients miss some ms, not an election. */
  async function drain(): Promise<void> {
    if (raft?.status().role !== "leader") return;
    await raft.transferLeadership(null).catch((error: unknown) => {
      log.info("nobody took over before the stop", { reason: AnantaError.from(error).message });
    });
  }

  return {
    address: addresses.apiAddress,
    state,
    muxSafeIndex,
    pipeline,
    stageReadings: () => [...pipeline.counters(), link.forwarding],
    raftStatus: () => ({ ...replica.raft().status(), appliedIndex: replica.appliedIndex() }),
    streams: () => ({ agents: agentStreams.count, muxes: muxStreams.count }),

    async start() {
      history = await openHistory();
      raft = createRaftNode({
        env,
        config: {
          id: config.nodeId,
          voters: new Map<NodeId, string>(founders.map(({ nodeId, raftAddress }) => [nodeId, raftAddress])),
          services: new Map<NodeId, string>(founders.map(({ nodeId, apiAddress }) => [nodeId, apiAddress])),
          address: addresses.raftAddress,
          clusterId: config.clusterId,
          clusterEpoch: config.clusterEpoch,
          dataFolder: config.dataFolder,
          bootstrap: config.bootstrap,
          join: config.join,
          snapshotOffset: Math.floor(
            (config.raft.snapshotEveryEntries * (config.nodeId % SNAPSHOT_TURNS)) / SNAPSHOT_TURNS,
          ),
          ...config.raft,
        },
        stateMachine: appliedLog,
        events: {
          roleChanged,
          leadershipEstablished: (term) => {
            if (!appliedLog.busy) takeOffice(term);
            else void appliedLog.whenCaughtUp(null).then(() => leads(term) && takeOffice(term));
          },
          failed: (error) => outside.failed(error),
        },
      });
      server = await env.network.serve(
        addresses.apiAddress,
        handlers({
          operator: new OperatorService(replica),
          watches,
          snat: new SnatService(replica),
          snatReports: new SnatReports(replica, agentStreams.portReports),
          muxStreams,
          agentStreams,
          replicas,
          explainFlow: new ExplainFlow(replica, muxStreams),
          resetFlows: new ResetFlows(replica, muxStreams, agentStreams),
          cluster: new ClusterService(replica),
          clusterStatus: (request) =>
            clusterStatus(
              {
                replica,
                pipeline,
                muxStreams,
                agentStreams,
                acknowledgements,
                digests,
                version: outside.version,
                pid: outside.pid,
              },
              request,
            ),
        }),
        { publicServices: PUBLIC_SERVICES },
      );
      server.setServing(false);
      await raft.start();
      log.info("manager started", { node: config.nodeId, api: addresses.apiAddress, applied: state.appliedIndex });
      sampleStock();
      void announceStart();
    },

    async stop() {
      stopped = true;
      announcePause?.cancel();
      stockTimer?.cancel();
      server?.setServing(false);
      await drain();
      if (pipeline.inOffice) leaveOffice();
      forwarding.stop();
      link.stop();
      pipeline.stop();
      await raft?.stop();
      await server?.stop(STOP_GRACE_MS);
      appliedLog.stop();
      await history?.stop();
      log.info("manager stopped", { node: config.nodeId });
    },
  };
}
