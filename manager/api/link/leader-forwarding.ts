/**
 * Takes a command to the leader, wherever it is, and brings its result back (only the leader proposes).
 *
 * (I1) Every submission gets exactly one result, at its deadline at the latest.
 * (I2) A submission that came back NOT_LEADER or LEADERSHIP_LOST, or whose link broke, is sent again to the next leader:
 *      its origin makes that harmless. Only when time is up the caller hears of it: UNAVAILABLE when it was never handed
 *      over (nothing was done), DEADLINE_EXCEEDED when it was (outcome unknown).
 * (I3) After an attempt whose outcome is unknown only an answer from the log is final.
 * (I4) While there is no leader, requests for SNAT ports of one tenant do not take the room of others, and everything else goes
 *      to the next leader before them.
 */
import type { LogIndex } from "../../../core/brands.js";
import { AnantaError, type ErrorCode } from "../../../core/errors.js";
import type { Clock, Timer } from "../../../runtime/env.js";
import { refusal, type Submission } from "../../stages/submission.js";
import type { SubmittedCommand } from "../../state/commands/commands.js";
import type { CommandResult } from "../../state/commands/results.js";

/** Waiting here, without a leader, at most. At 50,000 requests/s and a 100 ms failover 5,000 would do. */
const WAITING_MAX = 65_536;
/** Of them not for requests for SNAT ports, whoever makes them. */
const WAITING_FOR_OTHERS = 8_192;
/** For SNAT ports of one tenant. */
const WAITING_MAX_PER_TENANT = 4_096;
/** The refused come back between it and twice it, spread evenly (golden ratio). */
const NO_LEADER_RETRY_MS = 500;
const SPREAD = 0.618_033_988_749_895;
/** Deadlines are looked at this often. */
const SWEEP_MS = 50;
/** In one turn of the event loop so many, or for so long: a hello with 50 DIPs takes a millisecond of checks on its way into the stages. */
const HANDED_AT_ONCE = 512;
const HANDING_MS = 5;
const RETRY_MS = 5;

/** Somewhere a submission can be handed to: the own pipeline, or a link to the leader. */
export interface Route {
  submit(submission: Submission): void;
}

interface Errand {
  readonly submitted: SubmittedCommand;
  /** It asks for SNAT ports, for this tenant. */
  readonly snatOf: string | null;
  readonly deadlineAtMs: number;
  /** It is with a leader now. */
  underWay: boolean;
  /** False once whoever asked has gone: the start of a dead process must not overtake that of its successor. */
  readonly wanted: () => boolean;
  /** An earlier attempt ended without an answer: it may have been done. */
  uncertain: boolean;
  resolve: ((result: CommandResult) => void) | null;
}

export class LeaderForwarding {
  readonly #clock: Clock;
  readonly #snatOf: (submitted: SubmittedCommand) => string | null;
  readonly #waiting = new Set<Errand>();
  readonly #waitingOf = new Map<string, number>();
  /** By the sweep that finds them too late. */
  readonly #open = new Map<number, Set<Errand>>();
  #refused = 0;
  #route: Route | null = null;
  #sweep: Timer | null = null;
  #stopped = false;

  /** `snatOf`: the tenant that a request for SNAT ports is made for; null for everything else. */
  constructor(clock: Clock, snatOf: (submitted: SubmittedCommand) => string | null) {
    this.#clock = clock;
    this.#snatOf = snatOf;
  }

  /** Where the leader is reached from now on; null while there is none. */
  setRoute(route: Route | null): void {
    this.#route = route;
    if (route === null) return;
    const waiting = [...this.#waiting];
    const isFirst = ({ snatOf }: Errand): boolean => snatOf === null; // (I4)
    this.#handOver(route, [...waiting.filter(isFirst), ...waiting.filter((errand) => !isFirst(errand))]);
  }

  /** Some in each turn of the event loop: tens of thousands may have waited for the end of an election. */
  #handOver(route: Route, waiting: readonly Errand[], from = 0): void {
    if (route !== this.#route) return;
    const endMs = this.#clock.nowMs() + HANDING_MS;
    let at = from;
    while (at < waiting.length && at < from + HANDED_AT_ONCE && (at === from || this.#clock.nowMs() < endMs)) {
      const errand = waiting[at++]!; // at < length
      if (this.#unwait(errand)) this.#hand(errand);
    }
    if (at < waiting.length) this.#clock.nextTurn(() => this.#handOver(route, waiting, at));
  }

  submit(submitted: SubmittedCommand, deadlineMs: number, wanted: () => boolean = () => true): Promise<CommandResult> {
    if (this.#stopped) return Promise.resolve(refusal(new AnantaError("UNAVAILABLE", "this replica is stopping")));
    const snatOf = this.#snatOf(submitted);
    const full = this.#isFull(snatOf);
    if (full !== null) return Promise.resolve(refusal(full));
    return new Promise((resolve) => {
      const errand: Errand = {
        submitted,
        snatOf,
        deadlineAtMs: this.#clock.nowMs() + deadlineMs,
        underWay: false,
        uncertain: false,
        wanted,
        resolve,
      };
      const sweep = sweepOf(errand);
      const others = this.#open.get(sweep);
      if (others === undefined) this.#open.set(sweep, new Set([errand]));
      else others.add(errand);
      this.#sweep ??= this.#clock.setTimer(SWEEP_MS, () => this.#expire());
      this.#hand(errand);
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#sweep?.cancel();
    for (const errands of [...this.#open.values()])
      for (const errand of [...errands]) this.#finish(errand, timeUp(errand));
  }

  #isFull(snatOf: string | null): AnantaError | null {
    const most = snatOf === null ? WAITING_MAX : WAITING_MAX - WAITING_FOR_OTHERS; // (I4)
    const isFull = this.#waiting.size >= most;
    const tenantIsFull = snatOf !== null && (this.#waitingOf.get(snatOf) ?? 0) >= WAITING_MAX_PER_TENANT; // (I4)
    if (!isFull && !tenantIsFull) return null;
    const retryAfterMs = Math.round(NO_LEADER_RETRY_MS * (1 + ((this.#refused++ * SPREAD) % 1)));
    const who = isFull ? `${most} requests` : `${WAITING_MAX_PER_TENANT} requests of tenant ${snatOf ?? ""}`;
    return new AnantaError("STAGE_OVERLOADED", `${who} wait for a leader already; retry after ${retryAfterMs} ms`, {
      retryAfterMs,
    });
  }

  #wait(errand: Errand): void {
    const { snatOf } = errand;
    if (snatOf !== null && !this.#waiting.has(errand))
      this.#waitingOf.set(snatOf, (this.#waitingOf.get(snatOf) ?? 0) + 1);
    this.#waiting.add(errand);
  }

  /** False: it did not wait. */
  #unwait(errand: Errand): boolean {
    if (!this.#waiting.delete(errand)) return false;
    const { snatOf } = errand;
    if (snatOf === null) return true;
    const left = (this.#waitingOf.get(snatOf) ?? 0) - 1;
    if (left > 0) this.#waitingOf.set(snatOf, left);
    else this.#waitingOf.delete(snatOf);
    return true;
  }

  #hand(errand: Errand): void {
    if (!errand.wanted()) {
      this.#finish(errand, refusal(new AnantaError("CANCELLED", "whoever asked has gone")));
      return;
    }
    if (this.#route === null) {
      this.#wait(errand);
      return;
    }
    errand.underWay = true;
    let answered = false;
    this.#route.submit({
      submitted: errand.submitted,
      deadlineAtMs: errand.deadlineAtMs,
      reply: (result) => {
        if (answered || errand.resolve === null) return;
        answered = true;
        // (I3) A refusal from before the log says nothing about an earlier attempt that may have been executed.
        const inconclusive = !result.ok && errand.uncertain && result.index === 0;
        if (result.ok || !(isRetryable(result.code) || inconclusive)) this.#finish(errand, result);
        else {
          const afterMs = Number(result.facts["retryAfterMs"] ?? RETRY_MS);
          // Its turn comes when nobody waits for it any more: whoever asked keeps it, and asks again with the same origin.
          if (this.#clock.nowMs() + afterMs >= errand.deadlineAtMs) this.#finish(errand, timeUp(errand, afterMs));
          else this.#again(errand, result.code, afterMs);
        }
      },
    });
  }

  #again(errand: Errand, code: ErrorCode, afterMs: number): void {
    errand.underWay = false;
    if (code === "LEADERSHIP_LOST") errand.uncertain = true;
    this.#wait(errand);
    // The route that refused us may be gone already, or about to be replaced: look once more in the next turn.
    this.#clock.nextTurn(() => {
      if (this.#route !== null && this.#unwait(errand)) this.#clock.setTimer(afterMs, () => this.#retry(errand));
    });
  }

  #retry(errand: Errand): void {
    if (errand.resolve !== null) this.#hand(errand);
  }

  #expire(): void {
    this.#sweep = null;
    const nowMs = this.#clock.nowMs();
    for (const [sweep, errands] of [...this.#open]) {
      if (sweep * SWEEP_MS > nowMs) continue;
      for (const errand of [...errands]) this.#finish(errand, timeUp(errand));
    }
    if (this.#open.size > 0) this.#sweep = this.#clock.setTimer(SWEEP_MS, () => this.#expire());
  }

  #finish(errand: Errand, result: CommandResult): void {
    const { resolve } = errand;
    errand.resolve = null;
    const sweep = sweepOf(errand);
    const errands = this.#open.get(sweep);
    errands?.delete(errand);
    if (errands?.size === 0) this.#open.delete(sweep);
    this.#unwait(errand);
    resolve?.(result);
  }
}

/** Number of the first sweep that is not before its deadline. */
const sweepOf = ({ deadlineAtMs }: Errand): number => Math.ceil(deadlineAtMs / SWEEP_MS);

function isRetryable(code: ErrorCode): boolean {
  return code === "NOT_LEADER" || code === "LEADERSHIP_LOST";
}

function timeUp(errand: Errand, retryAfterMs?: number): CommandResult {
  const error =
    errand.underWay || errand.uncertain
      ? new AnantaError(
          "DEADLINE_EXCEEDED",
          "no answer from the leader in time; the outcome is unknown: retry with the same origin",
          retryAfterMs === undefined ? {} : { retryAfterMs },
        )
      : new AnantaError(
          "UNAVAILABLE",
          "no leader in time: a majority of the Manager replicas is not reachable; nothing was done",
        );
  return { ...refusal(error), index: 0 as LogIndex };
}
