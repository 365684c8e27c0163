/** A host, its flows, and their packets of 64 bytes, for `bench:agent`: made before the clock runs. */
import { createAgentDataplane, type AgentDataplane } from "../../agent/dataplane/agent-dataplane.js";
import { assert } from "../../core/assert.js";
import type { DipId, IpAddress, Ipv4, LogIndex, MuxId, VipId } from "../../core/brands.js";
import { createRandom } from "../../core/random.js";
import {
  FASTPATH_ADDRESS,
  FASTPATH_MESSAGE_BYTES,
  FASTPATH_PORT,
  type FastpathMessage,
  REDIRECT,
  RESPONDER,
  writeFastpathMessage,
} from "../../dataplane/fastpath-message.js";
import type { HostItem } from "../../dataplane/host-items.js";
import { PacketBatch, WIRE_LINK } from "../../dataplane/packet-batch.js";
import { buildTcpPacket, buildUdpPacket } from "../../packet/build.js";
import { MAPPED_WORD } from "../../packet/header.js";
import { OUTER_BYTES, writeOuterHeader } from "../../packet/ip-in-ip.js";
import { TCP_ACK, TCP_SYN } from "../../packet/tcp.js";

export const PACKETS_PER_BATCH = 256;
/** Of the inner packet: IPv4 and TCP header, 24 bytes of data. */
export const PACKET_BYTES = 64;
const PAYLOAD = new Uint8Array(PACKET_BYTES - 40);
const VIP = 0xcb00710a; // 203.0.113.10
const DIP = 0x0a000001;
const MUX = 0xc0000201;
/** Host of the other end, where flows go straight (FastPath). */
const PEER = 0x0a000102;
const HOST_KEY = new Uint8Array(16).fill(7);
const FIRST_REMOTE = 0x64400000; // 100.64.0.0
const SEED = 1;

const ITEMS: readonly HostItem[] = [
  {
    kind: "dip",
    dipId: 1 as DipId,
    address: "10.0.0.1" as IpAddress,
    locator: "10.0.0.1" as IpAddress,
    tenant: "default",
    fastpathKey: HOST_KEY,
  },
  {
    kind: "endpoint",
    vipId: 1 as VipId,
    vip: "203.0.113.10" as IpAddress,
    protocol: 6,
    port: 80,
    dipId: 1 as DipId,
    dipPort: 8_080,
  },
  { kind: "outbound", dipId: 1 as DipId, vipId: 1 as VipId, vip: "203.0.113.10" as IpAddress },
  { kind: "range", vipId: 1 as VipId, vip: "203.0.113.10" as IpAddress, protocol: 6, range: 1_290, dipId: 1 as DipId },
  { kind: "mux", muxId: 1 as MuxId, address: "192.0.2.1" as IpAddress },
  { kind: "internal", prefix: "10.0.0.0/8" },
];

export class HostTraffic {
  readonly agent: AgentDataplane = createAgentDataplane({ random: createRandom(SEED) });
  /** Half from the wire, half from the machine. */
  readonly batches: PacketBatch[] = [];
  readonly #one = new PacketBatch({ packets: 1 });
  readonly #out = new PacketBatch({ packets: 4 });
  #filling: PacketBatch | null = null;
  #next = 0;

  readonly #isDirect: boolean;

  /** `isDirect`: what the machine sends goes straight to the peer's host. */
  constructor(isDirect = false) {
    this.#isDirect = isDirect;
    assert(
      this.agent.tables.apply({ kind: "snapshot", items: ITEMS }, 1 as LogIndex) === "in-force",
      "the host is in force",
    );
  }

  next(): PacketBatch {
    const batch = this.batches[this.#next]!;
    this.#next = (this.#next + 1) % this.batches.length;
    return batch;
  }

  /** Every packet passes, and leaves with 64 bytes, those to a peer's host with an outer header besides. */
  check(nowMs: number): void {
    const out = new PacketBatch();
    for (const batch of this.batches) {
      out.clear();
      this.agent.process(batch, nowMs, out);
      assert(out.count === batch.count, "every packet passes");
      assert(
        out.lengths.subarray(0, out.count).every((length, i) => length === this.#bytesTo(out.links[i]!)),
        "and has as many bytes as it should",
      );
    }
  }

  #bytesTo(link: number): number {
    return PACKET_BYTES + (this.#isDirect && link === WIRE_LINK ? OUTER_BYTES : 0);
  }

  /** Passes one packet, now; answers what came out. */
  pass(packet: Uint8Array, link: number): Uint8Array {
    this.#one.clear();
    this.#out.clear();
    this.#one.append(packet, link);
    this.agent.process(this.#one, 0, this.#out);
    assert(this.#out.count === 1, "the packet passes");
    return this.#out.packet(0).slice();
  }

  /** A batch is full, however few the flows are: their packets again and again. */
  fill(): void {
    const batch = this.batches[0]!;
    for (let i = 0; batch.count < PACKETS_PER_BATCH; i++) this.keep(batch.packet(i).slice(), batch.links[i]!);
  }

  keep(packet: Uint8Array, link: number): void {
    if (this.#filling === null || this.#filling.count === PACKETS_PER_BATCH) {
      this.#filling = new PacketBatch({ packets: PACKETS_PER_BATCH, bytes: PACKETS_PER_BATCH * 96 });
      this.batches.push(this.#filling);
    }
    assert(this.#filling.append(packet, link), "a batch has room");
  }
}

interface Ends {
  readonly source: number;
  readonly sourcePort: number;
  readonly destination: number;
  readonly destinationPort: number;
}

const segment = (ends: Ends, flags: number, payload?: Uint8Array): Uint8Array =>
  buildTcpPacket({
    ...ends,
    source: (ends.source >>> 0) as Ipv4,
    destination: (ends.destination >>> 0) as Ipv4,
    flags,
    ...(payload ? { payload } : {}),
  });

function encapsulated(packet: Uint8Array, from = MUX): Uint8Array {
  const bytes = new Uint8Array(OUTER_BYTES + packet.length);
  bytes.set(packet, OUTER_BYTES);
  writeOuterHeader(new DataView(bytes.buffer), 0, from, DIP, 0, packet.length);
  return bytes;
}

/** Established connections of clients to VIP:80: DNAT of their segments, reverse NAT of the answers. */
export function inboundFlows(flows: number): HostTraffic {
  const traffic = new HostTraffic();
  for (let flow = 0; flow < flows; flow++) {
    const [remote, port] = [FIRST_REMOTE + (flow >>> 4), 40_000 + (flow & 15)];
    const there = { source: remote, sourcePort: port, destination: VIP, destinationPort: 80 };
    const back = { source: DIP, sourcePort: 8_080, destination: remote, destinationPort: port };
    traffic.pass(encapsulated(segment(there, TCP_SYN)), WIRE_LINK);
    traffic.pass(segment(back, TCP_SYN | TCP_ACK), 1);
    traffic.pass(encapsulated(segment(there, TCP_ACK)), WIRE_LINK);
    traffic.keep(encapsulated(segment(there, TCP_ACK, PAYLOAD)), WIRE_LINK);
    traffic.keep(segment(back, TCP_ACK, PAYLOAD), 1);
  }
  traffic.fill();
  return traffic;
}

/** As `inboundFlows`, of clients that are machines of the site: both ways straight from host to host. */
export function directFlows(flows: number): HostTraffic {
  const traffic = new HostTraffic(true);
  for (let flow = 0; flow < flows; flow++) {
    const [remote, port] = [FIRST_REMOTE + (flow >>> 4), 40_000 + (flow & 15)];
    const there = { source: remote, sourcePort: port, destination: VIP, destinationPort: 80 };
    const back = { source: DIP, sourcePort: 8_080, destination: remote, destinationPort: port };
    traffic.pass(encapsulated(segment(there, TCP_SYN)), WIRE_LINK);
    traffic.pass(segment(back, TCP_SYN | TCP_ACK), 1);
    traffic.pass(encapsulated(segment(there, TCP_ACK)), WIRE_LINK);
    traffic.pass(encapsulated(redirect(there, flow + 1)), WIRE_LINK);
    traffic.pass(encapsulated(segment(there, TCP_ACK), PEER), WIRE_LINK);
    traffic.keep(encapsulated(segment(there, TCP_ACK, PAYLOAD), PEER), WIRE_LINK);
    traffic.keep(segment(back, TCP_ACK, PAYLOAD), 1);
  }
  traffic.fill();
  return traffic;
}

/** What a MUX tells the host about a flow of which it has the responder. */
function redirect({ source, sourcePort, destination, destinationPort }: Ends, sequence: number): Uint8Array {
  const payload = new Uint8Array(FASTPATH_MESSAGE_BYTES);
  const words = (address: number): Int32Array => Int32Array.of(0, 0, MAPPED_WORD, address);
  const message: FastpathMessage = {
    kind: REDIRECT,
    end: RESPONDER,
    protocol: 6,
    source: words(source),
    sourcePort,
    destination: words(destination),
    destinationPort,
    peerLocator: words(PEER),
    dipId: 1,
    peerDipId: 2,
    muxId: 1,
    incarnation: 1,
    sequence,
    index: 1,
    lifetimeMs: 60_000,
  };
  writeFastpathMessage(payload, 0, message, HOST_KEY);
  return buildUdpPacket({
    source: MUX as Ipv4,
    destination: (FASTPATH_ADDRESS >>> 0) as Ipv4,
    sourcePort: FASTPATH_PORT,
    destinationPort: FASTPATH_PORT,
    payload,
  });
}

/** Established connections of the machine to the outside, by SNAT: eight ports, as many destinations as it takes. */
export function snatFlows(flows: number): HostTraffic {
  const traffic = new HostTraffic();
  for (let flow = 0; flow < flows; flow++) {
    const [remote, port] = [FIRST_REMOTE + flow, 1_024 + (flow % 60_000)];
    const there = { source: DIP, sourcePort: port, destination: remote, destinationPort: 443 };
    const left = traffic.pass(segment(there, TCP_SYN), 1);
    const vipPort = new DataView(left.buffer).getUint16(20);
    const back = { source: remote, sourcePort: 443, destination: VIP, destinationPort: vipPort };
    traffic.pass(encapsulated(segment(back, TCP_SYN | TCP_ACK)), WIRE_LINK);
    traffic.pass(segment(there, TCP_ACK), 1);
    traffic.keep(segment(there, TCP_ACK, PAYLOAD), 1);
    traffic.keep(encapsulated(segment(back, TCP_ACK, PAYLOAD)), WIRE_LINK);
  }
  traffic.fill();
  return traffic;
}
