/** The pair (session, sequence) that makes a retry harmless, checked at the edge. */
import { AnantaError } from "../../core/errors.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { Origin } from "../state/commands/commands.js";
import { isHex128 } from "./identity.js";

export function checkOrigin(origin: ananta.v1.Origin.$Properties | null | undefined): Origin {
  const session = origin?.session ?? "";
  const sequence = origin?.sequence ?? 0;
  if (!isHex128(session))
    throw new AnantaError(
      "INVALID_ARGUMENT",
      `origin.session: "${session}" is not 32 hex digits; choose 128 random bits once per client`,
    );
  if (!Number.isSafeInteger(sequence) || sequence < 1)
    throw new AnantaError("INVALID_ARGUMENT", `origin.sequence: ${sequence} is not a count from 1`);
  return { session, sequence };
}
