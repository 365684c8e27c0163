/** The calling side over grpc-js. */
import {
  type CallOptions,
  Client,
  type ClientDuplexStream,
  type ClientOptions,
  type ClientReadableStream,
  type ClientUnaryCall,
  Metadata,
  type StatusObject,
  credentials,
} from "@grpc/grpc-js";
import { AnantaError } from "../../core/errors.js";
import type { Channel, Clock, ConnectOptions, MessageStream, Method, StreamListener } from "../env.js";
import { RECONNECT_FIRST_MS, RECONNECT_MAX_MS, decodeMessage, encodeMessage } from "../serving.js";
import { StreamInbox } from "../stream-inbox.js";
import { Outflow, asBuffer, asIs } from "./grpc-outflow.js";
import { announceOrderedEnd, errorOf } from "./grpc-status.js";

/** Notices a machine that is gone without a word. Peers notice each other sooner, by their own messages. */
const KEEPALIVE_MS = 10_000;
const KEEPALIVE_TIMEOUT_MS = 5_000;

export const KEEPALIVE_OPTIONS = {
  "grpc.keepalive_time_ms": KEEPALIVE_MS,
  "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
  "grpc.keepalive_permit_without_calls": 1,
} as const;

const channelClosed = (): AnantaError => new AnantaError("CANCELLED", "the channel was closed");

export class GrpcChannel implements Channel {
  readonly address: string;
  readonly #clock: Clock;
  readonly #client: Client;
  readonly #open = new Set<(error: AnantaError) => void>();
  #closed = false;

  constructor(clock: Clock, address: string, options: ConnectOptions) {
    this.address = address;
    this.#clock = clock;
    const grpcOptions: ClientOptions = {
      ...KEEPALIVE_OPTIONS,
      "grpc.initial_reconnect_backoff_ms": RECONNECT_FIRST_MS,
      "grpc.max_reconnect_backoff_ms": options.reconnectMaxMs ?? RECONNECT_MAX_MS,
      // A proxy of the environment is not for peers.
      "grpc.enable_http_proxy": 0,
      // Whoever calls decides whether to repeat.
      "grpc.enable_retries": 0,
      // Without this, grpc-js takes the first megabyte of each stream as written at once, whether the peer reads or not, and
      // copies its list of it with every message.
      "grpc.per_rpc_retry_buffer_size": 0,
      "grpc.service_config_disable_resolution": 1,
      "grpc.enable_channelz": 0,
      ...(options.dedicated === true ? { "grpc.use_local_subchannel_pool": 1 } : {}),
    };
    this.#client = new Client(address, credentials.createInsecure(), grpcOptions);
  }

  call<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
    options: { readonly deadlineMs: number },
  ): Promise<Response> {
    return new Promise<Response>((resolve, reject) => {
      if (this.#closed) throw channelClosed();
      const bytes = encodeMessage(method.request, method.path, request);
      let call: ClientUnaryCall | null = null;
      const cancel = (error: AnantaError): void => {
        reject(error);
        call?.cancel();
      };
      this.#open.add(cancel);
      call = this.#client.makeUnaryRequest(
        method.path,
        asBuffer,
        asIs,
        bytes,
        new Metadata(),
        { deadline: Date.now() + options.deadlineMs },
        (status, answer) => {
          this.#open.delete(cancel);
          if (status !== null) {
            reject(errorOf(status, this.address) ?? new AnantaError("INTERNAL", status.message));
            return;
          }
          try {
            resolve(decodeMessage(method.response, method.path, answer!)); // without a status there is an answer
          } catch (caught) {
            reject(malformedAnswer(method.path, caught));
          }
        },
      );
    });
  }

  open<Request, Response>(method: Method<Request, Response>): MessageStream<Request, Response> {
    if (this.#closed) return new ClosedStream(this.#clock, this.address);
    const call = this.#client.makeBidiStreamRequest<Uint8Array, Uint8Array>(
      method.path,
      asBuffer,
      asIs,
      announceOrderedEnd(),
      NO_OPTIONS,
    );
    return this.#track((over) => new ClientStream(this.#clock, method, this.address, call, call, over));
  }

  subscribe<Request, Response>(method: Method<Request, Response>, request: Request): MessageStream<never, Response> {
    if (this.#closed) return new ClosedStream(this.#clock, this.address);
    const call = this.#client.makeServerStreamRequest<Uint8Array, Uint8Array>(
      method.path,
      asBuffer,
      asIs,
      encodeMessage(method.request, method.path, request),
      announceOrderedEnd(),
      NO_OPTIONS,
    );
    return this.#track(
      (over) => new ClientStream<Request, Response>(this.#clock, method, this.address, call, null, over),
    );
  }

  connect(): void {
    if (!this.#closed) this.#client.getChannel().getConnectivityState(true);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const end of this.#open) end(channelClosed());
    this.#open.clear();
    this.#client.close();
  }

  #track<Out, In>(create: (over: () => void) => ClientStream<Out, In>): ClientStream<Out, In> {
    const end = (error: AnantaError): void => stream.end(error);
    const stream = create(() => this.#open.delete(end));
    this.#open.add(end);
    return stream;
  }
}

const NO_OPTIONS: CallOptions = {};

const malformedAnswer = (path: string, cause: unknown): AnantaError =>
  new AnantaError("INTERNAL", `malformed answer on ${path}`, { path }, { cause });

class ClientStream<Out, In> implements MessageStream<Out, In> {
  readonly peer: string;
  readonly #method: Method<Out, In>;
  readonly #call: ClientReadableStream<Uint8Array>;
  /** Null: nothing more can be sent. */
  #sending: { readonly call: ClientDuplexStream<Uint8Array, Uint8Array>; readonly outflow: Outflow } | null;
  readonly #inbox: StreamInbox<In>;
  readonly #over: () => void;
  #status: StatusObject | null = null;
  #listening = false;

  constructor(
    clock: Clock,
    method: Method<Out, In>,
    address: string,
    call: ClientReadableStream<Uint8Array>,
    sending: ClientDuplexStream<Uint8Array, Uint8Array> | null,
    over: () => void,
  ) {
    this.peer = address;
    this.#method = method;
    this.#call = call;
    this.#inbox = new StreamInbox<In>((run) => clock.nextTurn(run));
    this.#sending =
      sending === null ? null : { call: sending, outflow: new Outflow(sending, () => this.#inbox.drained()) };
    this.#over = over;
    call.on("status", (status: StatusObject) => {
      this.#status = status;
      this.#sending = null;
      this.#over();
    });
    call.on("error", () => undefined); // the same status follows as "status"
    // grpc-js holds the peer back from the first read on only; before it would queue whatever comes.
    call.read(0);
  }

  /** Reads from here on: what nobody listens to stays with the peer, within the flow-control window. */
  listen(listener: StreamListener<In>): void {
    this.#inbox.listen(listener);
    if (this.#listening) return;
    this.#listening = true;
    this.#call.on("data", (bytes: Uint8Array) => {
      if (this.#inbox.closed) return;
      let message: In;
      try {
        message = decodeMessage(this.#method.response, this.#method.path, bytes);
      } catch (caught) {
        this.end(malformedAnswer(this.#method.path, caught));
        return;
      }
      this.#inbox.message(message);
    });
    // After the last message; the status has come by then.
    this.#call.on("end", () => {
      const status = this.#status;
      this.#inbox.close(
        status === null
          ? new AnantaError("UNAVAILABLE", `connection to ${this.peer} lost`)
          : errorOf(status, this.peer),
      );
    });
  }

  send(message: Out): boolean {
    if (this.#sending === null) return true;
    let bytes: Uint8Array;
    try {
      bytes = encodeMessage(this.#method.request, this.#method.path, message);
    } catch (caught) {
      this.end(AnantaError.from(caught));
      return true;
    }
    return this.#sending.outflow.write(bytes);
  }

  end(error?: AnantaError): void {
    const sending = this.#sending;
    this.#sending = null;
    if (error === undefined) {
      sending?.call.end();
      return;
    }
    if (this.#inbox.closed) return;
    this.#inbox.closeLater(error);
    this.#over();
    this.#call.cancel();
  }
}

/** A stream on a channel that is closed. */
class ClosedStream<In> implements MessageStream<never, In> {
  readonly peer: string;
  readonly #inbox: StreamInbox<In>;

  constructor(clock: Clock, address: string) {
    this.peer = address;
    this.#inbox = new StreamInbox<In>((run) => clock.nextTurn(run));
    this.#inbox.closeLater(channelClosed());
  }

  send(): boolean {
    return true;
  }

  listen(listener: StreamListener<In>): void {
    this.#inbox.listen(listener);
  }

  end(): void {
    // already over
  }
}
