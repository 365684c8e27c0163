/** Who has asked what, by session and sequence: a plain Map of all answers that may still be asked for again. */
import type { Origin } from "../../../../manager/state/commands/commands.js";
import type { CommandResult } from "../../../../manager/state/commands/results.js";

interface NaiveSession {
  lastUsedMs: number;
  newest: number;
  readonly answers: Map<number, CommandResult>;
}

export class NaiveSessions {
  readonly live = new Map<string, NaiveSession>();
  /** Since when; for a day. */
  readonly expired = new Map<string, number>();

  advance(nowMs: number): void {
    for (const [id, { lastUsedMs }] of this.live) {
      if (lastUsedMs + 600_000 > nowMs) continue;
      this.live.delete(id);
      this.expired.set(id, nowMs);
    }
    for (const [id, atMs] of this.expired) if (atMs + 24 * 3_600_000 <= nowMs) this.expired.delete(id);
  }

  endAll(nowMs: number): void {
    for (const id of this.live.keys()) this.expired.set(id, nowMs);
    this.live.clear();
  }

  /** The remembered answer; "expired": never executed (again); "new": to be executed. */
  admit({ session: id, sequence }: Origin, nowMs: number): CommandResult | "expired" | "new" {
    let session = this.live.get(id);
    if (session === undefined) {
      if (this.expired.has(id) || sequence > 64) return "expired";
      session = { lastUsedMs: nowMs, newest: 0, answers: new Map() };
      this.live.set(id, session);
    }
    session.lastUsedMs = nowMs;
    if (sequence <= session.newest - 64) return "expired";
    return session.answers.get(sequence) ?? "new";
  }

  remember({ session: id, sequence }: Origin, result: CommandResult): void {
    const session = this.live.get(id);
    if (session === undefined) return; // ended by the command itself
    session.newest = Math.max(session.newest, sequence);
    session.answers.set(sequence, result);
  }
}
