/**
 * The two streams of `ananta.raft.v1.RaftTransport` as methods of the environment's network. Frames go out as bytes that
 * are encoded already (one encoding for all peers) and come in decoded.
 */
import { AnantaError } from "../../../core/errors.js";
import { ananta } from "../../../proto/gen/wire.js";
import type { Codec, Method } from "../../../runtime/env.js";
import type { WireFrame } from "./codec.js";
import type { Lane } from "./transport.js";

const wire = ananta.raft.v1;

export type RaftFrame =
  { readonly kind: "encoded"; readonly bytes: Uint8Array } | { readonly kind: "decoded"; readonly frame: WireFrame };
export type WireWelcome = ananta.raft.v1.Welcome.$Properties;

const frameCodec: Codec<RaftFrame> = {
  encode: (frame) => (frame.kind === "encoded" ? frame.bytes : wire.Frame.encode(frame.frame).finish()),
  decode(bytes) {
    try {
      return { kind: "decoded", frame: wire.Frame.decode(bytes) };
    } catch (cause) {
      throw new AnantaError("INVALID_ARGUMENT", "A frame of a replica is not protobuf of this version.", {}, { cause });
    }
  },
};

const welcomeCodec: Codec<WireWelcome> = {
  encode: (welcome) => wire.Welcome.encode(welcome).finish(),
  decode: (bytes) => wire.Welcome.decode(bytes),
};

export const METHODS: Readonly<Record<Lane, Method<RaftFrame, WireWelcome>>> = {
  control: {
    path: wire.RaftTransport.prototype.control.path,
    kind: "bidi",
    request: frameCodec,
    response: welcomeCodec,
  },
  bulk: { path: wire.RaftTransport.prototype.bulk.path, kind: "bidi", request: frameCodec, response: welcomeCodec },
};
