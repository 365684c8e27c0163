/**
 * RPC between simulated processes. A channel has one connection, as HTTP/2 over TCP: frames of one direction arrive in
 * order, and bytes, not objects, cross it (the method's codecs run on both sides).
 *
 * What happens when something breaks, and what it stands for:
 *   nobody listens         the connect attempt is refused after one round trip (RST): UNAVAILABLE, facts.refused
 *   process crashed        its kernel closes the sockets: peers see their streams end after one link delay
 *   machine lost (silent)  nothing is sent: peers notice after `brokenAfterMs` (keepalive)
 *   paused                 connections stay, frames wait; peers notice after `brokenAfterMs`
 *   link cut               frames are held, in order. Healed before `brokenAfterMs`: they arrive, a retransmission pause
 *                          later, and the streams go on as if nothing had been. Cut for longer: both ends lose the
 *                          connection, what was held is gone. A connect attempt waits for the link as its SYNs would
 * Backpressure: `send` returns false while 64 kB or more of a stream are not consumed by the receiving process.
 */
import { AnantaError } from "../../core/errors.js";
import type { Random } from "../../core/random.js";
import type { Handler, Log, Network, Reach, Server } from "../../runtime/env.js";
import { FakeChannel } from "./fake-channel.js";
import { CLIENT, Connection, type End, type Endpoint, type Frame, SERVER, refused } from "./fake-frames.js";
import { FakeServer } from "./fake-server.js";
import type { Links } from "./links.js";
import type { ScheduledEvent, VirtualClock } from "./virtual-clock.js";
import { type VirtualProcess, never } from "./virtual-process.js";

export interface FakeNetworkOptions {
  /** How long a silent peer keeps its connections: keepalive time plus timeout of the real network. */
  readonly brokenAfterMs: number;
  /** After a heal, held frames arrive within this (TCP's retransmission timer, which has backed off meanwhile). */
  readonly retransmitMaxMs: number;
}

export const DEFAULT_NETWORK_OPTIONS: FakeNetworkOptions = { brokenAfterMs: 10_000, retransmitMaxMs: 50 };

const FIRST_FREE_PORT = 32_768;

/** The network of the whole world. */
export class FakeNetwork {
  readonly clock: VirtualClock;
  readonly links: Links;
  readonly options: FakeNetworkOptions;
  readonly #listeners = new Map<string, FakeServer>();
  /** Who served an address last: where a connect attempt to it travels. */
  readonly #homes = new Map<string, VirtualProcess>();
  readonly #connections = new Set<Connection>();
  readonly #silent = new Set<VirtualProcess>();
  /** Connect attempts that wait for a cut link. */
  readonly #waitingForLink = new Set<() => void>();
  #nextPort = FIRST_FREE_PORT;

  constructor(clock: VirtualClock, links: Links, options: FakeNetworkOptions) {
    this.clock = clock;
    this.links = links;
    this.options = options;
  }

  forProcess(process: VirtualProcess, random: Random, log: Log): Network {
    return {
      serve: (address, handlers) => this.#serve(process, address, handlers, log),
      connect: (address, options) => new FakeChannel(this, process, random, address, options ?? {}),
      probe: (address, timeoutMs) => this.#probe(process, address, timeoutMs),
    };
  }

  /** The server at `address` as a test may look at it, or null. */
  serverAt(address: string): { readonly serving: boolean; readonly openStreams: number } | null {
    return this.#listeners.get(address) ?? null;
  }

  // ---- what the world does to it ----

  processEnd(process: VirtualProcess, silent: boolean): void {
    for (const [address, server] of this.#listeners) if (server.process === process) this.#listeners.delete(address);
    if (silent) this.#silent.add(process);
    for (const connection of [...this.#connections]) {
      for (const end of [CLIENT, SERVER] as const) {
        if (connection.ends[end].process !== process || !connection.open[end]) continue;
        if (silent) connection.silentSinceMs[end] = this.clock.nowMs;
        else this.close(connection, end);
      }
    }
    if (silent) this.linksChanged();
  }

  /** The machine is up again: it resets connections that it no longer knows. */
  machineBack(name: string): void {
    for (const process of [...this.#silent]) if (process.name === name) this.#silent.delete(process);
    for (const connection of [...this.#connections]) {
      for (const end of [CLIENT, SERVER] as const) {
        if (connection.name(end) !== name || connection.silentSinceMs[end] === null) continue;
        connection.silentSinceMs[end] = null;
        this.close(connection, end);
      }
    }
  }

  /** Every connection between the two machines is reset, and both ends hear of it; their processes go on and listen. */
  breakConnections(a: string, b: string): void {
    for (const connection of [...this.#connections]) {
      const names = [connection.name(CLIENT), connection.name(SERVER)];
      if (!names.includes(a) || !names.includes(b)) continue;
      for (const end of [CLIENT, SERVER] as const)
        connection.ends[end].process.deliver(() => this.#lose(connection, end, "the connection was reset"));
    }
  }

  /** A link was cut or mended, a process paused or lost. */
  linksChanged(): void {
    for (const connection of this.#connections) {
      for (const from of [CLIENT, SERVER] as const)
        if (connection.held[from].length > 0) this.#retransmit(connection, from);
    }
    for (const retry of [...this.#waitingForLink]) retry();
    this.clock.schedule(this.options.brokenAfterMs, () => this.#breakSilentConnections());
  }

  // ---- addresses ----

  #serve(process: VirtualProcess, wanted: string, handlers: readonly Handler[], log: Log): Promise<Server> {
    if (process.crashed) return never();
    return process.operation(0, () => {
      const address = wanted.endsWith(":0") ? `${wanted.slice(0, -1)}${this.#nextPort++}` : wanted;
      if (this.#listeners.has(address)) {
        throw new AnantaError("FAILED_PRECONDITION", `port ${address} is already in use`, { address });
      }
      const server = new FakeServer(this, process, address, handlers, log);
      this.#listeners.set(address, server);
      this.#homes.set(address, process);
      return server;
    });
  }

  unlisten(server: FakeServer): void {
    if (this.#listeners.get(server.address) === server) this.#listeners.delete(server.address);
  }

  ephemeralPort(): number {
    return this.#nextPort++;
  }

  /**
   * Tries to connect: exactly one of the callbacks comes, in the client's process, unless the attempt is cancelled.
   */
  connect(
    client: Endpoint,
    address: string,
    outcome: { connected(connection: Connection): void; failed(error: AnantaError): void },
  ): ScheduledEvent {
    const { process } = client;
    let over = false;
    const finish = (delayMs: number, run: () => void): void => {
      process.schedule(delayMs, () => {
        if (over) return;
        over = true;
        this.#waitingForLink.delete(arrive);
        timeout.cancel();
        run();
      });
    };
    const homeName = (): string => (this.#listeners.get(address)?.process ?? this.#homes.get(address))?.name ?? address;
    const arrive = (): void => {
      if (over) return;
      const name = homeName();
      if (this.links.isCut(process.name, name) || this.links.isCut(name, process.name)) {
        this.#waitingForLink.add(arrive);
        return;
      }
      const server = this.#listeners.get(address);
      const home = this.#homes.get(address);
      if (server === undefined && home !== undefined && this.#silent.has(home)) {
        this.#waitingForLink.add(arrive); // nobody there to refuse
        return;
      }
      this.#waitingForLink.delete(arrive);
      const backMs = this.links.streamDelay(name, process.name);
      if (server === undefined) {
        finish(backMs, () => outcome.failed(refused(address)));
        return;
      }
      server.process.deliver(() => {
        if (over) return;
        const accepted = server.accept(client, `${process.name}:${this.ephemeralPort()}`);
        finish(this.links.streamDelay(name, process.name), () => {
          if (accepted === null) outcome.failed(refused(address));
          else outcome.connected(accepted);
        });
      });
    };
    const timeout = process.schedule(this.options.brokenAfterMs, () =>
      finish(0, () =>
        outcome.failed(new AnantaError("UNAVAILABLE", `no connection to ${address}: timed out`, { address })),
      ),
    );
    this.clock.schedule(this.links.streamDelay(process.name, homeName()), arrive);
    return {
      cancel: () => {
        over = true;
        timeout.cancel();
        this.#waitingForLink.delete(arrive);
      },
    };
  }

  #probe(process: VirtualProcess, address: string, timeoutMs: number): Promise<Reach> {
    return new Promise((resolve) => {
      const timeout = process.schedule(timeoutMs, () => {
        attempt.cancel();
        resolve("silent");
      });
      const done = (reach: Reach): void => {
        timeout.cancel();
        resolve(reach);
      };
      const nobody: Endpoint = { process, receive: () => undefined, lost: () => undefined };
      const attempt = this.connect(nobody, address, {
        connected: (connection) => {
          this.close(connection, CLIENT);
          done("listening");
        },
        failed: (error) => done(error.facts["refused"] === true ? "refused" : "silent"),
      });
    });
  }

  established(client: Endpoint, server: Endpoint): Connection {
    const connection = new Connection(client, server);
    this.#connections.add(connection);
    return connection;
  }

  // ---- frames ----

  transmit(connection: Connection, from: End, frame: Frame): void {
    if (!connection.open[from]) return;
    const to = from === CLIENT ? SERVER : CLIENT;
    const earliest = this.clock.nowMs + this.links.streamDelay(connection.name(from), connection.name(to));
    const atMs = Math.max(earliest, connection.lastArrivalMs[from]);
    connection.lastArrivalMs[from] = atMs;
    this.clock.schedule(atMs - this.clock.nowMs, () => this.#arrive(connection, from, frame));
  }

  /** Ends the connection in order, from one end: what was sent before still arrives. */
  close(connection: Connection, end: End): void {
    if (!connection.open[end]) return;
    this.transmit(connection, end, { kind: "fin" });
    connection.open[end] = false;
    this.#forgetIfOver(connection);
  }

  #arrive(connection: Connection, from: End, frame: Frame): void {
    const to = from === CLIENT ? SERVER : CLIENT;
    if (connection.held[from].length > 0 || this.links.isCut(connection.name(from), connection.name(to))) {
      connection.held[from].push(frame);
      return;
    }
    this.#deliver(connection, to, frame);
  }

  #deliver(connection: Connection, to: End, frame: Frame): void {
    const end = connection.ends[to];
    end.process.deliver(() => {
      if (!connection.open[to]) return;
      if (frame.kind === "fin") this.#lose(connection, to, "the peer closed the connection");
      else end.receive(frame);
    });
  }

  #retransmit(connection: Connection, from: End): void {
    const to = from === CLIENT ? SERVER : CLIENT;
    if (this.links.isCut(connection.name(from), connection.name(to))) return;
    this.clock.schedule(this.links.chance(this.options.retransmitMaxMs), () => {
      if (this.links.isCut(connection.name(from), connection.name(to))) return;
      const held = connection.held[from].splice(0);
      for (const frame of held) this.clock.schedule(0, () => this.#deliver(connection, to, frame));
      connection.lastArrivalMs[from] = Math.max(connection.lastArrivalMs[from], this.clock.nowMs);
    });
  }

  #breakSilentConnections(): void {
    const limitMs = this.clock.nowMs - this.options.brokenAfterMs;
    for (const connection of [...this.#connections]) {
      const quiet = ([from, to]: readonly [End, End]): boolean =>
        [
          this.links.cutSinceMs(connection.name(from), connection.name(to)),
          connection.ends[from].process.pausedSinceMs,
          connection.silentSinceMs[from],
        ].some((sinceMs) => sinceMs !== null && sinceMs <= limitMs);
      if (!quiet([CLIENT, SERVER]) && !quiet([SERVER, CLIENT])) continue;
      for (const end of [CLIENT, SERVER] as const) {
        connection.ends[end].process.deliver(() =>
          this.#lose(connection, end, "the peer has been silent for too long"),
        );
      }
    }
  }

  #lose(connection: Connection, end: End, reason: string): void {
    if (!connection.open[end]) return;
    connection.open[end] = false;
    this.#forgetIfOver(connection);
    connection.ends[end].lost(reason);
  }

  #forgetIfOver(connection: Connection): void {
    const over = ([CLIENT, SERVER] as const).every(
      (end) => !connection.open[end] || connection.ends[end].process.crashed,
    );
    if (over) this.#connections.delete(connection);
  }
}
