/** Every call a replica answers, with its message types. */
import { ananta } from "../../proto/gen/wire.js";
import type { Method } from "../../runtime/env.js";
import { methodOf } from "../../runtime/method.js";

const v1 = ananta.v1;

const operator = <Request, Response>(name: string): Method<Request, Response> => methodOf(v1.OperatorService, name, v1);
export const OPERATOR_APPLY = operator<ananta.v1.ApplyRequest.$Properties, ananta.v1.ApplyResponse.$Properties>(
  "apply",
);
export const OPERATOR_GET = operator<ananta.v1.GetRequest.$Properties, ananta.v1.GetResponse.$Properties>("get");
export const OPERATOR_LIST = operator<ananta.v1.ListRequest.$Properties, ananta.v1.ListResponse.$Properties>("list");
export const OPERATOR_DELETE = operator<ananta.v1.DeleteRequest.$Properties, ananta.v1.DeleteResponse.$Properties>(
  "delete",
);
export const OPERATOR_WATCH = operator<ananta.v1.WatchRequest.$Properties, ananta.v1.WatchEvent.$Properties>("watch");
export const OPERATOR_FENCE_HOST = operator<
  ananta.v1.FenceHostRequest.$Properties,
  ananta.v1.FenceHostResponse.$Properties
>("fenceHost");
export const OPERATOR_CLUSTER_STATUS = operator<
  ananta.v1.ClusterStatusRequest.$Properties,
  ananta.v1.ClusterStatusResponse.$Properties
>("clusterStatus");
export const OPERATOR_WITHDRAW_VIP = operator<
  ananta.v1.WithdrawVipRequest.$Properties,
  ananta.v1.WithdrawVipResponse.$Properties
>("withdrawVip");
export const OPERATOR_RESTORE_VIP = operator<
  ananta.v1.RestoreVipRequest.$Properties,
  ananta.v1.RestoreVipResponse.$Properties
>("restoreVip");
export const OPERATOR_DRAIN_MUX = operator<
  ananta.v1.DrainMuxRequest.$Properties,
  ananta.v1.DrainMuxResponse.$Properties
>("drainMux");
export const OPERATOR_UNDRAIN_MUX = operator<
  ananta.v1.UndrainMuxRequest.$Properties,
  ananta.v1.UndrainMuxResponse.$Properties
>("undrainMux");
export const OPERATOR_EXPLAIN_FLOW = operator<
  ananta.v1.ExplainFlowRequest.$Properties,
  ananta.v1.ExplainFlowResponse.$Properties
>("explainFlow");
export const OPERATOR_RESET_FLOWS = operator<
  ananta.v1.ResetFlowsRequest.$Properties,
  ananta.v1.ResetFlowsResponse.$Properties
>("resetFlows");

const cluster = <Request, Response>(name: string): Method<Request, Response> => methodOf(v1.ClusterService, name, v1);
export const CLUSTER_MEMBERS = cluster<ananta.v1.MembersRequest.$Properties, ananta.v1.MembersResponse.$Properties>(
  "members",
);
export const CLUSTER_ADD_REPLICA = cluster<
  ananta.v1.AddReplicaRequest.$Properties,
  ananta.v1.MembersResponse.$Properties
>("addReplica");
export const CLUSTER_PROMOTE_REPLICA = cluster<
  ananta.v1.PromoteReplicaRequest.$Properties,
  ananta.v1.MembersResponse.$Properties
>("promoteReplica");
export const CLUSTER_REMOVE_REPLICA = cluster<
  ananta.v1.RemoveReplicaRequest.$Properties,
  ananta.v1.MembersResponse.$Properties
>("removeReplica");
export const CLUSTER_TRANSFER_LEADERSHIP = cluster<
  ananta.v1.TransferLeadershipRequest.$Properties,
  ananta.v1.TransferLeadershipResponse.$Properties
>("transferLeadership");
export const CLUSTER_SAVE_SNAPSHOT = cluster<
  ananta.v1.SaveSnapshotRequest.$Properties,
  ananta.v1.SnapshotFilePart.$Properties
>("saveSnapshot");

const snat = <Request, Response>(name: string): Method<Request, Response> => methodOf(v1.SnatService, name, v1);
export const SNAT_REGISTER = snat<ananta.v1.RegisterRequest.$Properties, ananta.v1.RegisterResponse.$Properties>(
  "register",
);
export const SNAT_ALLOCATE = snat<ananta.v1.AllocateRequest.$Properties, ananta.v1.AllocateResponse.$Properties>(
  "allocate",
);
export const SNAT_RELEASE = snat<ananta.v1.ReleaseRequest.$Properties, ananta.v1.ReleaseResponse.$Properties>(
  "release",
);
export const SNAT_LIST = snat<ananta.v1.ListSnatRequest.$Properties, ananta.v1.ListSnatResponse.$Properties>("list");

export const SNAT_WHO = snat<ananta.v1.SnatWhoRequest.$Properties, ananta.v1.SnatWhoResponse.$Properties>("who");
export const SNAT_USAGE = snat<ananta.v1.SnatSharesRequest.$Properties, ananta.v1.SnatSharesResponse.$Properties>(
  "usage",
);
export const SNAT_FORECAST = snat<
  ananta.v1.SnatForecastRequest.$Properties,
  ananta.v1.SnatForecastResponse.$Properties
>("forecast");

export const MUX_FOLLOW: Method<ananta.v1.MuxToManager.$Properties, ananta.v1.ManagerToMux.$Properties> = methodOf(
  v1.MuxService,
  "follow",
  v1,
);
export const AGENT_FOLLOW: Method<ananta.v1.AgentToManager.$Properties, ananta.v1.ManagerToAgent.$Properties> =
  methodOf(v1.AgentService, "follow", v1);
export const REPLICA_FORWARD: Method<ananta.v1.FollowerToLeader.$Properties, ananta.v1.LeaderToFollower.$Properties> =
  methodOf(v1.ReplicaService, "forward", v1);
