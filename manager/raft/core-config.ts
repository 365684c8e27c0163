/** The core's settings in ticks and bytes, from the node's in milliseconds. */
import type { Env } from "../../runtime/env.js";
import { simpleMembership } from "./core/membership.js";
import type { CoreConfig, Observe, VotingRight } from "./core/types.js";
import type { RaftNodeConfig } from "./raft-node.js";

/** One append: well under gRPC's 4 MiB frame limit, large enough that per-message costs vanish. */
const APPEND_BYTES_MAX = 1024 * 1024;
/** Window per follower: at 1 ms a round this is far more than any link of a data centre holds. */
const INFLIGHT_APPENDS_MAX = 256;
const INFLIGHT_BYTES_MAX = 8 * 1024 * 1024;
/**
 * A killed leader's followers start pre-vote within this, by rank. Steps of 10 to 20 ms are longer than a round of pre-votes
 * and the fsync after it, so that the next one seldom asks as well.
 */
const UNREACHABLE_DELAY_MAX_MS = 50;
/** Far above what a busy disk needs for one batch, far below what users bear. */
const STORAGE_STALL_MS = 1_000;
/** Of the shortest election timeout, kept off a lease: clocks that differ by a tenth each, and two ticks of rounding. */
const LEASE_MARGIN_SHARE = 0.2;
const LEASE_ROUNDING_TICKS = 2;

export function coreConfig(
  config: RaftNodeConfig,
  parts: { readonly env: Env; readonly voting: VotingRight; readonly observe: Observe },
): CoreConfig {
  const ticks = (ms: number): number => Math.max(1, Math.round(ms / config.tickMs));
  const { env, voting, observe } = parts;
  const founders = [...config.voters].map(([id, address]) => ({
    id,
    address,
    service: config.services?.get(id) ?? "",
    folder: "",
  }));
  return {
    id: config.id,
    membership: simpleMembership(config.voters.keys(), [], founders),
    electionTimeoutMinTicks: ticks(config.electionTimeoutMinMs),
    electionTimeoutMaxTicks: ticks(config.electionTimeoutMaxMs),
    heartbeatTicks: ticks(config.heartbeatMs),
    unreachableDelayMaxTicks: ticks(UNREACHABLE_DELAY_MAX_MS),
    inflightAppendsMax: INFLIGHT_APPENDS_MAX,
    inflightBytesMax: INFLIGHT_BYTES_MAX,
    appendBytesMax: APPEND_BYTES_MAX,
    uncommittedBytesMax: config.uncommittedBytesMax,
    storageStallTicks: ticks(config.storageStallMs ?? STORAGE_STALL_MS),
    leaseMarginTicks:
      config.leaseReads === true
        ? Math.ceil((config.electionTimeoutMinMs * LEASE_MARGIN_SHARE) / config.tickMs) + LEASE_ROUNDING_TICKS
        : null,
    random: env.random.fork(),
    readNonce: new DataView(new Uint8Array(env.entropy(4)).buffer).getUint32(0),
    voting,
    observe,
  };
}
