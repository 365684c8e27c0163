/**
 * From generated service classes (proto/gen/wire.js) to our `Method`s: path, kind and codecs of every call.
 *
 * protobufjs 8 puts read-only facts on the prototype of a service class: `path`, the names of request and response types
 * within their package, and the stream flags (see scripts/gen-proto.mjs).
 */
import { assert } from "../core/assert.js";
import type { Codec, Method } from "./env.js";

interface GeneratedMethod {
  readonly path: string;
  readonly requestType: string;
  readonly responseType: string;
  readonly requestStream?: boolean;
  readonly responseStream?: boolean;
}

interface GeneratedMessage<T> {
  encode(message: T): { finish(): Uint8Array };
  decode(bytes: Uint8Array): T;
}

/** A message class as a codec. Decoded `bytes` fields are views on the input: whoever keeps one copies it. */
export function codecOf<T>(message: GeneratedMessage<T>): Codec<T> {
  return {
    encode: (value) => message.encode(value).finish(),
    decode: (bytes) => message.decode(bytes),
  };
}

/**
 * The method `name` (lower camel case) of a generated service. `types` is the package's namespace, where the message
 * classes are. The caller names the message types: generated services do not carry them in a usable form.
 */
export function methodOf<Request, Response>(
  service: { readonly prototype: object },
  name: string,
  types: object,
): Method<Request, Response> {
  const method = (service.prototype as Record<string, GeneratedMethod | undefined>)[name];
  assert(method !== undefined, `the service has a method ${name}`);
  const message = <T>(type: string): GeneratedMessage<T> => {
    const found = (types as Record<string, GeneratedMessage<T> | undefined>)[type];
    assert(found !== undefined, `the package has a message ${type}`);
    return found;
  };
  const kind = method.requestStream === true ? "bidi" : method.responseStream === true ? "server-stream" : "unary";
  return {
    path: method.path,
    kind,
    request: codecOf(message<Request>(method.requestType)),
    response: codecOf(message<Response>(method.responseType)),
  };
}
