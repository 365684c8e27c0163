/**
 * What is wrong with a request for objects, all of it at once: an operator who has three mistakes in a file should not
 * need three attempts. The code of the answer is that of the first problem.
 */
import type { ErrorCode } from "../../../core/errors.js";
import { type ApplyContext, type Refusal, refuse } from "./outcome.js";

export interface Problem {
  /** Position of the object in the request, from 0. */
  readonly object: number;
  /** "spec.rules[0].pool" */
  readonly path: string;
  readonly code: ErrorCode;
  /** A sentence that names the object. */
  readonly message: string;
}

/** Listed in an answer; answers are remembered and replicated, so they must stay small. The count is of all. */
const PROBLEMS_LISTED_MAX = 50;

export class Problems {
  private readonly all: Problem[] = [];

  add(problem: Problem): void {
    this.all.push(problem);
  }

  get any(): boolean {
    return this.all.length > 0;
  }

  refusal(context: ApplyContext): Refusal {
    const sorted = [...this.all].sort((a, b) => a.object - b.object); // stable: within an object, in the order found
    const listed = sorted.slice(0, PROBLEMS_LISTED_MAX);
    const code = sorted[0]?.code ?? "INTERNAL";
    const more = sorted.length - listed.length;
    const message = listed.map((problem) => problem.message).join("; ") + (more > 0 ? `; and ${more} more` : "");
    return refuse(context, code, message, { problems: JSON.stringify(listed), problemCount: sorted.length });
  }
}
