/**
 * HTTP for operations, in every process: /metrics, /livez (the process answers), /readyz (it can do its work; ?verbose names
 * each check), /healthz as an alias of /readyz. Liveness never depends on a quorum: restarting would not bring one back.
 */
import { createServer, type Server } from "node:http";
import { bindError, checkListenAddress } from "./node/address.js";

export interface Check {
  readonly name: string;
  readonly ok: boolean;
}

export interface OpsContent {
  readonly metrics: () => Promise<string>;
  readonly ready: () => readonly Check[];
}

export class OpsServer {
  readonly #server: Server;

  constructor(content: OpsContent) {
    this.#server = createServer((request, response) => {
      const url = new URL(request.url ?? "/", "http://localhost");
      const send = (status: number, text: string): void =>
        void response.writeHead(status, { "content-type": "text/plain; charset=utf-8" }).end(text);
      switch (url.pathname) {
        case "/metrics":
          content.metrics().then(
            (text) => send(200, text),
            (error: unknown) => send(500, `${String(error)}\n`),
          );
          return;
        case "/livez":
          send(200, "ok\n");
          return;
        case "/readyz":
        case "/healthz": {
          const checks = content.ready();
          const ready = checks.every(({ ok }) => ok);
          const lines = checks.map(({ name, ok }) => `[${ok ? "+" : "-"}] ${name}\n`).join("");
          send(
            ready ? 200 : 503,
            `${url.searchParams.has("verbose") || !ready ? lines : ""}${ready ? "ok" : "not ready"}\n`,
          );
          return;
        }
        default:
          send(404, "try /metrics, /livez or /readyz?verbose\n");
      }
    });
  }

  /**
   * Rejects with FAILED_PRECONDITION when the port is taken. Throws it for an address beyond loopback, unless `insecure`:
   * there is no TLS here.
   */
  listen(address: string, { insecure = false }: { readonly insecure?: boolean } = {}): Promise<void> {
    const { host, port } = checkListenAddress(address, insecure);
    return new Promise((resolve, reject) => {
      this.#server.once("error", (error) => reject(bindError(address, error)));
      this.#server.listen(port, host, resolve);
    });
  }

  stop(): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }
}
