/**
 * What a script learns from the exit code. "Outcome unknown" has a code of its own: it is neither success nor failure, and
 * only for changes; a read that got no answer is just unreachable.
 */
import type { AnantaError } from "../../core/errors.js";

export const EXIT = {
  ok: 0,
  /** The server, or the check before it, refused. Nothing was done. */
  refused: 1,
  usage: 2,
  /** It works, but not as it should: unhealthy, or not in force in time. */
  unhealthy: 3,
  /** No replica, no leader, or no answer in time. Nothing was done. */
  unreachable: 4,
  /** The change may or may not have been made. */
  outcomeUnknown: 5,
  /** `diff`, `plan --detailed-exitcode`: what is written differs from what is stored. Nothing was done. */
  wouldChange: 6,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** The command line, or a file that it names, is wrong. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Already told to the user; only the exit code is left to say. */
export class ToldError extends Error {
  override readonly name = "ToldError";
  readonly exitCode: ExitCode;

  constructor(exitCode: ExitCode) {
    super(`exit code ${exitCode}`);
    this.exitCode = exitCode;
  }
}

export function exitCodeOf(error: AnantaError, isChange: boolean): ExitCode {
  if (isChange && error.outcomeUnknown) return EXIT.outcomeUnknown;
  switch (error.code) {
    case "UNAVAILABLE":
    case "NOT_LEADER":
    case "BEHIND":
    case "CANCELLED":
    case "DEADLINE_EXCEEDED":
    case "LEADERSHIP_LOST":
      return EXIT.unreachable;
    default:
      return EXIT.refused;
  }
}
