/** What the tenant that floods and the bystanders have in common: how they ask, and how they take a refusal. */
import { AnantaError } from "../../core/errors.js";

export const TCP = 6;
export const UDP = 17;
export const VICTIM_DIPS: readonly string[] = Array.from({ length: 20 }, (_, dip) => `10.200.0.${dip + 1}`);

/** Nobody sleeps through the benchmark. */
const RETRY_MAX_MS = 1_000;
/** Who is refused without a hint asks again after this long. */
const RETRY_MIN_MS = 20;

/** Counts why a request was refused; gives how long to wait before it is made again. */
export function refused(caught: unknown, refusals: Map<string, number>): number {
  const { facts, message } = AnantaError.from(caught);
  const reason = String(facts["refusal"] ?? message);
  refusals.set(reason, (refusals.get(reason) ?? 0) + 1);
  return Math.max(RETRY_MIN_MS, Math.min(RETRY_MAX_MS, Number(facts["retryAfterMs"] ?? 0)));
}
