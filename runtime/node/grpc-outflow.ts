/**
 * How much a stream has taken and not yet passed to the connection. grpc-js itself counts messages (16), whatever their
 * size: a burst of small ones would look like a slow reader.
 */
import type { Writable } from "node:stream";

/** As much again is on its way in HTTP/2's window of 64 kB. */
const BLOCKED_BYTES = 65_536;
const DRAINED_BYTES = BLOCKED_BYTES / 2;
/** What a queued message costs beside its content. */
const MESSAGE_BYTES = 64;

export class Outflow {
  readonly #stream: Writable;
  readonly #drained: () => void;
  #queuedBytes = 0;
  #blocked = false;

  constructor(stream: Writable, drained: () => void) {
    this.#stream = stream;
    this.#drained = drained;
  }

  /** False: the peer reads too slowly; `drained` follows. */
  write(bytes: Uint8Array): boolean {
    const cost = bytes.length + MESSAGE_BYTES;
    this.#queuedBytes += cost;
    this.#stream.write(bytes, () => {
      this.#queuedBytes -= cost;
      if (!this.#blocked || this.#queuedBytes >= DRAINED_BYTES) return;
      this.#blocked = false;
      this.#drained();
    });
    if (this.#queuedBytes >= BLOCKED_BYTES) this.#blocked = true;
    return !this.#blocked;
  }
}

/** A view, without copying. */
export const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
export const asIs = (bytes: Buffer): Uint8Array => bytes;
