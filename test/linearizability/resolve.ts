/**
 * [pure] What became of allocations whose answer was lost. A history is judged range by range, and an allocation without an
 * answer does not say which ranges it touched; but the system knows by session and sequence what it answered, or that it never
 * will. Resolved first, such an operation belongs to its own ranges only, still pending: when it took effect stays unknown.
 */
import type { History, Operation, RangeName } from "./history.js";

/** Ranges; null: it was not executed and never will be; undefined: not known. */
export type AnswerOf = (session: string, sequence: number) => readonly RangeName[] | null | undefined;

export function resolveUnknown(history: History, answerOf: AnswerOf): History {
  return { ...history, operations: history.operations.map((operation) => resolved(operation, answerOf)) };
}

function resolved(operation: Operation, answerOf: AnswerOf): Operation {
  const { action, origin, outcome } = operation;
  if (action.kind !== "snat-allocate" || origin === null || outcome.kind !== "unknown") return operation;
  if (outcome.ranges !== undefined) return operation;
  const ranges = answerOf(origin.session, origin.sequence);
  if (ranges === undefined) return operation;
  if (ranges === null) return { ...operation, outcome: { kind: "refused", code: "NOT_EXECUTED" } };
  return { ...operation, outcome: { kind: "unknown", ranges } };
}
