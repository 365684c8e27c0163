/**
 * [pure] A machine at one end of flows: a VM behind a VIP, an external client, an external server. It has one address,
 * listens on ports, opens connections, and checks every packet it gets as a strict kernel would.
 *
 * Packets go in through `receive`, come out through `transmit`; time enters with each call. Whoever owns the endpoint calls
 * `tick` every few tens of milliseconds.
 */
import { familyOf } from "../../core/address.js";
import type { IpAddress, Port } from "../../core/brands.js";
import { assert } from "../../core/assert.js";
import type { Random } from "../../core/random.js";
import * as tcp from "./mini-tcp.js";
import { readPacket, writeTcp, writeUdp, type BadPacket, type Tuple } from "./packets.js";

export interface EndpointCounters {
  packetsIn: number;
  packetsOut: number;
  /** Resets sent because a segment met no connection. */
  resetsSent: number;
  /** For another address than ours: the path rewrote it wrongly. */
  misdelivered: number;
  retransmissions: number;
  readonly bad: Map<BadPacket, number>;
}

/** What an application learns about its connection. Calls are made from within `receive` and `tick`. */
export interface TcpApplication {
  connected?(connection: TcpHandle): void;
  received(connection: TcpHandle, payload: Uint8Array): void;
  peerClosed?(connection: TcpHandle): void;
  /** Once, and last. */
  ended(connection: TcpHandle, how: "closed" | tcp.BrokenReason): void;
}

export interface TcpHandle {
  /** As this endpoint sees it: source is the endpoint itself. */
  readonly tuple: Tuple;
  /** False when this side is closed already. */
  send(payload: Uint8Array): boolean;
  close(): void;
  /** Resets the connection; the application is told "reset". */
  abort(): void;
}

interface Connection extends TcpHandle {
  readonly tcp: tcp.TcpConnection;
  readonly application: TcpApplication;
  ended: boolean;
}

/** `reply` answers the sender. */
export type UdpApplication = (payload: Uint8Array, from: Tuple, reply: (payload: Uint8Array) => void) => void;

/** IANA's dynamic ports are 49152..65535; more are taken here, because a thousand flows come from few addresses. */
const EPHEMERAL_FIRST = 20_000;
const EPHEMERAL_LAST = 65_535;

export class Endpoint {
  readonly address: IpAddress;
  readonly counters: EndpointCounters = {
    packetsIn: 0,
    packetsOut: 0,
    resetsSent: 0,
    misdelivered: 0,
    retransmissions: 0,
    bad: new Map(),
  };
  /** Told of ICMP and ICMPv6, the whole packet; a view. */
  onIcmp: ((packet: Uint8Array) => void) | null = null;
  private readonly random: Random;
  private readonly transmit: (packet: Uint8Array) => void;
  private readonly listeners = new Map<Port, TcpApplication>();
  private readonly udpListeners = new Map<Port, UdpApplication>();
  private readonly connections = new Map<Port, Map<string, Connection>>();
  private readonly mss: number;
  private nextPort: number;
  private nowMs = 0;

  /** `transmit` owns the packets it is given. */
  constructor(address: IpAddress, random: Random, transmit: (packet: Uint8Array) => void) {
    this.address = address;
    this.mss = familyOf(address) === "ipv6" ? tcp.MSS_IPV6_BYTES : tcp.MSS_BYTES;
    this.random = random;
    this.transmit = transmit;
    this.nextPort = EPHEMERAL_FIRST + random.below(EPHEMERAL_LAST - EPHEMERAL_FIRST);
  }

  listen(port: Port, application: TcpApplication): void {
    assert(!this.listeners.has(port), `port ${port} has no listener yet`);
    this.listeners.set(port, application);
  }

  listenUdp(port: Port, application: UdpApplication): void {
    assert(!this.udpListeners.has(port), `UDP port ${port} has no listener yet`);
    this.udpListeners.set(port, application);
  }

  /** Open connections go on; the next SYN is reset. */
  unlisten(port: Port): void {
    this.listeners.delete(port);
  }

  unlistenUdp(port: Port): void {
    this.udpListeners.delete(port);
  }

  /** Opens a connection from a free port. */
  connect(destination: IpAddress, destinationPort: Port, application: TcpApplication, nowMs: number): TcpHandle {
    this.nowMs = nowMs;
    const sourcePort = this.freePort((port) => this.lookUp(port, destination, destinationPort) === undefined);
    const tuple = { source: this.address, sourcePort, destination, destinationPort };
    const connection = this.add(tuple, tcp.connect(this.random, nowMs, this.mss), application);
    this.flush(connection);
    return connection;
  }

  sendUdp(tuple: Tuple, payload: Uint8Array): void {
    this.put(writeUdp(tuple, payload));
  }

  /** A port that no UDP listener has. */
  freeUdpPort(): Port {
    return this.freePort((port) => !this.udpListeners.has(port));
  }

  get connectionCount(): number {
    let count = 0;
    for (const peers of this.connections.values()) count += peers.size;
    return count;
  }

  receive(packet: Uint8Array, nowMs: number): void {
    this.nowMs = nowMs;
    this.counters.packetsIn++;
    const read = readPacket(packet);
    switch (read.kind) {
      case "bad":
        this.counters.bad.set(read.reason, (this.counters.bad.get(read.reason) ?? 0) + 1);
        return;
      case "other":
        return;
      case "icmp":
        if (read.destination !== this.address) this.counters.misdelivered++;
        else this.onIcmp?.(packet);
        return;
      case "udp":
      case "tcp":
        if (read.tuple.destination !== this.address) this.counters.misdelivered++;
        else if (read.kind === "tcp") this.receiveTcp(read.tuple, read.segment);
        else this.receiveUdp(read.tuple, read.payload);
    }
  }

  /** Retransmissions and time-outs that are due. */
  tick(nowMs: number): void {
    this.nowMs = nowMs;
    for (const peers of this.connections.values()) {
      for (const connection of peers.values()) {
        const { deadlineMs } = connection.tcp;
        if (deadlineMs === null || nowMs < deadlineMs) continue;
        const events: tcp.TcpEvent[] = [];
        const before = connection.tcp.retransmissions;
        tcp.tick(connection.tcp, nowMs, events);
        this.counters.retransmissions += connection.tcp.retransmissions - before;
        this.deliver(connection, events);
      }
    }
  }

  private receiveUdp(tuple: Tuple, payload: Uint8Array): void {
    const listener = this.udpListeners.get(tuple.destinationPort);
    listener?.(payload, tuple, (answer) => this.put(writeUdp(reverse(tuple), answer)));
  }

  private receiveTcp(tuple: Tuple, segment: tcp.TcpSegment): void {
    const ours = reverse(tuple);
    let connection = this.lookUp(ours.sourcePort, ours.destination, ours.destinationPort);
    if (connection === undefined) {
      const listener = this.listeners.get(ours.sourcePort);
      const opening = (segment.flags & (tcp.SYN | tcp.ACK | tcp.RST)) === tcp.SYN;
      if (listener === undefined || !opening) {
        const reset = tcp.resetFor(segment);
        if (reset === null) return;
        this.counters.resetsSent++;
        this.put(writeTcp(ours, reset));
        return;
      }
      connection = this.add(ours, tcp.accept(segment, this.random, this.nowMs, this.mss), listener);
      this.flush(connection);
      return;
    }
    const events: tcp.TcpEvent[] = [];
    tcp.receive(connection.tcp, segment, this.nowMs, events);
    this.deliver(connection, events);
  }

  private deliver(connection: Connection, events: readonly tcp.TcpEvent[]): void {
    const { application } = connection;
    for (const event of events) {
      if (connection.ended) break;
      switch (event.kind) {
        case "connected":
          application.connected?.(connection);
          break;
        case "received":
          application.received(connection, event.payload);
          break;
        case "peer-closed":
          application.peerClosed?.(connection);
          break;
        case "closed":
          this.end(connection, "closed");
          break;
        case "broken":
          this.end(connection, event.reason);
      }
    }
    this.flush(connection);
  }

  private end(connection: Connection, how: "closed" | tcp.BrokenReason): void {
    if (connection.ended) return;
    connection.ended = true;
    connection.application.ended(connection, how);
  }

  private flush(connection: Connection): void {
    tcp.flush(connection.tcp, this.nowMs, (segment) => this.put(writeTcp(connection.tuple, segment)));
    if (connection.tcp.state === "closed") this.remove(connection);
  }

  private put(packet: Uint8Array): void {
    this.counters.packetsOut++;
    this.transmit(packet);
  }

  private add(tuple: Tuple, state: tcp.TcpConnection, application: TcpApplication): Connection {
    const connection: Connection = {
      tuple,
      tcp: state,
      application,
      ended: false,
      send: (payload) => {
        const taken = tcp.send(state, payload);
        this.flush(connection);
        return taken;
      },
      close: () => {
        const opening = state.state === "syn-sent";
        tcp.close(state);
        if (opening) this.end(connection, "closed");
        this.flush(connection);
      },
      abort: () => {
        const reset = tcp.abort(state);
        if (reset !== null) this.put(writeTcp(tuple, reset));
        this.remove(connection);
        this.end(connection, "reset");
      },
    };
    const peers = this.connections.get(tuple.sourcePort) ?? new Map<string, Connection>();
    peers.set(peerKey(tuple.destination, tuple.destinationPort), connection);
    this.connections.set(tuple.sourcePort, peers);
    return connection;
  }

  private remove(connection: Connection): void {
    const { sourcePort, destination, destinationPort } = connection.tuple;
    const peers = this.connections.get(sourcePort);
    const key = peerKey(destination, destinationPort);
    if (peers?.get(key) !== connection) return;
    peers.delete(key);
    if (peers.size === 0) this.connections.delete(sourcePort);
  }

  private lookUp(localPort: Port, peer: IpAddress, peerPort: Port): Connection | undefined {
    return this.connections.get(localPort)?.get(peerKey(peer, peerPort));
  }

  /** Ports go round, so that one is used again as late as possible. */
  private freePort(isFree: (port: Port) => boolean): Port {
    for (let tries = 0; tries <= EPHEMERAL_LAST - EPHEMERAL_FIRST; tries++) {
      const port = this.nextPort as Port;
      this.nextPort = this.nextPort === EPHEMERAL_LAST ? EPHEMERAL_FIRST : this.nextPort + 1;
      if (isFree(port)) return port;
    }
    throw new Error("an endpoint has a free port"); // 45,000 connections to one destination from one address
  }
}

const peerKey = (address: IpAddress, port: Port): string => `${address} ${port}`;

const reverse = (tuple: Tuple): Tuple => ({
  source: tuple.destination,
  sourcePort: tuple.destinationPort,
  destination: tuple.source,
  destinationPort: tuple.sourcePort,
});
