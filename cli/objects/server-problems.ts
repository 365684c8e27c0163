/** Problems that a replica found in objects of a request: position in the request, path, and what is wrong. */
import type { AnantaError } from "../../core/errors.js";
import type { Problem } from "../../manager/api/objects/schema-messages.js";
import { isRecord } from "./manifests.js";

export interface ServerProblem extends Problem {
  readonly object: number;
  /** Stable code of the problem; "" when the server names none. */
  readonly code: string;
}

/** Empty when the error names none. Never throws: what a server sends is checked. */
export function serverProblems(error: AnantaError): readonly ServerProblem[] {
  const text = error.facts["problems"];
  if (typeof text !== "string") return [];
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return [];
  }
  if (!Array.isArray(parsed)) return [];
  return parsed.flatMap((item: unknown): ServerProblem[] => {
    if (!isRecord(item)) return [];
    const { object, path, message, code } = item;
    if (typeof object !== "number" || typeof path !== "string" || typeof message !== "string") return [];
    return [{ object, path, message, code: typeof code === "string" ? code : "" }];
  });
}
