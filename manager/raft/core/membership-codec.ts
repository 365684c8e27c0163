/**
 * A membership as bytes, for its log entry, for snapshots and on the wire: JSON, because it is small, rare, and worth
 * reading in a damaged folder. Keys stand in one order, so equal memberships are equal bytes.
 */
import { nodeId, type NodeId } from "../../../core/brands.js";
import { AnantaError } from "../../../core/errors.js";
import type { Member, Membership } from "./types.js";

const VERSION = 1;

export function encodeMembership({ voters, outgoing, learners, members, removed }: Membership): Uint8Array {
  const shown = members.map(({ id, address, service, folder }) => ({ id, address, service, folder }));
  return new TextEncoder().encode(
    JSON.stringify({ version: VERSION, voters, outgoing, learners, members: shown, removed }),
  );
}

/** Throws STORAGE_DAMAGED on anything that `encodeMembership` does not make. */
export function decodeMembership(bytes: Uint8Array): Membership {
  let facts: unknown;
  try {
    facts = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw malformed("it is no JSON", cause);
  }
  if (!isRecord(facts)) throw malformed("it is no object");
  if (facts["version"] !== VERSION) throw malformed(`its version is ${String(facts["version"])}, not ${VERSION}`);
  const membership: Membership = {
    voters: ids(facts, "voters"),
    outgoing: ids(facts, "outgoing"),
    learners: ids(facts, "learners"),
    members: array(facts, "members").map(member),
    removed: ids(facts, "removed"),
  };
  if (membership.voters.length === 0) throw malformed("it has no voter");
  return membership;
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;

function array(facts: Record<string, unknown>, key: string): readonly unknown[] {
  const value = facts[key];
  if (!Array.isArray(value)) throw malformed(`${key} is no list`);
  return value;
}

function ids(facts: Record<string, unknown>, key: string): readonly NodeId[] {
  const list = array(facts, key).map(id);
  if (list.some((each, at) => at > 0 && each <= list[at - 1]!)) throw malformed(`${key} does not ascend`); // at > 0
  return list;
}

function id(value: unknown): NodeId {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 1 || value > 65_535)
    throw malformed("a node id is no integer in 1..65535");
  return nodeId(value);
}

function member(value: unknown): Member {
  if (!isRecord(value)) throw malformed("a member is no object");
  const text = (key: string): string => {
    const found = value[key];
    if (typeof found !== "string") throw malformed(`a member's ${key} is no text`);
    return found;
  };
  return { id: id(value["id"]), address: text("address"), service: text("service"), folder: text("folder") };
}

const malformed = (why: string, cause?: unknown): AnantaError =>
  new AnantaError("STORAGE_DAMAGED", `A membership cannot be read: ${why}.`, {}, cause === undefined ? {} : { cause });
