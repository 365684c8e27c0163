/**
 * Stage 6, MUX pool management: leases, losses, and the index that every live MUX has in force.
 *
 * (I1) `muxSafeIndex` = the smallest index in force over all live MUXes, never beyond what is applied here, and never
 *      goes back. Without a joined MUX it is the applied index: there is nobody to wait for, and nothing is granted.
 * (I2) A MUX is declared lost only lease + withdrawal + margin after it was last heard by this leader, and only by a
 *      leader that has been in office, without a stall of its event loop, for at least as long: by then the MUX has
 *      withdrawn its routes by its own clock, which started when it *sent* the renewal. Apply refuses to lose the last.
 */
import type { LogIndex, MuxId } from "../../core/brands.js";
import type { Clock, Log } from "../../runtime/env.js";
import type { StateMachine } from "../state/state-machine.js";

export interface MuxTimings {
  readonly leaseMs: number;
  readonly withdrawMs: number;
  readonly marginMs: number;
}

export const MUX_TIMINGS: MuxTimings = { leaseMs: 2_000, withdrawMs: 1_000, marginMs: 500 };

/** A check that comes so much later than asked for means that this process did not hear MUXes in between. */
const STALL_MS = 400;

/** What a MUX says it has in force, as far as this replica knows. */
export interface MuxReport {
  readonly name: string;
  readonly bootId: string;
  readonly index: LogIndex;
  readonly renewal: number;
}

interface Heard extends MuxReport {
  readonly heardAtMs: number;
}

/** One start of one MUX: an earlier process of the same name must not speak for a later one, nor be taken for it. */
const processOf = ({ name, bootId }: { readonly name: string; readonly bootId: string }): string => `${name}/${bootId}`;

export class MuxPoolManagement {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #state: Pick<StateMachine, "muxes" | "appliedIndex">;
  readonly #timings: MuxTimings;
  readonly #lose: (muxId: MuxId, incarnation: number) => void;
  readonly #heard = new Map<string, Heard>();
  readonly #losing = new Set<string>();
  #inOfficeSinceMs: number | null = null;
  #checkedAtMs = 0;

  constructor(options: {
    readonly clock: Clock;
    readonly log: Log;
    readonly state: Pick<StateMachine, "muxes" | "appliedIndex">;
    readonly timings: MuxTimings;
    readonly lose: (muxId: MuxId, incarnation: number) => void;
  }) {
    this.#clock = options.clock;
    this.#log = options.log;
    this.#state = options.state;
    this.#timings = options.timings;
    this.#lose = options.lose;
  }

  takeOffice(): void {
    this.#heard.clear();
    this.#losing.clear();
    this.#inOfficeSinceMs = this.#clock.nowMs();
    this.#checkedAtMs = this.#inOfficeSinceMs;
  }

  leaveOffice(): void {
    this.#inOfficeSinceMs = null;
    this.#heard.clear();
  }

  /** How long this leader has listened without a gap; 0 while it does not lead. */
  inOfficeMs(): number {
    return this.#inOfficeSinceMs === null ? 0 : this.#clock.nowMs() - this.#inOfficeSinceMs;
  }

  /** An acknowledgement has arrived, here or at a follower. It renews the lease. */
  report(report: MuxReport): void {
    if (this.#inOfficeSinceMs === null) return;
    const known = this.#heard.get(processOf(report));
    // Two streams may overtake one another: within one start, index and renewal only grow.
    const index = known !== undefined && known.index > report.index ? known.index : report.index;
    const renewal = known !== undefined && known.renewal > report.renewal ? known.renewal : report.renewal;
    this.#heard.set(processOf(report), {
      name: report.name,
      bootId: report.bootId,
      index,
      renewal,
      heardAtMs: this.#clock.nowMs(),
    });
  }

  /** (I1); null when some live MUX has not reported to this leader yet. */
  safeIndex(): LogIndex | null {
    let safe = this.#state.appliedIndex;
    for (const mux of this.#state.muxes()) {
      if (mux.state !== "live") continue;
      const heard = this.#heard.get(processOf(mux));
      if (heard === undefined) return null;
      if (heard.index < safe) safe = heard.index;
    }
    return safe;
  }

  /**
   * Newest renewals counted here: the MUXes' leases run from the moment they sent these. None of a MUX whose loss is
   * proposed: it must not go on announcing while grants already leave it out.
   */
  confirmations(): readonly MuxReport[] {
    const losing = this.#state.muxes().filter((mux) => this.#losing.has(`${mux.muxId}/${mux.incarnation}`));
    const excluded = new Set(losing.map(processOf));
    return [...this.#heard.values()].filter((heard) => !excluded.has(processOf(heard)));
  }

  renewedMsAgo(mux: { readonly name: string; readonly bootId: string }): number | null {
    const heard = this.#heard.get(processOf(mux));
    return heard === undefined ? null : this.#clock.nowMs() - heard.heardAtMs;
  }

  /** Call about every 100 ms while in office. */
  check(intervalMs: number): void {
    if (this.#inOfficeSinceMs === null) return;
    const nowMs = this.#clock.nowMs();
    if (nowMs - this.#checkedAtMs > intervalMs + STALL_MS) this.#inOfficeSinceMs = nowMs; // (I2): we may have missed renewals
    this.#checkedAtMs = nowMs;
    const patienceMs = this.#timings.leaseMs + this.#timings.withdrawMs + this.#timings.marginMs;
    if (nowMs - this.#inOfficeSinceMs < patienceMs) return;
    const present = new Set(this.#state.muxes().map(processOf));
    for (const [key, { heardAtMs }] of this.#heard)
      if (!present.has(key) && nowMs - heardAtMs > patienceMs) this.#heard.delete(key);
    const live = this.#state.muxes().filter((mux) => mux.state === "live");
    if (live.length === 1) return; // never the last one: without it there is nobody to wait for, and nothing to announce
    for (const mux of live) {
      const heard = this.#heard.get(processOf(mux));
      const silentMs = heard === undefined ? Infinity : nowMs - heard.heardAtMs;
      const key = `${mux.muxId}/${mux.incarnation}`;
      if (silentMs < patienceMs || this.#losing.has(key)) continue;
      this.#losing.add(key);
      this.#log.warn("mux silent, proposing its loss", {
        mux: mux.name,
        incarnation: mux.incarnation,
        silentMs: Number.isFinite(silentMs) ? Math.round(silentMs) : -1,
      });
      this.#lose(mux.muxId, mux.incarnation);
    }
  }

  /** The proposal came to nothing (refused, or it was the last MUX): look again later. */
  notLost(muxId: MuxId, incarnation: number): void {
    this.#losing.delete(`${muxId}/${incarnation}`);
  }
}
