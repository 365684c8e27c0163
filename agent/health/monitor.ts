/**
 * [pure] The state of each probed member: when its next probe starts, what its answers add up to (Ananta §3.4.3).
 *
 *     unknown --healthyThreshold successes in a row--> healthy --unhealthyThreshold failures in a row--> unhealthy
 *        \_________________________________________________________ failures ______________________________/
 *
 *  (M1) Probes of one member start exactly `intervalSeconds` apart and never overlap; members are spread over the interval.
 *  (M2) Only consecutive results count: a success ends a run of failures, and the other way round.
 *  (M3) An answer to an attempt that is over, or of a probe that was changed meanwhile, counts for nothing.
 *
 * Beside the probes, a UDP service is judged by its replies: one that used to answer and now leaves everything unanswered is
 * unhealthy although its probe, on another port perhaps, succeeds. Since no traffic comes after that, it is tried again
 * after a time that doubles.
 */
import type { DipId, PoolId } from "../../core/brands.js";
import type { Random } from "../../core/random.js";
import type { HostProbeItem } from "../../dataplane/host-items.js";
import type { UdpTraffic } from "../dataplane/probed-host.js";

export type ProbeOutcome = { readonly ok: true } | { readonly ok: false; readonly reason: string };

export interface ProbeStart {
  readonly probe: HostProbeItem;
  /** Names this attempt in `finished`. */
  readonly attempt: number;
}

export interface MemberHealth {
  readonly poolId: PoolId;
  readonly dipId: DipId;
  readonly healthy: boolean;
  /** Why it is not; empty when it is. */
  readonly reason: string;
}

interface Member {
  probe: HostProbeItem;
  nextMs: number;
  /** Attempt under way, and when it has taken too long; 0: none. */
  attempt: number;
  deadlineMs: number;
  /** Results in a row of the same kind: successes above 0, failures below. */
  run: number;
  byProbe: boolean | null;
  probeReason: string;
  passive: Passive;
  reported: string;
}

interface Passive {
  requests: number;
  replies: number;
  everReplied: boolean;
  /** Datagrams without any reply since the last one. */
  unanswered: number;
  sinceMs: number;
  untilMs: number;
  penaltyMs: number;
}

/** Fewer may be lost or need no answer. */
const UNANSWERED_MIN = 10;
const PENALTY_MIN_MS = 30_000;
const PENALTY_MAX_MS = 300_000;
const SECOND_MS = 1_000;

const keyOf = ({ poolId, dipId }: { readonly poolId: number; readonly dipId: number }): string => `${poolId}/${dipId}`;

export class HealthMonitor {
  readonly #members = new Map<string, Member>();
  readonly #random: Random;
  #attempts = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  get size(): number {
    return this.#members.size;
  }

  /** The probes of this host from now on. One that is as before goes on; a changed one starts anew and keeps its last state. */
  setProbes(probes: readonly HostProbeItem[], nowMs: number): void {
    const wanted = new Map(probes.map((probe) => [keyOf(probe), probe]));
    for (const key of this.#members.keys()) if (!wanted.has(key)) this.#members.delete(key);
    for (const [key, probe] of wanted) {
      const member = this.#members.get(key);
      if (member === undefined) this.#members.set(key, this.#newMember(probe, nowMs));
      else if (JSON.stringify(member.probe) !== JSON.stringify(probe)) {
        member.probe = probe;
        member.nextMs = nowMs;
        member.attempt = 0; // (M3)
        member.run = 0;
      }
    }
  }

  /** Attempts that start now. Each ends by `finished`, or here by its timeout. */
  due(nowMs: number): readonly ProbeStart[] {
    const starts: ProbeStart[] = [];
    for (const member of this.#members.values()) {
      if (member.attempt !== 0 && nowMs >= member.deadlineMs) this.#judge(member, { ok: false, reason: "timed out" });
      if (member.attempt !== 0 || nowMs < member.nextMs) continue;
      const { probe } = member;
      member.attempt = ++this.#attempts;
      member.deadlineMs = nowMs + probe.timeoutSeconds * SECOND_MS;
      const intervalMs = probe.intervalSeconds * SECOND_MS;
      member.nextMs += intervalMs; // (M1): from when it was due, so that lateness does not add up
      if (member.nextMs <= nowMs) member.nextMs = nowMs + intervalMs; // the process was paused: no burst
      starts.push({ probe, attempt: member.attempt });
    }
    return starts;
  }

  finished(probe: HostProbeItem, attempt: number, outcome: ProbeOutcome): void {
    const member = this.#members.get(keyOf(probe));
    if (member?.attempt === attempt) this.#judge(member, outcome); // (M3)
  }

  /** Judges UDP services by what their clients get. `traffic`: of the member's endpoints; null: it has none. */
  observe(trafficOf: (dipId: DipId, poolPort: number) => UdpTraffic | null, nowMs: number): void {
    for (const { probe, passive } of this.#members.values()) {
      const traffic = trafficOf(probe.dipId, probe.port);
      if (traffic === null) continue;
      const requests = traffic.requests - passive.requests;
      const replies = traffic.replies - passive.replies;
      passive.requests = traffic.requests;
      passive.replies = traffic.replies;
      if (nowMs < passive.untilMs) continue;
      if (replies > 0) {
        passive.everReplied = true;
        passive.unanswered = 0;
        if (nowMs - passive.untilMs > PENALTY_MAX_MS) passive.penaltyMs = PENALTY_MIN_MS;
        continue;
      }
      if (requests > 0 && passive.unanswered === 0) passive.sinceMs = nowMs;
      passive.unanswered += requests;
      const windowMs = probe.intervalSeconds * probe.unhealthyThreshold * SECOND_MS;
      const isSilent =
        passive.everReplied && passive.unanswered >= UNANSWERED_MIN && nowMs - passive.sinceMs >= windowMs;
      if (!isSilent) continue;
      passive.untilMs = nowMs + passive.penaltyMs;
      passive.penaltyMs = Math.min(PENALTY_MAX_MS, passive.penaltyMs * 2);
      passive.unanswered = 0;
    }
  }

  /** Members whose state is known. */
  states(nowMs: number): readonly MemberHealth[] {
    return [...this.#members.values()].flatMap((member) => stateOf(member, nowMs) ?? []);
  }

  /** What has changed since the last call. */
  changes(nowMs: number): readonly MemberHealth[] {
    const changed: MemberHealth[] = [];
    for (const member of this.#members.values()) {
      const state = stateOf(member, nowMs);
      const text = state === null ? "" : `${state.healthy ? "up" : "down"} ${state.reason}`;
      if (text === member.reported) continue;
      member.reported = text;
      if (state !== null) changed.push(state);
    }
    return changed;
  }

  #newMember(probe: HostProbeItem, nowMs: number): Member {
    return {
      probe,
      // A host that starts has many: not all in the same millisecond, and all within the first second.
      nextMs: nowMs + this.#random.below(Math.min(1_000, probe.intervalSeconds * SECOND_MS)),
      attempt: 0,
      deadlineMs: 0,
      run: 0,
      byProbe: null,
      probeReason: "",
      passive: {
        requests: 0,
        replies: 0,
        everReplied: false,
        unanswered: 0,
        sinceMs: nowMs,
        untilMs: 0,
        penaltyMs: PENALTY_MIN_MS,
      },
      reported: "",
    };
  }

  #judge(member: Member, outcome: ProbeOutcome): void {
    const { healthyThreshold, unhealthyThreshold } = member.probe;
    member.attempt = 0;
    member.run = outcome.ok ? Math.max(0, member.run) + 1 : Math.min(0, member.run) - 1; // (M2)
    if (!outcome.ok && (member.byProbe !== true || -member.run >= unhealthyThreshold))
      member.probeReason = outcome.reason;
    if (member.run >= healthyThreshold) member.byProbe = true;
    else if (-member.run >= unhealthyThreshold) member.byProbe = false;
  }
}

function stateOf({ probe, byProbe, probeReason, passive }: Member, nowMs: number): MemberHealth | null {
  const { poolId, dipId } = probe;
  if (byProbe === null) return null;
  if (!byProbe) return { poolId, dipId, healthy: false, reason: probeReason };
  if (nowMs < passive.untilMs) return { poolId, dipId, healthy: false, reason: "no reply to datagrams" };
  return { poolId, dipId, healthy: true, reason: "" };
}
