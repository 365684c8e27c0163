/** What the tenant that floods and the bystanders have in common: how they ask, and how they take a refusal. */
import { AnantaError } from "../../core/errors.js";
import type { Channel, Env } from "../../runtime/env.js";

export const TCP = 6;
export const UDP = 17;
export const VICTIM_DIPS: readonly string[] = Array.from({ length: 20 }, (_, dip) => `10.200.0.${dip + 1}`);

/** Who is refused without a hint asks again after this long. */
const RETRY_MIN_MS = 20;

/** As Host Agents: who was refused together does not come back together. */
const JITTER = 0.25;

/** Counts why a request was refused; gives how long to wait before it is made again: what the Managers said, and a little longer. */
export function refused(caught: unknown, refusals: Map<string, number>): number {
  const { facts, message } = AnantaError.from(caught);
  const reason = String(facts["refusal"] ?? message);
  refusals.set(reason, (refusals.get(reason) ?? 0) + 1);
  return Math.max(RETRY_MIN_MS, Number(facts["retryAfterMs"] ?? 0)) * (1 + JITTER * Math.random());
}

/** One channel to each address, made when it is first asked for. */
export function channelsTo(env: Env): (address: string) => Channel {
  const channels = new Map<string, Channel>();
  return (address) => {
    let channel = channels.get(address);
    if (channel === undefined) {
      channel = env.network.connect(address, { reconnectMaxMs: 100 });
      channels.set(address, channel);
    }
    return channel;
  };
}
