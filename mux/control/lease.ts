/**
 * [pure] The MUX's own lease. The leader counts a MUX as live from the acknowledgements it hears;
 * the MUX must know by itself, and earlier, when the leader may stop waiting for it.
 *
 *     MUX      ack 7 sent .............. beat "7 confirmed" ......................... lease over
 *              |<-------------------------- leaseMs ------------------------------------>|
 *     leader        ack 7 heard |<------------- leaseMs + withdrawal + margin --------------------->| may declare it lost
 *
 *  (L1) The lease runs from the moment the confirmed renewal was *sent*, on the monotonic clock: never later than the
 *       leader counts, whatever the network did.
 *  (L2) A lease that has run out is no reason to withdraw by itself: without Managers nobody can have granted anything
 *       new, and what is in force stays right. It is one as soon as a beat proves that a quorum worked after that moment,
 *       under a leader that has been in office for a lease: a younger one cannot have declared anybody lost, and when the
 *       Managers come back after an outage, all MUXes must not withdraw at once.
 *  (L3) A MUX that lags the log for longer than a lease stops renewing: the others shall not wait for it for ever.
 */
import type { LogIndex } from "../../core/brands.js";

/** Unconfirmed renewals remembered; at one per ms this is 8 s, four leases. */
const RENEWALS_MAX = 8_192;

export type LeaseState =
  /** No renewal was confirmed yet. */
  | "none"
  | "held"
  /** Over, and nothing proves that the Managers worked since: keep forwarding (L2). */
  | "over"
  /** Over, and a quorum worked since: withdraw. */
  | "lost";

export class Lease {
  private readonly leaseMs: number;
  /** When renewal n was sent, at n % RENEWALS_MAX. */
  private readonly sentAtMs = new Float64Array(RENEWALS_MAX);
  private newest = 0;
  private confirmed = 0;
  private expiresAtMs = Number.NEGATIVE_INFINITY;
  /** Latest moment at which a quorum is known to have worked. */
  private quorumSeenAtMs = Number.NEGATIVE_INFINITY;
  private lag: { readonly index: LogIndex; readonly sinceMs: number } | null = null;

  constructor(leaseMs: number) {
    this.leaseMs = leaseMs;
  }

  /** Number for the acknowledgement that is sent now. Counts from 1. */
  renew(nowMs: number): number {
    this.newest++;
    this.sentAtMs[this.newest % RENEWALS_MAX] = nowMs;
    return this.newest;
  }

  /** A beat has arrived, from any replica. */
  beat(
    beat: { readonly confirmedRenewal: number; readonly quorumAgeMs: number; readonly leaderInOfficeMs: number },
    nowMs: number,
  ): void {
    if (beat.leaderInOfficeMs >= this.leaseMs) {
      this.quorumSeenAtMs = Math.max(this.quorumSeenAtMs, nowMs - beat.quorumAgeMs); // (L2)
    }
    const { confirmedRenewal } = beat;
    if (confirmedRenewal <= this.confirmed || confirmedRenewal > this.newest) return; // old, or not ours
    this.confirmed = confirmedRenewal;
    if (this.newest - confirmedRenewal >= RENEWALS_MAX) return; // its moment is forgotten: a newer one will be confirmed
    this.expiresAtMs = this.sentAtMs[confirmedRenewal % RENEWALS_MAX]! + this.leaseMs; // (L1); the slot is in range
  }

  state(nowMs: number): LeaseState {
    if (this.expiresAtMs === Number.NEGATIVE_INFINITY) return "none";
    if (nowMs < this.expiresAtMs) return "held";
    return this.quorumSeenAtMs > this.expiresAtMs ? "lost" : "over"; // (L2)
  }

  /** What is in force here, beside what a replica has applied: call with every beat and every update in force. */
  compare(inForce: LogIndex, applied: LogIndex, nowMs: number): void {
    if (this.lag !== null && inForce >= this.lag.index) this.lag = null;
    if (this.lag === null && inForce < applied) this.lag = { index: applied, sinceMs: nowMs };
  }

  /** Indexes before a restore cannot be compared with those after it. */
  newEpoch(): void {
    this.lag = null;
  }

  /** (L3) */
  mayRenew(nowMs: number): boolean {
    return this.lag === null || nowMs - this.lag.sinceMs <= this.leaseMs;
  }

  /** Milliseconds left, 0 when over. */
  leftMs(nowMs: number): number {
    return Math.max(0, this.expiresAtMs - nowMs);
  }
}
