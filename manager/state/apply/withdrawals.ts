/** VIPs taken off the routers for a while, and put back. */
import type { VipId } from "../../../core/brands.js";
import type { RestoreVipCommand, WithdrawVipCommand } from "../commands/commands.js";
import type { CommandResult } from "../commands/results.js";
import type { State } from "../state.js";
import { type VipObject, isVip } from "../vip-map.js";
import { type ApplyContext, nothing, refuse } from "./outcome.js";

/**
 * A person replaces the reason and the end of a withdrawal that is under way; overload never does: what somebody asked for may have
 * been committed since it was found.
 */
export function withdrawVip(context: ApplyContext, command: WithdrawVipCommand): CommandResult {
  const { state, nowMs } = context;
  const vip = find(state, command);
  if (vip === null) return missing(context, command);
  if (command.isOverload && vip.spec.overload.action === "none") {
    const message = `VIP ${command.tenant}/${command.name} is never withdrawn for overload (spec.overload.action: none)`;
    return refuse(context, "FAILED_PRECONDITION", message);
  }
  const before = state.withdrawals.get(vip.vipId);
  if (command.isOverload && before !== null) {
    const message = `VIP ${command.tenant}/${command.name} is withdrawn already (${before.reason})`;
    return refuse(context, "FAILED_PRECONDITION", message);
  }
  const { vipId, spec } = vip;
  const { restoreAfterSeconds } = spec.overload;
  const bySpec = command.isOverload ? state.backoffs.secondsFor(vipId, restoreAfterSeconds) : restoreAfterSeconds;
  const forSeconds = command.forSeconds === 0 ? bySpec : command.forSeconds;
  const untilMs = nowMs + forSeconds * 1_000;
  state.withdrawals.put({ vipId, reason: command.reason, sinceMs: before?.sinceMs ?? nowMs, untilMs });
  if (command.isOverload) state.backoffs.began(vipId, forSeconds, untilMs);
  else state.backoffs.ends(vipId, untilMs);
  state.projection.vipChanged(vip.vipId);
  return nothing(context);
}

export function restoreVip(context: ApplyContext, command: RestoreVipCommand): CommandResult {
  const { state } = context;
  const vip = find(state, command);
  if (vip === null) return missing(context, command);
  if (!state.withdrawals.remove(vip.vipId)) {
    return refuse(context, "FAILED_PRECONDITION", `VIP ${command.tenant}/${command.name} is not withdrawn`);
  }
  state.backoffs.ends(vip.vipId, context.nowMs);
  state.projection.vipChanged(vip.vipId);
  return nothing(context);
}

/** At the start of every entry: those whose time has come. */
export function endWithdrawals(state: State, nowMs: number): void {
  const due: readonly VipId[] = state.withdrawals.due(nowMs);
  if (due.length === 0) return;
  for (const id of due) {
    state.withdrawals.remove(id);
    state.projection.vipChanged(id);
  }
}

type Named = Pick<RestoreVipCommand, "tenant" | "name">;

function find(state: State, { tenant, name }: Named): VipObject | null {
  const vip = state.objects.get({ kind: "Vip", tenant, name });
  return vip !== null && isVip(vip) && !vip.deleting ? vip : null;
}

const missing = (context: ApplyContext, { tenant, name }: Named): CommandResult =>
  refuse(context, "NOT_FOUND", `VIP ${tenant}/${name} does not exist`);
