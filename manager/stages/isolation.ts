/**
 * [pure] Which VIP is withdrawn from all MUXes, and for how long: the policy behind the black hole (Ananta §3.6.2), decided from
 * what overloaded MUXes report. Fair drop comes first, on each MUX; a VIP goes only while MUXes stay overloaded in spite of it.
 *
 *     above twice its share on an overloaded MUX, in every report for `afterMs`  ->  withdrawn, the worst first
 *     its time is over (the log's own deadline)  ->  announced again; back within `forgetMs`: twice as long, up to a day
 *
 *  (O1) No VIP goes without evidence of its own: a top talker of an overloaded MUX, far above its share, all the time. A MUX that
 *       reports no more, or another VIP's flood, is none.
 *  (O2) One at a time, with `afterMs` in between: the effect of one must show before the next may go.
 *  (O3) Never more than a tenth of the VIPs is withdrawn at once, whoever asked for it, but one always may be.
 *  (O4) The first time lasts as long as the VIP's `overload.restoreAfterSeconds` says; a VIP with `action: none` never goes.
 */
import type { VipId } from "../../core/brands.js";

/** Of one MUX, as long as it is new. */
export interface OverloadReport {
  readonly mux: string;
  readonly bootId: string;
  readonly isOverloaded: boolean;
  readonly packetsPerSecond: number;
  /** What the MUX can forward; 0: not known. */
  readonly capacity: number;
  /** At most `TALKERS_MAX`. */
  readonly topTalkers: readonly TopTalker[];
}

interface TopTalker {
  readonly vipId: VipId;
  readonly packetsPerSecond: number;
  /** What of it the MUX lets through. */
  readonly share: number;
}

export const TALKERS_MAX = 10;

interface IsolationLimits {
  /** Four reports of each MUX: a moment is no attack. */
  readonly afterMs: number;
  /** A VIP that was not withdrawn for so long begins anew. */
  readonly forgetMs: number;
}

const ISOLATION_LIMITS: IsolationLimits = { afterMs: 2_000, forgetMs: 3_600_000 };

/** A VIP that asks for less than this many times its share stays: a busy service is no flood. */
const EXCESS_MIN = 2;
/** (O3) One in so many. */
const WITHDRAWN_ONE_IN = 10;
const HOLD_MAX_SECONDS = 86_400;

/** What is committed about the VIPs. */
export interface IsolationFacts {
  /** Null: there is no such VIP, or it is never withdrawn, or it is already. */
  readonly restoreAfterSeconds: (vipId: VipId) => number | null;
  readonly vips: number;
  /** Of those, withdrawn now, whoever asked for it. */
  readonly withdrawn: number;
}

export interface Withdraw {
  readonly vipId: VipId;
  readonly forSeconds: number;
  /** The MUXes that say so, by name. */
  readonly muxes: readonly string[];
  readonly packetsPerSecond: number;
  readonly share: number;
}

interface Excess {
  readonly muxes: string[];
  packetsPerSecond: number;
  share: number;
}

export class Isolation {
  readonly #limits: IsolationLimits;
  /** (O1) Since when a VIP is above its share without a break. */
  readonly #sinceMs = new Map<VipId, number>();
  /** (O4) How long the last withdrawal of a VIP lasts or lasted. */
  readonly #last = new Map<VipId, { readonly forSeconds: number; readonly endsAtMs: number }>();
  #lastAtMs = Number.NEGATIVE_INFINITY;

  constructor(limits: IsolationLimits = ISOLATION_LIMITS) {
    this.#limits = limits;
  }

  /** `reports`: of every live MUX that has spoken lately, the newest. Call at least twice in `afterMs`. */
  step(reports: readonly OverloadReport[], facts: IsolationFacts, nowMs: number): Withdraw | null {
    const { afterMs, forgetMs } = this.#limits;
    for (const [vipId, { endsAtMs }] of this.#last) if (nowMs - endsAtMs >= forgetMs) this.#last.delete(vipId);
    const excesses = excessesOf(reports);
    for (const vipId of this.#sinceMs.keys()) if (!excesses.has(vipId)) this.#sinceMs.delete(vipId);
    let worst: VipId | null = null;
    let most = 0;
    for (const [vipId, { packetsPerSecond, share }] of excesses) {
      const sinceMs = this.#sinceMs.get(vipId) ?? nowMs;
      this.#sinceMs.set(vipId, sinceMs);
      if (nowMs - sinceMs < afterMs || packetsPerSecond - share <= most) continue;
      if (facts.restoreAfterSeconds(vipId) === null) continue;
      [worst, most] = [vipId, packetsPerSecond - share];
    }
    if (worst === null || nowMs - this.#lastAtMs < afterMs) return null; // (O2)
    if (facts.withdrawn >= Math.max(1, Math.floor(facts.vips / WITHDRAWN_ONE_IN))) return null; // (O3)
    const last = this.#last.get(worst);
    const forSeconds =
      last === undefined
        ? (facts.restoreAfterSeconds(worst) ?? HOLD_MAX_SECONDS)
        : Math.min(HOLD_MAX_SECONDS, last.forSeconds * 2);
    this.#last.set(worst, { forSeconds, endsAtMs: nowMs + forSeconds * 1_000 });
    this.#lastAtMs = nowMs;
    this.#sinceMs.delete(worst);
    const { muxes, packetsPerSecond, share } = excesses.get(worst)!;
    return { vipId: worst, forSeconds, muxes, packetsPerSecond, share };
  }

  /** The withdrawal was not committed: it does not count for the next one's length. */
  refused({ vipId, forSeconds }: Withdraw, restoreAfterSeconds: number): void {
    if (forSeconds <= restoreAfterSeconds) this.#last.delete(vipId);
    else this.#last.set(vipId, { forSeconds: forSeconds / 2, endsAtMs: this.#last.get(vipId)?.endsAtMs ?? 0 });
  }
}

/** VIPs far above their share, over all overloaded MUXes that say so. */
function excessesOf(reports: readonly OverloadReport[]): ReadonlyMap<VipId, Excess> {
  const excesses = new Map<VipId, Excess>();
  for (const { mux, isOverloaded, topTalkers } of reports) {
    if (!isOverloaded) continue;
    for (const { vipId, packetsPerSecond, share } of topTalkers) {
      if (packetsPerSecond < share * EXCESS_MIN || packetsPerSecond <= share) continue;
      const excess = excesses.get(vipId) ?? { muxes: [], packetsPerSecond: 0, share: 0 };
      excess.muxes.push(mux);
      excess.packetsPerSecond += packetsPerSecond;
      excess.share += share;
      excesses.set(vipId, excess);
    }
  }
  return excesses;
}
