/** Applies one command: remembered answers first, then the file of its kind. */
import { assertNever } from "../../../core/assert.js";
import type { Command, SubmittedCommand } from "../commands/commands.js";
import type { CommandResult } from "../commands/results.js";
import { activate } from "./activate.js";
import { bootstrap, startReplica } from "./cluster.js";
import { beginEpoch } from "./epoch.js";
import { fenceHost } from "./fence.js";
import { expireHosts, renewHosts, reportHealth } from "./health.js";
import { registerHost } from "./hosts.js";
import { drainMux, undrainMux } from "./mux-drain.js";
import { joinMux, leaveMux, loseMux } from "./muxes.js";
import { applyObjects, deleteObjects } from "./objects.js";
import { expiredText } from "../sessions.js";
import { type ApplyContext, nothing, refuse } from "./outcome.js";
import { allocateSnat, releaseSnat } from "./snat.js";
import { restoreVip, withdrawVip } from "./withdrawals.js";

/** Executes the command unless its origin says that it was, or may have been, executed before. */
export function applySubmitted(context: ApplyContext, { origin, command }: SubmittedCommand): CommandResult {
  if (origin === null) return applyCommand(context, command);
  const { sessions } = context.state;
  const verdict = sessions.admit(origin, context.nowMs);
  switch (verdict.kind) {
    case "answered":
      return verdict.result;
    case "expired":
      return refuse(context, "SESSION_EXPIRED", expiredText(verdict));
    case "execute": {
      const result = applyCommand(context, command);
      sessions.remember(origin, result);
      return result;
    }
    default:
      return assertNever(verdict);
  }
}

function applyCommand(context: ApplyContext, command: Command): CommandResult {
  switch (command.kind) {
    case "allocate-snat":
      return allocateSnat(context, command);
    case "release-snat":
      return releaseSnat(context, command);
    case "tick":
      return nothing(context);
    case "bootstrap":
      return bootstrap(context, command);
    case "begin-epoch":
      return beginEpoch(context, command);
    case "fence-host":
      return fenceHost(context, command);
    case "start-replica":
      return startReplica(context, command);
    case "apply-objects":
      return applyObjects(context, command);
    case "delete-objects":
      return deleteObjects(context, command);
    case "activate":
      return activate(context, command);
    case "withdraw-vip":
      return withdrawVip(context, command);
    case "restore-vip":
      return restoreVip(context, command);
    case "report-health":
      return reportHealth(context, command);
    case "expire-hosts":
      return expireHosts(context, command);
    case "renew-hosts":
      return renewHosts(context, command);
    case "register-host":
      return registerHost(context, command);
    case "join-mux":
      return joinMux(context, command);
    case "leave-mux":
      return leaveMux(context, command);
    case "lose-mux":
      return loseMux(context, command);
    case "drain-mux":
      return drainMux(context, command);
    case "undrain-mux":
      return undrainMux(context, command);
    default:
      return assertNever(command);
  }
}
