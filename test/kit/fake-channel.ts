/** The calling side of the virtual network. */
import { AnantaError } from "../../core/errors.js";
import type { Random } from "../../core/random.js";
import type { Channel, ConnectOptions, MessageStream, Method } from "../../runtime/env.js";
import { RECONNECT_FIRST_MS, RECONNECT_MAX_MS, decodeMessage, encodeMessage } from "../../runtime/serving.js";
import {
  CLIENT,
  type Connection,
  type Endpoint,
  type Frame,
  StreamEnd,
  deadlineExceeded,
  fromWire,
} from "./fake-frames.js";
import type { FakeNetwork } from "./fake-network.js";
import type { ScheduledEvent } from "./virtual-clock.js";
import { type VirtualProcess, never } from "./virtual-process.js";

export class FakeChannel implements Channel, Endpoint {
  readonly address: string;
  readonly process: VirtualProcess;
  readonly #network: FakeNetwork;
  readonly #random: Random;
  readonly #reconnectMaxMs: number;
  readonly #released: () => void;
  readonly #streams = new Map<number, ClientStream<unknown, unknown>>();
  #state:
    | { readonly kind: "idle"; readonly notBeforeMs: number; readonly error: AnantaError | null }
    | { readonly kind: "connecting"; readonly attempt: ScheduledEvent }
    | { readonly kind: "ready"; readonly connection: Connection }
    | { readonly kind: "closed" } = { kind: "idle", notBeforeMs: 0, error: null };
  #failures = 0;
  #nextStreamId = 1;

  constructor(network: FakeNetwork, process: VirtualProcess, random: Random, address: string, options: ConnectOptions) {
    this.#network = network;
    this.process = process;
    this.#random = random;
    this.address = address;
    this.#reconnectMaxMs = options.reconnectMaxMs ?? RECONNECT_MAX_MS;
    this.#released = process.hold("channel", address);
  }

  call<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
    options: { readonly deadlineMs: number },
  ): Promise<Response> {
    if (this.process.crashed) return never();
    return new Promise<Response>((resolve, reject) => {
      const stream = this.#start(method, "call", options.deadlineMs);
      const timer = this.process.schedule(options.deadlineMs, () => stream.end(deadlineExceeded(method.path)));
      let answer: { readonly message: Response } | null = null;
      stream.listen({
        message: (message) => {
          answer = { message };
        },
        closed: (error) => {
          timer.cancel();
          if (error !== null) reject(error);
          else if (answer !== null) resolve(answer.message);
          else reject(new AnantaError("INTERNAL", `no answer on ${method.path}`));
        },
      });
      stream.send(request);
      stream.end();
    });
  }

  open<Request, Response>(method: Method<Request, Response>): MessageStream<Request, Response> {
    return this.#start(method, "stream", null);
  }

  subscribe<Request, Response>(method: Method<Request, Response>, request: Request): MessageStream<never, Response> {
    const stream = this.#start(method, "stream", null);
    stream.send(request);
    stream.halfClose();
    return stream;
  }

  connect(): void {
    const state = this.#state;
    if (!this.process.crashed && state.kind === "idle" && this.process.clock.nowMs >= state.notBeforeMs)
      this.#connect();
  }

  close(): void {
    if (this.#state.kind === "closed") return;
    const state = this.#state;
    this.#state = { kind: "closed" };
    if (state.kind === "connecting") state.attempt.cancel();
    for (const stream of [...this.#streams.values()])
      stream.end(new AnantaError("CANCELLED", "the channel was closed"));
    if (state.kind === "ready") this.#network.close(state.connection, CLIENT);
    this.#released();
  }

  receive(frame: Frame): void {
    if (frame.kind === "open" || frame.kind === "fin") return;
    this.#streams.get(frame.streamId)?.receive(frame);
  }

  lost(reason: string): void {
    if (this.#state.kind === "closed") return;
    const error = new AnantaError("UNAVAILABLE", `connection to ${this.address} lost: ${reason}`, {
      lost: true,
      address: this.address,
    });
    this.#state = { kind: "idle", notBeforeMs: 0, error };
    this.#failAll(error);
  }

  forget(streamId: number): void {
    this.#streams.delete(streamId);
  }

  #start<Request, Response>(
    method: Method<Request, Response>,
    what: "call" | "stream",
    deadlineMs: number | null,
  ): ClientStream<Request, Response> {
    const streamId = this.#nextStreamId++;
    const stream = new ClientStream<Request, Response>(this, method, streamId, what, deadlineMs);
    if (this.process.crashed) return stream;
    this.#streams.set(streamId, stream);
    const state = this.#state;
    if (state.kind === "closed") {
      stream.failLater(new AnantaError("CANCELLED", "the channel is closed"));
    } else if (state.kind === "ready") {
      stream.attach((frame) => this.#network.transmit(state.connection, CLIENT, frame));
    } else if (state.kind === "idle") {
      if (state.error !== null && this.process.clock.nowMs < state.notBeforeMs) stream.failLater(state.error);
      else this.#connect();
    }
    return stream;
  }

  #connect(): void {
    const attempt = this.#network.connect(this, this.address, {
      connected: (connection) => {
        this.#failures = 0;
        this.#state = { kind: "ready", connection };
        for (const stream of [...this.#streams.values()]) {
          stream.attach((frame) => this.#network.transmit(connection, CLIENT, frame));
        }
      },
      failed: (error) => {
        const backoffMs = Math.min(this.#reconnectMaxMs, RECONNECT_FIRST_MS * 1.6 ** this.#failures++);
        const jittered = backoffMs * (0.8 + 0.4 * this.#random.nextFloat());
        this.#state = { kind: "idle", notBeforeMs: this.process.clock.nowMs + jittered, error };
        this.#failAll(error);
      },
    });
    this.#state = { kind: "connecting", attempt };
  }

  #failAll(error: AnantaError): void {
    for (const stream of [...this.#streams.values()]) stream.fail(error);
  }
}

class ClientStream<Out, In> extends StreamEnd<Out, In> {
  readonly peer: string;
  readonly #channel: FakeChannel;
  readonly #method: Method<Out, In>;
  readonly #released: () => void;
  readonly #startedMs: number;
  readonly #deadlineMs: number | null;
  /** Frames before there is a connection. */
  #outbox: Frame[] = [];
  #wire: ((frame: Frame) => void) | null = null;
  #sendingOver = false;
  #over = false;

  constructor(
    channel: FakeChannel,
    method: Method<Out, In>,
    streamId: number,
    what: "call" | "stream",
    deadlineMs: number | null,
  ) {
    super(channel.process, streamId, method.path);
    this.#channel = channel;
    this.#method = method;
    this.#deadlineMs = deadlineMs;
    this.#startedMs = channel.process.clock.nowMs;
    this.#released = channel.process.hold(what, `${method.path} to ${channel.address}`);
    this.peer = channel.address;
  }

  attach(wire: (frame: Frame) => void): void {
    if (this.#wire !== null || this.#over) return;
    this.#wire = wire;
    const timeoutMs =
      this.#deadlineMs === null ? null : this.#deadlineMs - (this.process.clock.nowMs - this.#startedMs);
    wire({ kind: "open", streamId: this.streamId, path: this.path, timeoutMs });
    for (const frame of this.#outbox.splice(0)) wire(frame);
  }

  send(message: Out): boolean {
    if (this.#sendingOver || this.process.crashed) return true;
    let bytes: Uint8Array;
    try {
      bytes = encodeMessage(this.#method.request, this.path, message);
    } catch (caught) {
      this.end(AnantaError.from(caught));
      return true;
    }
    return this.transmitMessage(bytes);
  }

  end(error?: AnantaError): void {
    if (this.process.crashed) return;
    if (error === undefined) {
      this.halfClose();
      return;
    }
    if (this.#over) return;
    this.transmit({ kind: "cancel", streamId: this.streamId });
    this.#finish();
    this.inbox.closeLater(error);
  }

  halfClose(): void {
    if (this.#sendingOver) return;
    this.transmit({ kind: "end", streamId: this.streamId, error: null });
    this.#sendingOver = true;
  }

  receive(frame: Exclude<Frame, { kind: "open" | "fin" }>): void {
    switch (frame.kind) {
      case "message": {
        let message: In;
        try {
          message = decodeMessage(this.#method.response, this.path, frame.bytes);
        } catch (caught) {
          this.end(new AnantaError("INTERNAL", `malformed answer on ${this.path}`, {}, { cause: caught }));
          return;
        }
        this.consumed(frame.bytes.length);
        this.inbox.message(message);
        return;
      }
      case "end":
        this.#finish();
        {
          this.inbox.close(frame.error === null ? null : fromWire(frame.error));
          return;
        }
      case "consumed": {
        this.windowUpdate(frame.byteCount);
        return;
      }
      case "cancel":
        return;
    }
  }

  fail(error: AnantaError): void {
    if (this.#over) return;
    this.#finish();
    this.inbox.close(error);
  }

  failLater(error: AnantaError): void {
    this.process.schedule(0, () => this.fail(error));
  }

  protected transmit(frame: Frame): void {
    if (this.#over || this.process.crashed) return;
    if (this.#wire !== null) this.#wire(frame);
    else this.#outbox.push(frame);
  }

  #finish(): void {
    this.#over = true;
    this.#sendingOver = true;
    this.#outbox = [];
    this.#channel.forget(this.streamId);
    this.#released();
  }
}
