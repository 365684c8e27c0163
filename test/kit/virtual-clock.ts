/**
 * Discrete-event time. Nothing happens between two events, so a minute of virtual time costs only what its events cost.
 *
 * (C1) Events run in the order of (time, sequence number of scheduling): one seed gives one order.
 * (C2) Between two events everything that promises and `nextTick` still have to do is done. One round of the real
 *      `setImmediate` is enough for that: Node empties both queues, to the last link of every chain, before it turns to
 *      the next macrotask. Code under test must therefore not use real timers or real I/O.
 * (C3) An event that throws ends the run: what would have crashed the process fails the test.
 */
import { InvariantError } from "../../core/assert.js";

export interface ScheduledEvent {
  /** Safe to call at any time. */
  cancel(): void;
}

interface Entry {
  readonly atMs: number;
  readonly sequence: number;
  /** Null once cancelled or run. */
  run: (() => void) | null;
}

/** More events than this in one virtual instant are a loop that never lets time pass. */
const EVENTS_PER_INSTANT_MAX = 1_000_000;

export class VirtualClock {
  #nowMs = 0;
  #sequence = 0;
  #eventsThisInstant = 0;
  #cancelled = 0;
  #heap: Entry[] = [];
  /** Events run so far. */
  events = 0;
  /** Called after each event and all its promise work: what watches a world looks here. */
  afterEvent: (() => void) | null = null;

  /** Virtual milliseconds since the start of the world. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** Events that are still to come. */
  get pendingCount(): number {
    return this.#heap.length - this.#cancelled;
  }

  /** Runs `run` after `delayMs` >= 0 of virtual time; with 0, after all events that are already due now. */
  schedule(delayMs: number, run: () => void): ScheduledEvent {
    if (!(delayMs >= 0)) throw new InvariantError(`a delay is >= 0, not ${delayMs}`);
    const entry: Entry = { atMs: this.#nowMs + delayMs, sequence: this.#sequence++, run };
    if (entry.atMs !== Infinity) this.#push(entry);
    return {
      cancel: () => {
        if (entry.run === null) return;
        entry.run = null;
        if (entry.atMs !== Infinity) this.#cancelled++;
        // Renewed timeouts leave mostly cancelled entries behind.
        if (this.#cancelled > 1_000 && this.#cancelled * 2 > this.#heap.length) this.#compact();
      },
    };
  }

  /** Lets all pending promise work finish, without letting time pass. */
  async settle(): Promise<void> {
    // eslint-disable-next-line no-restricted-globals -- the one real macrotask the virtual world is built on (C2)
    await new Promise<void>((resolve) => setImmediate(resolve));
  }

  /** Runs the next event and settles. False when there is none, or none until `untilMs` (inclusive). */
  async step(untilMs = Infinity): Promise<boolean> {
    for (;;) {
      const next = this.#heap[0];
      if (next === undefined || next.atMs > untilMs) return false;
      this.#pop();
      const run = next.run;
      if (run === null) {
        this.#cancelled--;
        continue;
      }
      next.run = null;
      if (next.atMs > this.#nowMs) {
        this.#nowMs = next.atMs;
        this.#eventsThisInstant = 0;
      } else if (++this.#eventsThisInstant > EVENTS_PER_INSTANT_MAX) {
        throw new InvariantError(`time moves on: ${EVENTS_PER_INSTANT_MAX} events at ${this.#nowMs} ms`);
      }
      run();
      await this.settle();
      this.events++;
      this.afterEvent?.();
      return true;
    }
  }

  /** Runs everything that is due within the next `ms` and ends exactly `ms` later. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    await this.settle();
    while (await this.step(endMs));
    if (endMs > this.#nowMs) {
      this.#nowMs = endMs;
      this.#eventsThisInstant = 0;
    }
  }

  /**
   * Runs events until `predicate` holds (checked before the first and after each event). Returns the virtual ms that
   * passed, or null when it did not hold within `limitMs`; then exactly `limitMs` have passed.
   */
  async runUntil(predicate: () => boolean, limitMs: number): Promise<number | null> {
    const startMs = this.#nowMs;
    await this.settle();
    for (;;) {
      if (predicate()) return this.#nowMs - startMs;
      if (!(await this.step(startMs + limitMs))) break;
    }
    this.#nowMs = startMs + limitMs;
    this.#eventsThisInstant = 0;
    return null;
  }

  // ---- binary heap on (atMs, sequence) ----

  #before(a: Entry, b: Entry): boolean {
    return a.atMs < b.atMs || (a.atMs === b.atMs && a.sequence < b.sequence);
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let at = heap.push(entry) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#before(entry, heap[parent]!)) break; // parent < at < length
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = entry;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && this.#before(heap[child + 1]!, heap[child]!)) child++;
      if (!this.#before(heap[child]!, last)) break; // child < length
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
  }

  #compact(): void {
    const live = this.#heap.filter((entry) => entry.run !== null);
    this.#heap = [];
    this.#cancelled = 0;
    for (const entry of live) this.#push(entry);
  }
}
