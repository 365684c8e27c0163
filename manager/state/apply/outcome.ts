/** What a command's file in this folder gets, and how it answers. Handlers check everything first, then change: a refused command changes nothing. */
import type { LogIndex } from "../../../core/brands.js";
import type { ErrorCode, ErrorFacts } from "../../../core/errors.js";
import type { CommandResult, CommandValue } from "../commands/results.js";
import type { State } from "../state.js";

export interface ApplyContext {
  readonly state: State;
  /** The entry that is being applied. */
  readonly index: LogIndex;
  /** Cluster time of the entry. */
  readonly nowMs: number;
}

export type Refusal = CommandResult & { readonly ok: false };

export const succeed = (context: ApplyContext, value: CommandValue): CommandResult => ({
  ok: true,
  value,
  index: context.index,
});

export const nothing = (context: ApplyContext): CommandResult => succeed(context, { kind: "none" });

export const refuse = (context: ApplyContext, code: ErrorCode, message: string, facts: ErrorFacts = {}): Refusal => ({
  ok: false,
  code,
  message,
  facts,
  index: context.index,
});
