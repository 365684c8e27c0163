/** The serving side of the virtual network. */
import { AnantaError } from "../../core/errors.js";
import type { Handler, Log, Server } from "../../runtime/env.js";
import {
  DEFAULT_DEADLINE_MS,
  HALF_CLOSE_GRACE_MS,
  answerUnary,
  decodeMessage,
  encodeMessage,
  handlerError,
  handlersByPath,
} from "../../runtime/serving.js";
import {
  type Connection,
  type Endpoint,
  type Frame,
  SERVER,
  StreamEnd,
  deadlineExceeded,
  refused,
  toWire,
} from "./fake-frames.js";
import type { FakeNetwork } from "./fake-network.js";
import type { ScheduledEvent } from "./virtual-clock.js";
import { type VirtualProcess, never } from "./virtual-process.js";

export class FakeServer implements Server {
  readonly address: string;
  readonly process: VirtualProcess;
  readonly log: Log;
  readonly handlers: ReadonlyMap<string, Handler>;
  readonly #network: FakeNetwork;
  readonly #connections = new Set<ServerConnection>();
  readonly #released: () => void;
  #stopping: Promise<void> | null = null;
  #finishStop: (() => void) | null = null;
  serving = false;

  constructor(network: FakeNetwork, process: VirtualProcess, address: string, handlers: readonly Handler[], log: Log) {
    this.#network = network;
    this.process = process;
    this.address = address;
    this.log = log;
    this.handlers = handlersByPath(handlers);
    this.#released = process.hold("server", address);
  }

  get stopping(): boolean {
    return this.#stopping !== null;
  }

  get openStreams(): number {
    let sum = 0;
    for (const connection of this.#connections) sum += connection.openStreams;
    return sum;
  }

  /** Null: refused, because it stopped meanwhile. */
  accept(client: Endpoint, peer: string): Connection | null {
    if (this.stopping) return null;
    const end = new ServerConnection(this.#network, this, peer, (gone) => {
      this.#connections.delete(gone);
      this.streamOver();
    });
    end.connection = this.#network.established(client, end);
    this.#connections.add(end);
    return end.connection;
  }

  setServing(serving: boolean): void {
    this.serving = serving;
  }

  stop(graceMs: number): Promise<void> {
    if (this.process.crashed) return never();
    if (this.#stopping !== null) return this.#stopping;
    this.#network.unlisten(this);
    this.#stopping = new Promise<void>((resolve) => {
      const finish = (): void => {
        timer.cancel();
        this.#finishStop = null;
        const error = new AnantaError("UNAVAILABLE", `the server at ${this.address} is stopping`, {
          address: this.address,
        });
        for (const connection of [...this.#connections]) connection.stop(error);
        this.#released();
        resolve();
      };
      const timer = this.process.schedule(graceMs, finish);
      this.#finishStop = finish;
    });
    this.streamOver();
    return this.#stopping;
  }

  /** A stream has ended: a stop may have waited for it. */
  streamOver(): void {
    if (this.#finishStop !== null && this.openStreams === 0) this.process.schedule(0, () => this.#finishStop?.());
  }
}

class ServerConnection implements Endpoint {
  readonly server: FakeServer;
  readonly process: VirtualProcess;
  readonly peer: string;
  connection: Connection | null = null;
  readonly #network: FakeNetwork;
  readonly #gone: (self: ServerConnection) => void;
  readonly #streams = new Map<number, ServerStream>();

  constructor(network: FakeNetwork, server: FakeServer, peer: string, gone: (self: ServerConnection) => void) {
    this.#network = network;
    this.server = server;
    this.process = server.process;
    this.peer = peer;
    this.#gone = gone;
  }

  get openStreams(): number {
    return this.#streams.size;
  }

  transmit(frame: Frame): void {
    if (this.connection !== null) this.#network.transmit(this.connection, SERVER, frame);
  }

  receive(frame: Frame): void {
    if (frame.kind === "fin") return;
    if (frame.kind !== "open") {
      this.#streams.get(frame.streamId)?.receive(frame);
      return;
    }
    const handler = this.server.handlers.get(frame.path);
    const refusal = this.server.stopping
      ? refused(this.server.address)
      : handler === undefined
        ? new AnantaError("UNIMPLEMENTED", `no such method: ${frame.path}`)
        : null;
    if (refusal !== null || handler === undefined) {
      this.transmit({ kind: "end", streamId: frame.streamId, error: refusal === null ? null : toWire(refusal) });
      return;
    }
    const stream = new ServerStream(this, handler, frame.streamId, frame.timeoutMs);
    this.#streams.set(frame.streamId, stream);
    stream.start();
  }

  lost(reason: string): void {
    const error = new AnantaError("CANCELLED", `the caller has gone: ${reason}`);
    for (const stream of [...this.#streams.values()]) stream.gone(error);
    this.#gone(this);
  }

  stop(error: AnantaError): void {
    for (const stream of [...this.#streams.values()]) stream.end(error);
    if (this.connection !== null) this.#network.close(this.connection, SERVER);
    this.#gone(this);
  }

  forget(streamId: number): void {
    this.#streams.delete(streamId);
    this.server.streamOver();
  }
}

class ServerStream extends StreamEnd<unknown, unknown> {
  readonly peer: string;
  readonly #connection: ServerConnection;
  readonly #handler: Handler;
  readonly #released: () => void;
  readonly #abort = new AbortController();
  readonly #deadlineMs: number | null;
  #timer: ScheduledEvent | null = null;
  #over = false;

  constructor(connection: ServerConnection, handler: Handler, streamId: number, timeoutMs: number | null) {
    super(connection.process, streamId, handler.method.path);
    this.#connection = connection;
    this.#handler = handler;
    this.peer = connection.peer;
    this.#released = connection.process.hold(
      handler.kind === "unary" ? "call" : "stream",
      `${this.path} from ${this.peer}`,
    );
    this.#deadlineMs = timeoutMs ?? (handler.kind === "unary" ? DEFAULT_DEADLINE_MS : null);
  }

  start(): void {
    if (this.#deadlineMs !== null) {
      this.#timer = this.process.schedule(Math.max(0, this.#deadlineMs), () => this.end(deadlineExceeded(this.path)));
    }
    const handler = this.#handler;
    if (handler.kind === "bidi") this.#attempt(() => handler.handle(this));
  }

  send(message: unknown): boolean {
    if (this.#over || this.process.crashed) return true;
    let bytes: Uint8Array;
    try {
      bytes = encodeMessage(this.#handler.method.response, this.path, message);
    } catch (caught) {
      this.end(handlerError(caught, this.path, this.#connection.server.log));
      return true;
    }
    return this.transmitMessage(bytes);
  }

  end(error?: AnantaError): void {
    if (this.#over || this.process.crashed) return;
    this.transmit({ kind: "end", streamId: this.streamId, error: error === undefined ? null : toWire(error) });
    this.#finish();
    this.inbox.closeLater(error ?? null);
  }

  /** The caller cancelled or its connection was lost. */
  gone(error: AnantaError): void {
    if (this.#over) return;
    this.#finish();
    this.inbox.close(error);
  }

  receive(frame: Exclude<Frame, { kind: "open" | "fin" }>): void {
    switch (frame.kind) {
      case "message": {
        this.#request(frame.bytes);
        return;
      }
      case "end":
        if (this.#handler.kind !== "bidi") return;
        this.inbox.close(null);
        if (!this.#over) this.#timer = this.process.schedule(HALF_CLOSE_GRACE_MS, () => this.end());
        return;
      case "cancel": {
        this.gone(new AnantaError("CANCELLED", "the caller cancelled"));
        return;
      }
      case "consumed": {
        this.windowUpdate(frame.byteCount);
        return;
      }
    }
  }

  protected transmit(frame: Frame): void {
    if (!this.#over && !this.process.crashed) this.#connection.transmit(frame);
  }

  #request(bytes: Uint8Array): void {
    const handler = this.#handler;
    let request: unknown;
    try {
      request = decodeMessage(handler.method.request, this.path, bytes);
    } catch (caught) {
      this.end(AnantaError.from(caught));
      return;
    }
    this.consumed(bytes.length);
    switch (handler.kind) {
      case "bidi": {
        this.inbox.message(request);
        return;
      }
      case "server-stream": {
        this.#attempt(() => handler.handle(request, this));
        return;
      }
      case "unary": {
        const context = {
          peer: this.peer,
          deadlineMs: this.#deadlineMs ?? DEFAULT_DEADLINE_MS,
          signal: this.#abort.signal,
        };
        answerUnary(handler, request, context, this.#connection.server.log).then(
          (response) => {
            this.send(response);
            this.end();
          },
          (caught: unknown) => this.end(AnantaError.from(caught)),
        );
      }
    }
  }

  #attempt(run: () => void): void {
    try {
      run();
    } catch (caught) {
      this.end(handlerError(caught, this.path, this.#connection.server.log));
    }
  }

  #finish(): void {
    this.#over = true;
    this.#timer?.cancel();
    this.#released();
    this.#connection.forget(this.streamId);
    this.#abort.abort();
  }
}
