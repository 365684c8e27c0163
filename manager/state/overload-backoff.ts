/**
 * How long a VIP that overloads MUXes again and again is withdrawn: the first time for as long as its spec says, then twice as long each
 * time, never shorter than the spec says, up to a day; forgotten after an hour of calm. It is kept in the log, so that an attacker gains nothing by a change of leader. At
 * most one record for each VIP.
 *
 *     overload -> withdrawn for s -> announced -> overload -> withdrawn for 2s -> announced -> an hour without overload -> forgotten
 *
 *  (B1) Calm is counted while the VIP is announced: from the end of its withdrawal, whoever ended it, or asked for a later end.
 */
import type { VipId } from "../../core/brands.js";

export interface OverloadBackoff {
  readonly vipId: VipId;
  /** Withdrawals for overload since the VIP was calm for an hour: 1 or more. */
  readonly times: number;
  /** Of the last one: 30..86400. */
  readonly forSeconds: number;
  /** Cluster time at which the VIP's last withdrawal ends or ended. */
  readonly calmSinceMs: number;
}

/** A VIP that was not withdrawn for so long begins anew. */
const CALM_MS = 3_600_000;
/** As an operator's longest withdrawal. */
const FOR_SECONDS_MAX = 86_400;

export class OverloadBackoffs {
  readonly #backoffs = new Map<VipId, OverloadBackoff>();
  /** No record is forgotten before; it may be too early. */
  #nextMs = Infinity;

  get(vip: VipId): OverloadBackoff | null {
    return this.#backoffs.get(vip) ?? null;
  }

  put(backoff: OverloadBackoff): void {
    this.#backoffs.set(backoff.vipId, backoff);
    this.#nextMs = Math.min(this.#nextMs, forgottenAtMs(backoff));
  }

  remove(vip: VipId): void {
    this.#backoffs.delete(vip);
  }

  /** How long a withdrawal for overload lasts that begins now. `firstSeconds`: as the VIP's spec says. */
  secondsFor(vip: VipId, firstSeconds: number): number {
    const before = this.#backoffs.get(vip);
    return before === undefined
      ? firstSeconds
      : Math.min(FOR_SECONDS_MAX, Math.max(firstSeconds, before.forSeconds * 2));
  }

  /** A withdrawal for overload began. */
  began(vip: VipId, forSeconds: number, untilMs: number): void {
    const times = (this.#backoffs.get(vip)?.times ?? 0) + 1;
    this.put({ vipId: vip, times, forSeconds, calmSinceMs: untilMs });
  }

  /** (B1) The VIP's withdrawal ends, or ended, at that time. */
  ends(vip: VipId, atMs: number): void {
    const before = this.#backoffs.get(vip);
    if (before !== undefined) this.put({ ...before, calmSinceMs: atMs });
  }

  forget(nowMs: number): void {
    if (nowMs < this.#nextMs) return;
    for (const backoff of this.#backoffs.values())
      if (forgottenAtMs(backoff) <= nowMs) this.#backoffs.delete(backoff.vipId);
    this.#nextMs = this.#soonest();
  }

  /** Cluster time at which one is forgotten. */
  nextMs(): number | null {
    const next = this.#soonest();
    return next === Infinity ? null : next;
  }

  #soonest(): number {
    let next = Infinity;
    for (const backoff of this.#backoffs.values()) next = Math.min(next, forgottenAtMs(backoff));
    return next;
  }

  /** In order of id. */
  all(): readonly OverloadBackoff[] {
    return [...this.#backoffs.values()].sort((a, b) => a.vipId - b.vipId);
  }
}

export const forgottenAtMs = ({ calmSinceMs }: OverloadBackoff): number => calmSinceMs + CALM_MS;
