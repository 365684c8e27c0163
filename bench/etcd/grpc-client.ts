/** The client that a Node program would use: grpc-js, messages from the .proto file; one connection to each member. */
import { fileURLToPath } from "node:url";
import { credentials, loadPackageDefinition, Metadata, type Client, type ServiceError } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { DEADLINE_MS, EtcdError, type EtcdClient } from "./etcd-client.js";

interface PutResponse {
  readonly header: { readonly revision: number } | null;
}

interface KvClient extends Client {
  put(
    request: { readonly key: Uint8Array; readonly value: Uint8Array },
    metadata: Metadata,
    options: { readonly deadline: number },
    callback: (error: ServiceError | null, response?: PutResponse) => void,
  ): void;
}

type KvConstructor = new (address: string, creds: unknown, options: Record<string, unknown>) => KvClient;

/** A member that was down is found again soon; our own clients have it so too. */
const CHANNEL_OPTIONS = {
  "grpc.initial_reconnect_backoff_ms": 50,
  "grpc.max_reconnect_backoff_ms": 100,
  "grpc.enable_http_proxy": 0,
  "grpc.use_local_subchannel_pool": 1,
};

/** A connection that is being dialled is waited for, as our own clients do: a member that is back is not met by its former absence. */
const WAIT_FOR_READY = new Metadata({ waitForReady: true });

function loadKv(): KvConstructor {
  const path = fileURLToPath(new URL("etcd.proto", import.meta.url));
  const definition = loadPackageDefinition(loadSync(path, { keepCase: false, longs: Number, defaults: true }));
  return (definition["etcdserverpb"] as unknown as { readonly KV: KvConstructor }).KV;
}

export class GrpcEtcdClient implements EtcdClient {
  readonly #members: readonly KvClient[];

  /** "host:port" of each member. */
  constructor(addresses: readonly string[]) {
    const Kv = loadKv();
    this.#members = addresses.map((address) => new Kv(address, credentials.createInsecure(), CHANNEL_OPTIONS));
  }

  put(member: number, key: Uint8Array, value: Uint8Array, deadlineMs = DEADLINE_MS): Promise<number> {
    return new Promise((resolve, reject) => {
      const client = this.#members[member];
      if (client === undefined) throw new RangeError(`there is no member ${member}`);
      client.put({ key, value }, WAIT_FOR_READY, { deadline: Date.now() + deadlineMs }, (error, response) => {
        if (error !== null) reject(new EtcdError(error.code, error.details));
        else resolve(response?.header?.revision ?? 0);
      });
    });
  }

  close(): void {
    for (const member of this.#members) member.close();
  }
}
