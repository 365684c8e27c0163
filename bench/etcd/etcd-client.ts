/** What both clients of etcd offer, and how they fail. */

export interface EtcdClient {
  /**
   * Writes through the member with this position in the cluster. Resolves with the store's revision after the write, once
   * etcd says that it is committed. Rejects with EtcdError: after a deadline or a lost connection the outcome is unknown.
   */
  put(member: number, key: Uint8Array, value: Uint8Array, deadlineMs?: number): Promise<number>;
  close(): void;
}

export class EtcdError extends Error {
  override readonly name = "EtcdError";
  /** gRPC status code; 14 (UNAVAILABLE) when there was no answer at all. */
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

export const DEADLINE_MS = 20_000;
export const GRPC_UNAVAILABLE = 14;
export const GRPC_DEADLINE_EXCEEDED = 4;
