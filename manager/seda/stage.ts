/**
 * A stage of the staged event-driven architecture (SEDA): bounded priority queues in front of a handler.
 *
 *   offer(event) -> queue of its kind -> drain task in the shared pool -> handle(batch)
 *
 * 1. Events wait here, in the stage's own queues, one per kind; the pool sees only drain tasks.
 * 2. A drain takes up to `batchMax` events, most urgent kind first, so that the cost per event stays small.
 * 3. While `hasRoom()` is false (two proposal batches are in flight) nothing is drained, so priority is not lost inside
 *    Raft; `poke()` tells the stage that there is room again.
 * 4. An event that waited too long is refused without being handled: with DEADLINE_EXCEEDED when its caller's deadline
 *    passed, with STAGE_OVERLOADED when ours did. Overload is answered, never silent; that holds for
 *    what is dropped in favour of something newer too.
 * 5. Where a kind has a `share`, one key cannot fill the queue: beyond what is served of it in a short time it is refused at
 *    once, and told when its turn comes (queue-shares).
 */
import { AnantaError } from "../../core/errors.js";
import type { Clock } from "../../runtime/env.js";
import type { Executor } from "./executor.js";
import { FairQueue } from "./fair-queue.js";
import { QueueShares, type SharePolicy } from "./queue-shares.js";

export interface StagePolicy<Kind extends string> {
  readonly name: string;
  /** Of its drain task in the shared pool; 0 is the most urgent. */
  readonly priority: number;
  /** Events handled in one go. */
  readonly batchMax: number;
  /** Kinds of event, most urgent first. */
  readonly kinds: readonly EventPolicy<Kind>[];
}

export interface EventPolicy<Kind extends string> {
  readonly kind: Kind;
  /** Events of this kind that may wait. */
  readonly lengthMax: number;
  /**
   * Who takes turns in the queue, and whose events go first when it is full: tenants, hosts, or nobody ("one": first in,
   * first out). What is done when a key fills the queue by itself: `refuse` its newcomer, or `drop-oldest` of its events,
   * where the newest knows best.
   */
  readonly fairness: "tenant" | "host" | "one";
  readonly whenFull: "refuse" | "drop-oldest";
  /** What the refused are told to wait before they ask again, in ms. */
  readonly retryAfterMs: number;
  /** Longest wait in the queue in ms; the caller's own deadline counts too. */
  readonly waitMaxMs: number;
  /** How much of the queue one key may have. Default: all of it. */
  readonly share?: SharePolicy;
}

export interface StageEvent {
  /** Events with different keys take turns. */
  readonly fairnessKey: string;
  /** Monotonic ms after which nobody waits for the outcome. */
  readonly deadlineAtMs: number;
  /** Told once, instead of being handled. Nothing was done. */
  refused(error: AnantaError): void;
}

/** Of one kind of event, which is one priority within its stage. All but `queued` only grow. */
export interface EventCounters {
  readonly kind: string;
  readonly queued: number;
  readonly handled: number;
  /** The queue was full. */
  readonly refusedFull: number;
  /** Its key had its share of the queue. */
  readonly refusedShare: number;
  /** Waited past a deadline. */
  readonly refusedLate: number;
  /** Sum over handled events of the ms spent in the queue. */
  readonly waitMs: number;
  /** The longest of these. */
  readonly waitMaxMs: number;
  /** Sum of the ms that handling took; a batch's time is divided among its events. */
  readonly serviceMs: number;
}

type MutableCounters = { -readonly [Name in keyof EventCounters]: EventCounters[Name] };

interface Lane<Event> {
  readonly policy: EventPolicy<string>;
  readonly queue: FairQueue<Waiting<Event>>;
  readonly counters: MutableCounters;
  readonly shares: QueueShares | null;
}

interface Waiting<Event> {
  readonly event: Event;
  readonly sinceMs: number;
  readonly expiresAtMs: number;
}

export class Stage<Kind extends string, Event extends StageEvent> {
  readonly #policy: StagePolicy<Kind>;
  readonly #executor: Executor;
  readonly #clock: Clock;
  readonly #hasRoom: () => boolean;
  readonly #handle: (batch: readonly Event[]) => void;
  readonly #batchMax: () => number;
  readonly #lanes = new Map<Kind, Lane<Event>>();
  #draining = false;

  constructor(options: {
    readonly policy: StagePolicy<Kind>;
    readonly executor: Executor;
    readonly clock: Clock;
    readonly hasRoom: () => boolean;
    readonly handle: (batch: readonly Event[]) => void;
    /** At present, at most that of the policy. Default: that. */
    readonly batchMax?: () => number;
  }) {
    this.#policy = options.policy;
    this.#executor = options.executor;
    this.#clock = options.clock;
    this.#hasRoom = options.hasRoom;
    this.#handle = options.handle;
    this.#batchMax = options.batchMax ?? (() => options.policy.batchMax);
    for (const policy of options.policy.kinds) {
      const { kind, lengthMax, whenFull, share } = policy;
      const queue = new FairQueue<Waiting<Event>>(lengthMax, { dropOldest: whenFull === "drop-oldest" });
      const shares = share === undefined ? null : new QueueShares(share);
      this.#lanes.set(kind, { policy, queue, counters: { kind, ...NOTHING_COUNTED }, shares });
    }
  }

  get policy(): StagePolicy<Kind> {
    return this.#policy;
  }

  /** Events of all kinds that wait. */
  get queued(): number {
    let queued = 0;
    for (const { queue } of this.#lanes.values()) queued += queue.length;
    return queued;
  }

  /** Most urgent kind first. */
  get counters(): readonly EventCounters[] {
    return Array.from(this.#lanes.values(), ({ queue, counters }) => ({ ...counters, queued: queue.length }));
  }

  /** (5) Null: this key has room. Else the refusal, which is counted, and to be told: its turn is given once. */
  refusal(kind: Kind, key: string): AnantaError | null {
    const { policy, queue, counters, shares } = this.#laneOf(kind);
    if (shares === null) return null;
    const length = queue.lengthOf(key);
    if (length < shares.lengthMax(key)) return null;
    counters.refusedShare++;
    const nowMs = this.#clock.nowMs();
    const retryAfterMs = shares.returnAfterMs(key, { length, leastMs: policy.retryAfterMs, nowMs });
    return this.#overloaded(kind, `${length} of ${policy.fairness} ${key} wait already`, retryAfterMs);
  }

  offer(kind: Kind, event: Event): void {
    const refusal = this.refusal(kind, event.fairnessKey);
    if (refusal === null) this.#append(kind, event);
    else event.refused(refusal);
  }

  #append(kind: Kind, event: Event): void {
    const { policy, queue, counters } = this.#laneOf(kind);
    const nowMs = this.#clock.nowMs();
    const waiting = { event, sinceMs: nowMs, expiresAtMs: Math.min(event.deadlineAtMs, nowMs + policy.waitMaxMs) };
    const left = queue.offer(event.fairnessKey, waiting);
    if (left !== waiting) this.poke();
    if (left === null) return;
    counters.refusedFull++;
    left.event.refused(this.#overloaded(kind, `its queue of ${policy.lengthMax} is full`, policy.retryAfterMs));
  }

  /** There may be room again: schedules a drain if events wait. */
  poke(): void {
    if (this.#draining || this.queued === 0 || !this.#hasRoom()) return;
    this.#draining = true;
    // One turn later, so that a batch gathers what arrives in the same turn of the event loop.
    this.#clock.nextTurn(() => {
      this.#executor.schedule(this.#policy.priority, () => {
        this.#draining = false;
        this.#drain();
      });
    });
  }

  /** Refuses all that waits: it has to go another way. */
  refuseAll(error: AnantaError): void {
    for (const { queue } of this.#lanes.values())
      for (let waiting = queue.poll(); waiting !== undefined; waiting = queue.poll()) waiting.event.refused(error);
  }

  #drain(): void {
    if (!this.#hasRoom()) return; // a more urgent stage took it; whoever frees it pokes us
    const batch: Event[] = [];
    const batchMax = this.#batchMax();
    const shares: { readonly counters: MutableCounters; readonly events: number }[] = [];
    const nowMs = this.#clock.nowMs();
    for (const { kind } of this.#policy.kinds) {
      const { policy, queue, counters, shares: keyShares } = this.#laneOf(kind);
      const before = batch.length;
      while (batch.length < batchMax) {
        const waiting = queue.poll();
        if (waiting === undefined) break;
        if (waiting.expiresAtMs < nowMs) {
          counters.refusedLate++;
          const waitedMs = Math.round(nowMs - waiting.sinceMs);
          waiting.event.refused(
            waiting.event.deadlineAtMs < waiting.sinceMs + policy.waitMaxMs
              ? tooLate(waitedMs)
              : this.#overloaded(kind, `it waited ${waitedMs} ms`, policy.retryAfterMs),
          );
          continue;
        }
        const waitMs = nowMs - waiting.sinceMs;
        counters.handled++;
        counters.waitMs += waitMs;
        if (waitMs > counters.waitMaxMs) counters.waitMaxMs = waitMs;
        batch.push(waiting.event);
      }
      if (batch.length === before) continue;
      shares.push({ counters, events: batch.length - before });
      if (keyShares === null) continue;
      for (const [key, count] of countsByKey(batch, before))
        keyShares.served(key, count, { left: queue.lengthOf(key), nowMs });
    }
    if (batch.length > 0) {
      this.#handle(batch);
      const perEventMs = (this.#clock.nowMs() - nowMs) / batch.length;
      for (const { counters, events } of shares) counters.serviceMs += perEventMs * events;
    }
    this.poke();
  }

  #overloaded(kind: Kind, why: string, retryAfterMs: number): AnantaError {
    return new AnantaError(
      "STAGE_OVERLOADED",
      `stage ${this.#policy.name} refused a ${kind} event: ${why}; retry after ${retryAfterMs} ms`,
      { stage: this.#policy.name, event: kind, retryAfterMs },
    );
  }

  #laneOf(kind: Kind): Lane<Event> {
    const lane = this.#lanes.get(kind);
    if (lane === undefined) throw new AnantaError("INTERNAL", `stage ${this.#policy.name} has no event ${kind}`);
    return lane;
  }
}

const NOTHING_COUNTED: Omit<EventCounters, "kind"> = {
  queued: 0,
  handled: 0,
  refusedFull: 0,
  refusedShare: 0,
  refusedLate: 0,
  waitMs: 0,
  waitMaxMs: 0,
  serviceMs: 0,
};

/** Of the events from this position on. */
function countsByKey(events: readonly StageEvent[], from: number): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (let at = from; at < events.length; at++) {
    const key = events[at]!.fairnessKey; // in range
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return counts;
}

/** (4) The caller gave too little time, which says nothing about the load. */
const tooLate = (waitedMs: number): AnantaError =>
  new AnantaError(
    "DEADLINE_EXCEEDED",
    `nothing was done: the caller's deadline passed while it waited ${waitedMs} ms`,
    { nothingDone: true },
  );
