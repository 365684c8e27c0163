/**
 * A snapshot as a file, to be kept elsewhere and to begin a cluster anew from. Big-endian:
 *
 *   magic "ANANTASN" | header length u32 | header (JSON) | CRC-32 u32 of all before
 *   per chunk:  length u32 | bytes | CRC-32 u32 of length and bytes
 *
 * The header says whose state it is and which: `format` 1, `clusterId`, `clusterEpoch`, `index` and `term` of the last entry
 * it holds, `membership` in force there (core/membership-codec.ts), `chunkCount`, `byteCount`, `digest` (snapshot-digest.ts).
 *
 * (X1) The magic is written last, after everything else is durable: a file whose writing was interrupted is no snapshot.
 * (X2) Reading begins by checking all of it, header, every chunk, digest, end of file; only then is a chunk given out.
 */
import { basename, dirname } from "node:path";
import { crc32 } from "node:zlib";
import { logIndex, term } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import type { Disk, DiskFile } from "../../runtime/env.js";
import { decodeMembership, encodeMembership } from "./core/membership-codec.js";
import { DIGEST_PATTERN, SnapshotDigest } from "./snapshot-digest.js";
import { SNAPSHOT_CHUNK_BYTES_MAX, type StoredSnapshot } from "./storage/storage.js";

export interface SnapshotFileFacts {
  readonly clusterId: string;
  readonly clusterEpoch: number;
  readonly snapshot: StoredSnapshot;
}

export interface SnapshotFile {
  readonly facts: SnapshotFileFacts;
  /** The chunks in order, each time from the first one. Throws STORAGE_DAMAGED if one has changed since. */
  chunks(): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

const FORMAT = 1;
const MAGIC = new TextEncoder().encode("ANANTASN");
const HEADER_BYTES_MAX = 1024 * 1024;
const LENGTH_BYTES = 4;
const CRC_BYTES = 4;

const uint32 = (value: number): Uint8Array => {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
};
const readUint32 = (bytes: Uint8Array, at = 0): number =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(at);

/** The file's bytes in pieces of at most 1 MiB and 8 bytes, for a file here or on the way to one elsewhere. */
export async function* snapshotFileParts(
  facts: SnapshotFileFacts,
  chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  yield encodeHeader(facts);
  for await (const chunk of chunks) {
    const framed = Buffer.concat([uint32(chunk.length), chunk]);
    yield Buffer.concat([framed, uint32(crc32(framed))]);
  }
}

/**
 * Writes the file from its bytes, in pieces of any size, and checks it. Rejects with ALREADY_EXISTS when there is one of that
 * name, INVALID_ARGUMENT or STORAGE_DAMAGED when the bytes are no whole snapshot file, STORAGE_FAILED when they cannot be
 * written, and with whatever `parts` throws; nothing is left behind then.
 */
export async function writeSnapshotFile(
  disk: Disk,
  path: string,
  parts: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<SnapshotFileFacts> {
  if (await exists(disk, path)) throw new AnantaError("ALREADY_EXISTS", `${path} exists already; nothing was written.`);
  const file = await disk.openFile(path);
  try {
    const magic = new Uint8Array(MAGIC.length);
    let at = 0;
    for await (const part of parts) {
      const withheld = at < MAGIC.length ? part.subarray(0, MAGIC.length - at) : part.subarray(0, 0);
      if (withheld.length > 0) magic.set(withheld, at);
      if (part.length > withheld.length) await file.writeAt(at + withheld.length, part.subarray(withheld.length));
      at += part.length;
    }
    const { facts, bodyOffset } = await readHeader(file, path, magic);
    await check(file, path, facts, bodyOffset);
    await file.sync();
    await file.writeAt(0, magic); // (X1)
    await file.sync();
    await file.close();
    return facts;
  } catch (error) {
    await file.close().catch(() => undefined);
    await disk.remove(path).catch(() => undefined);
    throw error;
  }
}

/** As `writeSnapshotFile`, from the state's chunks. */
export async function saveSnapshotFile(
  disk: Disk,
  path: string,
  facts: SnapshotFileFacts,
  chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<void> {
  await writeSnapshotFile(disk, path, snapshotFileParts(facts, chunks));
}

/** Rejects with NOT_FOUND, INVALID_ARGUMENT (no snapshot file, or of another format), STORAGE_DAMAGED. */
export async function readSnapshotFile(disk: Disk, path: string): Promise<SnapshotFile> {
  if (!(await exists(disk, path))) throw new AnantaError("NOT_FOUND", `There is no file ${path}.`);
  const file = await disk.openFile(path);
  try {
    const { facts, bodyOffset } = await readHeader(file, path, await file.readAt(0, MAGIC.length));
    await check(file, path, facts, bodyOffset); // (X2)
    return {
      facts,
      chunks: () => readChunks(file, path, bodyOffset, facts.snapshot.chunkCount),
      close: () => file.close(),
    };
  } catch (error) {
    await file.close().catch(() => undefined);
    throw error;
  }
}

async function exists(disk: Disk, path: string): Promise<boolean> {
  return (await disk.list(dirname(path))).includes(basename(path));
}

function encodeHeader({ clusterId, clusterEpoch, snapshot }: SnapshotFileFacts): Uint8Array {
  const { meta, chunkCount, byteCount, digest } = snapshot;
  const json = new TextEncoder().encode(
    JSON.stringify({
      format: FORMAT,
      clusterId,
      clusterEpoch,
      index: meta.index,
      term: meta.term,
      membership: new TextDecoder().decode(encodeMembership(meta.membership)),
      chunkCount,
      byteCount,
      digest,
    }),
  );
  const checked = Buffer.concat([MAGIC, uint32(json.length), json]);
  return Buffer.concat([checked, uint32(crc32(checked))]);
}

/** `magic` stands for the first bytes: they are in the file last. */
async function readHeader(
  file: DiskFile,
  path: string,
  magic: Uint8Array,
): Promise<{ readonly facts: SnapshotFileFacts; readonly bodyOffset: number }> {
  if (magic.length < MAGIC.length || MAGIC.some((byte, at) => magic[at] !== byte))
    throw new AnantaError("INVALID_ARGUMENT", `${path} is no snapshot file, or its writing was not finished.`);
  const lengthField = await file.readAt(MAGIC.length, LENGTH_BYTES);
  if (lengthField.length < LENGTH_BYTES) throw damaged(path, "it ends inside its header");
  const jsonOffset = MAGIC.length + LENGTH_BYTES;
  const jsonLength = readUint32(lengthField);
  if (jsonLength > HEADER_BYTES_MAX) throw damaged(path, "its header is too long");
  const rest = await file.readAt(jsonOffset, jsonLength + CRC_BYTES);
  if (rest.length < jsonLength + CRC_BYTES) throw damaged(path, "it ends inside its header");
  const json = rest.subarray(0, jsonLength);
  if (readUint32(rest, jsonLength) !== crc32(Buffer.concat([MAGIC, lengthField, json])))
    throw damaged(path, "its header's checksum does not match");
  return { facts: decodeHeader(path, json), bodyOffset: jsonOffset + jsonLength + CRC_BYTES };
}

/** The checksum has said that it is as we wrote it; what remains to be seen is the format. */
function decodeHeader(path: string, json: Uint8Array): SnapshotFileFacts {
  const facts = JSON.parse(new TextDecoder().decode(json)) as Record<string, unknown>;
  if (facts["format"] !== FORMAT)
    throw new AnantaError(
      "INVALID_ARGUMENT",
      `${path} is a snapshot file of format ${String(facts["format"])}; this program reads format ${FORMAT}.`,
    );
  const digest = String(facts["digest"]);
  if (!DIGEST_PATTERN.test(digest)) throw damaged(path, "its digest is no SHA-256");
  return {
    clusterId: String(facts["clusterId"]),
    clusterEpoch: Number(facts["clusterEpoch"]),
    snapshot: {
      meta: {
        index: logIndex(Number(facts["index"])),
        term: term(Number(facts["term"])),
        membership: decodeMembership(new TextEncoder().encode(String(facts["membership"]))),
      },
      chunkCount: Number(facts["chunkCount"]),
      byteCount: Number(facts["byteCount"]),
      digest,
    },
  };
}

async function check(file: DiskFile, path: string, facts: SnapshotFileFacts, bodyOffset: number): Promise<void> {
  const { chunkCount, byteCount, digest: expected } = facts.snapshot;
  const digest = new SnapshotDigest();
  for await (const chunk of readChunks(file, path, bodyOffset, chunkCount)) digest.add(chunk);
  if (digest.byteCount !== byteCount || digest.finish() !== expected)
    throw damaged(path, "its chunks do not have its digest");
  const end = bodyOffset + byteCount + chunkCount * (LENGTH_BYTES + CRC_BYTES);
  if ((await file.size()) !== end) throw damaged(path, "bytes follow the last chunk");
}

async function* readChunks(
  file: DiskFile,
  path: string,
  bodyOffset: number,
  chunkCount: number,
): AsyncGenerator<Uint8Array> {
  let at = bodyOffset;
  for (let number = 0; number < chunkCount; number++) {
    const prefix = await file.readAt(at, LENGTH_BYTES);
    if (prefix.length < LENGTH_BYTES) throw damaged(path, `it ends before chunk ${number}`);
    const length = readUint32(prefix);
    if (length > SNAPSHOT_CHUNK_BYTES_MAX) throw damaged(path, `chunk ${number} is too long`);
    const framed = await file.readAt(at, LENGTH_BYTES + length + CRC_BYTES);
    if (framed.length < LENGTH_BYTES + length + CRC_BYTES) throw damaged(path, `it ends inside chunk ${number}`);
    if (readUint32(framed, LENGTH_BYTES + length) !== crc32(framed.subarray(0, LENGTH_BYTES + length)))
      throw damaged(path, `the checksum of chunk ${number} does not match`);
    yield framed.subarray(LENGTH_BYTES, LENGTH_BYTES + length);
    at += framed.length;
  }
}

const damaged = (path: string, why: string): AnantaError =>
  new AnantaError("STORAGE_DAMAGED", `The snapshot file ${path} is damaged: ${why}.`, { path });
