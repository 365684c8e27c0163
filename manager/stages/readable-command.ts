/**
 * Nothing enters the log that `apply` could not read: an entry that throws there would throw again on every replica, at
 * every start, for ever. The edges check their fields; this is the last look, by the log's own decoder.
 */
import { AnantaError } from "../../core/errors.js";
import type { LogIndex } from "../../core/brands.js";
import { decodeBatch, encodeBatch } from "../state/index.js";
import { COMMAND_FORMAT_VERSION, type SubmittedCommand } from "../state/commands/commands.js";

/** Null: it can be read. */
export function unreadable(submitted: SubmittedCommand): AnantaError | null {
  try {
    decodeBatch(
      encodeBatch({
        formatVersion: COMMAND_FORMAT_VERSION,
        clusterTimeMs: 0,
        wallMs: 0,
        muxSafeIndex: 0 as LogIndex,
        commands: [submitted],
      }),
    );
    return null;
  } catch (caught) {
    const error = AnantaError.from(caught);
    return new AnantaError("INVALID_ARGUMENT", `the command cannot be logged: ${error.message}`, error.facts);
  }
}
