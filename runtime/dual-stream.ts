/**
 * Two streams to two different replicas, one of them active: how MUXes and Host Agents stay in touch with the
 * Managers, so that neither a dead nor a paused replica stops anyone.
 *
 *     slot A   waiting --> opening --> ready  ==== active: projection, acknowledgements, requests
 *     slot B   waiting --> opening --> ready  ---- standby: beats only
 *
 * A slot opens a stream to the next replica of a seeded rotation, says hello and waits for the welcome. The first slot that
 * is ready becomes active. When the active stream closes or falls silent, the other one is active in the same turn; the
 * empty slot turns to another replica, after a bounded, random pause when replicas refuse it. A user who has said which
 * replica it prefers gets the standby led there, once and in its own time, if neither stream is there already.
 *
 *  (S1) The two streams never lead to the same replica. With one address known there is one stream.
 *  (S2) At most one stream is active, and `activated` is told before its messages are passed on as the active one's.
 *  (S3) Nothing of a stream is passed on after it was given up.
 *  (S4) Our own standstill is not the replica's silence: time in which this process ran late is not held against a stream.
 *  (S5) A stream is active once, until it is over: what was asked of it as the active one ends with it.
 */
import { AnantaError } from "../core/errors.js";
import type { Random } from "../core/random.js";
import type { Channel, Clock, Log, MessageStream, Method, Network, Timer } from "./env.js";

export interface DualStreamTimings {
  /** A ready stream without a message for so long is given up. */
  readonly silenceMs: number;
  /** From opening a stream to its welcome. */
  readonly openMs: number;
  /** Pause before trying again: doubles from min to max while replicas refuse, half of it random. */
  readonly retryMinMs: number;
  readonly retryMaxMs: number;
}

/** One of the two streams, as its user sees it. */
export interface ReplicaStream<Out> {
  readonly address: string;
  /** False: the replica reads too slowly; what can wait should, until `writable`. */
  send(message: Out): boolean;
  /** The newest `send` returned false. */
  readonly isBlocked: boolean;
}

export interface DualStreamUser<Out, In> {
  /** First message of a new stream. */
  hello(): Out;
  /** True for the message that makes the stream ready. Throws an `AnantaError` to refuse the replica. */
  isWelcome(message: In): boolean;
  /** Every message, the welcome too. */
  message(message: In, stream: ReplicaStream<Out>, isActive: boolean): void;
  /** The stream is the active one from now on. */
  activated(stream: ReplicaStream<Out>): void;
  /** A stream that was ready is over; before `activated` of the one that takes its place. */
  lost?(stream: ReplicaStream<Out>): void;
  /** No stream is active any more, until the next `activated`. */
  deactivated(): void;
  writable(stream: ReplicaStream<Out>): void;
}

export interface DualStreamOptions<Out, In> {
  readonly clock: Clock;
  readonly random: Random;
  readonly network: Network;
  readonly log: Log;
  readonly method: Method<Out, In>;
  /** Replicas' addresses, at least one. */
  readonly addresses: readonly string[];
  readonly timings: DualStreamTimings;
  readonly user: DualStreamUser<Out, In>;
}

type Slot<Out, In> =
  | { readonly kind: "idle" }
  | { readonly kind: "waiting"; readonly timer: Timer }
  | { readonly kind: "opening"; readonly line: Line<Out, In>; readonly timer: Timer }
  | { readonly kind: "ready"; readonly line: Line<Out, In> };

/** A stream to one replica, until it is over. */
class Line<Out, In> implements ReplicaStream<Out> {
  readonly address: string;
  readonly #channel: Channel;
  readonly #stream: MessageStream<Out, In>;
  heardAtMs: number;
  readyAtMs = 0;
  isBlocked = false;
  isOver = false;

  constructor(channel: Channel, method: Method<Out, In>, nowMs: number) {
    this.address = channel.address;
    this.#channel = channel;
    this.#stream = channel.open(method);
    this.heardAtMs = nowMs;
  }

  listen(on: {
    message: (message: In) => void;
    closed: (error: AnantaError | null) => void;
    writable: () => void;
  }): void {
    this.#stream.listen({
      // (S3)
      message: (message) => {
        if (!this.isOver) on.message(message);
      },
      closed: (error) => {
        if (!this.isOver) on.closed(error);
      },
      drained: () => {
        this.isBlocked = false;
        if (!this.isOver) on.writable();
      },
    });
  }

  send(message: Out): boolean {
    if (this.isOver) return false;
    this.isBlocked = !this.#stream.send(message);
    return !this.isBlocked;
  }

  /** Safe to call twice. */
  close(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.#stream.end();
    this.#channel.close();
  }
}

/** A stream that was ready for so long has earned a fresh start of the back-off. */
const PROVEN_MS = 1_000;
/** Attempts at a preferred replica that does not answer become rarer, up to so many times as rare. */
const PREFER_SLOWEST = 32;
/** Spread of the first attempt after a good stream: replicas that come back are not met by everybody at once. */
const FIRST_RETRY_MS = 50;

export class DualStream<Out, In> {
  readonly #options: DualStreamOptions<Out, In>;
  readonly #random: Random;
  /** The replicas in this client's own order. */
  #rotation: readonly string[];
  readonly #slots: [Slot<Out, In>, Slot<Out, In>] = [{ kind: "idle" }, { kind: "idle" }];
  readonly #failures: [number, number] = [0, 0];
  #nextInRotation = 0;
  #active: Line<Out, In> | null = null;
  #check: Timer | null = null;
  #checkedAtMs = 0;
  #switches = 0;
  #preferred: string | null = null;
  /** Attempts since it was named, or since a stream to it held. */
  #preferredTries = 0;
  #preferWithinMs = 0;
  #turn: Timer | null = null;

  constructor(options: DualStreamOptions<Out, In>) {
    this.#options = options;
    this.#random = options.random.fork();
    this.#rotation = shuffled(options.addresses, this.#random);
  }

  start(): void {
    this.#checkedAtMs = this.#options.clock.nowMs();
    this.#scheduleCheck();
    this.#open(0);
    if (this.#rotation.length > 1) this.#open(1);
  }

  stop(): void {
    this.#check?.cancel();
    this.#check = null;
    this.#turn?.cancel();
    this.#turn = null;
    this.#active = null;
    for (const index of [0, 1] as const) this.#empty(index);
  }

  /** The stream in use, or null. */
  get active(): ReplicaStream<Out> | null {
    return this.#active;
  }

  /** The other one, when it is ready. */
  get standby(): ReplicaStream<Out> | null {
    const slot = this.#slots.find((candidate) => candidate.kind === "ready" && candidate.line !== this.#active);
    return slot?.kind === "ready" ? slot.line : null;
  }

  /** The stream to the preferred replica, active or not, when it is ready. */
  get preferred(): ReplicaStream<Out> | null {
    const slot = this.#slots.find(
      (candidate) => candidate.kind === "ready" && candidate.line.address === this.#preferred,
    );
    return slot?.kind === "ready" ? slot.line : null;
  }

  /** How often the active stream was replaced by the other. */
  get switches(): number {
    return this.#switches;
  }

  /**
   * Makes the standby the active stream, and gives the other one up: a new stream takes its place. Were it kept, updates
   * still under way on it would arrive behind a later `activate`, with a hole in between (S5). False when there is none.
   */
  switchOver(reason: string): boolean {
    const other = this.standby as Line<Out, In> | null;
    if (other === null) return false;
    this.#options.log.info("switching to the other replica", {
      from: this.#active?.address ?? null,
      to: other.address,
      reason,
    });
    const before = this.#active;
    this.#activate(other);
    if (before !== null) this.replace(before, "not active any more"); // (S5)
    return true;
  }

  /** Gives up a stream and turns to another replica. */
  replace(stream: ReplicaStream<Out>, reason: string): void {
    const index = this.#slots.findIndex(
      (slot) => (slot.kind === "opening" || slot.kind === "ready") && slot.line === stream,
    );
    if (index === 0 || index === 1) this.#fail(index, reason);
  }

  /**
   * From now on one of the streams should lead to this replica, as far as possible. The standby is led there after a random
   * time below `withinMs`: all clients learn of a new one together.
   */
  prefer(address: string, withinMs: number): void {
    if (address === this.#preferred) return;
    this.#preferred = address;
    this.#preferWithinMs = withinMs;
    this.#preferredTries = 0;
    this.#turnSoon();
  }

  /** Other replicas than before: a stream to one that is no longer named is given up, another takes its place. */
  setAddresses(addresses: readonly string[]): void {
    const known = new Set(addresses);
    if (known.size === 0 || (known.size === this.#rotation.length && this.#rotation.every((one) => known.has(one))))
      return;
    this.#options.log.info("the replicas have changed", { replicas: [...known].join(",") });
    this.#rotation = shuffled(addresses, this.#random);
    this.#nextInRotation = 0;
    for (const index of [0, 1] as const) {
      const slot = this.#slots[index];
      if ((slot.kind === "opening" || slot.kind === "ready") && !known.has(slot.line.address))
        this.#fail(index, "no replica any more");
      else if (slot.kind === "idle" && this.#check !== null && known.size > 1) this.#open(index);
    }
    this.#turnSoon(); // the preferred one may be among them only now
  }

  /** The standby to the preferred replica, within a random time; later and later when that does not work. */
  #turnSoon(): void {
    this.#turn?.cancel();
    this.#turn = null;
    if (this.#check === null || this.#preferred === null || this.#isDialled(this.#preferred)) return;
    const withinMs = this.#preferWithinMs * Math.min(PREFER_SLOWEST, 2 ** this.#preferredTries);
    const share = this.#random.nextFloat();
    const waitMs = withinMs * (this.#preferredTries === 0 ? share : 0.5 + 0.5 * share);
    this.#turn = this.#options.clock.setTimer(waitMs, () => {
      this.#turn = null;
      this.#turnToPreferred();
    });
  }

  #turnToPreferred(): void {
    const address = this.#preferred;
    if (address === null || this.#isDialled(address) || !this.#rotation.includes(address)) return;
    const index = this.#slots.findIndex((slot) => slot.kind !== "ready" || slot.line !== this.#active);
    if (this.#active === null || (index !== 0 && index !== 1)) {
      this.#turnSoon(); // any replica is better than none, and comes first
      return;
    }
    this.#preferredTries++;
    this.#options.log.debug("leading the standby to the preferred replica", { replica: address });
    this.#empty(index);
    this.#open(index, address);
  }

  #isDialled(address: string | null): boolean {
    return this.#slots.some(
      (slot) => (slot.kind === "opening" || slot.kind === "ready") && slot.line.address === address,
    );
  }

  #open(index: 0 | 1, preferred: string | null = null): void {
    const { clock, network, method, timings, user } = this.#options;
    const address = preferred ?? this.#nextAddress(index);
    if (address === null) {
      this.#slots[index] = { kind: "waiting", timer: clock.setTimer(timings.retryMaxMs, () => this.#open(index)) };
      return;
    }
    const line = new Line(network.connect(address), method, clock.nowMs());
    const timer = clock.setTimer(timings.openMs, () => this.#fail(index, "no welcome"));
    this.#slots[index] = { kind: "opening", line, timer };
    line.listen({
      message: (message) => this.#receive(index, line, message),
      closed: (error) =>
        this.#fail(index, error === null ? "closed" : `${error.code}: ${error.message}`, isRefusal(error)),
      writable: () => user.writable(line),
    });
    line.send(user.hello());
  }

  /** (S1) The next of the rotation that the other slot does not use. */
  #nextAddress(index: 0 | 1): string | null {
    const other = this.#slots[1 - index];
    const taken = other?.kind === "opening" || other?.kind === "ready" ? other.line.address : null;
    for (let tries = 0; tries < this.#rotation.length; tries++) {
      const address = this.#rotation[this.#nextInRotation % this.#rotation.length];
      this.#nextInRotation++;
      if (address !== undefined && address !== taken) return address;
    }
    return null;
  }

  #receive(index: 0 | 1, line: Line<Out, In>, message: In): void {
    const { clock, log, user } = this.#options;
    line.heardAtMs = clock.nowMs();
    const slot = this.#slots[index];
    if (slot.kind === "opening") {
      let welcome: boolean;
      try {
        welcome = user.isWelcome(message);
      } catch (caught) {
        const error = AnantaError.from(caught);
        this.#fail(index, `refused the replica: ${error.code}: ${error.message}`, true);
        return;
      }
      if (welcome) {
        slot.timer.cancel();
        line.readyAtMs = clock.nowMs();
        this.#slots[index] = { kind: "ready", line };
        log.debug("stream to a replica is ready", { replica: line.address });
      }
      user.message(message, line, false);
      if (welcome && !line.isOver && this.#active === null) this.#activate(line);
      return;
    }
    user.message(message, line, line === this.#active);
  }

  #activate(line: Line<Out, In>): void {
    if (this.#active !== null) this.#switches++;
    this.#active = line;
    this.#options.user.activated(line); // (S2)
  }

  /** The stream of the slot is over: the other one takes its place at once, the slot looks for another replica. */
  #fail(index: 0 | 1, reason: string, refusal = false): void {
    const { clock, log, user } = this.#options;
    const slot = this.#slots[index];
    if (slot.kind !== "opening" && slot.kind !== "ready") return;
    const { line } = slot;
    const proven = slot.kind === "ready" && clock.nowMs() - line.readyAtMs >= PROVEN_MS;
    const wasActive = line === this.#active;
    this.#empty(index);
    this.#failures[index] = proven ? 0 : this.#failures[index] + 1;
    if (line.address === this.#preferred) {
      if (proven) this.#preferredTries = 0;
      this.#turnSoon();
    }
    const fields = { replica: line.address, reason, wasActive };
    if (refusal)
      log.warn("stream to a replica was refused", fields); // an operator may have to act
    else if (slot.kind === "ready") log.info("stream to a replica is over", fields);
    else log.debug("stream to a replica did not open", fields);
    const pauseMs = this.#pauseMs(this.#failures[index]);
    this.#slots[index] = { kind: "waiting", timer: clock.setTimer(pauseMs, () => this.#open(index)) };
    if (!wasActive) return;
    const other = this.standby as Line<Out, In> | null;
    if (other !== null) this.#activate(other);
    else {
      this.#active = null;
      user.deactivated();
    }
  }

  #pauseMs(failures: number): number {
    const { retryMinMs, retryMaxMs } = this.#options.timings;
    if (failures === 0) return this.#random.nextFloat() * FIRST_RETRY_MS;
    const pauseMs = Math.min(retryMaxMs, retryMinMs * 2 ** Math.min(failures - 1, 20));
    return pauseMs * (0.5 + 0.5 * this.#random.nextFloat());
  }

  /** Leaves the state of the slot: ends what belongs to it. */
  #empty(index: 0 | 1): void {
    const slot = this.#slots[index];
    this.#slots[index] = { kind: "idle" };
    if (slot.kind === "waiting" || slot.kind === "opening") slot.timer.cancel();
    if (slot.kind !== "opening" && slot.kind !== "ready") return;
    slot.line.close();
    if (slot.kind === "ready" && this.#check !== null) this.#options.user.lost?.(slot.line);
  }

  #scheduleCheck(): void {
    const { clock, timings } = this.#options;
    // A sixth: silence is noticed at most 17 % late.
    const periodMs = timings.silenceMs / 6;
    this.#check = clock.setTimer(periodMs, () => {
      const nowMs = clock.nowMs();
      const lateMs = nowMs - this.#checkedAtMs - periodMs;
      this.#checkedAtMs = nowMs;
      this.#scheduleCheck();
      for (const index of [0, 1] as const) {
        const slot = this.#slots[index];
        if (slot.kind !== "ready") continue;
        if (lateMs > periodMs) slot.line.heardAtMs += lateMs; // (S4)
        if (nowMs - slot.line.heardAtMs >= timings.silenceMs) this.#fail(index, "silent");
      }
    });
  }
}

/** Not an outage, which passes, but a no: another cluster, a DIP that another host has. */
const isRefusal = (error: AnantaError | null): boolean =>
  error !== null &&
  !["UNAVAILABLE", "NOT_LEADER", "BEHIND", "CANCELLED", "DEADLINE_EXCEEDED", "LEADERSHIP_LOST"].includes(error.code);

function shuffled(addresses: readonly string[], random: Random): readonly string[] {
  const order = [...new Set(addresses)];
  for (let i = order.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [order[i], order[j]] = [order[j]!, order[i]!]; // both in [0, length)
  }
  return order;
}
