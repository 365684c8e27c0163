/** The one list of what a replica's gRPC server offers. */
import type { ananta } from "../../proto/gen/wire.js";
import { bidi, serverStream, unary, type Handler } from "../../runtime/env.js";
import type { AgentStreams } from "../projection/agent-streams.js";
import type { MuxStreams } from "../projection/mux-streams.js";
import type { ExplainFlow } from "./flows/explain-flow.js";
import type { ClusterService } from "./cluster-service.js";
import * as methods from "./methods.js";
import type { OperatorService } from "./operator-service.js";
import type { ReplicaService } from "./link/replica-service.js";
import type { ResetFlows } from "./flows/reset-flows.js";
import type { SnatReports } from "./snat-reports.js";
import type { SnatService } from "./snat-service.js";
import type { Watches } from "./watch.js";

export interface Services {
  readonly operator: OperatorService;
  readonly watches: Watches;
  readonly snat: SnatService;
  readonly snatReports: SnatReports;
  readonly muxStreams: MuxStreams;
  readonly agentStreams: AgentStreams;
  readonly replicas: ReplicaService;
  readonly explainFlow: ExplainFlow;
  readonly resetFlows: ResetFlows;
  readonly cluster: ClusterService;
  readonly clusterStatus: (
    request: ananta.v1.ClusterStatusRequest.$Properties,
  ) => Promise<ananta.v1.ClusterStatusResponse.$Properties>;
}

export function handlers(services: Services): readonly Handler[] {
  const {
    operator,
    watches,
    snat,
    snatReports,
    muxStreams,
    agentStreams,
    replicas,
    explainFlow,
    resetFlows,
    cluster,
    clusterStatus,
  } = services;
  return [
    unary(methods.OPERATOR_APPLY, (request, call) => operator.apply(request, call)),
    unary(methods.OPERATOR_GET, (request, call) => operator.get(request, call)),
    unary(methods.OPERATOR_LIST, (request, call) => operator.list(request, call)),
    unary(methods.OPERATOR_DELETE, (request, call) => operator.delete(request, call)),
    serverStream(methods.OPERATOR_WATCH, (request, stream) => watches.open(request, stream)),
    unary(methods.OPERATOR_FENCE_HOST, (request, call) => operator.fenceHost(request, call)),
    unary(methods.OPERATOR_CLUSTER_STATUS, (request) => clusterStatus(request)),
    unary(methods.OPERATOR_WITHDRAW_VIP, (request, call) => operator.withdraw(request, call)),
    unary(methods.OPERATOR_RESTORE_VIP, (request, call) => operator.restore(request, call)),
    unary(methods.OPERATOR_DRAIN_MUX, (request, call) => operator.drainMux(request, call)),
    unary(methods.OPERATOR_UNDRAIN_MUX, (request, call) => operator.undrainMux(request, call)),
    unary(methods.OPERATOR_EXPLAIN_FLOW, (request) => explainFlow.explain(request)),
    unary(methods.OPERATOR_RESET_FLOWS, (request) => resetFlows.reset(request)),
    unary(methods.CLUSTER_MEMBERS, (request, call) => cluster.members(request, call)),
    unary(methods.CLUSTER_ADD_REPLICA, (request, call) => cluster.addReplica(request, call)),
    unary(methods.CLUSTER_PROMOTE_REPLICA, (request, call) => cluster.promoteReplica(request, call)),
    unary(methods.CLUSTER_REMOVE_REPLICA, (request, call) => cluster.removeReplica(request, call)),
    unary(methods.CLUSTER_TRANSFER_LEADERSHIP, (request, call) => cluster.transferLeadership(request, call)),
    serverStream(methods.CLUSTER_SAVE_SNAPSHOT, (_request, stream) => cluster.saveSnapshot(stream)),
    unary(methods.SNAT_REGISTER, (request, call) => snat.register(request, call)),
    unary(methods.SNAT_ALLOCATE, (request, call) => snat.allocate(request, call)),
    unary(methods.SNAT_RELEASE, (request, call) => snat.release(request, call)),
    unary(methods.SNAT_LIST, (request, call) => snat.list(request, call)),
    unary(methods.SNAT_WHO, (request, call) => snatReports.who(request, call)),
    unary(methods.SNAT_USAGE, (request, call) => snatReports.usage(request, call)),
    unary(methods.SNAT_FORECAST, (request, call) => snatReports.forecast(request, call)),
    bidi(methods.MUX_FOLLOW, (stream) => muxStreams.open(stream)),
    bidi(methods.AGENT_FOLLOW, (stream) => agentStreams.open(stream)),
    bidi(methods.REPLICA_FORWARD, (stream) => replicas.open(stream)),
  ];
}
