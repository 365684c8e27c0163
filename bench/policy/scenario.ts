/**
 * Machines that open TCP connections to one destination, and what becomes of them. A connection:
 *
 *     machine --SYN--> agent --> world --SYN-ACK--> machine --ACK-->   ... life ...   world --FIN--> machine --FIN, ACK--> world
 *
 * The destination closes first: it keeps TIME-WAIT, so that the port rests for 65 s, the hardest case for whoever has
 * few. A connection is *served at once* when its SYN leaves in the moment in which it comes; it *waits* when the SYN is
 * held, and *fails* when it has not left after 3 s, or was not held.
 */
import { assert } from "../../core/assert.js";
import type { Ipv4 } from "../../core/brands.js";
import { createRandom, type Random } from "../../core/random.js";
import { WIRE_LINK } from "../../dataplane/packet-batch.js";
import { buildTcpPacket } from "../../packet/build.js";
import { OUTER_BYTES, writeOuterHeader } from "../../packet/ip-in-ip.js";
import { TCP_ACK, TCP_FIN, TCP_FLAGS, TCP_RST, TCP_SEQUENCE, TCP_SOURCE_PORT, TCP_SYN } from "../../packet/tcp.js";
import { Agenda } from "./agenda.js";
import { createPolicy, type PolicyName } from "./policies.js";
import { dipAddress, VirtualManager } from "./virtual-manager.js";
import { VirtualHost } from "./virtual-host.js";

const HOSTS = 5;
const DIPS_PER_HOST = 10;
export const DIPS = HOSTS * DIPS_PER_HOST;
const IPV4_BYTES = 20;
const VIP_WORD = 0xc6336401; // 198.51.100.1
const MUX_WORD = 0xc0000201;
const FIRST_DIP_WORD = 0x0a000000;
const DESTINATION = 0xcb007107; // 203.0.113.7
const DESTINATION_PORT = 443;
const ROUND_TRIP_MS = 20;
const LIFE_MEAN_MS = 1_000;
const LIFE_MAX_MS = 10_000;
/** Hosts run before their machines talk. */
const START_MS = 10_000;
const PATIENCE_MS = 3_000;

export interface Load {
  readonly durationMs: number;
  /** New connections per second of the DIP (0..DIPS - 1), `ms` after the start of the load. */
  rate(dip: number, ms: number): number;
}

/** 50 DIPs with 2 connections a second; five of them, on a host each, have 100 for 30 s. */
export const BURST: Load = {
  durationMs: 180_000,
  rate: (dip, ms) => (dip % DIPS_PER_HOST === 0 && ms >= 60_000 && ms < 90_000 ? 100 : 2),
};

/** 0.5 to 25 connections a second, always the same. */
export const STEADY: Load = { durationMs: 300_000, rate: (dip) => 0.5 * (1 + dip) };

export interface Outcome {
  readonly connections: number;
  readonly servedAtOnce: number;
  readonly waited: number;
  readonly failed: number;
  /** Requests for ports that reached the Manager. */
  readonly requests: number;
  readonly portsOwnedMax: number;
}

interface Connection {
  readonly host: VirtualHost;
  /** 0..DIPS - 1 */
  readonly dip: number;
  readonly port: number;
  vipPort: number;
  readonly lifeMs: number;
}

export function play(policy: PolicyName, load: Load, seed: number): Outcome {
  const random = createRandom(seed);
  const agenda = new Agenda();
  const manager = new VirtualManager(agenda, random.fork(), DIPS);
  const world = new World(agenda);
  const hosts = Array.from({ length: HOSTS }, (_, host) => {
    const dips = Array.from({ length: DIPS_PER_HOST }, (__, at) => dipAddress(host * DIPS_PER_HOST + at + 1));
    return new VirtualHost({
      agenda,
      manager,
      policy: createPolicy(policy, random.fork()),
      registered: manager.register(`host-${host + 1}`, dips),
      random: random.fork(),
      sent: (packet) => world.hears(packet),
    });
  });
  let portsOwnedMax = 0;
  const look = (): void => {
    portsOwnedMax = Math.max(portsOwnedMax, manager.ownedRanges * 8);
    agenda.after(1_000, look);
  };
  look();
  for (let dip = 0; dip < DIPS; dip++) {
    const host = hosts[Math.floor(dip / DIPS_PER_HOST)]!; // DIPs are spread over all hosts
    world.begin(host, dip, load, random.fork());
  }
  agenda.runUntil(START_MS + load.durationMs + PATIENCE_MS + 1_000);
  const held = hosts.reduce((sum, host) => sum + host.waited, 0);
  const drops = hosts.map((host) => host.dataplane.telemetry.counters().drops);
  const failed = drops.reduce((sum, drop) => sum + drop.snat_hold_expired + drop.snat_hold_full, 0);
  assert(world.left + failed === world.begun, "every connection left or failed");
  assert(world.begun === world.leftAtOnce + held, "every connection left at once or was missed a port");
  return {
    connections: world.begun,
    servedAtOnce: world.leftAtOnce,
    waited: held - failed,
    failed,
    requests: manager.allocations,
    portsOwnedMax,
  };
}

class World {
  begun = 0;
  left = 0;
  leftAtOnce = 0;
  readonly #agenda: Agenda;
  readonly #connections: Connection[] = [];
  /** The connection whose SYN is passed now; -1: none. */
  #beginning = -1;

  constructor(agenda: Agenda) {
    this.#agenda = agenda;
  }

  /** Connections of one DIP as the load says: a Poisson process of changing rate, by thinning it out. */
  begin(host: VirtualHost, dip: number, load: Load, random: Random): void {
    let port = random.below(60_000);
    const rateMax = Math.max(...Array.from({ length: load.durationMs / 1_000 }, (_, s) => load.rate(dip, s * 1_000)));
    const next = (): void => {
      this.#agenda.after((-Math.log(1 - random.nextFloat()) * 1_000) / rateMax, () => {
        const ms = this.#agenda.nowMs - START_MS;
        if (ms >= load.durationMs) return;
        if (random.nextFloat() * rateMax < load.rate(dip, ms)) {
          port = (port + 1) % 60_000;
          const lifeMs = Math.min(LIFE_MAX_MS, -Math.log(1 - random.nextFloat()) * LIFE_MEAN_MS);
          this.#open({ host, dip, port: 1_024 + port, vipPort: 0, lifeMs });
        }
        next();
      });
    };
    this.#agenda.at(START_MS, next);
  }

  /** A packet has left a host. Only SYNs of the machines are news; which one, its sequence number tells. */
  hears(packet: Uint8Array): void {
    const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
    const flags = view.getUint8(IPV4_BYTES + TCP_FLAGS);
    if (flags !== TCP_SYN) {
      assert((flags & TCP_RST) === 0 || view.getUint32(12) !== VIP_WORD, "nothing is reset towards the world");
      return;
    }
    const id = view.getUint32(IPV4_BYTES + TCP_SEQUENCE);
    const connection = this.#connections[id];
    assert(connection !== undefined && connection.vipPort === 0, "a SYN leaves once");
    connection.vipPort = view.getUint16(IPV4_BYTES + TCP_SOURCE_PORT);
    this.left++;
    if (id === this.#beginning) this.leftAtOnce++;
    this.#agenda.after(ROUND_TRIP_MS, () => this.#answer(connection, id));
    this.#agenda.after(ROUND_TRIP_MS + connection.lifeMs, () => this.#close(connection, id));
  }

  #open(connection: Connection): void {
    const id = this.#connections.push(connection) - 1;
    this.begun++;
    this.#beginning = id;
    this.#fromMachine(connection, TCP_SYN, id, 0);
    this.#beginning = -1;
  }

  #answer(connection: Connection, id: number): void {
    this.#fromWorld(connection, TCP_SYN | TCP_ACK, id, id + 1);
    this.#fromMachine(connection, TCP_ACK, id + 1, id + 1);
  }

  #close(connection: Connection, id: number): void {
    this.#fromWorld(connection, TCP_FIN | TCP_ACK, id + 1, id + 1);
    this.#fromMachine(connection, TCP_FIN | TCP_ACK, id + 1, id + 2);
    this.#fromWorld(connection, TCP_ACK, id + 2, id + 2);
  }

  #fromMachine({ host, dip, port }: Connection, flags: number, sequence: number, acknowledgement: number): void {
    const packet = buildTcpPacket({
      source: (FIRST_DIP_WORD + dip + 1) as Ipv4,
      sourcePort: port,
      destination: DESTINATION as Ipv4,
      destinationPort: DESTINATION_PORT,
      flags,
      sequence,
      acknowledgement,
    });
    host.pass(packet, host.dips[dip % DIPS_PER_HOST]!); // as many DIPs as it has
  }

  #fromWorld({ host, dip, vipPort }: Connection, flags: number, sequence: number, acknowledgement: number): void {
    const inner = buildTcpPacket({
      source: DESTINATION as Ipv4,
      sourcePort: DESTINATION_PORT,
      destination: VIP_WORD as Ipv4,
      destinationPort: vipPort,
      flags,
      sequence,
      acknowledgement,
    });
    const packet = new Uint8Array(OUTER_BYTES + inner.length);
    packet.set(inner, OUTER_BYTES);
    writeOuterHeader(new DataView(packet.buffer), 0, MUX_WORD, FIRST_DIP_WORD + dip + 1, 0, inner.length);
    host.pass(packet, WIRE_LINK);
  }
}
