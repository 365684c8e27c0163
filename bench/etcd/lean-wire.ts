/**
 * [pure] The bytes of the few messages that the lean client needs, by hand: protobuf fields (`etcd.proto` has their
 * numbers) inside gRPC's frame of one zero byte and a length of four.
 */

const FRAME_BYTES = 5;

export function putRequest(key: Uint8Array, value: Uint8Array): Buffer {
  const length = 2 + lengthBytes(key.length) + key.length + lengthBytes(value.length) + value.length;
  const bytes = Buffer.allocUnsafe(FRAME_BYTES + length);
  bytes[0] = 0; // not compressed
  bytes.writeUInt32BE(length, 1);
  const at = writeField(bytes, FRAME_BYTES, 1, key);
  writeField(bytes, at, 2, value);
  return bytes;
}

export const statusRequest = (): Buffer => Buffer.alloc(FRAME_BYTES);

const lengthBytes = (length: number): number => (length < 1 << 7 ? 1 : length < 1 << 14 ? 2 : length < 1 << 21 ? 3 : 4);

/** A field of wire type 2; returns where it ends. */
function writeField(bytes: Buffer, at: number, field: number, content: Uint8Array): number {
  bytes[at++] = (field << 3) | 2;
  let length = content.length;
  for (; length >= 0x80; length >>>= 7) bytes[at++] = (length & 0x7f) | 0x80;
  bytes[at++] = length;
  bytes.set(content, at);
  return at + content.length;
}

/** The store's revision after the write. */
export function readPutResponse(frame: Uint8Array): number {
  return Number(readHeader(fields(frame.subarray(FRAME_BYTES)).get(1)).get(3) ?? 0n);
}

export interface MemberStatus {
  /** Ids are 64 random bits. */
  readonly member: bigint;
  /** 0: none is known. */
  readonly leader: bigint;
  readonly version: string;
}

export function readStatusResponse(frame: Uint8Array): MemberStatus {
  const message = fields(frame.subarray(FRAME_BYTES));
  const version = message.get(2);
  const leader = message.get(4);
  const member = readHeader(message.get(1)).get(2);
  return {
    member: typeof member === "bigint" ? member : 0n,
    leader: typeof leader === "bigint" ? leader : 0n,
    version: version instanceof Uint8Array ? Buffer.from(version).toString("utf8") : "",
  };
}

type Fields = ReadonlyMap<number, bigint | Uint8Array>;

const readHeader = (content: bigint | Uint8Array | undefined): Fields =>
  content instanceof Uint8Array ? fields(content) : new Map<number, bigint | Uint8Array>();

/** Varint and length-delimited fields by number; the last of a repeated one. Throws RangeError on anything else. */
function fields(bytes: Uint8Array): Fields {
  const found = new Map<number, bigint | Uint8Array>();
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined) throw new RangeError("the message ends inside a number");
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    switch (tag & 7) {
      case 0:
        found.set(tag >>> 3, varint());
        break;
      case 2: {
        const length = Number(varint());
        if (at + length > bytes.length) throw new RangeError("the message ends inside a field");
        found.set(tag >>> 3, bytes.subarray(at, at + length));
        at += length;
        break;
      }
      default:
        throw new RangeError(`a field of wire type ${tag & 7}`);
    }
  }
  return found;
}
