/**
 * [pure] Which VIP is withdrawn from all MUXes, and when: the policy behind the black hole (Ananta §3.6.2), decided from
 * what overloaded MUXes report. Fair drop comes first, on each MUX; a VIP goes only while MUXes stay overloaded in spite of it.
 *
 *     above twice its share on an overloaded MUX, in every report for AFTER_MS  ->  withdrawn, the worst first
 *     its time is over (the log's own deadline)  ->  announced again; back within an hour: longer (`state/overload-backoff`)
 *
 *     step --decision--> outstanding: no step decides --committed | refused--> step
 *
 *  (O1) No VIP goes without evidence of its own: a top talker of an overloaded MUX, far above its share, all the time. A MUX that
 *       reports no more, or another VIP's flood, is none.
 *  (O2) One at a time, with AFTER_MS in between: the effect of one must show before the next may go. A decision has no effect
 *       before it is committed: until that is known there is no other. One that was refused leaves nothing behind.
 *  (O3) Never more than a tenth of the VIPs is withdrawn at once, whoever asked for it, but one always may be.
 *  (O4) How long it lasts is for the log to say, which knows how often it was; a VIP with `action: none` never goes.
 */
import type { VipId } from "../../core/brands.js";

/** Of one MUX, as long as it is new. */
export interface OverloadReport {
  readonly mux: string;
  readonly bootId: string;
  readonly isOverloaded: boolean;
  /** All that arrives there. */
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

/** Four reports of each MUX: a moment is no attack. */
const AFTER_MS = 2_000;
/** A VIP that asks for less than this many times its share stays: a busy service is no flood. */
const EXCESS_MIN = 2;
/** (O3) One in so many. */
const WITHDRAWN_ONE_IN = 10;

/** What is committed about the VIPs. */
export interface IsolationFacts {
  /** False: there is no such VIP, or it is never withdrawn, or it is already. */
  readonly mayGo: (vipId: VipId) => boolean;
  readonly vips: number;
  /** Of those, withdrawn now, whoever asked for it. */
  readonly withdrawn: number;
}

export interface Withdraw {
  readonly vipId: VipId;
  /** The MUXes that say so, by name. */
  readonly muxes: readonly string[];
  readonly packetsPerSecond: number;
  readonly share: number;
  /** Of those MUXes together: all that arrives, and what they can forward; 0 when one of them does not know. */
  readonly arriving: number;
  readonly capacity: number;
}

interface Excess {
  readonly reports: OverloadReport[];
  packetsPerSecond: number;
  share: number;
}

export class Isolation {
  /** (O1) Since when a VIP is above its share without a break. */
  readonly #sinceMs = new Map<VipId, number>();
  /** (O2) Decided, and neither committed nor refused. */
  #outstanding: Withdraw | null = null;
  #lastAtMs = Number.NEGATIVE_INFINITY;

  /**
   * `reports`: of every live MUX that has spoken lately, the newest. Call at least twice in AFTER_MS. What it gives is to be answered
   * with `committed` or `refused`.
   */
  step(reports: readonly OverloadReport[], facts: IsolationFacts, nowMs: number): Withdraw | null {
    const excesses = excessesOf(reports);
    for (const vipId of this.#sinceMs.keys()) if (!excesses.has(vipId)) this.#sinceMs.delete(vipId);
    for (const vipId of excesses.keys()) if (!this.#sinceMs.has(vipId)) this.#sinceMs.set(vipId, nowMs);
    if (this.#outstanding !== null || nowMs - this.#lastAtMs < AFTER_MS) return null; // (O2)
    if (facts.withdrawn >= Math.max(1, Math.floor(facts.vips / WITHDRAWN_ONE_IN))) return null; // (O3)
    let worst: Withdraw | null = null;
    for (const [vipId, { reports: by, packetsPerSecond, share }] of excesses) {
      if (nowMs - this.#sinceMs.get(vipId)! < AFTER_MS) continue; // set above
      if (worst !== null && packetsPerSecond - share <= worst.packetsPerSecond - worst.share) continue;
      if (!facts.mayGo(vipId)) continue; // (O4)
      worst = {
        vipId,
        muxes: by.map(({ mux }) => mux),
        packetsPerSecond,
        share,
        arriving: sum(by.map((report) => report.packetsPerSecond)),
        capacity: by.some(({ capacity }) => capacity === 0) ? 0 : sum(by.map(({ capacity }) => capacity)),
      };
    }
    this.#outstanding = worst;
    return worst;
  }

  /** The last decision is in the log. */
  committed(nowMs: number): void {
    if (this.#outstanding === null) return;
    this.#sinceMs.delete(this.#outstanding.vipId);
    this.#outstanding = null;
    this.#lastAtMs = nowMs;
  }

  /** It is not, as far as is known: nothing counts, but the next decision takes its time too. */
  refused(nowMs: number): void {
    if (this.#outstanding === null) return;
    this.#outstanding = null;
    this.#lastAtMs = nowMs;
  }
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

/** VIPs far above their share, over all overloaded MUXes that say so. */
function excessesOf(reports: readonly OverloadReport[]): ReadonlyMap<VipId, Excess> {
  const excesses = new Map<VipId, Excess>();
  for (const report of reports) {
    if (!report.isOverloaded) continue;
    for (const { vipId, packetsPerSecond, share } of report.topTalkers) {
      if (packetsPerSecond < share * EXCESS_MIN || packetsPerSecond <= share) continue;
      const excess = excesses.get(vipId) ?? { reports: [], packetsPerSecond: 0, share: 0 };
      excess.reports.push(report);
      excess.packetsPerSecond += packetsPerSecond;
      excess.share += share;
      excesses.set(vipId, excess);
    }
  }
  return excesses;
}
