/** A command on its way through the leader: what to do, how long somebody waits for it, and whom to tell. */
import type { LogIndex } from "../../core/brands.js";
import type { AnantaError } from "../../core/errors.js";
import type { StageEvent } from "../seda/stage.js";
import type { SubmittedCommand } from "../state/commands/commands.js";
import type { CommandResult } from "../state/commands/results.js";

export interface Submission {
  readonly submitted: SubmittedCommand;
  /** Monotonic ms of this replica. */
  readonly deadlineAtMs: number;
  /** Called exactly once. */
  reply(result: CommandResult): void;
}

/** As it stands in a stage's queue. */
export interface QueuedSubmission extends StageEvent {
  readonly submission: Submission;
}

/** The answer to a command that was refused before it reached the log: nothing was done. */
export function refusal(error: AnantaError): CommandResult {
  return { ok: false, code: error.code, message: error.message, facts: error.facts, index: 0 as LogIndex };
}
