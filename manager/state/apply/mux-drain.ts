/**
 * An operator takes a MUX off the routers, for maintenance say, and puts it back. The MUX stays a live member: it gates grants,
 * forwards what still comes, and its peers relay to it. The drain belongs to the name, not to one start of its process.
 */
import type { DrainMuxCommand, UndrainMuxCommand } from "../commands/commands.js";
import type { CommandResult } from "../commands/results.js";
import type { Mux } from "../state-machine.js";
import type { State } from "../state.js";
import { type ApplyContext, refuse, succeed } from "./outcome.js";

/** Refuses the last MUX that announces, unless told to. Drained already: the reason is replaced. */
export function drainMux(context: ApplyContext, { name, reason, force }: DrainMuxCommand): CommandResult {
  const { state, nowMs } = context;
  const mux = state.muxes.named(name);
  if (mux === null) return unknown(context, name);
  if (isAnnouncing(mux) && announcing(state) === 1 && !force) {
    const message = `MUX ${name} is the last one that announces VIPs: without it no traffic comes in; force it, or undrain another one first`;
    return refuse(context, "FAILED_PRECONDITION", message, { mux: name });
  }
  state.muxes.put({ ...mux, drain: { reason, sinceMs: mux.drain?.sinceMs ?? nowMs } });
  state.projection.muxesChanged();
  return succeed(context, {
    kind: "mux-drained",
    changed: mux.drain === undefined,
    announcing: announcing(state),
  });
}

export function undrainMux(context: ApplyContext, { name }: UndrainMuxCommand): CommandResult {
  const { state } = context;
  const mux = state.muxes.named(name);
  if (mux === null) return unknown(context, name);
  const { drain, ...undrained } = mux;
  if (drain !== undefined) {
    state.muxes.put(undrained);
    state.projection.muxesChanged();
  }
  return succeed(context, {
    kind: "mux-undrained",
    changed: drain !== undefined,
    announcing: announcing(state),
  });
}

const isAnnouncing = (mux: Mux): boolean => mux.state === "live" && mux.drain === undefined;

const announcing = ({ muxes }: State): number => muxes.all().filter(isAnnouncing).length;

function unknown(context: ApplyContext, name: string): CommandResult {
  const known = context.state.muxes.all().map((mux) => mux.name);
  const are = known.length === 0 ? "no MUX ever joined" : `the MUXes are ${known.join(", ")}`;
  return refuse(context, "NOT_FOUND", `no MUX is named ${name}; ${are}`, { mux: name });
}
