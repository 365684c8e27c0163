/** A restored cluster begins anew; see `cluster-epoch`. */
import type { BeginEpochCommand } from "../commands/commands.js";
import type { CommandResult } from "../commands/results.js";
import { type ApplyContext, nothing, refuse, succeed } from "./outcome.js";

/**
 * Sessions end here too: requests executed after the snapshot are not remembered, so that a retry of one would be executed
 * twice. Their clients are told that the outcome is unknown. The present epoch again changes nothing.
 */
export function beginEpoch(context: ApplyContext, { clusterEpoch }: BeginEpochCommand): CommandResult {
  const { state, index, nowMs } = context;
  if (state.site === null)
    return refuse(context, "FAILED_PRECONDITION", "an epoch begins in a restored state; this one is empty");
  if (clusterEpoch === state.site.clusterEpoch) return nothing(context);
  if (clusterEpoch < state.site.clusterEpoch) {
    const message = `the cluster is in epoch ${state.site.clusterEpoch}; epoch ${clusterEpoch} is over`;
    return refuse(context, "WRONG_CLUSTER", message, { clusterEpoch: state.site.clusterEpoch });
  }
  state.site = { ...state.site, clusterEpoch };
  state.sessions.expireAll(nowMs);
  const hosts = state.hosts.all().filter(({ hostId }) => !state.fences.has(hostId));
  state.epoch.begin(
    nowMs,
    index,
    hosts.map(({ hostId }) => hostId),
  );
  return succeed(context, { kind: "epoch-begun", clusterEpoch, hosts: hosts.length });
}
