/**
 * Versions of the protocol between Managers, MUXes and Host Agents. Every hello says which ones its sender speaks; two that have
 * none in common do not go on, because one would read what the other means wrongly. A field or item that a receiver may leave out
 * needs no new version; a change that it must not miss does.
 */
import { AnantaError } from "./errors.js";

/** The highest that this program speaks, and the lowest that it still does. */
export const PROTOCOL_VERSION = 1;
export const PROTOCOL_VERSION_MIN = 1;

/** As in a hello. 0 or absent: of before hellos said so, 1. */
interface SpokenVersions {
  readonly protocolVersion?: number | null;
  readonly protocolVersionMin?: number | null;
}

/** Throws FAILED_PRECONDITION when the peer and this program have no version in common. */
export function checkProtocolVersion(who: string, { protocolVersion, protocolVersionMin }: SpokenVersions): void {
  const highest = protocolVersion || 1;
  const lowest = protocolVersionMin || highest;
  if (lowest <= PROTOCOL_VERSION && highest >= PROTOCOL_VERSION_MIN) return;
  const older = highest < PROTOCOL_VERSION_MIN ? who : "this program";
  throw new AnantaError(
    "FAILED_PRECONDITION",
    `${who} speaks ${versions(lowest, highest)} of the protocol, and this program ${versions(PROTOCOL_VERSION_MIN, PROTOCOL_VERSION)}: upgrade ${older} first`,
    { protocolVersion: highest },
  );
}

const versions = (lowest: number, highest: number): string =>
  lowest === highest ? `version ${highest}` : `versions ${lowest} to ${highest}`;
