/** What is known of members and hosts beyond configuration: probes' verdicts, and hosts that have gone silent. */
import type { ExpireHostsCommand, RenewHostsCommand, ReportHealthCommand } from "../commands/commands.js";
import type { CommandResult } from "../commands/results.js";
import type { Host } from "../state-machine.js";
import type { State } from "../state.js";
import { versionsOf } from "../vip-map.js";
import { type ApplyContext, nothing, refuse } from "./outcome.js";

/** When a larger share of the hosts is silent at once, the fault is more likely on our side: nothing is taken out. */
export const EXPIRED_SHARE_MAX = 0.3;

/**
 * Transitions of a host's own DIPs; what is about others, or about pools that do not have the DIP or are not probed, is left
 * out: a verdict from nowhere would count once the pool gets a probe.
 */
export function reportHealth(context: ApplyContext, command: ReportHealthCommand): CommandResult {
  const { state, index, nowMs } = context;
  const host = state.hosts.get(command.hostId);
  if (host === null) return refuse(context, "NOT_FOUND", `no host has id ${command.hostId}`);
  if (host.incarnation !== command.incarnation) {
    const message = `host ${host.name} is at incarnation ${host.incarnation}; this report comes from ${command.incarnation}`;
    return refuse(context, "STALE_INCARNATION", message, { host: host.name, incarnation: host.incarnation });
  }
  for (const { poolId, dipId, healthy, reason } of command.transitions) {
    const dip = state.dips.get(dipId);
    if (dip === null || dip.hostId !== host.hostId || !dip.pools.has(poolId)) continue;
    const pool = state.objects.poolById(poolId);
    if (pool === null || !versionsOf(pool).some(({ probe }) => probe !== null)) continue;
    const before = state.health.get(poolId, dipId);
    if (healthy) state.health.remove(poolId, dipId);
    else state.health.put({ poolId, dipId, reason, sinceMs: before?.sinceMs ?? nowMs, index: before?.index ?? index });
    if (healthy === (before !== null)) state.projection.poolChanged(poolId);
  }
  return nothing(context);
}

/**
 * Hosts whose leases ran out: their DIPs get no new flows until they are heard again; ports and flows are not touched.
 * FAILED_PRECONDITION when more than 30 % of the hosts with DIPs would be out; a single one always may be.
 */
export function expireHosts(context: ApplyContext, command: ExpireHostsCommand): CommandResult {
  const { state } = context;
  const silent = present(state, command.hosts).filter((host) => !host.isExpired);
  const serving = state.hosts.all().filter((host) => host.dips.length > 0);
  const out = serving.filter((host) => host.isExpired || silent.includes(host)).length;
  if (out > Math.max(1, serving.length * EXPIRED_SHARE_MAX)) {
    const message = `${out} of ${serving.length} hosts are silent together: more than 30 %, so none is taken out`;
    return refuse(context, "FAILED_PRECONDITION", message, { silent: out, hosts: serving.length });
  }
  for (const host of silent) put(state, host, true);
  return nothing(context);
}

export function renewHosts(context: ApplyContext, command: RenewHostsCommand): CommandResult {
  for (const host of present(context.state, command.hosts)) if (host.isExpired) put(context.state, host, false);
  return nothing(context);
}

/** Those that are still at the incarnation that the command speaks of. */
const present = (state: State, hosts: ExpireHostsCommand["hosts"]): readonly Host[] =>
  hosts.flatMap(({ hostId, incarnation }) => {
    const host = state.hosts.get(hostId);
    return host !== null && host.incarnation === incarnation ? [host] : [];
  });

function put(state: State, host: Host, isExpired: boolean): void {
  state.hosts.put({ ...host, isExpired });
  for (const id of host.dips) for (const pool of state.dips.must(id).pools) state.projection.poolChanged(pool);
}
