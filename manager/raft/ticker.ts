/**
 * Turns the environment's clock into core ticks. When the process stood still (event loop blocked, SIGSTOP), timers run
 * before the messages that arrived meanwhile; so after a stall the waiting input is handled first, and the core is told how
 * long it really was. It counts all of it in ages and little of it in timeouts.
 */
import type { Clock, Timer } from "../../runtime/env.js";

/** Turns of the event loop given to waiting input: one to read sockets, one for what the stream layers put off. */
const DRAIN_TURNS = 2;

export class Ticker {
  readonly #clock: Clock;
  readonly #tickMs: number;
  readonly #tick: (elapsedTicks: number) => void;
  #timer: Timer | null = null;
  #lastMs = 0;

  constructor(options: {
    readonly clock: Clock;
    readonly tickMs: number;
    readonly tick: (elapsedTicks: number) => void;
  }) {
    this.#clock = options.clock;
    this.#tickMs = options.tickMs;
    this.#tick = options.tick;
  }

  start(): void {
    this.#lastMs = this.#clock.nowMs();
    this.#arm();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  /** Tells the core now of the ticks that have passed: under leases a read must not be judged by an old clock. */
  catchUp(): void {
    const elapsed = this.#timer === null ? 0 : this.#elapsedTicks();
    this.#lastMs += elapsed * this.#tickMs;
    if (elapsed > 0) this.#tick(elapsed);
  }

  /** Monotonic ms at which the last counted tick ended. */
  get lastTickMs(): number {
    return this.#lastMs;
  }

  #arm(): void {
    this.#timer = this.#clock.setTimer(Math.max(0, this.#lastMs + this.#tickMs - this.#clock.nowMs()), () => {
      const stalled = this.#elapsedTicks() > 2;
      this.#fire(stalled ? DRAIN_TURNS : 0);
    });
  }

  #fire(drainTurns: number): void {
    if (drainTurns > 0) {
      this.#timer = this.#clock.nextTurn(() => this.#fire(drainTurns - 1));
      return;
    }
    const elapsed = this.#elapsedTicks();
    this.#lastMs += elapsed * this.#tickMs;
    this.#arm();
    if (elapsed > 0) this.#tick(elapsed);
  }

  #elapsedTicks(): number {
    return Math.floor((this.#clock.nowMs() - this.#lastMs + 1e-6) / this.#tickMs);
  }
}
