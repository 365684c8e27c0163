/**
 * Stage 3, route management: when do MUXes begin to use what was configured? The second entry of every change
 * (`activate`): Host Agents must know new endpoints before a MUX sends them packets. It is proposed when all
 * hosts concerned have acknowledged the first entry, or after 500 ms, because a dead host must not hold up the others.
 */
import type { HostId, LogIndex } from "../../core/brands.js";
import type { Clock, Timer } from "../../runtime/env.js";
import type { StateMachine } from "../state/state-machine.js";

/** Agents acknowledge in milliseconds; only dead or paused ones take longer. */
const AGENTS_WAIT_MAX_MS = 500;

export class RouteManagement {
  readonly #clock: Clock;
  readonly #state: Pick<StateMachine, "pendingActivation">;
  readonly #hostIndex: (host: HostId) => LogIndex;
  readonly #activate: (upToIndex: LogIndex) => void;
  #waitingFor: LogIndex | null = null;
  #asked: LogIndex | null = null;
  #timer: Timer | null = null;

  constructor(options: {
    readonly clock: Clock;
    readonly state: Pick<StateMachine, "pendingActivation">;
    /** What the host is known to have in force; 0 when unknown. */
    readonly hostIndex: (host: HostId) => LogIndex;
    readonly activate: (upToIndex: LogIndex) => void;
  }) {
    this.#clock = options.clock;
    this.#state = options.state;
    this.#hostIndex = options.hostIndex;
    this.#activate = options.activate;
  }

  /** Call when something was applied, or a host has acknowledged. Leader only. */
  consider(): void {
    const pending = this.#state.pendingActivation();
    if (pending === null) {
      this.stop();
      return;
    }
    if (this.#asked !== null && this.#asked >= pending.upToIndex) return;
    if (pending.hosts.every((host) => this.#hostIndex(host) >= pending.upToIndex)) {
      this.#ask(pending.upToIndex);
    } else if (this.#waitingFor !== pending.upToIndex) {
      this.#waitingFor = pending.upToIndex;
      this.#timer?.cancel();
      this.#timer = this.#clock.setTimer(AGENTS_WAIT_MAX_MS, () => {
        const now = this.#state.pendingActivation();
        if (now !== null) this.#ask(pending.upToIndex);
      });
    }
  }

  /** The activation did not reach the log; ask again when next considered. */
  refused(): void {
    this.#asked = null;
    this.#waitingFor = null;
  }

  /** Leadership is over, or nothing is pending. */
  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#waitingFor = null;
    this.#asked = null;
  }

  #ask(upToIndex: LogIndex): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#asked = upToIndex;
    this.#activate(upToIndex);
  }
}
