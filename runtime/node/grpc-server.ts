/** The serving side over grpc-js. Every call ends: whatever a handler does, its caller gets an answer or a typed error. */
import {
  Metadata,
  Server as GrpcJsServer,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  ServerCredentials,
  type sendUnaryData,
} from "@grpc/grpc-js";
import { AnantaError } from "../../core/errors.js";
import type { CallContext, Clock, Handler, Log, MessageStream, Server, StreamListener, Timer } from "../env.js";
import {
  DEFAULT_DEADLINE_MS,
  HALF_CLOSE_GRACE_MS,
  answerUnary,
  decodeMessage,
  encodeMessage,
  handlerError,
  handlersByPath,
} from "../serving.js";
import { StreamInbox } from "../stream-inbox.js";
import { type HostPort, bindError, formatHostPort } from "./address.js";
import { KEEPALIVE_OPTIONS } from "./grpc-channel.js";
import { Outflow, asBuffer, asIs } from "./grpc-outflow.js";
import { orderedEnd, statusOf, wantsOrderedEnd } from "./grpc-status.js";
import type { PublicServices } from "./public-services.js";

/** For the last statuses to reach their callers, before connections are cut. */
const FAREWELL_MS = 250;

/** Between the end of a cancelled call's reading side and the word that it was cancelled: some turns of the event loop. */
const CANCEL_FOLLOWS_END_MS = 50;

type UnaryHandler = Extract<Handler, { kind: "unary" }>;
type UnaryCall = ServerUnaryCall<Uint8Array, Uint8Array>;
type StreamCall = ServerWritableStream<Uint8Array, Uint8Array> | ServerDuplexStream<Uint8Array, Uint8Array>;

export interface GrpcServerOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly handlers: readonly Handler[];
  readonly publicServices: PublicServices | null;
}

export class GrpcServer implements Server {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #server: GrpcJsServer;
  readonly #publicServices: PublicServices | null;
  /** Ends one open call each. */
  readonly #open = new Set<(error: AnantaError) => void>();
  #address = "";
  #stopping: Promise<void> | null = null;
  #allOver: (() => void) | null = null;

  constructor({ clock, log, handlers, publicServices }: GrpcServerOptions) {
    this.#clock = clock;
    this.#log = log;
    this.#publicServices = publicServices;
    this.#server = new GrpcJsServer(KEEPALIVE_OPTIONS);
    for (const [path, handler] of handlersByPath(handlers)) this.#register(path, handler);
    publicServices?.addTo(this.#server);
  }

  get address(): string {
    return this.#address;
  }

  async bind(wanted: HostPort): Promise<void> {
    const address = formatHostPort(wanted.host, wanted.port);
    const port = await new Promise<number>((resolve, reject) => {
      this.#server.bindAsync(address, ServerCredentials.createInsecure(), (error, bound) => {
        if (error === null) resolve(bound);
        else reject(bindError(address, error));
      });
    });
    this.#address = formatHostPort(wanted.host, port);
  }

  setServing(serving: boolean): void {
    this.#publicServices?.setServing(serving);
  }

  stop(graceMs: number): Promise<void> {
    this.#stopping ??= this.#stop(graceMs);
    return this.#stopping;
  }

  async #stop(graceMs: number): Promise<void> {
    this.setServing(false);
    const closed = new Promise<void>((resolve) => {
      this.#server.tryShutdown(() => resolve());
    });
    const callsOver = new Promise<void>((resolve) => {
      this.#allOver = resolve;
    });
    if (this.#open.size > 0) await this.#within(graceMs, callsOver);
    for (const end of [...this.#open]) end(this.#stoppingError());
    await this.#within(FAREWELL_MS, closed);
    this.#server.forceShutdown();
  }

  async #within(ms: number, promise: Promise<void>): Promise<void> {
    let timer: Timer | null = null;
    const timeout = new Promise<void>((resolve) => {
      timer = this.#clock.setTimer(ms, resolve);
    });
    await Promise.race([promise, timeout]);
    (timer as Timer | null)?.cancel();
  }

  #stoppingError(): AnantaError {
    return new AnantaError("UNAVAILABLE", `the server at ${this.#address} is stopping`, { address: this.#address });
  }

  #track(end: (error: AnantaError) => void): () => void {
    this.#open.add(end);
    return () => {
      if (this.#open.delete(end) && this.#open.size === 0) this.#allOver?.();
    };
  }

  #register(path: string, handler: Handler): void {
    switch (handler.kind) {
      case "unary": {
        const serve = (call: UnaryCall, answer: sendUnaryData<Uint8Array>): void => this.#unary(handler, call, answer);
        this.#server.register(path, serve, asBuffer, asIs, "unary");
        return;
      }
      case "server-stream": {
        const serve = (call: ServerWritableStream<Uint8Array, Uint8Array>): void => {
          const stream = this.#openStream(handler, call);
          this.#attempt(stream, handler, () => {
            handler.handle(decodeMessage(handler.method.request, path, call.request), stream);
          });
        };
        this.#server.register(path, serve, asBuffer, asIs, "serverStream");
        return;
      }
      case "bidi": {
        const serve = (call: ServerDuplexStream<Uint8Array, Uint8Array>): void => {
          const stream = this.#openStream(handler, call);
          this.#attempt(stream, handler, () => handler.handle(stream));
        };
        this.#server.register(path, serve, asBuffer, asIs, "bidi");
      }
    }
  }

  #openStream(handler: Handler, call: StreamCall): ServerStream {
    let over: (() => void) | null = null;
    const stream = new ServerStream(this.#clock, this.#log, handler, call, () => over?.());
    over = this.#track((error) => stream.end(error));
    return stream;
  }

  #attempt(stream: ServerStream, handler: Handler, run: () => void): void {
    if (this.#stopping !== null) {
      stream.end(this.#stoppingError());
      return;
    }
    try {
      run();
    } catch (caught) {
      stream.end(handlerError(caught, handler.method.path, this.#log));
    }
  }

  #unary(handler: UnaryHandler, call: UnaryCall, answer: sendUnaryData<Uint8Array>): void {
    const { path, request: requestCodec, response: responseCodec } = handler.method;
    const context = new UnaryContext(call);
    let isOver = false;
    /** Everything that ends the call comes here; the first counts. */
    const finish = (error: AnantaError | null, bytes?: Uint8Array): void => {
      if (isOver) return;
      isOver = true;
      timer?.cancel();
      untrack();
      if (error === null) answer(null, bytes);
      else answer(statusOf(error));
      context.abort();
    };
    const untrack = this.#track((error) => finish(error));
    const timer = context.hasDeadline
      ? null // grpc-js watches the caller's
      : this.#clock.setTimer(DEFAULT_DEADLINE_MS, () => {
          finish(new AnantaError("DEADLINE_EXCEEDED", `no answer on ${path} in time`, { path }));
        });
    call.on("cancelled", () => finish(new AnantaError("CANCELLED", "the caller has gone")));
    if (this.#stopping !== null) {
      finish(this.#stoppingError());
      return;
    }
    let request: unknown;
    try {
      request = decodeMessage(requestCodec, path, call.request);
    } catch (caught) {
      finish(AnantaError.from(caught));
      return;
    }
    answerUnary(handler, request, context, this.#log)
      .then((response) => {
        if (!isOver) finish(null, encodeMessage(responseCodec, path, response));
      })
      .catch((caught: unknown) => {
        // From `answerUnary` already typed and logged; else the answer could not be encoded.
        finish(caught instanceof AnantaError ? caught : handlerError(caught, path, this.#log));
      });
  }
}

class UnaryContext implements CallContext {
  readonly peer: string;
  readonly deadlineMs: number;
  readonly hasDeadline: boolean;
  #abort: AbortController | null = null;
  #aborted = false;

  constructor(call: UnaryCall) {
    this.peer = call.getPeer();
    const deadline = Number(call.getDeadline());
    this.hasDeadline = Number.isFinite(deadline);
    this.deadlineMs = this.hasDeadline ? Math.max(0, deadline - Date.now()) : DEFAULT_DEADLINE_MS;
  }

  /** Made when asked for: most handlers do not. */
  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.#aborted) this.#abort.abort();
    return this.#abort.signal;
  }

  abort(): void {
    this.#aborted = true;
    this.#abort?.abort();
  }
}

class ServerStream implements MessageStream<unknown, unknown> {
  readonly peer: string;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #handler: Handler;
  readonly #call: StreamCall;
  readonly #outflow: Outflow;
  readonly #inbox: StreamInbox<unknown>;
  readonly #whenOver: () => void;
  #halfCloseTimer: Timer | null = null;
  #isOver = false;
  #listening = false;

  constructor(clock: Clock, log: Log, handler: Handler, call: StreamCall, whenOver: () => void) {
    this.peer = call.getPeer();
    this.#clock = clock;
    this.#log = log;
    this.#handler = handler;
    this.#call = call;
    this.#outflow = new Outflow(call, () => this.#inbox.drained());
    this.#inbox = new StreamInbox((run) => clock.nextTurn(run));
    this.#whenOver = whenOver;
    // Also told after an end of our own.
    call.on("cancelled", () => {
      if (this.#isOver) return;
      this.#finish();
      this.#inbox.close(new AnantaError("CANCELLED", "the caller cancelled or has gone"));
    });
  }

  /** Reads from here on: what nobody listens to stays with the caller, within the flow-control window. */
  listen(listener: StreamListener<unknown>): void {
    this.#inbox.listen(listener);
    if (this.#listening || this.#handler.kind !== "bidi") return;
    this.#listening = true;
    const call = this.#call as ServerDuplexStream<Uint8Array, Uint8Array>;
    const { path, request } = this.#handler.method;
    call.on("data", (bytes: Uint8Array) => {
      if (this.#inbox.closed) return;
      let message: unknown;
      try {
        message = decodeMessage(request, path, bytes);
      } catch (caught) {
        this.end(AnantaError.from(caught));
        return;
      }
      this.#inbox.message(message);
    });
    // A call that was cancelled ends its reading side too, and says "cancelled" a little later.
    call.on("end", () => {
      if (this.#isOver) return;
      call.sendMetadata(new Metadata()); // makes grpc-js look
      this.#halfCloseTimer = this.#clock.setTimer(CANCEL_FOLLOWS_END_MS, () => {
        if (this.#isOver) return;
        this.#inbox.close(null);
        if (!this.#isOver) this.#halfCloseTimer = this.#clock.setTimer(HALF_CLOSE_GRACE_MS, () => this.end());
      });
    });
  }

  send(message: unknown): boolean {
    if (this.#isOver) return true;
    let bytes: Uint8Array;
    try {
      bytes = encodeMessage(this.#handler.method.response, this.#handler.method.path, message);
    } catch (caught) {
      this.end(handlerError(caught, this.#handler.method.path, this.#log));
      return true;
    }
    return this.#outflow.write(bytes);
  }

  end(error?: AnantaError): void {
    if (this.#isOver) return;
    this.#finish();
    if (error === undefined) this.#call.end();
    else if (wantsOrderedEnd(this.#call.metadata)) this.#call.end(orderedEnd(error));
    else this.#call.emit("error", statusOf(error)); // grpc-js ends the call with it, after what was written
    this.#inbox.closeLater(error ?? null);
  }

  #finish(): void {
    this.#isOver = true;
    this.#halfCloseTimer?.cancel();
    this.#whenOver();
  }
}
