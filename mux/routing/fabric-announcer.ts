/**
 * Announces VIPs to the router of the embedded site: the whole list every 250 ms, as a datagram (dataplane/fabric-frame.ts).
 * A dead MUX simply falls silent, and the router forgets its routes after the hold time, as after a lost BGP session.
 */
import { parseIpv4 } from "../../core/address.js";
import type { IpAddress, Ipv4 } from "../../core/brands.js";
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
    if (vips.length > 0 || this.#withdrawalsLeft > 0) this.#send(vips);
    this.#announced = vips;
    if (this.#withdrawalsLeft > 0) this.#withdrawalsLeft--;
    this.#timer?.cancel();
    this.#timer = clock.setTimer(this.#withdrawalsLeft > 0 ? WITHDRAW_AGAIN_MS : ANNOUNCE_MS, () => this.#beat());
  }

  #send(vips: readonly IpAddress[]): void {
    const { name, address, log, send } = this.#options;
    const routes: Ipv4[] = [];
    for (const vip of vips) {
      const route = parseIpv4(vip);
      if (route !== null) routes.push(route); // the embedded site is IPv4
    }
    const frame = encodeAnnouncement({
      mux: name,
      address,
      vips: routes,
      holdTimeMs: HOLD_TIME_MS,
      sequence: ++this.#sequence,
    });
    if (frame === null) log.error("too many VIPs for one announcement: not announced", { vips: routes.length });
    else send(frame);
  }
}

function isSameSet(a: readonly IpAddress[], b: readonly IpAddress[]): boolean {
  if (a.length !== b.length) return false;
  const known = new Set(b);
  return a.every((vip) => known.has(vip));
}
