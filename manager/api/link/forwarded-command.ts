/** A command and its result on the link between replicas: the log's own encoding, one command at a time, and JSON. */
import { AnantaError } from "../../../core/errors.js";
import type { LogIndex } from "../../../core/brands.js";
import { decodeBatch, encodeBatch } from "../../state/commands/command-codec.js";
import { COMMAND_FORMAT_VERSION, type SubmittedCommand } from "../../state/commands/commands.js";
import type { CommandResult } from "../../state/commands/results.js";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

export function encodeCommand(submitted: SubmittedCommand): Uint8Array {
  return encodeBatch({
    formatVersion: COMMAND_FORMAT_VERSION,
    clusterTimeMs: 0,
    wallMs: 0,
    muxSafeIndex: 0 as LogIndex,
    commands: [submitted],
  });
}

export function decodeCommand(bytes: Uint8Array): SubmittedCommand {
  const [submitted, ...more] = decodeBatch(bytes).commands;
  if (submitted === undefined || more.length > 0)
    throw new AnantaError("INVALID_ARGUMENT", "a forwarded message holds one command");
  return submitted;
}

export const encodeResult = (result: CommandResult): Uint8Array => encoder.encode(JSON.stringify(result));

/** From another replica of the same cluster, so the shape is trusted; damage is not. */
export const decodeResult = (bytes: Uint8Array): CommandResult => JSON.parse(decoder.decode(bytes)) as CommandResult;
