/**
 * Rules of calls that the real and the virtual network share: limits, deadlines, and how a handler's failure becomes an
 * answer. A handler may fail in any way; the caller always gets a typed error, never silence.
 */
import { AnantaError } from "../core/errors.js";
import { stackOf } from "./stacks.js";
import type { CallContext, Codec, Handler, Log } from "./env.js";

/** gRPC's default limit for a received message. Long contents are chunked, the limit is never raised. */
export const MESSAGE_BYTES_MAX = 4 * 1024 * 1024;

/** Deadline of a unary call whose caller set none: longer than any commit takes, short enough not to pile up. */
export const DEFAULT_DEADLINE_MS = 10_000;

/**
 * A caller that ends its side in order (half-close) may still get answers for this long; then the serving side is ended
 * too, so that a handler that only listens for `closed` leaves no stream behind.
 */
export const HALF_CLOSE_GRACE_MS = 1_000;

/** `ConnectOptions.reconnectMaxMs` when not given. */
export const RECONNECT_MAX_MS = 1_000;
/** First pause before connecting again; grows by 1.6 each time up to the maximum. */
export const RECONNECT_FIRST_MS = 50;

/** Throws INVALID_ARGUMENT for a message that the peer would refuse to receive. */
export function encodeMessage<T>(codec: Codec<T>, path: string, message: T): Uint8Array {
  const bytes = codec.encode(message);
  if (bytes.length > MESSAGE_BYTES_MAX) {
    throw new AnantaError(
      "INVALID_ARGUMENT",
      `a message of ${bytes.length} bytes on ${path} is longer than the ${MESSAGE_BYTES_MAX} allowed`,
      { path, byteCount: bytes.length },
    );
  }
  return bytes;
}

/** Throws INVALID_ARGUMENT for bytes that are not such a message. */
export function decodeMessage<T>(codec: Codec<T>, path: string, bytes: Uint8Array): T {
  try {
    return codec.decode(bytes);
  } catch (caught) {
    throw new AnantaError("INVALID_ARGUMENT", `malformed message on ${path}`, { path }, { cause: caught });
  }
}

export function handlersByPath(handlers: readonly Handler[]): ReadonlyMap<string, Handler> {
  const byPath = new Map<string, Handler>();
  for (const handler of handlers) {
    if (byPath.has(handler.method.path)) {
      throw new AnantaError("INVALID_ARGUMENT", `two handlers for ${handler.method.path}`);
    }
    byPath.set(handler.method.path, handler);
  }
  return byPath;
}

/** A handler's failure as the error for its caller; defects are logged here, with their stack. */
export function handlerError(caught: unknown, path: string, log: Log): AnantaError {
  const error = AnantaError.from(caught);
  if (error.code === "INTERNAL") {
    const cause = error.cause ?? error;
    log.error("handler failed", {
      path,
      error: error.message,
      stack: cause instanceof Error ? stackOf(cause) : undefined,
    });
  }
  return error;
}

/** Runs a unary handler; rejects with an `AnantaError` only. */
export async function answerUnary(
  handler: Extract<Handler, { kind: "unary" }>,
  request: unknown,
  call: CallContext,
  log: Log,
): Promise<unknown> {
  try {
    return await handler.handle(request, call);
  } catch (caught) {
    throw handlerError(caught, handler.method.path, log);
  }
}
