/**
 * A site for FastPath, in one process on virtual time, with the real pipelines: MUXes, two hosts with a machine each, and a
 * router that knows MUXes, VIPs and locators. Packets are in the notation of the fixtures.
 *
 *     client machine (DIP 3) --host A-- as the client VIP ---> server VIP --MUX--> --host B-- server machine (DIP 1)
 */
import { createAgentDataplane, type AgentDataplane } from "../../agent/dataplane/agent-dataplane.js";
import type { DipId, HostId, IpAddress, LogIndex, MuxId, PoolId, VipId } from "../../core/brands.js";
import { createRandom } from "../../core/random.js";
import { fastpathHostKey } from "../../dataplane/fastpath-message.js";
import type { HostItem } from "../../dataplane/host-items.js";
import type { MuxItem } from "../../dataplane/mux-items.js";
import { PacketBatch, WIRE_LINK } from "../../dataplane/packet-batch.js";
import { createMuxDataplane, type MuxDataplane } from "../../mux/dataplane/mux-dataplane.js";
import { formatWords } from "../../packet/address-words.js";
import { createPacketHeader } from "../../packet/header.js";
import { parseIpHeader } from "../../packet/parse.js";
import { SMALL_LAYOUT as HOST_LAYOUT } from "../agent/dataplane/agent-kit.js";
import { SMALL_LAYOUT as MUX_LAYOUT } from "../mux/dataplane/mux-kit.js";
import { packetOf, toHex } from "../packet/fixtures/notation.js";
import { SEED } from "../packet/packet-kit.js";

export interface Addresses {
  readonly clientVip: string;
  readonly serverVip: string;
  readonly client: string;
  readonly server: string;
  readonly clientLocator: string;
  readonly serverLocator: string;
}

export const IPV4: Addresses = {
  clientVip: "203.0.113.20",
  serverVip: "203.0.113.10",
  client: "10.0.0.3",
  server: "10.0.0.1",
  clientLocator: "10.0.0.3",
  serverLocator: "10.0.0.1",
};
export const IPV6: Addresses = {
  clientVip: "2001:db8:f::20",
  serverVip: "2001:db8:f::10",
  client: "fd00::3",
  server: "fd00::1",
  clientLocator: "2001:db8:bb::3",
  serverLocator: "2001:db8:bb::1",
};

export const MASTER = Uint8Array.from({ length: 16 }, (_, i) => i * 7);
const CLIENT_DIP = 3 as DipId;
export const SERVER_DIP = 1 as DipId;
const CLIENT_HOST = 30 as HostId;
const SERVER_HOST = 10 as HostId;
const RANGE = 1_290;
const MUX_COUNT = 2;

const muxAddress = (place: number): IpAddress => `192.0.2.${place + 1}` as IpAddress;
const muxAddressIpv6 = (place: number): IpAddress => `2001:db8:aa::${place + 1}` as IpAddress;

/** What a machine got, or a wire carried. */
export interface Seen {
  readonly packet: Uint8Array;
  readonly hex: string;
  readonly from: string;
  readonly to: string;
}

const header = createPacketHeader();

function seen(packet: Uint8Array): Seen {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  parseIpHeader(view, 0, packet.length, header);
  return {
    packet,
    hex: toHex(packet),
    from: formatWords(header.source0, header.source1, header.source2, header.source3),
    to: formatWords(header.destination0, header.destination1, header.destination2, header.destination3),
  };
}

export type HostName = "client" | "server";

export class FastpathSite {
  readonly muxes: readonly MuxDataplane[];
  readonly hosts: Record<HostName, AgentDataplane>;
  readonly addresses: Addresses;
  nowMs = 1_000;
  /** What the router carried since the last look, each packet as the router got it. */
  wire: Seen[] = [];
  /** MUXes that died: the router sends their packets to the others. */
  readonly dead = new Set<number>();
  /** The router loses what this says. */
  loses: (packet: Seen) => boolean = () => false;
  readonly inbox: Record<HostName, Seen[]> = { client: [], server: [] };
  #index = 1;
  readonly #locators: Map<string, HostName>;
  readonly #out = new PacketBatch({ packets: 512 });

  constructor(addresses: Addresses = IPV4, serverEndpoint: { readonly fastpath?: false } = {}) {
    this.addresses = addresses;
    this.#locators = new Map([
      [addresses.clientLocator, "client"],
      [addresses.serverLocator, "server"],
    ]);
    this.muxes = Array.from({ length: MUX_COUNT }, (_, place) => {
      const mux = createMuxDataplane({
        address: muxAddress(place),
        addressIpv6: muxAddressIpv6(place),
        layout: MUX_LAYOUT,
      });
      mux.tables.apply({ kind: "snapshot", items: this.muxItems() }, this.#index as LogIndex);
      return mux;
    });
    this.hosts = { client: this.#host("client", {}), server: this.#host("server", serverEndpoint) };
  }

  // ---- what is configured ----

  dipItem(dipId: DipId): Extract<MuxItem, { kind: "dip" }> {
    const isClient = dipId === CLIENT_DIP;
    const { clientLocator, serverLocator } = this.addresses;
    return {
      kind: "dip",
      dipId,
      locator: (isClient ? clientLocator : serverLocator) as IpAddress,
      hostId: isClient ? CLIENT_HOST : SERVER_HOST,
    };
  }

  rule(options: { readonly fastpath?: false } = {}): MuxItem {
    return { kind: "rule", vipId: 1 as VipId, protocol: 6, port: 80, poolId: 5 as PoolId, ...options };
  }

  muxItems(master: Uint8Array = MASTER): readonly MuxItem[] {
    const { clientVip, serverVip } = this.addresses;
    const vip = (vipId: number, address: string): MuxItem => ({
      kind: "vip",
      vipId: vipId as VipId,
      address: address as IpAddress,
      announced: true,
    });
    return [
      { kind: "site", hashKey: Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7), muxKey: master },
      ...Array.from({ length: MUX_COUNT }, (_, place): MuxItem => {
        const muxId = (4 + place) as MuxId;
        const address = muxAddress(place);
        return {
          kind: "mux",
          muxId,
          name: `mux-${place}`,
          incarnation: 6,
          address,
          bootId: "b",
          joinedIndex: 1 as LogIndex,
        };
      }),
      vip(1, serverVip),
      vip(2, clientVip),
      this.rule(),
      { kind: "pool", poolId: 5 as PoolId, maxMembers: 10, members: [{ dipId: SERVER_DIP, weight: 1 }] },
      this.dipItem(SERVER_DIP),
      this.dipItem(CLIENT_DIP),
      { kind: "snat", vipId: 2 as VipId, protocol: 6, range: RANGE, dipId: CLIENT_DIP },
    ];
  }

  /** The host's DIP, with the key that the Managers give it. */
  hostDip(name: HostName, master: Uint8Array = MASTER): Extract<HostItem, { kind: "dip" }> {
    const { client, server, clientLocator, serverLocator } = this.addresses;
    return {
      kind: "dip",
      dipId: name === "client" ? CLIENT_DIP : SERVER_DIP,
      address: (name === "client" ? client : server) as IpAddress,
      locator: (name === "client" ? clientLocator : serverLocator) as IpAddress,
      tenant: name,
      fastpathKey: fastpathHostKey(master, name === "client" ? CLIENT_HOST : SERVER_HOST),
    };
  }

  #host(name: HostName, endpoint: { readonly fastpath?: false }): AgentDataplane {
    const host = createAgentDataplane({ random: createRandom(SEED), layout: HOST_LAYOUT });
    const clientVip = this.addresses.clientVip as IpAddress;
    const ofClient: readonly HostItem[] = [
      { kind: "outbound", dipId: CLIENT_DIP, vipId: 2 as VipId, vip: clientVip },
      { kind: "range", vipId: 2 as VipId, vip: clientVip, protocol: 6, range: RANGE, dipId: CLIENT_DIP },
    ];
    const serverVip = this.addresses.serverVip as IpAddress;
    const ofServer: readonly HostItem[] = [
      {
        kind: "endpoint",
        vipId: 1 as VipId,
        vip: serverVip,
        protocol: 6,
        port: 80,
        dipId: SERVER_DIP,
        dipPort: 8_080,
        ...endpoint,
      },
    ];
    const muxes = Array.from({ length: MUX_COUNT }, (_, place): readonly HostItem[] => [
      { kind: "mux", muxId: (4 + place) as MuxId, address: muxAddress(place) },
      { kind: "mux", muxId: (14 + place) as MuxId, address: muxAddressIpv6(place) },
    ]).flat();
    const items = [this.hostDip(name), ...(name === "client" ? ofClient : ofServer), ...muxes];
    if (host.tables.apply({ kind: "snapshot", items }, this.#index as LogIndex) !== "in-force") throw new Error(name);
    return host;
  }

  /** The host's agent starts anew, with its tables and without its flows. */
  restart(name: HostName): void {
    const items = [...this.hosts[name].tables.items()];
    const host = createAgentDataplane({ random: createRandom(SEED + 1), layout: HOST_LAYOUT });
    host.tables.apply({ kind: "snapshot", items }, this.#index as LogIndex);
    this.hosts[name] = host;
  }

  changeMuxes(...items: readonly MuxItem[]): void {
    const changes = items.map((item) => ({ op: "upsert", item }) as const);
    this.#index++;
    for (const mux of this.muxes) mux.tables.apply({ kind: "changes", changes }, this.#index as LogIndex);
  }

  changeHost(name: HostName, ...items: readonly HostItem[]): void {
    const changes = items.map((item) => ({ op: "upsert", item }) as const);
    this.hosts[name].tables.apply({ kind: "changes", changes }, ++this.#index as LogIndex);
  }

  // ---- what happens ----

  /** A machine sends; everything that follows from it has happened afterwards. */
  vm(name: HostName, packet: Uint8Array): void {
    const dipId = name === "client" ? CLIENT_DIP : SERVER_DIP;
    this.#turn(name, (out) => this.hosts[name].processFromVm(dipId, batchOf(packet), this.nowMs, out));
  }

  /** A packet is on the wire, from wherever. */
  inject(packet: Uint8Array): void {
    this.#route(seen(packet));
  }

  elapse(ms: number): void {
    this.nowMs += ms;
    for (const mux of this.muxes) {
      const out = new PacketBatch({ packets: 16, bytes: 32_768 });
      mux.tick(this.nowMs, out);
      for (const packet of packetsOf(out)) this.#route(seen(packet));
    }
    for (const name of ["client", "server"] as const) this.#turn(name, (out) => this.hosts[name].tick(this.nowMs, out));
  }

  #turn(name: HostName, act: (out: PacketBatch) => void): void {
    const out = this.#out;
    out.clear();
    act(out);
    const packets = packetsOf(out).map((packet, i) => ({ packet, link: out.links[i]! }));
    for (const { packet, link } of packets)
      if (link === WIRE_LINK) this.#route(seen(packet));
      else this.inbox[name].push(seen(packet));
  }

  #route(packet: Seen): void {
    this.wire.push(packet);
    if (this.loses(packet)) return;
    const host = this.#locators.get(packet.to);
    if (host !== undefined) {
      this.#turn(host, (out) => this.hosts[host].processFromWire(batchOf(packet.packet), this.nowMs, out));
      return;
    }
    if (packet.to !== this.addresses.clientVip && packet.to !== this.addresses.serverVip) return;
    // By address alone: all of one flow takes one MUX, and its answers take the other.
    const place = packet.to === this.addresses.serverVip ? 0 : 1;
    const mux = this.muxes[this.dead.has(place) ? 1 - place : place]!;
    const out = new PacketBatch({ packets: 16, bytes: 32_768 });
    mux.process(batchOf(packet.packet), this.nowMs, out);
    for (const sent of packetsOf(out)) this.#route(seen(sent));
  }

  // ---- what is seen ----

  /** Packets that MUXes received. */
  throughMuxes(): number {
    return this.muxes.reduce((sum, mux) => sum + mux.telemetry.counters().received.packets, 0);
  }

  drops(name: HostName): Record<string, number> {
    const { drops } = this.hosts[name].telemetry.counters();
    return Object.fromEntries(Object.entries(drops).filter(([, count]) => count > 0));
  }
}

const batchOf = (packet: Uint8Array): PacketBatch => {
  const batch = new PacketBatch({ packets: 1, bytes: 16_384 });
  batch.append(packet);
  return batch;
};

const packetsOf = (batch: PacketBatch): Uint8Array[] =>
  Array.from({ length: batch.count }, (_, i) => batch.packet(i).slice());

const at = (address: string, port: number): string =>
  address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;

/** A connection between the two machines: what each sends, and what the other must get, byte by byte. */
export class Connection {
  readonly #site: FastpathSite;
  readonly #port: number;
  /** Port of the client VIP; known once the SYN has arrived. */
  vipPort = 0;

  constructor(site: FastpathSite, port = 5_000) {
    this.#site = site;
    this.#port = port;
  }

  /** SYN, SYN-ACK, ACK. */
  open(): this {
    const { inbox } = this.#site;
    this.#site.vm("client", this.fromClient("S"));
    const syn = inbox.server.at(-1)!.packet;
    this.vipPort = new DataView(syn.buffer, syn.byteOffset).getUint16(
      this.#site.addresses.client.includes(":") ? 40 : 20,
    );
    this.#site.vm("server", this.fromServer("SA"));
    this.#site.vm("client", this.fromClient("A"));
    return this;
  }

  /** Sends, and answers whether it arrived as it must. */
  client(segment: string): boolean {
    this.#site.vm("client", this.fromClient(segment));
    return this.#site.inbox.server.at(-1)?.hex === toHex(this.toServer(segment));
  }

  server(segment: string): boolean {
    this.#site.vm("server", this.fromServer(segment));
    return this.#site.inbox.client.at(-1)?.hex === toHex(this.toClient(segment));
  }

  /** Data one way and its acknowledgement the other, `count` times; answers how many of both arrived. */
  talk(count: number): number {
    let arrived = 0;
    for (let i = 0; i < count; i++) {
      if (this.client(`PA seq=${i * 100} data=100`)) arrived++;
      if (this.server(`A ack=${(i + 1) * 100}`)) arrived++;
    }
    return arrived;
  }

  fromClient(segment: string): Uint8Array {
    const { client, serverVip } = this.#site.addresses;
    return packetOf(`tcp ${at(client, this.#port)} > ${at(serverVip, 80)} ${segment}`);
  }

  fromServer(segment: string): Uint8Array {
    const { server, clientVip } = this.#site.addresses;
    return packetOf(`tcp ${at(server, 8_080)} > ${at(clientVip, this.vipPort)} ${segment}`);
  }

  toServer(segment: string): Uint8Array {
    const { server, clientVip } = this.#site.addresses;
    return packetOf(`tcp ${at(clientVip, this.vipPort)} > ${at(server, 8_080)} ${segment}`);
  }

  toClient(segment: string): Uint8Array {
    const { client, serverVip } = this.#site.addresses;
    return packetOf(`tcp ${at(serverVip, 80)} > ${at(client, this.#port)} ${segment}`);
  }
}
