/**
 * What a host's probes found, as its agent tells it: checked, and cut down to what differs from the replicated state, so
 * that the whole reports which come every few seconds cost the log nothing while nothing changes.
 */
import type { DipId, HostId, PoolId } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { HealthTransition, ReportHealthCommand } from "../state/commands/commands.js";
import type { StateMachine } from "../state/state-machine.js";

/** Every DIP of a host in several pools. */
const MEMBERS_MAX = 16_384;
const REASON_CHARACTERS_MAX = 128;

/** Null: nothing differs. Throws INVALID_ARGUMENT. */
export function healthCommand(
  state: Pick<StateMachine, "memberHealth">,
  host: { readonly hostId: HostId; readonly incarnation: number },
  report: ananta.v1.HealthReport.$Properties,
): ReportHealthCommand | null {
  const members = report.members ?? [];
  if (members.length > MEMBERS_MAX)
    throw new AnantaError("INVALID_ARGUMENT", `health.members: ${members.length} given; at most ${MEMBERS_MAX}`);
  const transitions = members.flatMap(({ poolId, dipId, healthy, reason }, at): readonly HealthTransition[] => {
    const pool = (poolId ?? 0) as PoolId;
    const dip = (dipId ?? 0) as DipId;
    if (pool < 1 || dip < 1) throw new AnantaError("INVALID_ARGUMENT", `health.members[${at}]: ids count from 1`);
    const isHealthy = healthy ?? false;
    if (isHealthy === (state.memberHealth(pool, dip) === null)) return [];
    const why = isHealthy ? "" : (reason ?? "").slice(0, REASON_CHARACTERS_MAX);
    return [{ poolId: pool, dipId: dip, healthy: isHealthy, reason: why }];
  });
  return transitions.length === 0 ? null : { kind: "report-health", ...host, transitions };
}
