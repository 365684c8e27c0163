/**
 * The one error type for everything that is expected to go wrong. A `code` is stable and part of the contract; `facts`
 * are typed details for programs, `message` is for people: what was wrong, where, and what would be right.
 *
 * Outcome unknown is not failure: codes in `OUTCOME_UNKNOWN_CODES` mean "it may have happened", unless
 * `facts.nothingDone` is true. All others mean that nothing was done.
 */
export type ErrorCode =
  /** The input itself is wrong, whatever the state of the system. */
  | "INVALID_ARGUMENT"
  | "NOT_FOUND"
  | "ALREADY_EXISTS"
  /** The object was changed since the caller read it (generation differs). */
  | "GENERATION_CONFLICT"
  /** Well-formed, but not allowed in the present state: pool in use, address taken. */
  | "FAILED_PRECONDITION"
  | "PERMISSION_DENIED"
  | "UNAUTHENTICATED"
  | "UNIMPLEMENTED"
  /** This replica does not lead; `facts.leaderHint` names who does, if known. */
  | "NOT_LEADER"
  /** No leader is known, or the peer cannot be reached; nothing was done, unless `facts.lost` says that the connection
   * broke while a call was under way. */
  | "UNAVAILABLE"
  /** A queue is full; `facts.retryAfterMs` says when to come back. */
  | "STAGE_OVERLOADED"
  /** The replica's applied index is behind what the caller has already seen. */
  | "BEHIND"
  /** The caller belongs to another cluster, or to an epoch before a restore. */
  | "WRONG_CLUSTER"
  /** A newer incarnation of the same host or MUX has taken over. */
  | "STALE_INCARNATION"
  | "SNAT_PORTS_EXHAUSTED"
  | "SNAT_LIMIT_REACHED"
  | "SNAT_NOT_CONFIGURED"
  | "NO_LIVE_MUX"
  /** Free disk is below the reserve: proposals are refused before the disk is full. */
  | "STORAGE_RESERVE_REACHED"
  | "STORAGE_FAILED"
  | "STORAGE_DAMAGED"
  | "STORAGE_LOCKED"
  | "CANCELLED"
  /** Outcome unknown: time ran out while a commit was under way; unless `facts.nothingDone` says that it had not begun. */
  | "DEADLINE_EXCEEDED"
  /** Outcome unknown: leadership changed while a commit was under way. */
  | "LEADERSHIP_LOST"
  /** Outcome unknown: the session that remembered the answer has expired; the request is never executed again. */
  | "SESSION_EXPIRED"
  /** A defect of ours. */
  | "INTERNAL";

const OUTCOME_UNKNOWN_CODES: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "DEADLINE_EXCEEDED",
  "LEADERSHIP_LOST",
  "SESSION_EXPIRED",
  "INTERNAL",
]);

/** What a developer has to look at. Where an expected refusal was written down helps nobody, and costs 30 us a time: 100,000
 * requests that were refused at once held a Manager up for seconds. */
const CODES_WITH_STACK: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["INTERNAL", "STORAGE_FAILED", "STORAGE_DAMAGED"]);

export type ErrorFacts = Readonly<Record<string, string | number | boolean | undefined>>;

export class AnantaError extends Error {
  override readonly name = "AnantaError";

  readonly code: ErrorCode;
  readonly facts: ErrorFacts;

  constructor(code: ErrorCode, message: string, facts: ErrorFacts = {}, options?: { readonly cause?: unknown }) {
    const { stackTraceLimit } = Error;
    if (!CODES_WITH_STACK.has(code)) Error.stackTraceLimit = 0;
    super(message, options);
    Error.stackTraceLimit = stackTraceLimit;
    this.code = code;
    this.facts = facts;
  }

  /** True when the request may have taken effect: retry with the same session and sequence, or read the state. */
  get outcomeUnknown(): boolean {
    if (this.facts["nothingDone"] === true) return false;
    return OUTCOME_UNKNOWN_CODES.has(this.code) || this.facts["lost"] === true;
  }

  /** Any caught value as an `AnantaError`; what is not one already becomes INTERNAL with the value as its cause. */
  static from(caught: unknown): AnantaError {
    if (caught instanceof AnantaError) return caught;
    return new AnantaError(
      "INTERNAL",
      caught instanceof Error ? caught.message : String(caught),
      {},
      { cause: caught },
    );
  }
}
