/** Takes down what clients asked and were told, in the words of the checker. */
import { AnantaError, type ErrorCode } from "../../core/errors.js";
import type { Session } from "../../fabric/control/manager-api.js";
import type { Action, Operation, Outcome } from "../linearizability/history.js";

/** Refusals that no replica would answer otherwise: the request was executed and did nothing, or never will be. */
const FINAL: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "INVALID_ARGUMENT",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "GENERATION_CONFLICT",
  "FAILED_PRECONDITION",
  "SNAT_PORTS_EXHAUSTED",
  "SNAT_LIMIT_REACHED",
  "SNAT_NOT_CONFIGURED",
]);

/** Between two tries of a request whose outcome is unknown. */
const AGAIN_MS = 200;

export class Recorder {
  readonly operations: Operation[] = [];
  /** Requests that were refused, by code. */
  readonly refusals = new Map<string, number>();
  readonly #nowMs: () => number;
  #givesUpAtMs = Number.POSITIVE_INFINITY;
  #lastId = 0;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** From `atMs` on, what is still unknown stays unknown. */
  giveUpAt(atMs: number): void {
    this.#givesUpAtMs = atMs;
  }

  /**
   * Sends a change until its outcome is known: the same session and sequence again is the same request, however often it is sent.
   * Answers null when it was refused or stays unknown.
   */
  async change<Answer>(
    client: string,
    session: Session,
    action: Action,
    send: () => Promise<Answer>,
    outcomeOf: (answer: Answer) => Outcome,
  ): Promise<Answer | null> {
    const origin = { session: session.id, sequence: session.nextSequence };
    const callMs = this.#nowMs();
    const id = ++this.#lastId;
    for (;;) {
      try {
        session.nextSequence = origin.sequence;
        const answer = await send();
        this.operations.push({
          id,
          client,
          origin,
          callMs,
          returnMs: this.#nowMs(),
          action,
          outcome: outcomeOf(answer),
        });
        return answer;
      } catch (caught) {
        const { code } = AnantaError.from(caught);
        this.refusals.set(code, (this.refusals.get(code) ?? 0) + 1);
        const known = FINAL.has(code);
        if (known || code === "SESSION_EXPIRED" || this.#nowMs() >= this.#givesUpAtMs) {
          const outcome: Outcome = known ? { kind: "refused", code } : { kind: "unknown" };
          const returnMs = known ? this.#nowMs() : null;
          this.operations.push({ id, client, origin, callMs, returnMs, action, outcome });
          session.nextSequence = origin.sequence + 1;
          return null;
        }
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      }
    }
  }

  /** A read that fails says nothing and is left out. */
  async read(client: string, action: Action, ask: () => Promise<Outcome>): Promise<Outcome | null> {
    const callMs = this.#nowMs();
    try {
      const outcome = await ask();
      this.operations.push({
        id: ++this.#lastId,
        client,
        origin: null,
        callMs,
        returnMs: this.#nowMs(),
        action,
        outcome,
      });
      return outcome;
    } catch {
      return null;
    }
  }
}
