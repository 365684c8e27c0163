/**
 * Which VIP is withdrawn from all MUXes, and when it comes back: the policy behind the black hole (Ananta §3.6.2), as a pure
 * function of what MUXes report. Fair drop comes first, on each MUX; a VIP goes only while MUXes stay overloaded in spite of
 * it, the one with the most excess, one per step, never one within its share.
 *
 *     overloaded reports for `afterMs`  -> withdraw the top talker
 *     `holdMs` after                     -> restore; if it floods again, twice as long, up to `holdMaxMs`
 */
import type { VipId } from "../../core/brands.js";
import type { OverloadReport } from "./fairness.js";

export interface IsolationTimings {
  /** Two reports of each MUX: a moment is no attack. */
  readonly afterMs: number;
  readonly holdMs: number;
  readonly holdMaxMs: number;
}

export const ISOLATION_TIMINGS: IsolationTimings = { afterMs: 2_000, holdMs: 60_000, holdMaxMs: 3_600_000 };

/** A VIP that asks for less than this many times its share stays: a busy service is no flood. */
const EXCESS_MIN = 2;

export interface IsolationStep {
  readonly withdraw: VipId | null;
  readonly restore: readonly VipId[];
}

interface Withdrawn {
  readonly untilMs: number;
}

export class Isolation {
  readonly #timings: IsolationTimings;
  readonly #withdrawn = new Map<VipId, Withdrawn>();
  /** How long the next withdrawal of a VIP lasts. */
  readonly #holdMs = new Map<VipId, number>();
  #overloadedSinceMs: number | null = null;

  constructor(timings: IsolationTimings = ISOLATION_TIMINGS) {
    this.#timings = timings;
  }

  get withdrawn(): readonly VipId[] {
    return [...this.#withdrawn.keys()];
  }

  /** `reports`: the newest of every live MUX. Call about once a second. */
  step(reports: readonly OverloadReport[], nowMs: number): IsolationStep {
    const restore: VipId[] = [];
    for (const [vipId, { untilMs }] of this.#withdrawn) {
      if (nowMs < untilMs) continue;
      this.#withdrawn.delete(vipId);
      restore.push(vipId);
    }
    const overloaded = reports.filter(({ isOverloaded }) => isOverloaded);
    if (overloaded.length === 0) {
      this.#overloadedSinceMs = null;
      return { withdraw: null, restore };
    }
    this.#overloadedSinceMs ??= nowMs;
    if (nowMs - this.#overloadedSinceMs < this.#timings.afterMs) return { withdraw: null, restore };
    const withdraw = this.#worst(overloaded);
    if (withdraw !== null) {
      const holdMs = this.#holdMs.get(withdraw) ?? this.#timings.holdMs;
      this.#withdrawn.set(withdraw, { untilMs: nowMs + holdMs });
      this.#holdMs.set(withdraw, Math.min(holdMs * 2, this.#timings.holdMaxMs));
      this.#overloadedSinceMs = nowMs; // its effect takes as long to show
    }
    return { withdraw, restore };
  }

  /** Most excess over all overloaded MUXes. */
  #worst(reports: readonly OverloadReport[]): VipId | null {
    const totals = new Map<VipId, { asked: number; share: number }>();
    for (const { topTalkers } of reports) {
      for (const { vipId, packetsPerSecond, share } of topTalkers) {
        const total = totals.get(vipId) ?? { asked: 0, share: 0 };
        totals.set(vipId, { asked: total.asked + packetsPerSecond, share: total.share + share });
      }
    }
    let worst: VipId | null = null;
    let most = 0;
    for (const [vipId, { asked, share }] of totals) {
      if (this.#withdrawn.has(vipId) || asked < share * EXCESS_MIN || asked - share <= most) continue;
      [worst, most] = [vipId, asked - share];
    }
    return worst;
  }
}
