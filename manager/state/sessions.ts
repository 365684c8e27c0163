/**
 * Exactly-once requests. A client numbers its requests within a session of its own choosing; the answer of each is
 * remembered, so that a retry is answered and not executed again, refusals included.
 *
 * A session remembers its newest 64 sequences. A sequence inside this window that was never seen is executed, even if
 * newer ones were first: a client may have several requests under way and they may arrive in any order. For the same
 * reason a session is made by any request with a sequence up to 64, not by the first alone.
 *
 * What could be a late copy of something already executed is answered SESSION_EXPIRED (outcome unknown) and never
 * executed: a sequence older than the window; a sequence above 64 of an unknown session; any sequence of a session that
 * has expired. Expired sessions are therefore remembered by name for another 24 h (tombstones), the oldest forgotten
 * first when there are more than 100,000: a copy would have to be older than that to be taken for new.
 */
import { BeforeImages, type Reading } from "./snapshot/before-images.js";
import type { Origin } from "./commands/commands.js";
import type { CommandResult } from "./commands/results.js";

/** Answers remembered per session. Part of the contract: clients keep no more requests under way. */
export const SESSION_WINDOW = 64;
/** Cluster time without use after which a session expires. Part of the contract. */
export const SESSION_IDLE_MS = 600_000;
/** How long an expired session is known as expired. */
export const TOMBSTONE_MS = 24 * 3_600_000;
/** About 10 MB; at one client start per second this alone would last 27 h. */
export const TOMBSTONES_MAX = 100_000;

/** What to do with a request. */
export type SessionVerdict =
  | { readonly kind: "execute" }
  /** Executed before: answer this. */
  | { readonly kind: "answered"; readonly result: CommandResult }
  | { readonly kind: "expired"; readonly reason: string };

export interface RememberedAnswer {
  readonly sequence: number;
  readonly result: CommandResult;
}

interface Session {
  readonly id: string;
  lastUsedMs: number;
  newestSequence: number;
  /** Slot `sequence % 64`; a slot whose sequence has left the window counts as empty. */
  readonly answers: (RememberedAnswer | undefined)[];
  older: Session | null;
  newer: Session | null;
}

/** One session as snapshots hold it. */
export interface SessionRecord {
  readonly id: string;
  readonly lastUsedMs: number;
  readonly newestSequence: number;
  /** By sequence, ascending; only what is in the window. */
  readonly answers: readonly RememberedAnswer[];
}

const EXECUTE: SessionVerdict = { kind: "execute" };

/** What its sender is told. */
export const expiredText = ({ reason }: SessionVerdict & { readonly kind: "expired" }): string =>
  `not executed: ${reason}; whether it was executed before is unknown`;

export class Sessions {
  private readonly sessions = new Map<string, Session>();
  /** Expired session -> cluster time of expiry; in order of expiry. */
  private readonly tombstones = new Map<string, number>();
  // List in order of last use; the oldest expires first.
  private oldest: Session | null = null;
  private newest: Session | null = null;
  private readonly images: BeforeImages;

  constructor(images = new BeforeImages()) {
    this.images = images;
  }

  get size(): number {
    return this.sessions.size;
  }

  has(id: string): boolean {
    return this.sessions.has(id);
  }

  /** What `admit` would say now. Changes nothing, and is no use of the session. */
  verdictOn(origin: Origin): SessionVerdict {
    const session = this.sessions.get(origin.session);
    if (session === undefined) {
      if (this.tombstones.has(origin.session))
        return {
          kind: "expired",
          reason: "the session has ended: 10 minutes passed without use, or the cluster was restored from a snapshot",
        };
      if (origin.sequence <= SESSION_WINDOW) return EXECUTE;
      return {
        kind: "expired",
        reason: `the session is not known (it ended, or the cluster was restored), and sequence ${origin.sequence} cannot be among its first ${SESSION_WINDOW}`,
      };
    }
    if (origin.sequence <= session.newestSequence - SESSION_WINDOW) {
      return {
        kind: "expired",
        reason: `only the newest ${SESSION_WINDOW} answers of a session are kept; its newest sequence is ${session.newestSequence}`,
      };
    }
    const answer = session.answers[origin.sequence % SESSION_WINDOW];
    return answer !== undefined && answer.sequence === origin.sequence
      ? { kind: "answered", result: answer.result }
      : EXECUTE;
  }

  /** Looks the request up, makes its session if it may, and counts as a use of it. */
  admit(origin: Origin, nowMs: number): SessionVerdict {
    const verdict = this.verdictOn(origin);
    let session = this.sessions.get(origin.session);
    if (session === undefined) {
      if (verdict.kind === "expired") return verdict;
      session = { id: origin.session, lastUsedMs: nowMs, newestSequence: 0, answers: [], older: null, newer: null };
      this.sessions.set(origin.session, session);
      this.append(session);
    } else {
      this.changes(session);
      session.lastUsedMs = nowMs;
      if (session !== this.newest) {
        this.unlink(session);
        this.append(session);
      }
    }
    return verdict;
  }

  /** Keeps the answer of a request that `admit` let through. */
  remember(origin: Origin, result: CommandResult): void {
    const session = this.sessions.get(origin.session);
    if (session === undefined) return; // the request itself has ended all sessions
    this.changes(session);
    session.newestSequence = Math.max(session.newestSequence, origin.sequence);
    session.answers[origin.sequence % SESSION_WINDOW] = { sequence: origin.sequence, result };
  }

  /** Expires all of them, the least recently used first. */
  expireAll(nowMs: number): void {
    for (let session = this.oldest; session !== null; session = session.newer) this.tombstones.set(session.id, nowMs);
    this.sessions.clear();
    this.oldest = null;
    this.newest = null;
  }

  /** Expires what was not used for 10 minutes, and forgets old tombstones. */
  expire(nowMs: number): void {
    while (this.oldest !== null && this.oldest.lastUsedMs + SESSION_IDLE_MS <= nowMs) {
      const session = this.oldest;
      this.unlink(session);
      this.sessions.delete(session.id);
      this.tombstones.set(session.id, nowMs);
    }
    for (const [id, expiredAtMs] of this.tombstones) {
      if (this.tombstones.size <= TOMBSTONES_MAX && expiredAtMs + TOMBSTONE_MS > nowMs) break;
      this.tombstones.delete(id);
    }
  }

  /** Cluster time at which the next session expires, or null. */
  nextExpiryMs(): number | null {
    return this.oldest === null ? null : this.oldest.lastUsedMs + SESSION_IDLE_MS;
  }

  private changes(session: Session): void {
    this.images.keep(session, (before) => ({ ...before, answers: [...before.answers] }));
  }

  /**
   * In order of last use, so that `restore` in this order gives the same list. Which sessions there are is settled by the
   * call; what they hold is that of the beginning of `reading`.
   */
  records(reading?: Reading): Iterable<SessionRecord> {
    const sessions: Session[] = [];
    for (let session = this.oldest; session !== null; session = session.newer) sessions.push(session);
    return recordsOf(sessions, reading);
  }

  /** Oldest first. */
  expiredSessions(): Iterable<readonly [id: string, expiredAtMs: number]> {
    return this.tombstones;
  }

  restore(record: SessionRecord): void {
    const { id, lastUsedMs, newestSequence } = record;
    const session: Session = { id, lastUsedMs, newestSequence, answers: [], older: null, newer: null };
    for (const answer of record.answers) session.answers[answer.sequence % SESSION_WINDOW] = answer;
    this.sessions.set(id, session);
    this.append(session);
  }

  restoreExpired(id: string, expiredAtMs: number): void {
    this.tombstones.set(id, expiredAtMs);
  }

  private append(session: Session): void {
    session.older = this.newest;
    session.newer = null;
    if (this.newest === null) this.oldest = session;
    else this.newest.newer = session;
    this.newest = session;
  }

  private unlink(session: Session): void {
    if (session.older === null) this.oldest = session.newer;
    else session.older.newer = session.newer;
    if (session.newer === null) this.newest = session.older;
    else session.newer.older = session.older;
    session.older = null;
    session.newer = null;
  }
}

function* recordsOf(sessions: readonly Session[], reading: Reading | undefined): Iterable<SessionRecord> {
  for (const session of sessions) {
    const { id, lastUsedMs, newestSequence, answers } = reading?.of(session) ?? session;
    const remembered = answers.filter(
      (answer): answer is RememberedAnswer => answer !== undefined && answer.sequence > newestSequence - SESSION_WINDOW,
    );
    yield { id, lastUsedMs, newestSequence, answers: remembered.sort((a, b) => a.sequence - b.sequence) };
  }
}
