/**
 * Stage 3, route management: when do MUXes begin to use what was configured? The second entry of every change
 * (`activate`): Host Agents must know new endpoints before a MUX sends them packets. It is proposed
 *
 *   (S1) when all hosts concerned have acknowledged the first entry; of several changes, up to the one that all of them know;
 *   (S2) or 500 ms after they could have: a dead host must not hold up the others. Hosts are told of nothing that a live MUX
 *        lacks (their views end at muxSafeIndex), so this time begins when no MUX lags behind the change any more;
 *   (S3) or 10 s after the change, whatever MUXes do. One that is dead or lags is declared lost long before and is waited for no
 *        more, except the last one, which is never declared lost: while it is silent nobody forwards anything, and operators go on.
 *
 * A later change does not set back the clock of an earlier one.
 */
import type { HostId, LogIndex } from "../../core/brands.js";
import type { Clock, Timer } from "../../runtime/env.js";
import type { StateMachine } from "../state/state-machine.js";

/** Agents acknowledge in milliseconds; only dead or paused ones take longer. */
const AGENTS_WAIT_MAX_MS = 500;
/** A MUX that renews no more is lost after 3.5 s, one that lags ends to renew after 2 s more; a new leader listens for 3.5 s first. */
const MUXES_WAIT_MAX_MS = 10_000;

/** Hosts are waited for. */
interface Wait {
  /** The newest change when the wait began. */
  readonly upToIndex: LogIndex;
  readonly sinceMs: number;
  /** When no MUX lagged behind it any more, so that hosts could be told; null: one does. */
  tellableSinceMs: number | null;
}

export class RouteManagement {
  readonly #clock: Clock;
  readonly #state: Pick<StateMachine, "pendingActivation">;
  readonly #hostIndex: (host: HostId) => LogIndex;
  readonly #muxSafeIndex: () => LogIndex;
  readonly #activate: (upToIndex: LogIndex) => void;
  #wait: Wait | null = null;
  #asked = 0 as LogIndex;
  #timer: { readonly dueMs: number; readonly timer: Timer } | null = null;

  constructor(options: {
    readonly clock: Clock;
    readonly state: Pick<StateMachine, "pendingActivation">;
    /** What the host is known to have in force; 0 when unknown. */
    readonly hostIndex: (host: HostId) => LogIndex;
    /** Where hosts' views end. */
    readonly muxSafeIndex: () => LogIndex;
    readonly activate: (upToIndex: LogIndex) => void;
  }) {
    this.#clock = options.clock;
    this.#state = options.state;
    this.#hostIndex = options.hostIndex;
    this.#muxSafeIndex = options.muxSafeIndex;
    this.#activate = options.activate;
  }

  /** Call when something was applied, a host has acknowledged, or muxSafeIndex has advanced. Leader only. */
  consider(): void {
    const pending = this.#state.pendingActivation();
    if (pending === null) {
      this.stop();
      return;
    }
    if (this.#asked >= pending.upToIndex) return;
    const known = this.#knownToAll(pending);
    if (known >= pending.fromIndex && known > this.#asked) this.#ask(known); // (S1)
    if (this.#asked < pending.upToIndex) this.#await(pending.upToIndex);
  }

  /** The activation did not reach the log; ask again when next considered. */
  refused(): void {
    this.stop();
  }

  /** Leadership is over, or nothing is pending. */
  stop(): void {
    this.#timer?.timer.cancel();
    this.#timer = null;
    this.#wait = null;
    this.#asked = 0 as LogIndex;
  }

  /** Below `fromIndex` the exact value is of no use: one host that knows less ends the search. */
  #knownToAll({ fromIndex, upToIndex, hosts }: NonNullable<ReturnType<StateMachine["pendingActivation"]>>): LogIndex {
    let known = upToIndex;
    for (const host of hosts) {
      const index = this.#hostIndex(host);
      if (index < known) known = index;
      if (known < fromIndex) break;
    }
    return known;
  }

  /** (S2), (S3) */
  #await(upToIndex: LogIndex): void {
    const nowMs = this.#clock.nowMs();
    const wait = (this.#wait ??= { upToIndex, sinceMs: nowMs, tellableSinceMs: null });
    if (wait.tellableSinceMs === null && this.#muxSafeIndex() >= wait.upToIndex) wait.tellableSinceMs = nowMs;
    const hostsMs = wait.tellableSinceMs === null ? Infinity : wait.tellableSinceMs + AGENTS_WAIT_MAX_MS;
    const dueMs = Math.min(hostsMs, wait.sinceMs + MUXES_WAIT_MAX_MS);
    if (nowMs >= dueMs) {
      this.#ask(wait.upToIndex);
      if (this.#asked < upToIndex) this.#await(upToIndex);
    } else if (this.#timer?.dueMs !== dueMs) {
      this.#timer?.timer.cancel();
      const timer = this.#clock.setTimer(dueMs - nowMs, () => {
        this.#timer = null;
        this.consider();
      });
      this.#timer = { dueMs, timer };
    }
  }

  #ask(upToIndex: LogIndex): void {
    this.#asked = upToIndex;
    if (this.#wait !== null && this.#wait.upToIndex <= upToIndex) {
      this.#timer?.timer.cancel();
      this.#timer = null;
      this.#wait = null;
    }
    this.#activate(upToIndex);
  }
}
