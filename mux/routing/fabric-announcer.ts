/**
 * Announces VIPs to the router of the embedded site: the whole list every 250 ms, as a datagram (dataplane/fabric-frame.ts).
 * A dead MUX simply falls silent, and the router forgets its routes after the hold time, as after a lost BGP session.
 * Of a list that is too long for a datagram, as many as fit are announced, from its beginning.
 */
import type { IpAddress } from "../../core/brands.js";
import { encodeAnnouncement } from "../../dataplane/fabric-frame.js";
import type { Clock, Log, Timer } from "../../runtime/env.js";
import type { RouteAnnouncer, SelfTest } from "./route-announcer.js";

/** Four per hold time: three may be lost. */
const ANNOUNCE_MS = 250;
const HOLD_TIME_MS = 1_000;
/** A withdrawal is told this often, since datagrams are lost; the hold time stands behind it. */
const WITHDRAWALS = 3;
const WITHDRAW_AGAIN_MS = 20;

export interface FabricAnnouncerOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly name: string;
  readonly address: IpAddress;
  /** Sends a frame to the router, from the socket that packets shall come to: the router answers to where it comes from. */
  readonly send: (frame: Uint8Array) => void;
  readonly selfTest: SelfTest;
}

export class FabricAnnouncer implements RouteAnnouncer {
  readonly #options: FabricAnnouncerOptions;
  #wanted: readonly IpAddress[] = [];
  #announced: readonly IpAddress[] = [];
  #withdrawalsLeft = 0;
  #sequence = 0;
  #timer: Timer | null = null;
  #isHealthy = true;
  /** VIPs of `#wanted` that are not announced: no room. */
  #leftOut = 0;

  constructor(options: FabricAnnouncerOptions) {
    this.#options = options;
  }

  get announced(): readonly IpAddress[] {
    return this.#announced;
  }

  start(): void {
    this.#timer ??= this.#options.clock.setTimer(ANNOUNCE_MS, () => this.#beat());
  }

  announce(vips: readonly IpAddress[]): void {
    if (vips.length === 0) {
      this.withdraw();
      return;
    }
    if (isSameSet(vips, this.#wanted)) return;
    this.#wanted = [...vips];
    this.#tell();
  }

  withdraw(): void {
    this.#wanted = [];
    if (this.#announced.length > 0) this.#tell();
  }

  stop(): void {
    this.withdraw();
    // The caller closes the socket after this: all repetitions go out now.
    for (; this.#withdrawalsLeft > 0; this.#withdrawalsLeft--) this.#send([]);
    this.#timer?.cancel();
    this.#timer = null;
  }

  #beat(): void {
    this.#timer = null;
    if (this.#wanted.length > 0 || this.#announced.length > 0 || this.#withdrawalsLeft > 0) this.#tell();
    else this.start();
  }

  /** Sends what is wanted now, and sees to the next time. */
  #tell(): void {
    const { clock, log, selfTest } = this.#options;
    const healthy = this.#wanted.length === 0 || selfTest();
    if (healthy !== this.#isHealthy) {
      this.#isHealthy = healthy;
      if (healthy) log.info("self-test passes again: announcing", {});
      else log.error("self-test fails: withdrawing all routes", {});
    }
    const vips = healthy ? this.#wanted : [];
    if (vips.length > 0) this.#withdrawalsLeft = 0;
    else if (this.#announced.length > 0) this.#withdrawalsLeft = WITHDRAWALS;
    this.#announced = vips.length > 0 || this.#withdrawalsLeft > 0 ? this.#send(vips) : [];
    if (vips.length > 0) this.#tellLeftOut(vips.length - this.#announced.length);
    if (this.#withdrawalsLeft > 0) this.#withdrawalsLeft--;
    this.#timer?.cancel();
    this.#timer = clock.setTimer(this.#withdrawalsLeft > 0 ? WITHDRAW_AGAIN_MS : ANNOUNCE_MS, () => this.#beat());
  }

  /** Answers what the announcement holds: as many as fit into a datagram. */
  #send(vips: readonly IpAddress[]): readonly IpAddress[] {
    const { name, address, send } = this.#options;
    const sequence = ++this.#sequence;
    const frameOf = (count: number): Uint8Array | null =>
      encodeAnnouncement({ mux: name, address, vips: vips.slice(0, count), holdTimeMs: HOLD_TIME_MS, sequence });
    let count = vips.length;
    let frame = frameOf(count);
    if (frame === null) {
      // [fits, tooMany): an empty list always fits.
      let [fits, tooMany] = [0, count];
      while (tooMany - fits > 1) {
        const middle = (fits + tooMany) >>> 1;
        if (frameOf(middle) === null) tooMany = middle;
        else fits = middle;
      }
      count = fits;
      frame = frameOf(count);
    }
    if (frame !== null) send(frame);
    return vips.slice(0, count);
  }

  /** Once per change, not with every repetition. */
  #tellLeftOut(leftOut: number): void {
    if (leftOut === this.#leftOut) return;
    this.#leftOut = leftOut;
    const { log } = this.#options;
    const announced = this.#announced.length;
    if (leftOut > 0) log.error("not all VIPs can be announced: too many for a datagram", { announced, leftOut });
    else log.info("all VIPs are announced again", { announced });
  }
}

function isSameSet(a: readonly IpAddress[], b: readonly IpAddress[]): boolean {
  if (a.length !== b.length) return false;
  const known = new Set(b);
  return a.every((vip) => known.has(vip));
}
