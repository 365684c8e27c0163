/**
 * How the benchmark's client speaks to a replica, over gRPC: `Put` one by one, as etcd's clients do, or `Puts`, a stream on
 * which the requests and the answers of one turn of the event loop travel together, as MUXes, agents and replicas of Ananta
 * do it. `Inspect` and `Drive` are for the benchmark itself.
 */
import type { Codec, Method } from "../../runtime/env.js";
import type { LoopResult } from "../measure/closed-loop.js";

export interface NumberedPut {
  readonly id: number;
  readonly payload: Uint8Array;
}

export interface Inspection {
  readonly role: string;
  readonly term: number;
  readonly applied: number;
  readonly digest: number;
  readonly commitIndex: number;
  /** Storage batches with entries in them, and the entries, since the start. */
  readonly batches: number;
  readonly batchedEntries: number;
}

export interface DriveRequest {
  readonly requesters: number;
  readonly warmUpMs: number;
  readonly measureMs: number;
}

const bytesCodec: Codec<Uint8Array> = { encode: (bytes) => bytes, decode: (bytes) => Uint8Array.from(bytes) };

const indexCodec: Codec<number> = {
  encode: (index) => {
    const bytes = Buffer.allocUnsafe(8);
    bytes.writeDoubleLE(index);
    return bytes;
  },
  decode: (bytes) => Buffer.from(bytes).readDoubleLE(),
};

function jsonCodec<T>(): Codec<T> {
  return {
    encode: (value) => Buffer.from(JSON.stringify(value)),
    decode: (bytes) => JSON.parse(Buffer.from(bytes).toString("utf8")) as T,
  };
}

const PUT_HEAD_BYTES = 8;

const putsCodec: Codec<readonly NumberedPut[]> = {
  encode: (puts) => {
    const bytes = Buffer.allocUnsafe(puts.reduce((sum, { payload }) => sum + PUT_HEAD_BYTES + payload.length, 0));
    let at = 0;
    for (const { id, payload } of puts) {
      bytes.writeUInt32LE(id, at);
      bytes.writeUInt32LE(payload.length, at + 4);
      bytes.set(payload, at + PUT_HEAD_BYTES);
      at += PUT_HEAD_BYTES + payload.length;
    }
    return bytes;
  },
  decode: (frame) => {
    const bytes = Buffer.from(frame); // a copy: the payloads are kept
    const puts: NumberedPut[] = [];
    for (let at = 0; at < bytes.length;) {
      const length = bytes.readUInt32LE(at + 4);
      const from = at + PUT_HEAD_BYTES;
      puts.push({ id: bytes.readUInt32LE(at), payload: bytes.subarray(from, from + length) });
      at = from + length;
    }
    return puts;
  },
};

/** Ids of the puts that are committed and applied. */
const idsCodec: Codec<readonly number[]> = {
  encode: (ids) => {
    const bytes = Buffer.allocUnsafe(4 * ids.length);
    for (const [at, id] of ids.entries()) bytes.writeUInt32LE(id, 4 * at);
    return bytes;
  },
  decode: (frame) => {
    const bytes = Buffer.from(frame);
    return Array.from({ length: bytes.length / 4 }, (_, at) => bytes.readUInt32LE(4 * at));
  },
};

const path = (name: string): string => `/ananta.bench.Replica/${name}`;

export const PUT: Method<Uint8Array, number> = {
  path: path("Put"),
  kind: "unary",
  request: bytesCodec,
  response: indexCodec,
};
export const PUTS: Method<readonly NumberedPut[], readonly number[]> = {
  path: path("Puts"),
  kind: "bidi",
  request: putsCodec,
  response: idsCodec,
};
export const INSPECT: Method<null, Inspection> = {
  path: path("Inspect"),
  kind: "unary",
  request: jsonCodec(),
  response: jsonCodec(),
};
export const DRIVE: Method<DriveRequest, LoopResult> = {
  path: path("Drive"),
  kind: "unary",
  request: jsonCodec(),
  response: jsonCodec(),
};
