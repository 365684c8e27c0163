/**
 * VIPs whose routes all MUXes withdraw for a while, because of an attack or an operator's word. Each ends by
 * itself at its time; packets that still arrive are handled.
 */
import type { VipId } from "../../core/brands.js";

export interface Withdrawal {
  readonly vipId: VipId;
  /** For people. */
  readonly reason: string;
  readonly sinceMs: number;
  /** Cluster time at which it ends. */
  readonly untilMs: number;
}

export class Withdrawals {
  private readonly withdrawn = new Map<VipId, Withdrawal>();

  has(vip: VipId): boolean {
    return this.withdrawn.has(vip);
  }

  get count(): number {
    return this.withdrawn.size;
  }

  get(vip: VipId): Withdrawal | null {
    return this.withdrawn.get(vip) ?? null;
  }

  put(withdrawal: Withdrawal): void {
    this.withdrawn.set(withdrawal.vipId, withdrawal);
  }

  remove(vip: VipId): boolean {
    return this.withdrawn.delete(vip);
  }

  /** VIPs whose time has come, in order of id. */
  due(nowMs: number): readonly VipId[] {
    return this.all()
      .filter(({ untilMs }) => untilMs <= nowMs)
      .map(({ vipId }) => vipId);
  }

  nextEndMs(): number | null {
    let next: number | null = null;
    for (const { untilMs } of this.withdrawn.values()) next = next === null ? untilMs : Math.min(next, untilMs);
    return next;
  }

  all(): readonly Withdrawal[] {
    return [...this.withdrawn.values()].sort((a, b) => a.vipId - b.vipId);
  }
}
