/**
 * The log index that every live MUX has in force, as far as this replica knows. The leader computes it; followers hear
 * of it on their link. It only grows: once every live MUX had an index in force it stays so, because a MUX that joins
 * later has caught up beyond it before it announces a route.
 *
 * Everything that could tell an agent of new ports is cut here.
 */
import type { LogIndex } from "../../core/brands.js";

export class MuxSafeIndex {
  #value = 0 as LogIndex;
  readonly #listeners: (() => void)[] = [];

  get value(): LogIndex {
    return this.#value;
  }

  advance(to: LogIndex): void {
    if (to <= this.#value) return;
    this.#value = to;
    for (const listener of this.#listeners) listener();
  }

  onAdvance(listener: () => void): void {
    this.#listeners.push(listener);
  }
}
