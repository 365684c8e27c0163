/**
 * [pure] The requests of an agent that have no final answer yet. Each is named by (session, sequence) for ever, so it can be
 * sent as often as need be, over any replica, and is done once.
 *
 *     add --> waits for its turn --> sent on the first stream --300 ms--> also on the second one --> answered
 *                                       ^-- again on another first one, or when the answer was "not known, not done"
 *
 *  (Q1) A request keeps its origin until it is answered for good. A new question is a new origin.
 *  (Q2) Sequences in use span less than 64: Managers remember so many answers of a session.
 *  (Q3) A session that may have expired is not used again. Answers name only the sequence, so a new session begins when
 *       nothing is open, or after all streams were given up.
 */
import type { DipId } from "../../core/brands.js";
import type { PortProtocol } from "../../dataplane/mux-items.js";
import type { HeldRange } from "./held-range.js";

/** Part of the Managers' contract. */
const SESSION_WINDOW = 64;
/** Half of the time after which a Manager forgets an unused session, by a clock that may differ. */
const SESSION_REST_MS = 300_000;

export type RequestBody =
  | { readonly kind: "allocate"; readonly ports: number }
  /** `ranges` were stopped, and removed from the durable record. */
  | { readonly kind: "release"; readonly ranges: readonly HeldRange[] };

export interface OpenRequest {
  readonly session: string;
  readonly sequence: number;
  readonly dipId: DipId;
  readonly protocol: PortProtocol;
  readonly body: RequestBody;
  /** First sending since the first stream is another; null: it has to be sent. */
  readonly sentAtMs: number | null;
  /** Sent on the present second stream; null: not yet. */
  readonly copiedAtMs: number | null;
  readonly sendAtMs: number;
  /** Times that it was sent: a refusal of one says nothing about the others. */
  readonly attempts: number;
}

type Waiting = Pick<OpenRequest, "dipId" | "protocol" | "body">;

export class OpenRequests {
  private readonly unansweredMs: number;
  private readonly newSession: () => string;
  private readonly waiting: Waiting[] = [];
  private readonly open = new Map<number, OpenRequest>();
  private session: string;
  private nextSequence = 1;
  private usedAtMs = Number.NEGATIVE_INFINITY;
  /** Stream that has the copies. */
  private copiedTo: object | null = null;

  constructor(unansweredMs: number, newSession: () => string) {
    this.unansweredMs = unansweredMs;
    this.newSession = newSession;
    this.session = newSession();
  }

  get size(): number {
    return this.open.size + this.waiting.length;
  }

  add(request: Waiting): void {
    this.waiting.push(request);
  }

  /** What to send on which stream now; counts as sent. `second`: null while there is none. */
  due(
    nowMs: number,
    second: object | null,
  ): { readonly onFirst: readonly OpenRequest[]; readonly onSecond: readonly OpenRequest[] } {
    this.number(nowMs);
    if (second !== null && second !== this.copiedTo) {
      this.copiedTo = second;
      for (const request of this.open.values())
        if (request.copiedAtMs !== null) this.update(request, { copiedAtMs: null });
    }
    const onFirst: OpenRequest[] = [];
    const onSecond: OpenRequest[] = [];
    for (const request of this.open.values()) {
      if (request.sentAtMs === null && nowMs >= request.sendAtMs) {
        onFirst.push(this.update(request, { sentAtMs: nowMs, attempts: request.attempts + 1 }));
      } else if (
        second !== null &&
        request.sentAtMs !== null &&
        request.copiedAtMs === null &&
        nowMs - request.sentAtMs >= this.unansweredMs
      ) {
        onSecond.push(this.update(request, { copiedAtMs: nowMs, attempts: request.attempts + 1 }));
      }
    }
    if (onFirst.length + onSecond.length > 0) this.usedAtMs = nowMs;
    return { onFirst, onSecond };
  }

  find(sequence: number): OpenRequest | null {
    return this.open.get(sequence) ?? null;
  }

  /** Answered for good: forgets it. */
  settle(sequence: number): void {
    this.open.delete(sequence);
  }

  /** The same request once more, not before `atMs`. */
  again(sequence: number, atMs: number): void {
    const request = this.open.get(sequence);
    if (request !== undefined) this.update(request, { sentAtMs: null, copiedAtMs: null, sendAtMs: atMs });
  }

  /** Another stream is the first one: everything is sent again, with the same origins. */
  firstChanged(): void {
    for (const request of this.open.values()) this.update(request, { sentAtMs: null, copiedAtMs: null });
  }

  /** The session has expired: answers what was open, whose outcome is not known, and begins another (Q3). */
  expire(): readonly OpenRequest[] {
    const unknown = [...this.open.values()];
    this.open.clear();
    this.begin();
    return unknown;
  }

  /** Sent first so long ago, to both replicas, and still without an answer: the longest. */
  longestOpenMs(nowMs: number): number {
    let longest = 0;
    for (const { copiedAtMs } of this.open.values())
      if (copiedAtMs !== null) longest = Math.max(longest, nowMs - copiedAtMs);
    return longest;
  }

  /** Gives sequences to those that wait, as far as the window allows (Q2). */
  private number(nowMs: number): void {
    if (this.waiting.length === 0) return;
    if (this.open.size === 0 && this.nextSequence > 1 && nowMs - this.usedAtMs >= SESSION_REST_MS) this.begin();
    const [oldest] = this.open.keys(); // in order of sequence
    while (
      this.waiting.length > 0 &&
      this.nextSequence < (oldest ?? this.nextSequence) + SESSION_WINDOW &&
      this.open.size < SESSION_WINDOW
    ) {
      const request = this.waiting.shift()!; // not empty
      const { session } = this;
      const sequence = this.nextSequence++;
      const unsent = { sentAtMs: null, copiedAtMs: null, sendAtMs: nowMs, attempts: 0 };
      this.open.set(sequence, { ...request, session, sequence, ...unsent });
    }
  }

  private update(request: OpenRequest, change: Partial<OpenRequest>): OpenRequest {
    const updated = { ...request, ...change };
    this.open.set(request.sequence, updated);
    return updated;
  }

  private begin(): void {
    this.session = this.newSession();
    this.nextSequence = 1;
  }
}
