/**
 * The digest of a snapshot, end to end: taken when the state is written down, carried with it to other replicas and into
 * snapshot files, checked wherever the chunks come to rest. SHA-256 over every chunk's length (u32, big-endian) and bytes,
 * so that equal digests mean equal chunks: a transfer begun by one sender can be finished by another.
 */
import { createHash } from "node:crypto";

export class SnapshotDigest {
  readonly #hash = createHash("sha256");
  #chunkCount = 0;
  #byteCount = 0;

  add(chunk: Uint8Array): void {
    const length = new Uint8Array(4);
    new DataView(length.buffer).setUint32(0, chunk.length);
    this.#hash.update(length).update(chunk);
    this.#chunkCount++;
    this.#byteCount += chunk.length;
  }

  get chunkCount(): number {
    return this.#chunkCount;
  }

  get byteCount(): number {
    return this.#byteCount;
  }

  /** 64 lower-case hex digits. Ends the calculation. */
  finish(): string {
    return this.#hash.digest("hex");
  }
}

export const DIGEST_PATTERN = /^[0-9a-f]{64}$/;
