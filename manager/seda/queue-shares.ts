/**
 * [pure] How much one key (a tenant) may have waiting in a queue, and when those who find no room shall come back.
 *
 * Who waits longer than its caller waits for an answer is asked for again, over another replica: a queue that is longer than it is
 * worth makes work for itself. So a key's events that wait are at most what is served of it in `waitTargetMs`; the rate
 * is measured while it has a backlog, when all that can be served is.
 *
 * Who is refused gets a turn: one after the other at a little more than that rate, after what waits now. So however many
 * there are, they come back as fast as they can be served, not all at once, and a refusal is paid about once per grant.
 */

export interface SharePolicy {
  /** What waits of one key is served within so long. */
  readonly waitTargetMs: number;
  /** So many of a key may wait whatever its rate was: two batches, so that one always grows. */
  readonly lengthMin: number;
  /** Nobody is told to wait for longer, however long the line is: things change. */
  readonly retryAfterMaxMs: number;
}

/** Of a key that has had no backlog yet, events/s: what a machine with two busy cores does. */
const RATE_FIRST = 10_000;
/** A rate that was measured while there was no leader says nothing. */
const RATE_MIN = 1_000;
const WINDOW_MS = 250;
/** Invited in the time in which one is served. Some do not come, others come uninvited; more of them would be refused again. */
const INVITED_PER_SERVED = 1.25;
/** Successive multiples of it, modulo 1, are spread evenly (golden ratio). */
const SPREAD = 0.618_033_988_749_895;

interface Account {
  ratePerSecond: number;
  /** Begin of the present measurement; null: there is no backlog. */
  backlogSinceMs: number | null;
  servedSince: number;
  /** When the next one that is refused shall come back. */
  nextTurnMs: number;
  beyondMax: number;
}

export class QueueShares {
  private readonly policy: SharePolicy;
  private readonly accounts = new Map<string, Account>();

  constructor(policy: SharePolicy) {
    this.policy = policy;
  }

  /** Of this key, that may wait. */
  lengthMax(key: string): number {
    const rate = this.accounts.get(key)?.ratePerSecond ?? RATE_FIRST;
    return Math.max(this.policy.lengthMin, Math.floor((rate * this.policy.waitTargetMs) / 1_000));
  }

  /** `count` of this key were taken, `left` wait still. */
  served(key: string, count: number, { left, nowMs }: { readonly left: number; readonly nowMs: number }): void {
    const account = this.accounts.get(key);
    if (account === undefined) {
      if (left > 0) this.accounts.set(key, { ...fresh(), backlogSinceMs: nowMs });
      return;
    }
    const { backlogSinceMs } = account;
    if (backlogSinceMs === null) {
      if (left > 0) [account.backlogSinceMs, account.servedSince] = [nowMs, 0];
      else if (account.nextTurnMs <= nowMs) this.accounts.delete(key);
      return;
    }
    account.servedSince += count;
    const elapsedMs = nowMs - backlogSinceMs;
    if (elapsedMs >= WINDOW_MS) {
      const measured = (account.servedSince * 1_000) / elapsedMs;
      account.ratePerSecond = Math.max(RATE_MIN, (account.ratePerSecond + measured) / 2);
      [account.backlogSinceMs, account.servedSince] = [nowMs, 0];
    }
    if (left === 0) account.backlogSinceMs = null;
  }

  /** In how many ms somebody who found `length` of its key waiting shall come back, at least `leastMs`. A turn is given once. */
  returnAfterMs(
    key: string,
    { length, leastMs, nowMs }: { readonly length: number; readonly leastMs: number; readonly nowMs: number },
  ): number {
    let account = this.accounts.get(key);
    if (account === undefined) this.accounts.set(key, (account = fresh()));
    const { ratePerSecond } = account;
    const servedInMs = (length * 1_000) / ratePerSecond;
    const turnMs = Math.max(nowMs + leastMs, nowMs + servedInMs / 2, account.nextTurnMs);
    const { retryAfterMaxMs } = this.policy;
    if (turnMs - nowMs > retryAfterMaxMs) {
      const share = (account.beyondMax++ * SPREAD) % 1;
      return Math.ceil(retryAfterMaxMs * (0.5 + share / 2));
    }
    account.nextTurnMs = turnMs + 1_000 / (ratePerSecond * INVITED_PER_SERVED);
    return Math.ceil(turnMs - nowMs);
  }

  /** Keys that have a backlog, or had one lately. */
  get size(): number {
    return this.accounts.size;
  }
}

const fresh = (): Account => ({
  ratePerSecond: RATE_FIRST,
  backlogSinceMs: null,
  servedSince: 0,
  nextTurnMs: 0,
  beyondMax: 0,
});
