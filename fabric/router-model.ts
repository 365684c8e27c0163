/**
 * [pure] The network between MUXes, hosts and the world, as one router: what a BGP speaking switch does for Ananta (§3.3.1).
 *
 *     clients, servers (local ports)          hosts (static routes: locator -> wire)
 *                    \                          /
 *                     \______ router __________/        VIP routes: announced by MUXes, spread by ECMP
 *                                |
 *                          MUX 1 .. MUX n
 *
 * Steps for a packet of either family: check the header, decrement TTL, longest match (here: exact addresses only, since all
 * routes are host routes), and for a VIP choose among the MUXes that announce it by a hash of the five-tuple.
 *
 *  (R1) A MUX that is not heard for its hold time loses all its routes: that is how a dead MUX is noticed (Ananta §3.3.4).
 *       Time in which the router itself stood still does not count: what the MUXes said then is still unread.
 *  (R2) All packets of a five-tuple take the same MUX as long as the set of next hops stands.
 *  (R3) Fragments carry no ports, except the first; so every fragment, the first too, is hashed without ports, as real
 *       routers do, or they would arrive at different MUXes.
 *  (R4) Plain ECMP (hash mod n) moves most flows when n changes; the resilient mode moves only those of the MUX that went,
 *       and 1/n of all when one comes.
 */
import { parseIpv4 } from "../core/address.js";
import type { IpAddress } from "../core/brands.js";
import type { FrameAnnouncement } from "../dataplane/fabric-frame.js";
import { formatWords } from "../packet/address-words.js";

export type EcmpMode = "plain" | "resilient";

export interface RouterConfig {
  readonly ecmp: EcmpMode;
  /** Mixed into the hash; routers of a real site differ in it. */
  readonly hashSeed: number;
  /** Longest time for which a silent MUX keeps its routes; an announcement may ask for less. */
  readonly holdTimeMs: number;
  /** Static host routes. */
  readonly routes: ReadonlyMap<IpAddress, RouterPort>;
}

/** Where a packet leaves the router. */
export type RouterPort =
  | { readonly kind: "host"; readonly name: string; readonly address: string }
  | { readonly kind: "mux"; readonly name: string; readonly address: string }
  | { readonly kind: "local"; readonly name: string };

export type RouterDropReason = "malformed" | "bad_header_checksum" | "ttl_expired" | "no_route" | "vip_withdrawn";

export interface NextHop {
  readonly mux: string;
  readonly address: string;
  /** "host:port" of its datagrams. */
  readonly wire: string;
  readonly vips: readonly IpAddress[];
  readonly heardMsAgo: number;
  readonly packets: number;
}

export type RouterEvent =
  | { readonly kind: "route-added"; readonly mux: string; readonly vip: IpAddress }
  | { readonly kind: "route-withdrawn"; readonly mux: string; readonly vip: IpAddress }
  | { readonly kind: "hold-expired"; readonly mux: string; readonly routes: number };

interface Peer {
  readonly mux: string;
  address: string;
  port: RouterPort & { readonly kind: "mux" };
  vips: ReadonlySet<IpAddress>;
  heardMs: number;
  /** The same by `ranMs`. */
  heardRanMs: number;
  holdTimeMs: number;
  sequence: number;
  packets: number;
}

/** More than any MUX pool here, and a multiple of small counts; with 8 next hops their shares differ by under 1 %. */
const RESILIENT_BUCKETS = 840;
/** Time between two ticks beyond this does not count as silence of a MUX: we stood still, and may not have read. */
const TICK_COUNTS_MAX_MS = 100;
/** Datagrams on one machine overtake each other by far less, and a MUX takes longer to start. */
const OVERTAKEN_MS = 100;
const NO_VIPS: ReadonlySet<IpAddress> = new Set();
const IPV4_HEADER_BYTES = 20;
const IPV6_HEADER_BYTES = 40;
const PROTOCOL_TCP = 6;
const PROTOCOL_UDP = 17;
const IPV6_FRAGMENT = 44;

/** A destination as it is looked up for each packet: of IPv4 the number, of IPv6 its text. */
type RouteKey = number | string;

export class RouterModel {
  readonly drops = new Map<RouterDropReason, number>();
  /** Packets sent on, by kind of port. */
  readonly forwarded: Record<RouterPort["kind"], number> = { host: 0, mux: 0, local: 0 };
  private readonly config: RouterConfig;
  private readonly fixedRoutes: ReadonlyMap<RouteKey, RouterPort>;
  private readonly peers = new Map<string, Peer>();
  /** Next hops of each VIP, sorted by name; rebuilt when routes change. */
  private readonly nextHops = new Map<RouteKey, EcmpGroup>();
  /** VIPs that were once announced: a drop then says "withdrawn" and not "no route". */
  private readonly known = new Set<RouteKey>();
  private lastTickMs: number | null = null;
  /** Time in which this router ran: hold timers are measured by it. */
  private ranMs = 0;

  constructor(config: RouterConfig) {
    this.config = config;
    this.fixedRoutes = new Map([...config.routes].map(([address, port]) => [keyOfAddress(address), port]));
  }

  /** `wire` is where the announcement came from: packets for the MUX go there. */
  announce(announcement: FrameAnnouncement, wire: string, nowMs: number): readonly RouterEvent[] {
    const { mux, address } = announcement;
    const known = this.peers.get(mux);
    // Overtaken by a newer one on its way. After a silence it is a new start of the MUX, which counts from 1 again.
    if (known !== undefined && announcement.sequence < known.sequence && nowMs - known.heardMs < OVERTAKEN_MS)
      return [];
    const peer = known ?? {
      mux,
      address,
      port: { kind: "mux", name: mux, address: wire },
      vips: NO_VIPS,
      heardMs: 0,
      heardRanMs: 0,
      holdTimeMs: 0,
      sequence: 0,
      packets: 0,
    };
    const before = peer.vips;
    peer.address = address;
    if (peer.port.address !== wire) peer.port = { kind: "mux", name: mux, address: wire };
    peer.vips = new Set(announcement.vips);
    peer.heardMs = nowMs;
    peer.heardRanMs = this.ranMs;
    peer.holdTimeMs = Math.min(announcement.holdTimeMs, this.config.holdTimeMs);
    peer.sequence = announcement.sequence;
    if (peer.vips.size > 0) this.peers.set(mux, peer);
    else this.peers.delete(mux);
    const events: RouterEvent[] = [];
    for (const vip of before) if (!peer.vips.has(vip)) events.push({ kind: "route-withdrawn", mux, vip });
    for (const vip of peer.vips) if (!before.has(vip)) events.push({ kind: "route-added", mux, vip });
    for (const event of events) if (event.kind !== "hold-expired") this.rebuild(event.vip);
    return events;
  }

  /** Expires silent MUXes (R1). Call several times per hold time. */
  tick(nowMs: number): readonly RouterEvent[] {
    this.ranMs += Math.min(TICK_COUNTS_MAX_MS, this.lastTickMs === null ? 0 : nowMs - this.lastTickMs);
    this.lastTickMs = nowMs;
    const events: RouterEvent[] = [];
    for (const peer of this.peers.values()) {
      if (this.ranMs - peer.heardRanMs < peer.holdTimeMs) continue;
      this.peers.delete(peer.mux);
      events.push({ kind: "hold-expired", mux: peer.mux, routes: peer.vips.size });
      for (const vip of peer.vips) this.rebuild(vip);
    }
    return events;
  }

  /**
   * Decides where a packet goes and decrements its TTL in place; null when it is dropped (and counted).
   * The packet stays the caller's.
   */
  forward(packet: Uint8Array): RouterPort | null {
    const fault = isIpv6(packet) ? ipv6Fault(packet) : ipv4Fault(packet);
    if (fault !== null) return this.drop(fault);
    const destination = keyOfDestination(packet);
    const fixed = this.fixedRoutes.get(destination);
    const group = fixed === undefined ? this.nextHops.get(destination) : undefined;
    if (fixed === undefined && group === undefined)
      return this.drop(this.known.has(destination) ? "vip_withdrawn" : "no_route");
    if (isIpv6(packet)) packet[7]!--;
    else decrementTtl(packet);
    if (group === undefined) {
      this.forwarded[fixed!.kind]++; // one of the two is defined
      return fixed!;
    }
    const peer = group.pick(flowHash(packet, this.config.hashSeed));
    peer.packets++;
    this.forwarded.mux++;
    return peer.port;
  }

  /** Which MUX a packet would take, without sending it: for explanations. */
  nextHopOf(packet: Uint8Array): string | null {
    const group = this.nextHops.get(keyOfDestination(packet));
    return group === undefined ? null : group.pick(flowHash(packet, this.config.hashSeed)).mux;
  }

  routes(nowMs: number): readonly NextHop[] {
    return [...this.peers.values()]
      .map((peer) => ({
        mux: peer.mux,
        address: peer.address,
        wire: peer.port.address,
        vips: [...peer.vips].sort(),
        heardMsAgo: nowMs - peer.heardMs,
        packets: peer.packets,
      }))
      .sort((a, b) => (a.mux < b.mux ? -1 : 1));
  }

  private drop(reason: RouterDropReason): null {
    this.drops.set(reason, (this.drops.get(reason) ?? 0) + 1);
    return null;
  }

  private rebuild(vip: IpAddress): void {
    const key = keyOfAddress(vip);
    const members = [...this.peers.values()]
      .filter((peer) => peer.vips.has(vip))
      .sort((a, b) => (a.mux < b.mux ? -1 : 1));
    this.known.add(key);
    if (members.length === 0) {
      this.nextHops.delete(key);
      return;
    }
    const before = this.nextHops.get(key);
    this.nextHops.set(
      key,
      this.config.ecmp === "plain" ? new PlainGroup(members) : new ResilientGroup(members, before),
    );
  }
}

interface EcmpGroup {
  pick(hash: number): Peer;
}

class PlainGroup implements EcmpGroup {
  private readonly members: readonly Peer[];

  /** At least one. */
  constructor(members: readonly Peer[]) {
    this.members = members;
  }

  pick(hash: number): Peer {
    return this.members[hash % this.members.length]!; // in range by the modulus
  }
}

/** A fixed number of buckets, each naming a member; a change of members moves as few buckets as it can (R4). */
class ResilientGroup implements EcmpGroup {
  private readonly buckets: Peer[];

  constructor(members: readonly Peer[], before: EcmpGroup | undefined) {
    const byName = new Map(members.map((peer) => [peer.mux, peer]));
    const old = before instanceof ResilientGroup ? before.buckets : [];
    const counts = new Map(members.map((peer) => [peer.mux, 0]));
    const quota = Math.ceil(RESILIENT_BUCKETS / members.length);
    const buckets: (Peer | undefined)[] = [];
    for (let i = 0; i < RESILIENT_BUCKETS; i++) {
      const name = old[i]?.mux;
      const kept = name === undefined ? undefined : byName.get(name);
      const count = kept === undefined ? 0 : counts.get(kept.mux)!;
      // What a member holds beyond its share goes to one that has too little.
      if (kept === undefined || count >= quota) buckets.push(undefined);
      else {
        buckets.push(kept);
        counts.set(kept.mux, count + 1);
      }
    }
    for (let i = 0; i < RESILIENT_BUCKETS; i++) {
      if (buckets[i] !== undefined) continue;
      let least = members[0]!; // at least one member
      for (const member of members) if (counts.get(member.mux)! < counts.get(least.mux)!) least = member;
      buckets[i] = least;
      counts.set(least.mux, counts.get(least.mux)! + 1);
    }
    this.buckets = buckets as Peer[];
  }

  pick(hash: number): Peer {
    return this.buckets[hash % RESILIENT_BUCKETS]!; // every bucket was filled above
  }
}

/** Murmur3's finaliser over the words of the tuple: a router's hash, unrelated to the keyed one of MUXes. */
function flowHash(packet: Uint8Array, seed: number): number {
  const isV6 = isIpv6(packet);
  const headerBytes = isV6 ? IPV6_HEADER_BYTES : (packet[0]! & 15) * 4;
  // Of IPv6 a fragment has another protocol; of IPv4 the more-fragments flag or an offset (R3).
  const protocol = isV6 ? protocolBehindFragment(packet) : packet[9]!;
  const isFragment = isV6 ? packet[6] === IPV6_FRAGMENT : (readUint16(packet, 6) & 0x3fff) !== 0;
  const hasPorts =
    !isFragment && (protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP) && packet.length >= headerBytes + 4;
  const [first, end] = isV6 ? [8, 40] : [12, 20];
  let hash = seed;
  for (let at = first; at < end; at += 4) hash = mix(hash ^ readUint32(packet, at));
  return mix(hash ^ (hasPorts ? readUint32(packet, headerBytes) : 0) ^ Math.imul(protocol, 0x9e3779b1));
}

/** Also of a fragment, whose own header says what follows: all pieces of a packet take one path. */
const protocolBehindFragment = (packet: Uint8Array): number =>
  packet[6] === IPV6_FRAGMENT ? (packet[IPV6_HEADER_BYTES] ?? 0) : packet[6]!;

function mix(value: number): number {
  let h = value;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

const isIpv6 = (packet: Uint8Array): boolean => (packet[0] ?? 0) >> 4 === 6;

function ipv4Fault(packet: Uint8Array): RouterDropReason | null {
  const { length } = packet;
  if (length < IPV4_HEADER_BYTES || packet[0]! >> 4 !== 4) return "malformed";
  const headerBytes = (packet[0]! & 15) * 4;
  if (headerBytes < IPV4_HEADER_BYTES || headerBytes > length || readUint16(packet, 2) !== length) return "malformed";
  if (headerSum(packet, headerBytes) !== 0xffff) return "bad_header_checksum";
  return packet[8]! <= 1 ? "ttl_expired" : null;
}

function ipv6Fault(packet: Uint8Array): RouterDropReason | null {
  if (packet.length < IPV6_HEADER_BYTES || readUint16(packet, 4) !== packet.length - IPV6_HEADER_BYTES)
    return "malformed";
  return packet[7]! <= 1 ? "ttl_expired" : null;
}

/** Of a packet whose header has been checked. */
function keyOfDestination(packet: Uint8Array): RouteKey {
  if (!isIpv6(packet)) return readUint32(packet, 16);
  const word = (at: number): number => readUint32(packet, at) | 0;
  return formatWords(word(24), word(28), word(32), word(36));
}

const keyOfAddress = (address: IpAddress): RouteKey => parseIpv4(address) ?? address;

const readUint16 = (bytes: Uint8Array, at: number): number => (bytes[at]! << 8) | bytes[at + 1]!;
const readUint32 = (bytes: Uint8Array, at: number): number =>
  ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;

/** Folded ones-complement sum; 0xffff when the checksum holds (RFC 1071). */
function headerSum(packet: Uint8Array, headerBytes: number): number {
  let sum = 0;
  for (let at = 0; at < headerBytes; at += 2) sum += readUint16(packet, at);
  sum = (sum & 0xffff) + (sum >>> 16);
  return (sum & 0xffff) + (sum >>> 16);
}

/** RFC 1624: the checksum grows by what the word of the TTL shrinks. */
function decrementTtl(packet: Uint8Array): void {
  packet[8]!--;
  let sum = readUint16(packet, 10) + 0x0100;
  sum = (sum & 0xffff) + (sum >>> 16);
  packet[10] = sum >>> 8;
  packet[11] = sum & 255;
}
