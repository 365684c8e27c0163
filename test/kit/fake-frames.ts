/** What crosses the virtual network: frames on connections, and the two ends that every stream has. */
import { AnantaError, type ErrorCode, type ErrorFacts } from "../../core/errors.js";
import type { MessageStream, StreamListener } from "../../runtime/env.js";
import { StreamInbox } from "../../runtime/stream-inbox.js";
import type { VirtualProcess } from "./virtual-process.js";

/** HTTP/2's default flow-control window. */
const WINDOW_BYTES = 65_536;
/** The receiver gives consumed bytes back in portions of at least this. */
const WINDOW_UPDATE_BYTES = 16_384;

export interface WireError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly facts: ErrorFacts;
}

export type Frame =
  | { readonly kind: "open"; readonly streamId: number; readonly path: string; readonly timeoutMs: number | null }
  | { readonly kind: "message"; readonly streamId: number; readonly bytes: Uint8Array }
  /** From the caller: its side is over. From the server: the stream is over. */
  | { readonly kind: "end"; readonly streamId: number; readonly error: WireError | null }
  | { readonly kind: "cancel"; readonly streamId: number }
  | { readonly kind: "consumed"; readonly streamId: number; readonly byteCount: number }
  | { readonly kind: "fin" };

export const toWire = (error: AnantaError): WireError => ({
  code: error.code,
  message: error.message,
  facts: { ...error.facts },
});
export const fromWire = ({ code, message, facts }: WireError): AnantaError => new AnantaError(code, message, facts);

export const CLIENT = 0;
export const SERVER = 1;
export type End = typeof CLIENT | typeof SERVER;

/** One process's end of a connection. */
export interface Endpoint {
  readonly process: VirtualProcess;
  receive(frame: Frame): void;
  /** The connection is gone; every stream on it ends. */
  lost(reason: string): void;
}

export class Connection {
  readonly ends: readonly [Endpoint, Endpoint];
  readonly open: [boolean, boolean] = [true, true];
  readonly lastArrivalMs: [number, number] = [0, 0];
  readonly held: [Frame[], Frame[]] = [[], []];
  /** Since when the machine at that end has been gone without a word. */
  readonly silentSinceMs: [number | null, number | null] = [null, null];

  constructor(client: Endpoint, server: Endpoint) {
    this.ends = [client, server];
  }

  name(end: End): string {
    return this.ends[end].process.name;
  }
}

export function refused(address: string): AnantaError {
  return new AnantaError("UNAVAILABLE", `nobody listens at ${address}`, { address, refused: true });
}

export function deadlineExceeded(path: string): AnantaError {
  return new AnantaError("DEADLINE_EXCEEDED", `no answer on ${path} in time`);
}

// ---- one end of one stream ----

/** Sending with a window; the same for both ends. */
class Outflow {
  #unconsumed = 0;
  #blocked = false;

  sent(byteCount: number): boolean {
    this.#unconsumed += byteCount;
    if (this.#unconsumed >= WINDOW_BYTES) this.#blocked = true;
    return !this.#blocked;
  }

  /** True when sending may go on. */
  consumed(byteCount: number): boolean {
    this.#unconsumed -= byteCount;
    if (!this.#blocked || this.#unconsumed >= WINDOW_BYTES / 2) return false;
    this.#blocked = false;
    return true;
  }
}

export abstract class StreamEnd<Out, In> implements MessageStream<Out, In> {
  abstract readonly peer: string;
  protected readonly inbox: StreamInbox<In>;
  protected readonly process: VirtualProcess;
  protected readonly streamId: number;
  protected readonly path: string;
  readonly #outflow = new Outflow();
  #unreported = 0;

  constructor(process: VirtualProcess, streamId: number, path: string) {
    this.process = process;
    this.streamId = streamId;
    this.path = path;
    this.inbox = new StreamInbox<In>((run) => process.schedule(0, run));
  }

  abstract send(message: Out): boolean;
  abstract end(error?: AnantaError): void;
  protected abstract transmit(frame: Frame): void;

  listen(listener: StreamListener<In>): void {
    this.inbox.listen(listener);
  }

  protected transmitMessage(bytes: Uint8Array): boolean {
    this.transmit({ kind: "message", streamId: this.streamId, bytes });
    return this.#outflow.sent(bytes.length);
  }

  protected consumed(byteCount: number): void {
    this.#unreported += byteCount;
    if (this.#unreported < WINDOW_UPDATE_BYTES) return;
    this.transmit({ kind: "consumed", streamId: this.streamId, byteCount: this.#unreported });
    this.#unreported = 0;
  }

  windowUpdate(byteCount: number): void {
    if (this.#outflow.consumed(byteCount)) this.inbox.drained();
  }
}
