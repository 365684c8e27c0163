/**
 * An operator says that a host is gone: its machine is off or cut from the network, and stays so until its agent starts anew.
 * This ends what silence never ends: the ports its DIPs own begin to rest, its DIPs may run on other hosts, and
 * its present process is refused from now on.
 */
import type { FenceHostCommand } from "../commands/commands.js";
import { FORMER_BOOTS_MAX } from "../former-boots.js";
import type { CommandResult } from "../commands/results.js";
import { type ApplyContext, refuse, succeed } from "./outcome.js";
import { orphanAll } from "./orphans.js";

/** NOT_FOUND for a host never registered. A fenced host again: nothing happens, 0 ranges. */
export function fenceHost(context: ApplyContext, { name, reason }: FenceHostCommand): CommandResult {
  const { state, index } = context;
  const host = state.hosts.named(name);
  if (host === null) return refuse(context, "NOT_FOUND", `no host is named ${name}`, { host: name });
  const { hostId } = host;
  if (state.fences.has(hostId)) return succeed(context, { kind: "host-fenced", hostId, ranges: 0 });
  let ranges = 0;
  for (const id of host.dips) {
    const dip = state.dips.must(id);
    ranges += orphanAll(context, dip);
    state.dips.place(dip, null);
    state.projection.dipChanged(id);
  }
  state.hosts.put({
    ...host,
    incarnation: host.incarnation + 1, // open streams and requests of the present process end here
    formerBootIds: [...new Set([host.bootId, ...host.formerBootIds])].slice(0, FORMER_BOOTS_MAX),
    dips: [],
  });
  state.fences.set(hostId, { index, reason });
  state.epoch.settle(hostId);
  state.projection.hostChanged(hostId);
  return succeed(context, { kind: "host-fenced", hostId, ranges });
}
