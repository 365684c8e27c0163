/**
 * SEDA policy, as one table: which stage goes first, what may wait in it, for how long, who takes turns, what gives way when a
 * queue is full, and what the refused are told.
 * VIP configuration outranks SNAT (Ananta §3.5.1); membership of the MUX pool outranks both, because grants wait for
 * every live MUX; giving ports back outranks asking for more, because it makes room.
 *
 * Lengths: an agent has one open request per DIP and protocol, so `allocate` bounds the DIPs served at once; a full
 * queue of 65,536 at 50,000 grants/s is 1.3 s of work, about what a waiting connection still bears. Of one tenant only so many
 * wait as are served in 200 ms: an agent that has no answer after 300 ms asks another replica as well, which makes a queue
 * that is longer do its work twice. The others are refused at once, with a turn to come back in.
 */
import type { SharePolicy } from "../seda/queue-shares.js";
import type { StagePolicy } from "../seda/stage.js";

/** Batches hold 1,024. A connection gives up after some seconds, but its DIP's other ones go on. */
const TENANT_SHARE: SharePolicy = { waitTargetMs: 200, lengthMin: 2_048, retryAfterMaxMs: 30_000 };

export const VIP_VALIDATION: StagePolicy<"configuration"> = {
  name: "vip-validation",
  priority: 2,
  batchMax: 16,
  kinds: [
    {
      kind: "configuration",
      fairness: "tenant",
      whenFull: "refuse",
      lengthMax: 1_024,
      retryAfterMs: 1_000,
      waitMaxMs: 30_000,
    },
  ],
};

export const VIP_CONFIGURATION: StagePolicy<"configuration"> = {
  name: "vip-configuration",
  priority: 3,
  batchMax: 16,
  kinds: [
    {
      kind: "configuration",
      fairness: "tenant",
      whenFull: "refuse",
      lengthMax: 1_024,
      retryAfterMs: 1_000,
      waitMaxMs: 30_000,
    },
  ],
};

export const ROUTE_MANAGEMENT: StagePolicy<"activate"> = {
  name: "route-management",
  priority: 1,
  batchMax: 16,
  kinds: [
    { kind: "activate", fairness: "tenant", whenFull: "refuse", lengthMax: 64, retryAfterMs: 100, waitMaxMs: 10_000 },
  ],
};

export const SNAT_MANAGEMENT: StagePolicy<"release" | "allocate"> = {
  name: "snat-management",
  priority: 5,
  batchMax: 1_024,
  kinds: [
    {
      kind: "release",
      fairness: "tenant",
      whenFull: "refuse",
      lengthMax: 16_384,
      retryAfterMs: 500,
      waitMaxMs: 10_000,
    },
    {
      kind: "allocate",
      fairness: "tenant",
      whenFull: "refuse",
      lengthMax: 65_536,
      retryAfterMs: 200,
      waitMaxMs: 5_000,
      share: TENANT_SHARE,
    },
  ],
};

/**
 * On a follower, before the link to the leader: the same turns and shares as at the leader, so that one tenant's requests do not
 * fill the link, and what is refused costs the leader nothing. Returns of ports pass it.
 */
export const SNAT_FORWARDING: StagePolicy<"allocate"> = {
  ...SNAT_MANAGEMENT,
  name: "snat-forwarding",
  batchMax: 512,
  kinds: SNAT_MANAGEMENT.kinds.flatMap((policy) => (policy.kind === "allocate" ? { ...policy, kind: "allocate" } : [])),
};

/**
 * Health before everything that is asked of the Manager: traffic goes to a dead DIP until its verdict is committed. 4,096:
 * two reports of each of 2,000 hosts. Of a host that fills the queue alone the oldest report is dropped: its next whole one
 * tells the same again. Batches: hosts that register together mostly have members in the same pools, whose rows are made once per
 * entry; a host of 50 DIPs takes some milliseconds, and what is committed after it waits as long.
 */
export const HOST_AGENT_MANAGEMENT: StagePolicy<"health" | "register"> = {
  name: "host-agent-management",
  priority: 2,
  batchMax: 16,
  kinds: [
    {
      kind: "health",
      fairness: "host",
      whenFull: "drop-oldest",
      lengthMax: 4_096,
      retryAfterMs: 200,
      waitMaxMs: 10_000,
    },
    { kind: "register", fairness: "host", whenFull: "refuse", lengthMax: 4_096, retryAfterMs: 500, waitMaxMs: 10_000 },
  ],
};

export const MUX_POOL_MANAGEMENT: StagePolicy<"membership" | "housekeeping"> = {
  name: "mux-pool-management",
  priority: 0,
  batchMax: 64,
  kinds: [
    { kind: "membership", fairness: "one", whenFull: "refuse", lengthMax: 256, retryAfterMs: 200, waitMaxMs: 10_000 },
    { kind: "housekeeping", fairness: "one", whenFull: "refuse", lengthMax: 64, retryAfterMs: 100, waitMaxMs: 10_000 },
  ],
};
