/**
 * `AnantaError` <-> gRPC status: the one table. Any gRPC client gets a fitting status and a readable message; ours also gets
 * the code and facts back, from two trailers. A trailer is ASCII, so facts are percent-encoded JSON.
 */
import { Metadata, status as Status, type StatusObject } from "@grpc/grpc-js";
import { AnantaError, type ErrorCode, type ErrorFacts } from "../../core/errors.js";

const STATUS_OF: Readonly<Record<ErrorCode, Status>> = {
  INVALID_ARGUMENT: Status.INVALID_ARGUMENT,
  NOT_FOUND: Status.NOT_FOUND,
  ALREADY_EXISTS: Status.ALREADY_EXISTS,
  GENERATION_CONFLICT: Status.ABORTED,
  FAILED_PRECONDITION: Status.FAILED_PRECONDITION,
  PERMISSION_DENIED: Status.PERMISSION_DENIED,
  UNAUTHENTICATED: Status.UNAUTHENTICATED,
  UNIMPLEMENTED: Status.UNIMPLEMENTED,
  NOT_LEADER: Status.UNAVAILABLE,
  UNAVAILABLE: Status.UNAVAILABLE,
  STAGE_OVERLOADED: Status.RESOURCE_EXHAUSTED,
  BEHIND: Status.UNAVAILABLE,
  WRONG_CLUSTER: Status.FAILED_PRECONDITION,
  STALE_INCARNATION: Status.FAILED_PRECONDITION,
  SNAT_PORTS_EXHAUSTED: Status.RESOURCE_EXHAUSTED,
  SNAT_LIMIT_REACHED: Status.RESOURCE_EXHAUSTED,
  SNAT_NOT_CONFIGURED: Status.FAILED_PRECONDITION,
  NO_LIVE_MUX: Status.UNAVAILABLE,
  STORAGE_RESERVE_REACHED: Status.RESOURCE_EXHAUSTED,
  STORAGE_FAILED: Status.INTERNAL,
  STORAGE_DAMAGED: Status.DATA_LOSS,
  STORAGE_LOCKED: Status.FAILED_PRECONDITION,
  CANCELLED: Status.CANCELLED,
  DEADLINE_EXCEEDED: Status.DEADLINE_EXCEEDED,
  LEADERSHIP_LOST: Status.ABORTED,
  SESSION_EXPIRED: Status.ABORTED,
  INTERNAL: Status.INTERNAL,
};

/** For statuses without our trailers: from grpc-js itself, or a server that is not ours. */
const CODE_OF: Readonly<Partial<Record<Status, ErrorCode>>> = {
  [Status.CANCELLED]: "CANCELLED",
  [Status.INVALID_ARGUMENT]: "INVALID_ARGUMENT",
  [Status.DEADLINE_EXCEEDED]: "DEADLINE_EXCEEDED",
  [Status.NOT_FOUND]: "NOT_FOUND",
  [Status.ALREADY_EXISTS]: "ALREADY_EXISTS",
  [Status.PERMISSION_DENIED]: "PERMISSION_DENIED",
  [Status.RESOURCE_EXHAUSTED]: "STAGE_OVERLOADED",
  [Status.FAILED_PRECONDITION]: "FAILED_PRECONDITION",
  [Status.ABORTED]: "LEADERSHIP_LOST", // the cautious reading: it may have happened
  [Status.OUT_OF_RANGE]: "INVALID_ARGUMENT",
  [Status.UNIMPLEMENTED]: "UNIMPLEMENTED",
  [Status.UNAVAILABLE]: "UNAVAILABLE",
  [Status.DATA_LOSS]: "STORAGE_DAMAGED",
  [Status.UNAUTHENTICATED]: "UNAUTHENTICATED",
};

const CODE_TRAILER = "ananta-code";
const FACTS_TRAILER = "ananta-facts";
/** With an error that ends a stream in order, beside status OK: see `orderedEnd`. */
const MESSAGE_TRAILER = "ananta-message";

/** HTTP/2 peers refuse header blocks of more than 64 kB; percent-encoding can make a character nine bytes long. */
const MESSAGE_CHARACTERS_MAX = 2_000;
const FACTS_BYTES_MAX = 16_384;

export interface WireStatus {
  readonly code: Status;
  readonly details: string;
  readonly metadata: Metadata;
}

/** What grpc-js is given to end a call with. */
export function statusOf(error: AnantaError): WireStatus {
  return { code: STATUS_OF[error.code], details: sendable(error.message), metadata: trailersOf(error) };
}

/**
 * grpc-js gives a status other than OK to its caller at once and drops messages received before it. Our own clients say
 * that they know better (`ANNOUNCED`): their streams end with OK, which waits its turn, and the error is in the trailers.
 */
export function orderedEnd(error: AnantaError): Metadata {
  const trailers = trailersOf(error);
  trailers.set(MESSAGE_TRAILER, encodeURIComponent(sendable(error.message)));
  return trailers;
}

const ANNOUNCEMENT = "ananta-ordered-end";

/** The metadata of our own clients' streams. Never changed after this. */
export function announceOrderedEnd(): Metadata {
  const metadata = new Metadata();
  metadata.set(ANNOUNCEMENT, "1");
  return metadata;
}

export const wantsOrderedEnd = (metadata: Metadata): boolean => metadata.get(ANNOUNCEMENT).length > 0;

function trailersOf(error: AnantaError): Metadata {
  const trailers = new Metadata();
  trailers.set(CODE_TRAILER, error.code);
  const facts = encodeURIComponent(JSON.stringify(error.facts).replaceAll(/\p{Surrogate}/gu, "\ufffd"));
  if (facts !== "%7B%7D" && facts.length <= FACTS_BYTES_MAX) trailers.set(FACTS_TRAILER, facts);
  return trailers;
}

/** Percent-encoding, ours and that of grpc-js, throws on half a surrogate pair. */
function sendable(message: string): string {
  const short =
    message.length <= MESSAGE_CHARACTERS_MAX ? message : `${message.slice(0, MESSAGE_CHARACTERS_MAX - 3)}...`;
  return short.replaceAll(/\p{Surrogate}/gu, "\ufffd");
}

/** Null: the call ended in order. */
export function errorOf(status: StatusObject, address: string): AnantaError | null {
  const code = first(status.metadata, CODE_TRAILER);
  if (status.code === Status.OK && code === undefined) return null;
  if (code !== undefined && Object.hasOwn(STATUS_OF, code)) {
    const message = first(status.metadata, MESSAGE_TRAILER);
    return new AnantaError(
      code as ErrorCode,
      message === undefined ? status.details : decoded(message),
      factsOf(status.metadata),
    );
  }
  return transportError(status, address);
}

function transportError({ code, details }: StatusObject, address: string): AnantaError {
  if (code === Status.UNAVAILABLE && details.includes("ECONNREFUSED")) {
    return new AnantaError("UNAVAILABLE", `nobody listens at ${address}`, { address, refused: true });
  }
  if (code === Status.UNAVAILABLE && details.includes("Protocol error")) {
    const message = `what listens at ${address} does not speak gRPC; it may be the port for metrics and health`;
    return new AnantaError("UNAVAILABLE", message, { address, foreign: true });
  }
  if (code === Status.UNAVAILABLE && details.startsWith("No connection established")) {
    return new AnantaError("UNAVAILABLE", `cannot reach ${address}: ${details}`, { address });
  }
  // What grpc-js says of a connection that was cut, in its several ways (subchannel-call.js).
  if (code === Status.UNAVAILABLE || /^(Received RST_STREAM with code [0-28]|Call cancelled$)/.test(details)) {
    return new AnantaError("UNAVAILABLE", `connection to ${address} lost: ${details}`, { address, lost: true });
  }
  if (code === Status.UNIMPLEMENTED) {
    const method = /method (\S+)$/.exec(details)?.[1] ?? "this";
    const message = `${address} does not serve ${method}; it may be another port of the process, or an older version`;
    return new AnantaError("UNIMPLEMENTED", message, { address });
  }
  const waited = /^Deadline exceeded after ([0-9.]+)s/.exec(details)?.[1];
  const message =
    waited === undefined ? `${address}: ${details}` : `no answer from ${address} within ${Number(waited).toFixed(1)} s`;
  return new AnantaError(CODE_OF[code] ?? "INTERNAL", message, { address });
}

function first(metadata: Metadata, key: string): string | undefined {
  const value = metadata.get(key)[0];
  return value === undefined ? undefined : value.toString();
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function factsOf(metadata: Metadata): ErrorFacts {
  const text = first(metadata, FACTS_TRAILER);
  if (text === undefined) return {};
  try {
    const parsed: unknown = JSON.parse(decodeURIComponent(text));
    if (typeof parsed !== "object" || parsed === null) return {};
    return Object.fromEntries(
      Object.entries(parsed).filter(([, value]) => ["string", "number", "boolean"].includes(typeof value)),
    );
  } catch {
    return {}; // a peer that is not ours
  }
}
