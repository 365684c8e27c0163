/**
 * Turns the environment's clock into core ticks. It wakes up only when the core has something to do with the time: an idle
 * replica that woke at each tick spent half of its processor time on that. Whoever asks the core in between tells it first
 * how much has passed (`passed`).
 *
 * When the process stood still (event loop blocked, SIGSTOP), timers run before the messages that arrived meanwhile; so after
 * a stall the waiting input is handled first, and the core is told how long it really was. It counts all of it in ages and
 * little of it in timeouts.
 */
import type { Clock, Timer } from "../../runtime/env.js";

/** Turns of the event loop given to waiting input: one to read sockets, one for what the stream layers put off. */
const DRAIN_TURNS = 2;
/** Later than this after its time, the process stood still. */
const STALL_TICKS = 2;

export interface TickerOptions {
  readonly clock: Clock;
  readonly tickMs: number;
  /** In how many ticks, at least 1, the core has something to do if nothing else happens. */
  readonly dueInTicks: () => number;
  /** So many ticks have passed, at least 1. */
  readonly tick: (elapsedTicks: number) => void;
}

export class Ticker {
  readonly #options: TickerOptions;
  #timer: Timer | null = null;
  #lastMs = 0;
  /** When the timer fires. */
  #dueMs = 0;

  constructor(options: TickerOptions) {
    this.#options = options;
  }

  start(): void {
    this.#lastMs = this.#options.clock.nowMs();
    this.#arm();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  /**
   * Ticks that the core was not told of yet; they count as told from here on. 0 after a stall, until the waiting input was
   * handled, unless the caller needs the true time more than that (`alsoAfterStall`).
   */
  passed(alsoAfterStall: boolean): number {
    const { clock, tickMs } = this.#options;
    const nowMs = clock.nowMs();
    if (this.#timer === null || (!alsoAfterStall && nowMs - this.#dueMs >= STALL_TICKS * tickMs)) return 0;
    const elapsed = Math.floor((nowMs - this.#lastMs + 1e-6) / tickMs);
    this.#lastMs += elapsed * tickMs;
    return elapsed;
  }

  /** The core was asked something: it may have something to do sooner than it had. */
  adjust(): void {
    const { tickMs, dueInTicks } = this.#options;
    if (this.#timer === null || this.#lastMs + dueInTicks() * tickMs >= this.#dueMs) return;
    this.#timer.cancel();
    this.#arm();
  }

  /** Monotonic ms at which the last counted tick ended. */
  get lastTickMs(): number {
    return this.#lastMs;
  }

  #arm(): void {
    const { clock, tickMs, dueInTicks } = this.#options;
    this.#dueMs = this.#lastMs + dueInTicks() * tickMs;
    this.#timer = clock.setTimer(Math.max(0, this.#dueMs - clock.nowMs()), () => {
      const stalled = clock.nowMs() - this.#dueMs >= STALL_TICKS * tickMs;
      this.#fire(stalled ? DRAIN_TURNS : 0);
    });
  }

  #fire(drainTurns: number): void {
    if (drainTurns > 0) {
      this.#timer = this.#options.clock.nextTurn(() => this.#fire(drainTurns - 1));
      return;
    }
    const elapsed = this.passed(true);
    if (elapsed > 0) this.#options.tick(elapsed);
    if (this.#timer !== null) this.#arm(); // a tick may end the node
  }
}
