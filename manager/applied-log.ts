/**
 * The state machine as the consensus module sees it: decodes entries, applies them, and tells whoever waits. The order
 * for each commit is fixed: apply, keep the effects, answer submissions, wake waiters; then feed streams once.
 *
 * What takes longer than a few milliseconds goes on in the next turn of the event loop, and later entries wait for it
 * (docs/decisions/0023). Nobody is told of an entry before all of it is applied; who asks for a view or a snapshot in between has
 * the rest done at once (`finishNow` of the state machine). After an entry that cannot be applied none is: it would be applied to half a state.
 */
import type { LogIndex, Term } from "../core/brands.js";
import { assert } from "../core/assert.js";
import { AnantaError } from "../core/errors.js";
import type { Clock, Timer } from "../runtime/env.js";
import type { EffectLog } from "./projection/effect-log.js";
import type { CommittedEntry, ReplicatedStateMachine } from "./raft/index.js";
import { inSlices } from "./slices.js";
import { StateChunks } from "./state-chunks.js";
import { decodeBatch } from "./state/commands/command-codec.js";
import type { AppliedBatch } from "./state/commands/results.js";
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

/** Of one turn: heartbeats come every 30 ms. */
const TURN_MS = 8;
/** Of entries that have several: turns are short on virtual time too. */
const TURN_STEPS = 32;

/** An entry that is being applied. */
interface Begun {
  readonly term: Term;
  readonly wallMs: number;
  readonly steps: Generator<void, AppliedBatch>;
  /** Its first step is done, which sets the state's cluster time. */
  isTimeSet: boolean;
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
  readonly #failed: (error: unknown) => void;
  /** Committed, in order: what one call of `apply` brought. */
  readonly #entries: CommittedEntry[] = [];
  #begun: Begun | null = null;
  /** The newest entry that was given. */
  #given = 0 as LogIndex;
  /** Why no entry is applied any more. */
  #broken: { readonly error: unknown } | null = null;
  #isStopped = false;
  /** Entries were applied since those who wait were woken and streams were fed. */
  #isUntold = false;
  #nextTurn: Timer | null = null;
  #waiters: Waiter[] = [];
  /** Monotonic ms at which the state's cluster time was last set. */
  #timeSetAtMs: number;

  constructor(options: {
    readonly clock: Clock;
    readonly state: StateMachine;
    readonly effects: EffectLog;
    readonly listener: AppliedLogListener;
    /** An entry could not be applied in a turn of its own; in the first turn the caller of `apply` gets the error. */
    readonly failed: (error: unknown) => void;
  }) {
    this.#failed = options.failed;
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

  /** Gives back a promise when it does not get through: what is committed meanwhile waits in the log, not here. */
  apply(entries: readonly CommittedEntry[]): void | Promise<void> {
    for (const entry of entries) this.#entries.push(entry);
    this.#given = entries.at(-1)?.index ?? this.#given;
    this.#turn();
    if (this.busy) return this.#whenApplied(this.#given, null);
  }

  /** Entries are known to be committed and not applied. For ever, after one that could not be. */
  get busy(): boolean {
    return this.#begun !== null || this.#entries.length > 0 || this.#broken !== null;
  }

  /** Resolves when all that `apply` was given until now is applied. Rejects with BEHIND after `deadlineMs`; null: never. */
  whenCaughtUp(deadlineMs: number | null): Promise<void> {
    return this.busy ? this.#whenApplied(this.#given, deadlineMs) : Promise.resolve();
  }

  /** What was given and is not applied waits for the next start. */
  stop(): void {
    this.#isStopped = true;
    this.#nextTurn?.cancel();
    this.#nextTurn = null;
  }

  snapshot(): AsyncIterable<Uint8Array> {
    this.#finishAll();
    this.#listener.saved();
    return new StateChunks(this.#clock, this.#state.capture());
  }

  /** Until what was given is applied, or the time of a turn is over. */
  #turn(): void {
    const endMs = this.#clock.nowMs() + TURN_MS;
    for (let steps = 0; this.busy;) {
      if (!this.#step()) steps++;
      if (steps < TURN_STEPS && this.#clock.nowMs() < endMs) continue;
      if (this.busy) this.#goOnLater();
      break;
    }
    if (!this.#isUntold) return;
    this.#isUntold = false;
    this.#wake();
    this.#listener.caughtUp();
  }

  #goOnLater(): void {
    if (this.#isStopped) return;
    this.#nextTurn ??= this.#clock.nextTurn(() => {
      this.#nextTurn = null;
      try {
        this.#turn();
      } catch (error) {
        this.#failed(error);
      }
    });
  }

  /** One step of the oldest entry. True: that was its last one. */
  #step(): boolean {
    if (this.#broken !== null) throw this.#broken.error;
    try {
      return this.#stepOf((this.#begun ??= this.#begin()));
    } catch (error) {
      this.#broken = { error };
      throw error;
    }
  }

  #stepOf(begun: Begun): boolean {
    const { term, wallMs, steps } = begun;
    const step = steps.next();
    if (!begun.isTimeSet) {
      begun.isTimeSet = true;
      this.#timeSetAtMs = this.#clock.nowMs();
    }
    if (step.done !== true) return false;
    this.#begun = null;
    this.#isUntold = true;
    this.#effects.append(step.value);
    this.#listener.applied(term, step.value, wallMs);
    return true;
  }

  #begin(): Begun {
    const entry = this.#entries.shift();
    assert(entry !== undefined, "an entry waits");
    const batch = decodeBatch(entry.payload);
    const steps = this.#state.applying(batch, entry.index, () => this.#finishBegun());
    return { term: entry.term, wallMs: batch.wallMs, steps, isTimeSet: false };
  }

  /** Streams are fed a turn later: it may be one of them that asks. */
  #finishBegun(): void {
    try {
      while (this.#begun !== null) this.#step();
    } catch (error) {
      this.#failed(error); // who asks would only tell a client
      throw error;
    }
    this.#goOnLater();
  }

  #finishAll(): void {
    if (!this.busy) return;
    while (this.busy) this.#step();
    this.#goOnLater();
  }

  /** In slices; until it resolves the former state is served, and nothing is applied. */
  async restore(chunks: Iterable<Uint8Array>, index: LogIndex): Promise<void> {
    this.#finishAll();
    await inSlices(this.#clock, this.#state.restoring(chunks, index));
    this.#timeSetAtMs = this.#clock.nowMs();
    this.#effects.reset(this.#state.appliedIndex); // between it and `index` lie only elections' empty entries
    this.#wake();
    this.#listener.restored();
    this.#listener.caughtUp();
  }

  /** Rejects with BEHIND when this replica has not applied `index` within `deadlineMs`. */
  whenApplied(index: LogIndex, deadlineMs: number): Promise<void> {
    return this.#state.appliedIndex >= index ? Promise.resolve() : this.#whenApplied(index, deadlineMs);
  }

  #whenApplied(index: LogIndex, deadlineMs: number | null): Promise<void> {
    return new Promise((resolve, reject) => {
      let timer: Timer | null = null;
      const waiter: Waiter = {
        index,
        resolve: () => {
          timer?.cancel();
          resolve();
        },
      };
      this.#waiters.push(waiter);
      if (deadlineMs === null) return;
      timer = this.#clock.setTimer(deadlineMs, () => {
        this.#waiters = this.#waiters.filter((other) => other !== waiter);
        reject(new AnantaError("BEHIND", `this replica has applied ${this.#state.appliedIndex}, not yet ${index}`));
      });
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
