/**
 * Everything a Manager, MUX or Host Agent gets from the world outside: time, chance, network, disk, log. The three
 * factories `createManager(env, config)`, `createMux(env, config)`, `createAgent(env, config)` take an `Env` and touch
 * nothing else, so that many of each run in one process on virtual time, from one seed.
 *
 * Two implementations: `runtime/node/` (real) and `test/kit/` (virtual). A crash is an env that never again calls back.
 */
import type { AbstractLevel } from "abstract-level";
import type { AnantaError } from "../core/errors.js";
import type { Random } from "../core/random.js";

export interface Env {
  readonly clock: Clock;
  /** Seeded. Use `fork()` once per component. */
  readonly random: Random;
  /** Unpredictable bytes (ids, keys) where real; drawn from the seed where simulated. */
  entropy(byteCount: number): Uint8Array;
  readonly network: Network;
  readonly datagrams: DatagramNetwork;
  readonly disk: Disk;
  readonly log: Log;
}

// ---- time ----

export interface Clock {
  /** Monotonic milliseconds with fraction; the origin means nothing. */
  nowMs(): number;
  /** Milliseconds since 1970. For audit and display only: it may jump. */
  wallMs(): number;
  /** Calls back once, `delayMs` >= 0 from now, unless cancelled. */
  setTimer(delayMs: number, callback: () => void): Timer;
  /** Calls back once after the I/O that is already waiting has been handled (setImmediate). */
  nextTurn(callback: () => void): Timer;
}

export interface Timer {
  /** Safe to call at any time, also twice and after it fired. */
  cancel(): void;
}

// ---- messages between processes ----

export interface Codec<T> {
  encode(message: T): Uint8Array;
  /** Throws on bytes that are not a `T`. Copies what it keeps: the input buffer is reused. */
  decode(bytes: Uint8Array): T;
}

/** One RPC method, as generated from `proto/`. `path` is "/package.Service/Method". */
export interface Method<Request, Response> {
  readonly path: string;
  readonly kind: "unary" | "server-stream" | "bidi";
  readonly request: Codec<Request>;
  readonly response: Codec<Response>;
}

/**
 * One end of a stream of messages. Events go to the one listener; those before `listen` are kept for it, in order. The
 * listener is never called from inside `listen`, `send` or `end` of its own stream.
 */
export interface MessageStream<Out, In> {
  /**
   * Hands over one message. False: the peer reads too slowly; hold further messages until `drained` (what is sent all the
   * same is queued). After the stream is over it does nothing and returns true.
   */
  send(message: Out): boolean;
  listen(listener: StreamListener<In>): void;
  /**
   * Ends this side; safe to call twice.
   * Serving side: the stream is over, with the error's code for the caller if one is given.
   * Calling side with an error: the call is cancelled; the server hears CANCELLED, our own listener that error.
   * Calling side without: a half-close. The server hears `closed(null)` and may still answer until it ends its side;
   * if it does not, that happens for it after a second.
   */
  end(error?: AnantaError): void;
  /** "address:port" of the other end, for logs. */
  readonly peer: string;
}

export interface StreamListener<In> {
  message(message: In): void;
  /**
   * Called once, when nothing more will come, for any reason: null when it ended in order (the peer, or on the serving
   * side we ourselves, without an error). Then nothing follows.
   */
  closed(error: AnantaError | null): void;
  /** `send` may go on after it returned false. */
  drained?(): void;
}

export interface CallContext {
  readonly peer: string;
  /** Time left for the answer in ms; handlers must answer within it. A default stands in when the caller set none. */
  readonly deadlineMs: number;
  /** Aborted when the caller has gone or the deadline passed. */
  readonly signal: AbortSignal;
}

/** What a server does for one method. Handlers may throw `AnantaError`; anything else becomes INTERNAL and is logged. */
export type Handler =
  | {
      readonly kind: "unary";
      readonly method: Method<unknown, unknown>;
      handle(request: unknown, call: CallContext): Promise<unknown>;
    }
  | {
      readonly kind: "server-stream";
      readonly method: Method<unknown, unknown>;
      handle(request: unknown, stream: MessageStream<unknown, never>): void;
    }
  | {
      readonly kind: "bidi";
      readonly method: Method<unknown, unknown>;
      handle(stream: MessageStream<unknown, unknown>): void;
    };

/** Typed constructors of `Handler`s; the only place where the message types are erased. */
export function unary<Request, Response>(
  method: Method<Request, Response>,
  handle: (request: Request, call: CallContext) => Promise<Response>,
): Handler {
  return { kind: "unary", method, handle };
}

export function serverStream<Request, Response>(
  method: Method<Request, Response>,
  handle: (request: Request, stream: MessageStream<Response, never>) => void,
): Handler {
  return { kind: "server-stream", method, handle };
}

export function bidi<Request, Response>(
  method: Method<Request, Response>,
  handle: (stream: MessageStream<Response, Request>) => void,
): Handler {
  return { kind: "bidi", method, handle };
}

export interface Network {
  /**
   * Serves the handlers at "host:port". Rejects with FAILED_PRECONDITION when the port is taken.
   * `publicServices` are listed by reflection and reported by the health service where real.
   */
  serve(address: string, handlers: readonly Handler[], options?: ServeOptions): Promise<Server>;
  /** A client connection, opened lazily and reopened with a back-off of at most `reconnectMaxMs`. */
  connect(address: string, options?: ConnectOptions): Channel;
  /** Finds out whether a process listens at "host:port", without talking to it. Never rejects. */
  probe(address: string, timeoutMs: number): Promise<Reach>;
}

/** `refused`: the machine answers that nobody listens there. `silent`: no answer in time, or no way there. */
export type Reach = "listening" | "refused" | "silent";

export interface ServeOptions {
  /** Full names of services shown by gRPC reflection and health, e.g. "ananta.v1.Snat". */
  readonly publicServices?: readonly string[];
}

export interface Server {
  /** "host:port" really bound (port 0 asks for a free one). */
  readonly address: string;
  /** What the health service answers for all services. */
  setServing(serving: boolean): void;
  /** Refuses new calls, gives open ones `graceMs`, then ends them. */
  stop(graceMs: number): Promise<void>;
}

export interface ConnectOptions {
  /** Default 1,000. */
  readonly reconnectMaxMs?: number;
  /** A connection of its own, shared with no other channel to the same address. */
  readonly dedicated?: boolean;
}

export interface Channel {
  readonly address: string;
  /** Rejects with the server's code, with UNAVAILABLE (`facts.refused` true: nobody listens there) or DEADLINE_EXCEEDED. */
  call<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
    options: { readonly deadlineMs: number },
  ): Promise<Response>;
  /** The stream exists at once; a peer that cannot be reached closes it (`facts.refused` as above). */
  open<Request, Response>(method: Method<Request, Response>): MessageStream<Request, Response>;
  /** A server-streaming call. */
  subscribe<Request, Response>(method: Method<Request, Response>, request: Request): MessageStream<never, Response>;
  /** Connects now, unless it is connected: the first stream then waits for no handshake. Nothing tells how it went. */
  connect(): void;
  close(): void;
}

// ---- datagrams (UDP) ----

export interface DatagramNetwork {
  /** Binds "host:port". Rejects with FAILED_PRECONDITION when it is taken. */
  bind(address: string): Promise<DatagramSocket>;
}

export interface DatagramSocket {
  readonly address: string;
  /** Best effort, as UDP: may be lost; the bytes are copied before it returns. */
  send(bytes: Uint8Array, to: string): void;
  /** Datagrams that came since it was bound and found no room, as the system counts them; 0 where it does not tell. */
  lost(): number;
  /** One listener; `bytes` are valid only during the call. */
  listen(listener: (bytes: Uint8Array, from: string) => void): void;
  close(): void;
}

// ---- disk ----

/** The ordered key-value store below everything durable; faults are injected beneath it, below our checksums. */
export type Store = AbstractLevel<string | Buffer | Uint8Array, Uint8Array, Uint8Array>;

export interface Disk {
  /**
   * Opens (and creates, if absent) the store in `folder`, keys and values as bytes. Rejects with STORAGE_LOCKED when
   * another process has it, STORAGE_DAMAGED when it cannot be opened.
   */
  openStore(folder: string): Promise<Store>;
  /** Opens for reading and writing, creating it when absent (the folder's entry is made durable too). */
  openFile(path: string): Promise<DiskFile>;
  /** Creates the folder and its parents. */
  makeFolder(path: string): Promise<void>;
  /** Names in the folder; empty when it does not exist. */
  list(folder: string): Promise<readonly string[]>;
  remove(path: string): Promise<void>;
  /** Bytes that can still be written in the file system of `path`. */
  freeBytes(path: string): Promise<number>;
}

export interface DiskFile {
  size(): Promise<number>;
  /** Fewer bytes than asked for when the file ends. */
  readAt(offset: number, byteCount: number): Promise<Uint8Array>;
  writeAt(offset: number, bytes: Uint8Array): Promise<void>;
  /** fdatasync: what was written before is durable once it resolves. A failure is final: stop the process. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

// ---- log ----

export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** Log lines are events: a short constant sentence and fields. They serve as test traces, so they are precise. */
export interface Log {
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
  /** The same log with `fields` on every line. */
  with(fields: LogFields): Log;
}
