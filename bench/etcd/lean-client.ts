/**
 * A client that costs as little as Node allows: unary gRPC calls over bare node:http2, request bytes made by hand, of the
 * answer only the fields that are needed. It shows etcd itself instead of grpc-js; one connection to each member.
 */
import { connect, constants, type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";
import { DEADLINE_MS, EtcdError, GRPC_DEADLINE_EXCEEDED, GRPC_UNAVAILABLE, type EtcdClient } from "./etcd-client.js";
import { putRequest, readPutResponse, readStatusResponse, statusRequest, type MemberStatus } from "./lean-wire.js";

const PUT = requestHeaders("/etcdserverpb.KV/Put");
const STATUS = requestHeaders("/etcdserverpb.Maintenance/Status");
/** More calls than any benchmark has open on one connection. */
const CONCURRENT_STREAMS_MAX = 4_096;

function requestHeaders(path: string): Readonly<Record<string, string>> {
  return { ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" };
}

export class LeanEtcdClient implements EtcdClient {
  readonly #addresses: readonly string[];
  readonly #sessions: (ClientHttp2Session | null)[];
  #closed = false;

  /** "host:port" of each member. */
  constructor(addresses: readonly string[]) {
    this.#addresses = addresses;
    this.#sessions = addresses.map(() => null);
  }

  async put(member: number, key: Uint8Array, value: Uint8Array, deadlineMs = DEADLINE_MS): Promise<number> {
    return readPutResponse(await this.#call(member, PUT, putRequest(key, value), deadlineMs));
  }

  async status(member: number, deadlineMs = DEADLINE_MS): Promise<MemberStatus> {
    return readStatusResponse(await this.#call(member, STATUS, statusRequest(), deadlineMs));
  }

  close(): void {
    this.#closed = true;
    for (const session of this.#sessions) session?.destroy();
  }

  /** Connects anew when there is no connection, or the last one has ended. */
  #session(member: number): ClientHttp2Session {
    const present = this.#sessions[member];
    if (present !== undefined && present !== null && !present.closed && !present.destroyed) return present;
    const address = this.#addresses[member];
    if (this.#closed || address === undefined) throw new EtcdError(GRPC_UNAVAILABLE, `no member ${member}, or closed`);
    const session = connect(`http://${address}`, { peerMaxConcurrentStreams: CONCURRENT_STREAMS_MAX });
    session.on("error", () => undefined); // every open call hears of it
    this.#sessions[member] = session;
    return session;
  }

  #call(
    member: number,
    headers: Readonly<Record<string, string>>,
    frame: Buffer,
    deadlineMs: number,
  ): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      let stream: ClientHttp2Stream;
      try {
        stream = this.#session(member).request(headers);
      } catch (caught) {
        reject(caught instanceof EtcdError ? caught : unavailable(caught));
        return;
      }
      const chunks: Buffer[] = [];
      let status: string | undefined;
      let message = "";
      let failure: EtcdError | null = null;
      const note = (fields: Readonly<Record<string, string | string[] | undefined>>): void => {
        status = fields["grpc-status"] as string | undefined;
        message = (fields["grpc-message"] as string | undefined) ?? "";
      };
      const timer = setTimeout(() => {
        failure = new EtcdError(GRPC_DEADLINE_EXCEEDED, `no answer within ${deadlineMs} ms`);
        stream.close(constants.NGHTTP2_CANCEL);
      }, deadlineMs);
      stream.on("response", (fields) => {
        if (fields["grpc-status"] !== undefined) note(fields); // an error without a body has its status here
      });
      stream.on("trailers", note);
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("error", (error) => (failure ??= unavailable(error)));
      stream.on("close", () => {
        clearTimeout(timer);
        if (failure !== null) reject(failure);
        else if (status === undefined)
          reject(new EtcdError(GRPC_UNAVAILABLE, "the connection ended without an answer"));
        else if (status !== "0") reject(new EtcdError(Number(status), message));
        else resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks));
      });
      stream.end(frame);
    });
  }
}

const unavailable = (caught: unknown): EtcdError =>
  new EtcdError(GRPC_UNAVAILABLE, caught instanceof Error ? caught.message : String(caught));
