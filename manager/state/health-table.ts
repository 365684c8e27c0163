/**
 * Which members of which pools are down, as their hosts' probes say. Only transitions are told (DESIGN §4), and only what is
 * down is kept: a DIP that nobody has spoken of is up.
 */
import type { DipId, LogIndex, PoolId } from "../../core/brands.js";

export interface DownMember {
  readonly poolId: PoolId;
  readonly dipId: DipId;
  /** The probe's words: "connection refused". */
  readonly reason: string;
  readonly sinceMs: number;
  readonly index: LogIndex;
}

export class HealthTable {
  private readonly down = new Map<string, DownMember>();

  isDown(pool: PoolId, dip: DipId): boolean {
    return this.down.has(key(pool, dip));
  }

  get(pool: PoolId, dip: DipId): DownMember | null {
    return this.down.get(key(pool, dip)) ?? null;
  }

  put(member: DownMember): void {
    this.down.set(key(member.poolId, member.dipId), member);
  }

  /** False when it was up. */
  remove(pool: PoolId, dip: DipId): boolean {
    return this.down.delete(key(pool, dip));
  }

  /** In order of (pool, DIP). */
  all(): readonly DownMember[] {
    return [...this.down.values()].sort((a, b) => a.poolId - b.poolId || a.dipId - b.dipId);
  }
}

const key = (pool: PoolId, dip: DipId): string => `${pool}/${dip}`;
