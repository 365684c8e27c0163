/**
 * A TCP proxy between every process and every Manager it calls, so that links can be cut. A cut has a direction: bytes from one
 * process to another wait, as packets that are sent again and again would; they arrive when the cut is healed. A connection
 * that is opened over a cut link, in whichever direction, hangs. Where nobody listens, the proxy does not listen either: a dead
 * process refuses connections, as it would without a proxy.
 */
import { connect, createServer, type Server, type Socket } from "node:net";

export interface Link {
  readonly from: string;
  /** The process that listens. */
  readonly to: string;
  readonly listenPort: number;
  readonly targetPort: number;
}

interface Connection {
  readonly link: Link;
  readonly near: Socket;
  /** Null: not opened yet. */
  far: Socket | null;
  nearFlows: boolean;
  farFlows: boolean;
}

const HOST = "127.0.0.1";

export class ProxyMesh {
  readonly #servers = new Map<Link, Server>();
  readonly #connections = new Set<Connection>();
  /** "from>to" */
  readonly #cuts = new Set<string>();
  readonly #down = new Set<string>();

  static async start(links: readonly Link[]): Promise<ProxyMesh> {
    const mesh = new ProxyMesh();
    await Promise.all(links.map((link) => mesh.#listen(link)));
    return mesh;
  }

  /** Bytes from each of `from` to each of `to` wait from now on. */
  cut(from: readonly string[], to: readonly string[]): void {
    for (const a of from) for (const b of to) if (a !== b) this.#cuts.add(`${a}>${b}`);
    this.#adjust();
  }

  /** Ends all cuts. With `reset`, connections that were cut are broken instead of going on. */
  heal(reset: boolean): void {
    for (const connection of this.#connections) {
      const { from, to } = connection.link;
      if (reset && (this.#cuts.has(`${from}>${to}`) || this.#cuts.has(`${to}>${from}`))) destroy(connection);
    }
    this.#cuts.clear();
    this.#adjust();
  }

  /** The process is dead: its ports refuse. */
  processEnded(name: string): void {
    this.#down.add(name);
    for (const [link, server] of this.#servers) if (link.to === name && server.listening) server.close();
  }

  processStarted(name: string): void {
    if (!this.#down.delete(name)) return;
    for (const [link, server] of this.#servers) {
      if (link.to === name && !server.listening) server.listen(link.listenPort, HOST);
    }
  }

  stop(): void {
    for (const server of this.#servers.values()) server.close();
    for (const connection of this.#connections) destroy(connection);
  }

  #listen(link: Link): Promise<void> {
    const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (near) => this.#accept(link, near));
    this.#servers.set(link, server);
    return new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen(link.listenPort, HOST, () => {
        server.off("error", reject);
        server.on("error", () => undefined); // listening again fails only if somebody took the port: calls are refused then
        resolve();
      });
    });
  }

  #accept(link: Link, near: Socket): void {
    const connection: Connection = { link, near, far: null, nearFlows: false, farFlows: false };
    this.#connections.add(connection);
    near.setNoDelay(true);
    near.on("error", () => undefined);
    near.once("close", () => {
      destroy(connection);
      this.#connections.delete(connection);
    });
    this.#flow(connection);
  }

  #adjust(): void {
    for (const connection of this.#connections) this.#flow(connection);
  }

  #flow(connection: Connection): void {
    const { link, near } = connection;
    const out = !this.#cuts.has(`${link.from}>${link.to}`);
    const back = !this.#cuts.has(`${link.to}>${link.from}`);
    if (connection.far === null) {
      if (!out || !back) return; // its handshake does not come through
      connection.far = this.#open(connection);
    }
    const { far } = connection;
    if (out !== connection.nearFlows) {
      connection.nearFlows = out;
      if (out) near.pipe(far);
      else near.unpipe(far).pause();
    }
    if (back !== connection.farFlows) {
      connection.farFlows = back;
      if (back) far.pipe(near);
      else far.unpipe(near).pause();
    }
  }

  #open(connection: Connection): Socket {
    const far = connect({ host: HOST, port: connection.link.targetPort, allowHalfOpen: true, noDelay: true });
    far.on("error", () => undefined);
    far.once("close", () => destroy(connection));
    return far;
  }
}

function destroy({ near, far }: Connection): void {
  if (!near.destroyed) near.resetAndDestroy();
  if (far !== null && !far.destroyed) far.resetAndDestroy();
}
