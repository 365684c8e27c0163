/** MUXes come and go. */
import { given } from "../../../core/present.js";
import { familyOf } from "../../../core/address.js";
import type { IpAddress } from "../../../core/brands.js";
import type { JoinMuxCommand, LeaveMuxCommand, LoseMuxCommand } from "../commands/commands.js";
import { formerBootsAfter } from "../former-boots.js";
import type { CommandResult } from "../commands/results.js";
import type { Mux } from "../state-machine.js";
import type { State } from "../state.js";
import { type ApplyContext, nothing, refuse, succeed } from "./outcome.js";

/** A MUX that could not hold what is already configured and granted would never have it in force: it is refused. */
export function joinMux(context: ApplyContext, command: JoinMuxCommand): CommandResult {
  const { state } = context;
  const before = state.muxes.named(command.name);
  if (before !== null && before.state === "live" && before.bootId === command.bootId) {
    return succeed(context, { kind: "mux-joined", muxId: before.muxId, incarnation: before.incarnation });
  }
  if (before?.formerBootIds.includes(command.bootId) === true) {
    return refuse(context, "STALE_INCARNATION", `a later process of MUX ${command.name} has joined`, {
      mux: command.name,
    });
  }
  const { addressIpv6 } = command;
  const taken = addressTaken(context, command, command.address);
  if (taken !== null) return taken;
  const takenIpv6 = addressIpv6 === undefined ? null : addressTaken(context, command, addressIpv6);
  if (takenIpv6 !== null) return takenIpv6;
  const beyond = addressIpv6 === undefined ? state.dips.anyAtIpv6() : null;
  if (beyond !== null) {
    const message =
      `MUX ${command.name} has no IPv6 address, and DIP ${beyond.tenant}/${beyond.address} is reached at the IPv6` +
      ` locator ${beyond.locator ?? ""}; give the MUX an "addressIpv6"`;
    return refuse(context, "FAILED_PRECONDITION", message, { mux: command.name });
  }
  const { rules, snatRanges, ipv6 } = command.capacity;
  const modern = ipv6 === true ? null : firstIpv6(state);
  if (modern !== null) {
    const message = `MUX ${command.name} forwards IPv4 only, and VIP ${modern} is an IPv6 address`;
    return refuse(context, "FAILED_PRECONDITION", message, { mux: command.name });
  }
  const { ownedTotal, reservedTotal } = state.snat.tenants;
  // What is reserved beyond the present MUXes' tables (minimums configured while none was live) keeps no MUX out: none would come.
  const { snatRanges: smallest } = state.muxes.smallestCapacity;
  const leastRanges =
    smallest === Infinity ? ownedTotal : Math.max(ownedTotal, Math.min(ownedTotal + reservedTotal, smallest));
  if (rules < state.objects.ruleCount || snatRanges < leastRanges) {
    const reserved = reservedTotal === 0 ? "" : `, and ${reservedTotal} more ranges are reserved by minPorts`;
    const message =
      `the tables of MUX ${command.name} hold ${rules} rules and ${snatRanges} SNAT ranges;` +
      ` in use are ${state.objects.ruleCount} and ${ownedTotal}${reserved}`;
    return refuse(context, "FAILED_PRECONDITION", message, {
      rules: state.objects.ruleCount,
      snatRanges: ownedTotal + reservedTotal,
    });
  }
  const mux: Mux = {
    muxId: before?.muxId ?? state.muxes.nextId,
    name: command.name,
    incarnation: (before?.incarnation ?? 0) + 1,
    bootId: command.bootId,
    formerBootIds: formerBootsAfter(before, command.bootId),
    address: command.address,
    ...(addressIpv6 === undefined ? {} : { addressIpv6 }),
    capacity: command.capacity,
    state: "live",
    joinedIndex: context.index,
    ...given({ drain: before?.drain }),
  };
  state.muxes.put(mux);
  state.projection.muxesChanged();
  return succeed(context, { kind: "mux-joined", muxId: mux.muxId, incarnation: mux.incarnation });
}

/** An outer address says which MUX a packet came from: it is of one MUX, and of nothing else. */
function addressTaken(context: ApplyContext, { name }: JoinMuxCommand, address: IpAddress): CommandResult | null {
  const { state } = context;
  const namesake = state.muxes.liveAt(address);
  if (namesake !== null && namesake.name !== name) {
    const message = `outer address ${address} belongs to the live MUX ${namesake.name}`;
    return refuse(context, "FAILED_PRECONDITION", message, { mux: namesake.name });
  }
  const vip = state.objects.vipAt(address);
  const dip = state.dips.atLocator(address);
  if (vip !== null) {
    const message = `outer address ${address} is the VIP ${vip.ref.tenant}/${vip.ref.name}`;
    return refuse(context, "FAILED_PRECONDITION", message);
  }
  if (dip === null) return null;
  const message = `outer address ${address} is the locator of DIP ${dip.tenant}/${dip.address}`;
  return refuse(context, "FAILED_PRECONDITION", message);
}

function firstIpv6(state: State): string | null {
  for (const { spec } of state.objects.allVips()) if (familyOf(spec.address) === "ipv6") return spec.address;
  return null;
}

export function leaveMux(context: ApplyContext, command: LeaveMuxCommand): CommandResult {
  return end(context, command, "left");
}

export function loseMux(context: ApplyContext, command: LoseMuxCommand): CommandResult {
  const mux = context.state.muxes.get(command.muxId);
  if (mux !== null && isLiveIncarnation(mux, command.incarnation) && context.state.muxes.liveCount === 1) {
    return refuse(context, "FAILED_PRECONDITION", `MUX ${mux.name} is the last live one; it is never declared lost`, {
      mux: mux.name,
    });
  }
  return end(context, command, "lost");
}

/** About an earlier incarnation, or one that has ended already: nothing to do. */
function end(context: ApplyContext, command: LeaveMuxCommand | LoseMuxCommand, state: "left" | "lost"): CommandResult {
  const { muxes, projection } = context.state;
  const mux = muxes.get(command.muxId);
  if (mux === null) return refuse(context, "NOT_FOUND", `no MUX has id ${command.muxId}`);
  if (!isLiveIncarnation(mux, command.incarnation)) return nothing(context);
  muxes.put({ ...mux, state });
  projection.muxesChanged();
  return nothing(context);
}

const isLiveIncarnation = (mux: Mux, incarnation: number): boolean =>
  mux.state === "live" && mux.incarnation === incarnation;
