/** The calls that the CLI makes, with their types. */
import { ananta } from "../proto/gen/wire.js";
import type { Method } from "../runtime/env.js";
import { methodOf } from "../runtime/method.js";

type V1 = typeof ananta.v1;
type Decoded<Name extends keyof V1> = V1[Name] extends { decode(bytes: Uint8Array): infer Message } ? Message : never;

function operator<Request, Response>(name: string): Method<Request, Response> {
  return methodOf<Request, Response>(ananta.v1.OperatorService, name, ananta.v1);
}

export const APPLY = operator<ananta.v1.ApplyRequest.$Properties, Decoded<"ApplyResponse">>("apply");
export const GET = operator<ananta.v1.GetRequest.$Properties, Decoded<"GetResponse">>("get");
export const LIST = operator<ananta.v1.ListRequest.$Properties, Decoded<"ListResponse">>("list");
export const DELETE = operator<ananta.v1.DeleteRequest.$Properties, Decoded<"DeleteResponse">>("delete");
export const WATCH = operator<ananta.v1.WatchRequest.$Properties, Decoded<"WatchEvent">>("watch");
export const CLUSTER_STATUS = operator<ananta.v1.ClusterStatusRequest.$Properties, Decoded<"ClusterStatusResponse">>(
  "clusterStatus",
);
export const FENCE_HOST = operator<ananta.v1.FenceHostRequest.$Properties, Decoded<"FenceHostResponse">>("fenceHost");
export const EXPLAIN_FLOW = operator<ananta.v1.ExplainFlowRequest.$Properties, Decoded<"ExplainFlowResponse">>(
  "explainFlow",
);
export const RESET_FLOWS = operator<ananta.v1.ResetFlowsRequest.$Properties, Decoded<"ResetFlowsResponse">>(
  "resetFlows",
);
export const WITHDRAW_VIP = operator<ananta.v1.WithdrawVipRequest.$Properties, Decoded<"WithdrawVipResponse">>(
  "withdrawVip",
);
export const RESTORE_VIP = operator<ananta.v1.RestoreVipRequest.$Properties, Decoded<"RestoreVipResponse">>(
  "restoreVip",
);
export const DRAIN_MUX = operator<ananta.v1.DrainMuxRequest.$Properties, Decoded<"DrainMuxResponse">>("drainMux");
export const UNDRAIN_MUX = operator<ananta.v1.UndrainMuxRequest.$Properties, Decoded<"UndrainMuxResponse">>(
  "undrainMux",
);

function snat<Request, Response>(name: string): Method<Request, Response> {
  return methodOf<Request, Response>(ananta.v1.SnatService, name, ananta.v1);
}

export const LIST_SNAT = snat<ananta.v1.ListSnatRequest.$Properties, Decoded<"ListSnatResponse">>("list");
export const SNAT_WHO = snat<ananta.v1.SnatWhoRequest.$Properties, Decoded<"SnatWhoResponse">>("who");
export const SNAT_USAGE = snat<ananta.v1.SnatSharesRequest.$Properties, Decoded<"SnatSharesResponse">>("usage");
export const SNAT_FORECAST = snat<ananta.v1.SnatForecastRequest.$Properties, Decoded<"SnatForecastResponse">>(
  "forecast",
);

function cluster<Request, Response>(name: string): Method<Request, Response> {
  return methodOf<Request, Response>(ananta.v1.ClusterService, name, ananta.v1);
}

type Members = Decoded<"MembersResponse">;
export const ADD_REPLICA = cluster<ananta.v1.AddReplicaRequest.$Properties, Members>("addReplica");
export const PROMOTE_REPLICA = cluster<ananta.v1.PromoteReplicaRequest.$Properties, Members>("promoteReplica");
export const REMOVE_REPLICA = cluster<ananta.v1.RemoveReplicaRequest.$Properties, Members>("removeReplica");
export const TRANSFER_LEADERSHIP = cluster<
  ananta.v1.TransferLeadershipRequest.$Properties,
  Decoded<"TransferLeadershipResponse">
>("transferLeadership");
export const SAVE_SNAPSHOT = cluster<ananta.v1.SaveSnapshotRequest.$Properties, Decoded<"SnapshotFilePart">>(
  "saveSnapshot",
);

export type WireObject = ananta.v1.Object.$Properties;
export type ReplicaAnswer = Decoded<"ClusterStatusResponse">;
