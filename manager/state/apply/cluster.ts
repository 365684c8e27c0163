/** Commands about the cluster itself: its birth, and the starts of its replicas. */
import { given } from "../../../core/present.js";
import type { BootstrapCommand, StartReplicaCommand } from "../commands/commands.js";
import type { CommandResult } from "../commands/results.js";
import { type ApplyContext, nothing, refuse, succeed } from "./outcome.js";

/** Identity of the site. Only the first one counts: a second leader may have proposed it too. */
export function bootstrap(context: ApplyContext, command: BootstrapCommand): CommandResult {
  const { state } = context;
  if (state.site !== null) return nothing(context);
  if (!/^[0-9a-f]{16}$/.test(command.hashKey)) {
    return refuse(context, "INVALID_ARGUMENT", `the flow-hash key is 16 hex digits, not "${command.hashKey}"`);
  }
  const { clusterId, clusterEpoch, hashKey, muxKey } = command;
  if (muxKey !== undefined && !/^[0-9a-f]{32}$/.test(muxKey))
    return refuse(context, "INVALID_ARGUMENT", "the key of the MUXes is 32 hex digits");
  state.site = { clusterId, clusterEpoch, hashKey, ...given({ muxKey }) };
  state.projection.setSite(state.site);
  return nothing(context);
}

/** Gives a process start its committed number; the same boot id again has started only once. */
export function startReplica(context: ApplyContext, command: StartReplicaCommand): CommandResult {
  const { replicas } = context.state;
  const before = replicas.get(command.nodeId);
  const incarnation = before?.bootId === command.bootId ? before.incarnation : (before?.incarnation ?? 0) + 1;
  replicas.set(command.nodeId, { nodeId: command.nodeId, incarnation, bootId: command.bootId });
  return succeed(context, { kind: "replica-started", incarnation });
}
