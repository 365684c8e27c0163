/**
 * One outgoing stream to one peer, for ever: dial, say hello, wait for the welcome, send; when it breaks, dial again.
 *
 *   waiting --timer--> opening --welcome--> open --closed--> waiting (at once the first time, then backing off)
 *                         |__ closed, refused, or no welcome in time ___^
 *
 * (P1) The outbox is bounded in messages and bytes. While `waiting` nothing is kept: it would be stale when sent.
 * (P2) A peer that is silent although something was sent is dialled anew on a new connection: TCP would try the old one
 *      again only after many seconds when a cut is mended, and never notices at once that a machine lost its power.
 * (P3) A peer that refuses this replica (another cluster's or epoch's, or removed) is asked again every few seconds only: it
 *      takes a person to change that.
 * (P4) What waits was said to one process: it is dropped when another one welcomes us.
 */
import type { Random } from "../../../core/random.js";
import { AnantaError } from "../../../core/errors.js";
import type { Channel, Clock, MessageStream, Timer } from "../../../runtime/env.js";
import { METHODS, type RaftFrame, type WireWelcome } from "./methods.js";
import type { Lane } from "./transport.js";

export interface PeerLaneOptions {
  readonly lane: Lane;
  readonly clock: Clock;
  readonly random: Random;
  /** A connection of its own, made anew when the old one may be dead without knowing it. */
  connect(): Channel;
  /** The first frame of every stream. */
  readonly hello: Uint8Array;
  /** The longest pause between attempts: the shortest election timeout, so that a returning peer is found before one ends. */
  readonly redialMaxMs: number;
  readonly outboxMessagesMax: number;
  readonly outboxBytesMax: number;
  welcomed(welcome: WireWelcome): void;
  /** Null: by us. `facts.refused`: nobody listens there. See also `isUnwelcome`. */
  closed(error: AnantaError | null): void;
  dropped(): void;
}

type LaneState =
  | { readonly kind: "waiting"; readonly timer: Timer }
  | { readonly kind: "opening"; readonly stream: MessageStream<RaftFrame, WireWelcome>; readonly timer: Timer }
  | { readonly kind: "open"; readonly stream: MessageStream<RaftFrame, WireWelcome>; paused: boolean }
  | { readonly kind: "stopped" };

/** A welcome is one round trip and no disk: a peer that needs longer is paused or unreachable. */
const WELCOME_TIMEOUT_MS = 1_000;
const REDIAL_MIN_MS = 10;
/** (P3) */
const UNWELCOME_REDIAL_MIN_MS = 500;
const UNWELCOME_REDIAL_MAX_MS = 5_000;

/** Somebody answers there and wants nothing from this replica. */
export const isUnwelcome = (error: AnantaError | null): error is AnantaError =>
  error !== null && (error.code === "PERMISSION_DENIED" || error.code === "WRONG_CLUSTER");

export class PeerLane {
  readonly #options: PeerLaneOptions;
  #channel: Channel;
  #state: LaneState = { kind: "stopped" };
  #outbox: RaftFrame[] = [];
  #outboxBytes = 0;
  #failures = 0;
  /** Boot id of the process that welcomed us last. */
  #welcomedBy: Uint8Array | null = null;

  constructor(options: PeerLaneOptions) {
    this.#options = options;
    this.#channel = options.connect();
  }

  get open(): boolean {
    return this.#state.kind === "open";
  }

  start(): void {
    this.#dial();
  }

  stop(): void {
    const state = this.#state;
    this.#state = { kind: "stopped" };
    if (state.kind === "waiting" || state.kind === "opening") state.timer.cancel();
    if (state.kind === "opening" || state.kind === "open") state.stream.end();
    this.#clearOutbox();
    this.#channel.close();
  }

  send(bytes: Uint8Array): void {
    const state = this.#state;
    if (state.kind === "open" && !state.paused && this.#outbox.length === 0) {
      if (!state.stream.send({ kind: "encoded", bytes })) state.paused = true;
      return;
    }
    const fits =
      this.#outbox.length < this.#options.outboxMessagesMax &&
      this.#outboxBytes + bytes.length <= this.#options.outboxBytesMax;
    if (state.kind === "waiting" || state.kind === "stopped" || !fits) {
      this.#options.dropped(); // (P1)
      return;
    }
    this.#outbox.push({ kind: "encoded", bytes });
    this.#outboxBytes += bytes.length;
  }

  /** Gives the present stream and its connection up and dials again. */
  redial(reason: string): void {
    const state = this.#state;
    if (state.kind !== "open" && state.kind !== "opening") return;
    const old = this.#channel;
    this.#channel = this.#options.connect(); // (P2)
    this.#closed(state.stream, null);
    state.stream.end(new AnantaError("UNAVAILABLE", reason));
    old.close();
  }

  /** The peer has just dialled us, so it is there: no more waiting, neither of ours nor of the connection's own. */
  hurry(): void {
    if (this.#state.kind !== "waiting") return;
    this.#state.timer.cancel();
    this.#channel.close();
    this.#channel = this.#options.connect();
    this.#failures = 0;
    this.#dial();
  }

  #dial(): void {
    const { clock, hello, lane } = this.#options;
    const stream = this.#channel.open(METHODS[lane]);
    const timer = clock.setTimer(WELCOME_TIMEOUT_MS, () => this.redial("no welcome in time"));
    this.#state = { kind: "opening", stream, timer };
    stream.listen({
      message: (welcome) => this.#welcomed(stream, welcome),
      closed: (error) => this.#closed(stream, error ?? null),
      drained: () => this.#drained(stream),
    });
    stream.send({ kind: "encoded", bytes: hello });
  }

  #welcomed(stream: MessageStream<RaftFrame, WireWelcome>, welcome: WireWelcome): void {
    if (this.#state.kind !== "opening" || this.#state.stream !== stream) return;
    this.#state.timer.cancel();
    this.#state = { kind: "open", stream, paused: false };
    this.#failures = 0;
    const before = this.#welcomedBy;
    this.#welcomedBy = welcome.bootId ?? null;
    const stale = this.#outbox.length > 0 && before !== null && !sameBytes(before, this.#welcomedBy);
    if (stale) this.#clearOutbox(); // (P4)
    this.#options.welcomed(welcome);
    if (stale) this.#options.dropped();
    this.#flush();
  }

  #drained(stream: MessageStream<RaftFrame, WireWelcome>): void {
    if (this.#state.kind !== "open" || this.#state.stream !== stream) return;
    this.#state.paused = false;
    this.#flush();
  }

  #flush(): void {
    let sent = 0;
    while (sent < this.#outbox.length && this.#state.kind === "open" && !this.#state.paused) {
      const frame = this.#outbox[sent]!; // sent < length
      sent++;
      if (frame.kind === "encoded") this.#outboxBytes -= frame.bytes.length;
      if (!this.#state.stream.send(frame)) this.#state.paused = true;
    }
    this.#outbox.splice(0, sent);
  }

  #closed(stream: MessageStream<RaftFrame, WireWelcome>, error: AnantaError | null): void {
    const state = this.#state;
    if ((state.kind !== "opening" && state.kind !== "open") || state.stream !== stream) return;
    if (state.kind === "opening") state.timer.cancel();
    const hadMessages = this.#outbox.length > 0 || state.kind === "open";
    this.#clearOutbox();
    // After a working stream the first attempt is immediate: whether it is refused tells a dead process from a bad moment.
    const pauseMs = isUnwelcome(error)
      ? Math.min(UNWELCOME_REDIAL_MAX_MS, UNWELCOME_REDIAL_MIN_MS * 2 ** this.#failures) // (P3)
      : this.#failures === 0
        ? 0
        : Math.min(this.#options.redialMaxMs, REDIAL_MIN_MS * 2 ** (this.#failures - 1));
    this.#failures = Math.min(this.#failures + 1, 16);
    const jittered = pauseMs * (0.5 + this.#options.random.nextFloat() / 2);
    this.#state = {
      kind: "waiting",
      timer: this.#options.clock.setTimer(jittered, () => {
        if (this.#state.kind === "waiting") this.#dial();
      }),
    };
    if (hadMessages) this.#options.dropped();
    this.#options.closed(error);
  }

  #clearOutbox(): void {
    this.#outbox = [];
    this.#outboxBytes = 0;
  }
}

const sameBytes = (a: Uint8Array, b: Uint8Array | null): boolean => b !== null && Buffer.compare(a, b) === 0;
