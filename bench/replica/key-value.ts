/** What the replicas of the benchmark replicate: keys and values in memory, and a digest of everything applied. */
import type { LogIndex } from "../../core/brands.js";
import type { CommittedEntry, ReplicatedStateMachine } from "../../manager/raft/index.js";

export const KEY_BYTES = 8;
const CHUNK_BYTES = 1024 * 1024;

export class KeyValueStore implements ReplicatedStateMachine {
  readonly #values = new Map<string, Uint8Array>();
  applied = 0;
  /** The same on replicas that applied the same entries in the same order. */
  digest = 0;

  /** A payload is a key of 8 bytes and its value. */
  apply(entries: readonly CommittedEntry[]): void {
    for (const { payload } of entries) {
      const key = Buffer.from(payload.buffer, payload.byteOffset, KEY_BYTES).toString("latin1");
      this.#values.set(key, payload);
      for (let at = 0; at < KEY_BYTES; at++) this.digest = (Math.imul(this.digest, 31) + payload[at]!) | 0; // in range
      this.applied++;
    }
  }

  *snapshot(): Iterable<Uint8Array> {
    const head = Buffer.alloc(12);
    head.writeDoubleLE(this.applied);
    head.writeInt32LE(this.digest, 8);
    yield head;
    let parts: Buffer[] = [];
    let bytes = 0;
    for (const payload of this.#values.values()) {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(payload.length);
      if (bytes + 4 + payload.length > CHUNK_BYTES) {
        yield Buffer.concat(parts);
        [parts, bytes] = [[], 0];
      }
      parts.push(length, Buffer.from(payload));
      bytes += 4 + payload.length;
    }
    if (parts.length > 0) yield Buffer.concat(parts);
  }

  restore(chunks: Iterable<Uint8Array>, _index: LogIndex): void {
    this.#values.clear();
    let head = true;
    for (const chunk of chunks) {
      const bytes = Buffer.from(chunk);
      if (head) {
        this.applied = bytes.readDoubleLE();
        this.digest = bytes.readInt32LE(8);
        head = false;
        continue;
      }
      for (let at = 0; at < bytes.length;) {
        const length = bytes.readUInt32LE(at);
        const payload = bytes.subarray(at + 4, at + 4 + length);
        this.#values.set(payload.toString("latin1", 0, KEY_BYTES), payload);
        at += 4 + length;
      }
    }
  }
}
