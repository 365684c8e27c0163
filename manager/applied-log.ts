/**
 * The state machine as the consensus module sees it: decodes entries, applies them, and tells whoever waits. The order
 * for each commit is fixed: apply, keep the effects, answer submissions, wake waiters; then feed streams once.
 */
import type { LogIndex, Term } from "../core/brands.js";
import { AnantaError } from "../core/errors.js";
import type { Clock } from "../runtime/env.js";
import type { EffectLog } from "./projection/effect-log.js";
import type { CommittedEntry, ReplicatedStateMachine } from "./raft/index.js";
import { inSlices } from "./slices.js";
import { StateChunks } from "./state-chunks.js";
import { decodeBatch } from "./state/command-codec.js";
import type { AppliedBatch } from "./state/results.js";
import type { StateMachine } from "./state/state-machine.js";

export interface AppliedLogListener {
  /** One entry has been applied. `wallMs`: its proposer's wall clock. */
  applied(term: Term, batch: AppliedBatch, wallMs: number): void;
  /** Everything newly committed has been applied. */
  caughtUp(): void;
  /** The state was replaced by a snapshot's. */
  restored(): void;
  /** A snapshot of the state is being made. */
  saved(): void;
}

interface Waiter {
  readonly index: LogIndex;
  readonly resolve: () => void;
}

export class AppliedLog implements ReplicatedStateMachine {
  readonly #clock: Clock;
  readonly #state: StateMachine;
  readonly #effects: EffectLog;
  readonly #listener: AppliedLogListener;
  #waiters: Waiter[] = [];
  /** Monotonic ms at which the state's cluster time was last set. */
  #timeSetAtMs: number;

  constructor(options: {
    readonly clock: Clock;
    readonly state: StateMachine;
    readonly effects: EffectLog;
    readonly listener: AppliedLogListener;
  }) {
    this.#clock = options.clock;
    this.#state = options.state;
    this.#effects = options.effects;
    this.#listener = options.listener;
    this.#timeSetAtMs = options.clock.nowMs();
  }

  /**
   * Last applied cluster time and what has passed since, on this replica's monotonic clock: never ahead of the cluster's,
   * but behind by the commit latency of the last entry. A leader counts on from it (pipeline), it does not ask again.
   */
  clusterTimeMs(): number {
    return Math.floor(this.#state.clusterTimeMs + (this.#clock.nowMs() - this.#timeSetAtMs));
  }

  apply(entries: readonly CommittedEntry[]): void {
    for (const entry of entries) {
      const decoded = decodeBatch(entry.payload);
      const batch = this.#state.apply(decoded, entry.index);
      this.#timeSetAtMs = this.#clock.nowMs();
      this.#effects.append(batch);
      this.#listener.applied(entry.term, batch, decoded.wallMs);
    }
    this.#wake();
    this.#listener.caughtUp();
  }

  snapshot(): AsyncIterable<Uint8Array> {
    this.#listener.saved();
    return new StateChunks(this.#clock, this.#state.capture());
  }

  /** In slices; until it resolves the former state is served, and nothing is applied. */
  async restore(chunks: Iterable<Uint8Array>, index: LogIndex): Promise<void> {
    await inSlices(this.#clock, this.#state.restoring(chunks, index));
    this.#timeSetAtMs = this.#clock.nowMs();
    this.#effects.reset(this.#state.appliedIndex); // between it and `index` lie only elections' empty entries
    this.#wake();
    this.#listener.restored();
    this.#listener.caughtUp();
  }

  /** Rejects with BEHIND when this replica has not applied `index` within `deadlineMs`. */
  whenApplied(index: LogIndex, deadlineMs: number): Promise<void> {
    if (this.#state.appliedIndex >= index) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        index,
        resolve: () => {
          timer.cancel();
          resolve();
        },
      };
      const timer = this.#clock.setTimer(deadlineMs, () => {
        this.#waiters = this.#waiters.filter((other) => other !== waiter);
        reject(new AnantaError("BEHIND", `this replica has applied ${this.#state.appliedIndex}, not yet ${index}`));
      });
      this.#waiters.push(waiter);
    });
  }

  #wake(): void {
    if (this.#waiters.length === 0) return;
    const applied = this.#state.appliedIndex;
    const ready = this.#waiters.filter(({ index }) => index <= applied);
    this.#waiters = this.#waiters.filter(({ index }) => index > applied);
    for (const { resolve } of ready) resolve();
  }
}
