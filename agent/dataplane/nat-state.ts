/**
 * The NAT state of a host: one entry per flow, found from either side.
 *
 *     inside   (DIP, remote, DIP port, remote port, protocol, DIP slot)    what the virtual machine's packets carry
 *     outside  (remote, VIP, remote port, VIP port, protocol, DIP slot)    what packets from the MUXes carry
 *
 * Inbound entries come from a rule (VIP:port -> DIP:dipPort), outbound ones from a SNAT port. Both are translated the same
 * way; they differ in how they begin and in what their end gives back. The DIP's slot is part of both keys: tenants may have
 * the same addresses, and one flow may, over time, have been sent to two DIPs of one host. Addresses are numbers for both
 * families (`addresses.ts`).
 *
 * This state, not the MUX's flow table, is the truth about a flow.
 *
 * Invariants
 *  (N1) An entry is in the outside index; in the inside index, too, unless it was detached: then its outside tuple is still
 *       kept from reuse, but the machine's packets start anew.
 *  (N2) Two live flows never have the same outside tuple: port reuse is per destination.
 */
import { AgedQueues, NO_RECORD } from "../../dataplane/aged-queues.js";
import { FlowHasher } from "../../dataplane/flow-hash.js";
import type { NatTimeouts } from "../../dataplane/layouts.js";
import { PROTOCOL_TCP } from "../../packet/ipv4.js";
import type { Addresses } from "./addresses.js";
import type { UdpTraffic } from "./probed-host.js";
import { NOT_FOUND, WordIndex } from "../../dataplane/word-index.js";

// Queues: what an entry waits for, each with a lifetime of its own.
export const HALF_OPEN = 0;
export const ESTABLISHED = 1;
export const CLOSING = 2;
export const HOLD_OWN = 3;
export const HOLD_REMOTE = 4;
export const HOLD_RESET = 5;
export const UDP_ACTIVE = 6;
export const UDP_ANSWERED = 7;
/** Inbound only: our machine has not said anything yet. */
export const UDP_UNANSWERED = 8;
/** Idle, and our machine was asked whether it still has the connection. */
export const KEEPALIVE = 9;
/** From here on: idle times that rules set, one queue per distinct time. */
const IDLE_CLASS_FIRST = 10;
/** Distinct idle times at once; beyond them the next longer one is taken. Azure and AWS offer about as many as minutes. */
const IDLE_CLASSES = 32;

export const NAT_STATE_NAMES = [
  "half-open",
  "established",
  "closing",
  "hold-closed-by-own-side",
  "hold-closed-by-remote",
  "hold-reset",
  "udp",
  "udp-answered",
  "udp-unanswered",
  "keepalive",
] as const;

export const INBOUND = 0;
export const OUTBOUND = 1;

/** Of `#hasPort`: by a mapping. */
const SHARED_PORT = 2;

/** Ports that rules lead to; few on a host. */
const UDP_COUNTERS_MAX = 4_096;

/** Entries that one `expire` removes at most. */
const EXPIRE_MAX = 4_096;

export class NatState {
  readonly queues: AgedQueues;
  /** `INBOUND` or `OUTBOUND`. */
  readonly direction: Uint8Array;
  /** Bits of `tcp-track.ts`. */
  readonly tcpFlags: Uint8Array;
  /** Acknowledgement number that covers the FIN of the machine, of the remote. */
  readonly finInside: Int32Array;
  readonly finOutside: Int32Array;
  /** What each side acknowledged last: the number it expects next. Bits of `acks`: 1 the machine's is known, 2 the remote's. */
  readonly ackInside: Int32Array;
  readonly ackOutside: Int32Array;
  readonly acks: Uint8Array;
  /** Queue of the entry while it is in use. */
  readonly idleQueue: Uint8Array;
  readonly packetsIn: Uint32Array;
  readonly packetsOut: Uint32Array;
  /** Newest timestamp of the machine that was looked at, for RFC 6191. */
  readonly timestamp: Uint32Array;
  /** Outbound: record of the port's range and of the destination's use, see `snat-ports.ts`; or the mapping. */
  readonly range: Uint32Array;
  readonly use: Uint32Array;
  /** Place of the VIP's traffic counter, or `NO_COUNTER`. */
  readonly counter: Uint32Array;
  /** Of inbound UDP, by DIP slot and port: `UdpTraffic`. */
  readonly #udp = new Map<number, { requests: number; replies: number }>();
  readonly #detached: Uint8Array;
  readonly #hasPort: Uint8Array;
  readonly #staysSilent: Uint8Array;
  readonly #idleClassMs: number[] = [];
  readonly #inside: WordIndex;
  readonly #outside: WordIndex;
  readonly #hasher: FlowHasher;
  readonly #addresses: Addresses;

  constructor(capacity: number, timeouts: NatTimeouts, hashKey: Uint8Array, addresses: Addresses) {
    this.#addresses = addresses;
    this.queues = new AgedQueues(capacity, [
      timeouts.halfOpenMs,
      timeouts.establishedMs,
      timeouts.closingMs,
      timeouts.closedByOwnMs,
      timeouts.closedByRemoteMs,
      timeouts.resetMs,
      timeouts.udpMs,
      timeouts.udpAnsweredMs,
      timeouts.udpUnansweredMs,
      timeouts.keepaliveMs,
      ...new Array<number>(IDLE_CLASSES).fill(0xffff_ffff),
    ]);
    this.direction = new Uint8Array(capacity);
    this.tcpFlags = new Uint8Array(capacity);
    this.finInside = new Int32Array(capacity);
    this.finOutside = new Int32Array(capacity);
    this.ackInside = new Int32Array(capacity);
    this.ackOutside = new Int32Array(capacity);
    this.acks = new Uint8Array(capacity);
    this.idleQueue = new Uint8Array(capacity);
    this.packetsIn = new Uint32Array(capacity);
    this.packetsOut = new Uint32Array(capacity);
    this.#hasPort = new Uint8Array(capacity);
    this.#staysSilent = new Uint8Array(capacity);
    this.timestamp = new Uint32Array(capacity);
    this.range = new Uint32Array(capacity);
    this.use = new Uint32Array(capacity);
    this.counter = new Uint32Array(capacity);
    this.#detached = new Uint8Array(capacity);
    this.#inside = new WordIndex(capacity);
    this.#outside = new WordIndex(capacity);
    this.#hasher = new FlowHasher(hashKey);
  }

  get size(): number {
    return this.queues.size;
  }

  get capacity(): number {
    return this.queues.capacity;
  }

  findInside(dip: number, remote: number, dipPort: number, remotePort: number, protocol: number, slot: number): number {
    const ports = (dipPort << 16) | remotePort;
    const hash = this.#hasher.ipv4(dip, remote, ports, protocol, 0);
    return this.#inside.find(hash, dip, remote, ports, (protocol << 24) | slot);
  }

  findOutside(
    remote: number,
    vip: number,
    remotePort: number,
    vipPort: number,
    protocol: number,
    slot: number,
  ): number {
    const ports = (remotePort << 16) | vipPort;
    const hash = this.#hasher.ipv4(remote, vip, ports, protocol, 0);
    return this.#outside.find(hash, remote, vip, ports, (protocol << 24) | slot);
  }

  /** For `SnatPorts.allocate`: a flow with this destination has the port. */
  isTaken(remote: number, vip: number, remotePort: number, port: number, protocol: number, slot: number): boolean {
    return this.findOutside(remote, vip, remotePort, port, protocol, slot) !== NOT_FOUND;
  }

  /** A new entry, or `NOT_FOUND` when the table is full. Neither tuple is in yet. */
  create(
    direction: number,
    queue: number,
    protocol: number,
    slot: number,
    dip: number,
    dipPort: number,
    remote: number,
    remotePort: number,
    vip: number,
    vipPort: number,
    nowMs: number,
  ): number {
    const entry = this.queues.add(queue, nowMs);
    if (entry === NO_RECORD) return NOT_FOUND;
    this.#addresses.keep(dip);
    this.#addresses.keep(remote);
    this.#addresses.keep(vip);
    this.direction[entry] = direction;
    this.tcpFlags[entry] = 0;
    this.timestamp[entry] = 0;
    this.#detached[entry] = 0;
    this.acks[entry] = 0;
    this.packetsIn[entry] = 0;
    this.packetsOut[entry] = 0;
    this.#hasPort[entry] = 0;
    this.#staysSilent[entry] = 0;
    this.idleQueue[entry] = protocol === PROTOCOL_TCP ? ESTABLISHED : UDP_ACTIVE;
    const word = (protocol << 24) | slot;
    const insidePorts = (dipPort << 16) | remotePort;
    this.#inside.insert(
      entry,
      this.#hasher.ipv4(dip, remote, insidePorts, protocol, 0),
      dip,
      remote,
      insidePorts,
      word,
    );
    const outsidePorts = (remotePort << 16) | vipPort;
    this.#outside.insert(
      entry,
      this.#hasher.ipv4(remote, vip, outsidePorts, protocol, 0),
      remote,
      vip,
      outsidePorts,
      word,
    );
    return entry;
  }

  /** The entry owns a SNAT port: what `SnatPorts.allocate` filled in. */
  takePort(entry: number, range: number, use: number): void {
    this.range[entry] = range;
    this.use[entry] = use;
    this.#hasPort[entry] = 1;
  }

  /** The entry shares a port with others: one of `endpoint-mappings.ts`. */
  takeMapping(entry: number, range: number, mapping: number): void {
    this.range[entry] = range;
    this.use[entry] = mapping;
    this.#hasPort[entry] = SHARED_PORT;
  }

  sharesPort(entry: number): boolean {
    return this.#hasPort[entry] === SHARED_PORT;
  }

  hasPort(entry: number): boolean {
    return this.#hasPort[entry] !== 0;
  }

  /** Lifetime without a packet, once both sides have talked; undefined: the table's own. Before the entry's first `track`. */
  setIdle(entry: number, idleMs: number | undefined, resets: boolean): void {
    this.#staysSilent[entry] = resets ? 0 : 1;
    if (idleMs !== undefined) this.idleQueue[entry] = this.#idleQueueOf(idleMs, this.idleQueue[entry]!);
  }

  resetsWhenIdle(entry: number): boolean {
    return this.#staysSilent[entry] === 0;
  }

  countPacket(entry: number, fromInside: boolean): void {
    if (fromInside) this.packetsOut[entry]!++;
    else this.packetsIn[entry]!++;
  }

  stateName(entry: number): string {
    const queue = this.queues.queueOf[entry]!;
    return NAT_STATE_NAMES[queue] ?? (this.protocol(entry) === PROTOCOL_TCP ? "established" : "udp");
  }

  #idleQueueOf(idleMs: number, otherwise: number): number {
    const classes = this.#idleClassMs;
    let place = classes.indexOf(idleMs);
    if (place < 0 && classes.length < IDLE_CLASSES) {
      place = classes.push(idleMs) - 1;
      this.queues.lifetimesMs[IDLE_CLASS_FIRST + place] = idleMs;
    }
    if (place < 0) {
      let longer = Infinity;
      classes.forEach((ms, at) => {
        if (ms < idleMs || ms >= longer) return;
        longer = ms;
        place = at;
      });
    }
    return place < 0 ? otherwise : IDLE_CLASS_FIRST + place;
  }

  /** A datagram of an inbound entry: counted for the health monitor. */
  countUdp(entry: number, fromInside: boolean): void {
    const key = this.dipSlot(entry) * 65_536 + this.dipPort(entry);
    let traffic = this.#udp.get(key);
    if (traffic === undefined) {
      if (this.#udp.size >= UDP_COUNTERS_MAX) return;
      this.#udp.set(key, (traffic = { requests: 0, replies: 0 }));
    }
    if (fromInside) traffic.replies++;
    else traffic.requests++;
  }

  udpTraffic(slot: number, dipPort: number): UdpTraffic | null {
    return this.#udp.get(slot * 65_536 + dipPort) ?? null;
  }

  /** The machine's packets do not find the entry any more (N1). */
  detach(entry: number): void {
    if (this.#detached[entry] === 1) return;
    this.#inside.remove(entry);
    this.#detached[entry] = 1;
  }

  isDetached(entry: number): boolean {
    return this.#detached[entry] === 1;
  }

  /** The entry that the machine's packets of this entry's flow find now: itself, another one, or `NOT_FOUND`. */
  holderOfInside(entry: number): number {
    return this.findInside(
      this.dip(entry),
      this.remote(entry),
      this.dipPort(entry),
      this.remotePort(entry),
      this.protocol(entry),
      this.dipSlot(entry),
    );
  }

  /** Takes back a `detach`. Nobody holds the inside tuple (N1). */
  attach(entry: number): void {
    const [dip, remote] = [this.dip(entry), this.remote(entry)];
    const ports = (this.dipPort(entry) << 16) | this.remotePort(entry);
    const protocol = this.protocol(entry);
    const hash = this.#hasher.ipv4(dip, remote, ports, protocol, 0);
    this.#inside.insert(entry, hash, dip, remote, ports, (protocol << 24) | this.dipSlot(entry));
    this.#detached[entry] = 0;
  }

  /** What an outbound entry holds in `snat-ports.ts` is given back by the caller. */
  remove(entry: number): void {
    this.detach(entry);
    this.#outside.remove(entry);
    this.#addresses.release(this.dip(entry));
    this.#addresses.release(this.remote(entry));
    this.#addresses.release(this.vip(entry));
    this.queues.free(entry);
  }

  /** An entry past its lifetime, or `NOT_FOUND`. */
  nextExpired(nowMs: number): number {
    for (let queue = HALF_OPEN; queue < IDLE_CLASS_FIRST + this.#idleClassMs.length; queue++) {
      const entry = this.queues.expired(queue, nowMs);
      if (entry !== NO_RECORD) return entry;
    }
    return NOT_FOUND;
  }

  isLive(entry: number): boolean {
    return !this.queues.isFree(entry);
  }

  /** True while the outside tuple is only kept from reuse: both sides have closed, or one has reset. */
  isClosed(entry: number): boolean {
    const queue = this.queues.queueOf[entry]!;
    return queue >= HOLD_OWN && queue <= HOLD_RESET;
  }

  dip(entry: number): number {
    return this.#inside.keys[entry * 4]!;
  }

  dipPort(entry: number): number {
    return this.#inside.keys[entry * 4 + 2]! >>> 16;
  }

  remote(entry: number): number {
    return this.#outside.keys[entry * 4]!;
  }

  remotePort(entry: number): number {
    return this.#outside.keys[entry * 4 + 2]! >>> 16;
  }

  vip(entry: number): number {
    return this.#outside.keys[entry * 4 + 1]!;
  }

  vipPort(entry: number): number {
    return this.#outside.keys[entry * 4 + 2]! & 0xffff;
  }

  protocol(entry: number): number {
    return this.#outside.keys[entry * 4 + 3]! >>> 24;
  }

  dipSlot(entry: number): number {
    return this.#outside.keys[entry * 4 + 3]! & 0xff_ffff;
  }

  static readonly expireMax = EXPIRE_MAX;
}
