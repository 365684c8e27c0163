/**
 * Stage 1, VIP validation (Ananta §3.5.1): is the change possible in the state as applied here? A change that is not is
 * refused before it costs the log anything. The answer is advisory: `apply` decides again when the entry is committed.
 */
import type { Stage } from "../seda/stage.js";
import type { StateMachine } from "../state/state-machine.js";
import type { QueuedSubmission } from "./pipeline.js";

export function vipValidation(options: {
  readonly state: StateMachine;
  readonly next: () => Stage<"configuration", QueuedSubmission>;
}): (batch: readonly QueuedSubmission[]) => void {
  return (batch) => {
    for (const event of batch) {
      const { command, origin } = event.submission.submitted;
      // A retry must get the answer of its first execution, whatever the state is by now: only apply remembers it.
      const firstTime = origin === null || !options.state.hasSession(origin.session);
      const problem = firstTime ? options.state.check(command) : null;
      if (problem === null) options.next().offer("configuration", event);
      else event.submission.reply(problem);
    }
  };
}
