/**
 * Many random bytes through a VIP at once: a client sends them, a machine behind the VIP hashes what arrives, and both hashes
 * must be equal. A flow of small requests does not fill a window or a segment, and tells nothing of bytes that were lost,
 * doubled or changed where the checksum was made anew.
 *
 *     client -- bytes, FIN --> VIP -> DIP
 *            <-- "<SHA-256, hex> <bytes>\n", FIN --
 */
import { createHash, type Hash } from "node:crypto";
import type { IpAddress, Port } from "../core/brands.js";
import type { Random } from "../core/random.js";
import type { Endpoint, TcpApplication, TcpHandle } from "./endpoints/endpoint.js";
import { line, LineReader } from "./endpoints/identity-server.js";

/** Hashes what a connection brings, and answers when the client has closed its side. */
export class HashServer implements TcpApplication {
  private readonly connections = new Map<TcpHandle, { readonly hash: Hash; bytes: number }>();

  received(connection: TcpHandle, payload: Uint8Array): void {
    const state = this.stateOf(connection);
    state.hash.update(payload);
    state.bytes += payload.length;
  }

  peerClosed(connection: TcpHandle): void {
    const { hash, bytes } = this.stateOf(connection);
    connection.send(line(`${hash.digest("hex")} ${bytes}`));
    connection.close();
  }

  ended(connection: TcpHandle): void {
    this.connections.delete(connection);
  }

  private stateOf(connection: TcpHandle): { readonly hash: Hash; bytes: number } {
    let state = this.connections.get(connection);
    if (state === undefined) this.connections.set(connection, (state = { hash: createHash("sha256"), bytes: 0 }));
    return state;
  }
}

export interface BulkResult {
  /** Bytes that the machine says it has hashed. */
  readonly bytes: number;
  /** SHA-256, hex: of what was sent, and of what arrived. */
  readonly sentHash: string;
  readonly receivedHash: string;
  /** All of it arrived, and nothing else. */
  readonly isWhole: boolean;
  readonly elapsedMs: number;
}

export interface BulkPlan {
  readonly source: Endpoint;
  readonly destination: { readonly address: IpAddress; readonly port: Port };
  readonly bytes: number;
}

/** One transfer; `result` is there when the answer has come, `failure` when it never will. */
export class BulkTransfer {
  result: BulkResult | null = null;
  failure: string | null = null;
  private readonly sentHash: string;
  private readonly sentBytes: number;

  constructor(plan: BulkPlan, random: Random, nowMs: () => number) {
    const bytes = randomBytes(plan.bytes, random);
    this.sentBytes = bytes.length;
    this.sentHash = createHash("sha256").update(bytes).digest("hex");
    const startedMs = nowMs();
    const reader = new LineReader();
    const { address, port } = plan.destination;
    plan.source.connect(
      address,
      port,
      {
        connected: (connection) => {
          connection.send(bytes);
          connection.close(); // this side only: the answer comes after our last byte
        },
        received: (_, payload) => {
          for (const text of reader.push(payload) ?? []) this.answered(text, nowMs() - startedMs);
        },
        ended: (_, how) => {
          if (this.result === null) this.failure ??= how === "closed" ? "closed without an answer" : how;
        },
      },
      startedMs,
    );
  }

  private answered(text: string, elapsedMs: number): void {
    const match = /^([0-9a-f]{64}) (\d+)$/.exec(text);
    if (match === null) {
      this.failure ??= `answered "${text}"`;
      return;
    }
    const [, receivedHash = ""] = match;
    const { sentHash } = this;
    const bytes = Number(match[2]);
    const isWhole = bytes === this.sentBytes && receivedHash === sentHash;
    this.result = { bytes, sentHash, receivedHash, isWhole, elapsedMs };
  }
}

function randomBytes(count: number, random: Random): Uint8Array {
  const words = new Uint32Array(Math.ceil(count / 4));
  for (let at = 0; at < words.length; at++) words[at] = random.nextUint32();
  return new Uint8Array(words.buffer, 0, count);
}
