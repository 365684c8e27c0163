/**
 * HTTP for operations, in every process, as etcd and Kubernetes have it: /metrics, /livez (the process answers), /readyz (it
 * can do its work), /healthz as an alias of /readyz. `?verbose` lists each check, `?exclude=NAME` leaves one out, and
 * /readyz/NAME asks for one alone. Liveness never depends on a quorum: restarting would not bring one back.
 */
import { createServer, type Server } from "node:http";
import { bindError, checkListenAddress } from "./node/address.js";

export interface Check {
  /** Lower-case words with "-": part of a path. */
  readonly name: string;
  readonly ok: boolean;
  /** Of a check that fails, for people. */
  readonly reason?: string;
}

/** That this code runs says it all. */
const PING: Check = { name: "ping", ok: true };

export interface OpsContent {
  readonly metrics: () => Promise<string>;
  readonly ready: () => readonly Check[];
}

export class OpsServer {
  readonly #server: Server;

  constructor(content: OpsContent) {
    this.#server = createServer((request, response) => {
      const url = new URL(request.url ?? "/", "http://localhost");
      if (request.method !== "GET" && request.method !== "HEAD") {
        response.writeHead(405, { allow: "GET, HEAD" }).end();
        return;
      }
      const send = (status: number, text: string): void =>
        void response.writeHead(status, { "content-type": "text/plain; charset=utf-8" }).end(text);
      const [, endpoint = "", only] = url.pathname.split("/");
      switch (endpoint) {
        case "metrics":
          content.metrics().then(
            (text) => send(200, text),
            (error: unknown) => send(500, `${String(error)}\n`),
          );
          return;
        case "livez":
          send(...report(endpoint, [PING], only, url.searchParams));
          return;
        case "readyz":
        case "healthz":
          send(...report(endpoint, [PING, ...content.ready()], only, url.searchParams));
          return;
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

/** Status and text. What fails is always named. */
function report(
  endpoint: string,
  checks: readonly Check[],
  only: string | undefined,
  search: URLSearchParams,
): [number, string] {
  const excluded = new Set(search.getAll("exclude"));
  const asked = checks.filter(({ name }) => (only === undefined || name === only) && !excluded.has(name));
  if (only !== undefined && asked.length === 0)
    return [404, `no check "${only}"; there are ${checks.map(({ name }) => name).join(", ")}\n`];
  const ok = asked.every((check) => check.ok);
  const lines = asked.map((check) => {
    if (check.ok) return `[+]${check.name} ok\n`;
    return `[-]${check.name} failed${check.reason === undefined ? "" : `: ${check.reason}`}\n`;
  });
  if (!ok) return [503, `${lines.join("")}${endpoint} check failed\n`];
  return [200, search.has("verbose") ? `${lines.join("")}${endpoint} check passed\n` : "ok\n"];
}
