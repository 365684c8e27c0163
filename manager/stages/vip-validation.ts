/**
 * Stage 1, VIP validation (Ananta §3.5.1): is the change well formed, to the last field, before it costs the log anything?
 *
 * Whether it fits the other objects is decided by `apply` alone, in log order: what this replica has applied may be behind,
 * and a refusal from it would be final for a request that another leader has already executed.
 */
import type { Stage } from "../seda/stage.js";
import { unreadable } from "./readable-command.js";
import { refusal, type QueuedSubmission } from "./submission.js";

export function vipValidation(options: {
  readonly next: () => Stage<"configuration", QueuedSubmission>;
}): (batch: readonly QueuedSubmission[]) => void {
  return (batch) => {
    for (const event of batch) {
      const problem = unreadable(event.submission.submitted);
      if (problem === null) options.next().offer("configuration", event);
      else event.submission.reply(refusal(problem));
    }
  };
}
