/** Who drains, since when and until when, as the documentation of `drainTimeoutSeconds` says it; looked at member by member. */
import type { BackendPoolSpec } from "../../../../manager/state/objects.js";

const SHOWN_MS = 600_000;

export interface NaiveDrain {
  readonly sinceMs: number;
  /** When its flows end, or have ended. */
  endsMs: number;
  isOver: boolean;
  hasLeft: boolean;
}

export class NaiveDrains {
  /** By "pool id/DIP's address". */
  readonly all = new Map<string, NaiveDrain>();

  advance(nowMs: number): void {
    for (const [key, drain] of this.all) {
      if (drain.isOver && drain.hasLeft && drain.endsMs + SHOWN_MS <= nowMs) this.all.delete(key);
      if (drain.isOver || drain.endsMs > nowMs) continue;
      drain.isOver = true;
      drain.endsMs = nowMs;
    }
  }

  /** MUXes use the second version of the pool from now on; null: it had none, or it is gone. */
  changed(pool: number, before: BackendPoolSpec | null, after: BackendPoolSpec | null, nowMs: number): void {
    const dips = new Set([...(before?.members ?? []), ...(after?.members ?? [])].map(({ dip }) => `${pool}/${dip}`));
    for (const key of this.all.keys()) if (key.startsWith(`${pool}/`)) dips.add(key);
    for (const key of dips) {
      const member = after?.members.find(({ dip }) => `${pool}/${dip}` === key);
      const drain = this.all.get(key);
      if (after === null || (member !== undefined && member.weight > 0)) this.all.delete(key);
      else if (drain?.isOver === true) {
        if (drain.hasLeft === (member === undefined)) continue;
        drain.hasLeft = member === undefined;
        drain.endsMs = nowMs;
      } else if (after.drainTimeoutSeconds === 0) this.all.delete(key);
      else {
        const sinceMs = drain?.sinceMs ?? nowMs;
        const endsMs = Math.max(nowMs, sinceMs + after.drainTimeoutSeconds * 1_000);
        this.all.set(key, { sinceMs, endsMs, isOver: endsMs === nowMs, hasLeft: member === undefined });
      }
    }
  }
}
