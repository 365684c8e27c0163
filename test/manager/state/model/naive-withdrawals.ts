/** Which VIPs are withdrawn until when, and how long the next time would be: plain maps. */
import type { WithdrawVipCommand } from "../../../../manager/state/commands/commands.js";

const HOUR_MS = 3_600_000;

export class NaiveWithdrawals {
  /** VIP id -> cluster time at which it ends. */
  readonly untilMs = new Map<number, number>();
  /** VIP id -> how often and how long it was withdrawn for overload, and since when it is calm. */
  readonly backoffs = new Map<number, { times: number; seconds: number; calmMs: number }>();

  advance(nowMs: number): void {
    for (const [vip, untilMs] of this.untilMs) if (untilMs <= nowMs) this.untilMs.delete(vip);
    for (const [vip, { calmMs }] of this.backoffs) if (calmMs + HOUR_MS <= nowMs) this.backoffs.delete(vip);
  }

  forget(vip: number): void {
    this.untilMs.delete(vip);
    this.backoffs.delete(vip);
  }

  /** False: it is not withdrawn. */
  restore(vip: number, nowMs: number): boolean {
    if (!this.untilMs.delete(vip)) return false;
    const backoff = this.backoffs.get(vip);
    if (backoff !== undefined) backoff.calmMs = nowMs;
    return true;
  }

  withdraw(vip: number, { forSeconds, isOverload }: WithdrawVipCommand, bySpec: number, nowMs: number): void {
    const before = this.backoffs.get(vip);
    const next = isOverload && before !== undefined ? Math.min(86_400, Math.max(bySpec, 2 * before.seconds)) : bySpec;
    const seconds = forSeconds === 0 ? next : forSeconds;
    const untilMs = nowMs + seconds * 1_000;
    this.untilMs.set(vip, untilMs);
    if (isOverload) this.backoffs.set(vip, { times: (before?.times ?? 0) + 1, seconds, calmMs: untilMs });
    else if (before !== undefined) before.calmMs = untilMs;
  }
}
