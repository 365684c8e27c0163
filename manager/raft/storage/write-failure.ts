/** What is said when a write fails: the cause in words an operator can act on, first of all a full disk. */
import { AnantaError } from "../../../core/errors.js";

const NO_SPACE = /ENOSPC|no space left/i;

export function writeFailure(what: string, cause: unknown): AnantaError {
  const reason = reasonOf(cause);
  const full = NO_SPACE.test(reason);
  const advice = full ? " The file system is full; make room and start the process again." : "";
  return new AnantaError(
    "STORAGE_FAILED",
    `${what}: ${reason}${/[.!]$/.test(reason) ? "" : "."}${advice}`,
    { full },
    { cause },
  );
}

/** The innermost cause says it best: LevelDB's own error is wrapped. */
function reasonOf(cause: unknown): string {
  let error: unknown = cause;
  while (error instanceof Error && error.cause instanceof Error) error = error.cause;
  return error instanceof Error ? error.message : String(error);
}
