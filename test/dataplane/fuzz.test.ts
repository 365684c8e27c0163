/**
 * Random damage to packets, through both data planes: nothing throws, and every packet is accounted for. `npm run fuzz` sends
 * ten million.
 */
import { describe, expect, it } from "vitest";
import { createRandom, type Random } from "../../core/random.js";
import type { DipId, IpAddress, LogIndex, PoolId } from "../../core/brands.js";
import { HOST_LINK, PacketBatch, WIRE_LINK } from "../../dataplane/packet-batch.js";
import { createAgentDataplane } from "../../agent/dataplane/agent-dataplane.js";
import { startsTcpFlow } from "../../agent/dataplane/host-parts.js";
import { FASTPATH_ADDRESS } from "../../dataplane/fastpath-message.js";
import type { HostItem } from "../../dataplane/host-items.js";
import { createMuxDataplane } from "../../mux/dataplane/mux-dataplane.js";
import { PEER_MESSAGE_BYTES } from "../../mux/peers/peer-message.js";
import { createPacketHeader } from "../../packet/header.js";
import { innerFamily } from "../../packet/ip-in-ip.js";
import { formatWords } from "../../packet/address-words.js";
import { NO_FAULT } from "../../packet/fault.js";
import { isIcmp, isLaterFragment, parseIpHeader, parsePorts } from "../../packet/parse.js";
import { redirectOf } from "../packet/fixtures/agent-rows-fastpath.js";
import { AGENT_CHANCE_ROWS } from "../packet/fixtures/agent-rows-second-chance.js";
import { MUX, MUX6, MUX_CONFIGURATIONS } from "../packet/fixtures/mux-site.js";
import { packetOf, toHex } from "../packet/fixtures/notation.js";
import { AGENT_FIXTURES, AGENT_FIXTURES_IPV6, MUX_FIXTURES } from "../packet/fixtures/rows.js";
import { AGENT_CONFIGURATIONS, DIP, DIP6, DIP6_MIXED, OTHER_VIP, VIP, VIP6 } from "../packet/fixtures/agent-site.js";
import * as hostKit from "../agent/dataplane/agent-kit.js";
import { SEED } from "../packet/packet-kit.js";

/** Through each of the two. */
const PACKETS = Math.ceil(Number(process.env["ANANTA_FUZZ_PACKETS"] ?? 100_000) / 100) * 50;
const timeout = Math.max(120_000, PACKETS / 2);
const BATCH = 50;

/** A packet with up to four bytes changed, cut or lengthened now and then; its IP checksum mostly made right again. */
function damaged(random: Random, packet: Uint8Array, headersAt: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(Math.max(0, packet.length + (random.below(4) === 0 ? random.below(60) - 40 : 0)));
  bytes.set(packet.subarray(0, bytes.length));
  for (let n = random.below(5); n > 0 && bytes.length > 0; n--) {
    const at = random.below(2) === 0 ? random.below(Math.min(64, bytes.length)) : random.below(bytes.length);
    bytes[at] = random.below(256);
  }
  if (random.below(8) === 0) return bytes;
  for (const at of headersAt) {
    const end = at + (bytes[at]! & 15) * 4;
    if (end > bytes.length || end < at + 20) continue;
    bytes.set([0, 0], at + 10);
    let sum = 0;
    for (let i = at; i < end; i += 2) sum += bytes[i]! * 256 + bytes[i + 1]!;
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
    bytes.set([(0xffff - sum) >> 8, (0xffff - sum) & 255], at + 10);
  }
  return bytes;
}

const header = createPacketHeader();

/** What leaves a MUX is a good IP packet: encapsulated by the MUX, with a good one inside; or an ICMP error or reset of a VIP. */
function isSane(out: PacketBatch, i: number): boolean {
  const [offset, length] = [out.offsets[i]!, out.lengths[i]!];
  if (parseIpHeader(out.view, offset, length, header) !== NO_FAULT || header.totalBytes !== length) return false;
  if (length > 1_500) return false;
  const family = innerFamily(header.protocol);
  const isMessage = header.protocol === 17 && length === 28 + PEER_MESSAGE_BYTES;
  if (family === 0) return isIcmp(header) || header.protocol === 6 || isMessage;
  const [at, inner] = [header.transportOffset, header.totalBytes - header.headerBytes];
  return (
    parseIpHeader(out.view, at, inner, header) === NO_FAULT && header.family === family && header.totalBytes === inner
  );
}

/** The machines of the IPv6 configuration, and its MUXes, beside those of the IPv4 one. */
const ofIpv6 = (items: readonly HostItem[]): HostItem[] =>
  items
    .map((item) => ("dipId" in item ? ({ ...item, dipId: item.dipId + 10 } as HostItem) : item))
    .map((item) => (item.kind === "mux" ? ({ ...item, muxId: item.muxId + 10 } as HostItem) : item));

const RANGES: readonly HostItem[] = [
  hostKit.rangeItem(1_300),
  hostKit.rangeItem(1_300, 1, 17),
  ...[hostKit.rangeItem(1_300, 11), hostKit.rangeItem(1_300, 11, 17)].map(
    (item) => ({ ...item, vipId: 6, vip: VIP6 }) as HostItem,
  ),
];

const isOfSecondChance = ({ kind }: HostItem): boolean => ["site", "rule", "table", "owner"].includes(kind);

/** Owners of the slots of both families' rules, for machines under the ids that they have here; the IPv6 pool is another one. */
const CHANCE: readonly HostItem[] = [
  ...AGENT_CONFIGURATIONS["owner in between"]!.filter(isOfSecondChance),
  ...AGENT_CONFIGURATIONS["newest owner of IPv6"]!.filter((item) => isOfSecondChance(item) && item.kind !== "site").map(
    (item): HostItem => {
      const poolId = 2 as PoolId;
      const other = <Owner extends { readonly dipId: DipId }>(owner: Owner): Owner => ({
        ...owner,
        dipId: (owner.dipId + 10) as DipId,
      });
      if (item.kind === "table") return { ...item, poolId, members: item.members.map(other) };
      return item.kind === "owner" ? { ...other(item), poolId } : ({ ...item, poolId } as HostItem);
    },
  ),
];
const OWNERS = ["10.0.0.8", "10.0.0.9", "2001:db8:bb::9"];

const isInside = (address: string): boolean => address.startsWith("10.") || address.startsWith("fd00:");

/**
 * Of a packet that a host encapsulated itself, its outer header parsed: only a VIP's segments go to the peers that MUXes named, and
 * only to owners of a slot what clients send to a VIP and begins nothing.
 */
function peerFault(out: PacketBatch, peer: string): string | null {
  const isOwner = OWNERS.includes(peer);
  if (!isOwner && !["10.0.0.3", "2001:db8:bb::3"].includes(peer)) return `encapsulated to ${peer}`;
  const [at, length] = [header.transportOffset, header.totalBytes - header.headerBytes];
  if (parseIpHeader(out.view, at, length, header) !== NO_FAULT) return "encapsulated, and no IP packet";
  if (parsePorts(out.view, header) !== NO_FAULT) return "encapsulated, and no good transport header";
  const source = formatWords(header.source0, header.source1, header.source2, header.source3);
  if (isOwner) {
    const isTo = formatWords(header.destination0, header.destination1, header.destination2, header.destination3);
    const begins = header.protocol === 6 ? startsTcpFlow(header) : !isIcmp(header);
    return [VIP, VIP6].includes(isTo) && !begins ? null : `passed on, from ${source} to ${isTo}`;
  }
  const isSegment = header.protocol === 6 && [VIP, OTHER_VIP, VIP6].includes(source);
  const isReady = header.protocol === 17 && header.destination3 === FASTPATH_ADDRESS;
  return isSegment || isReady ? null : `encapsulated, from ${source}`;
}

/** What is wrong with a packet that leaves a host, or null. */
function hostFault(
  out: PacketBatch,
  i: number,
  machines: ReadonlyMap<number, readonly string[]>,
  outside: readonly string[],
): string | null {
  const [offset, length, link] = [out.offsets[i]!, out.lengths[i]!, out.links[i]!];
  if (parseIpHeader(out.view, offset, length, header) !== NO_FAULT) return "no IP packet";
  if (header.totalBytes > length) return "shorter than it says";
  const source = formatWords(header.source0, header.source1, header.source2, header.source3);
  const destination = formatWords(header.destination0, header.destination1, header.destination2, header.destination3);
  // What goes from machine to machine inside is not translated, and not looked into.
  const isTranslated = !isInside(link === WIRE_LINK ? destination : source);
  if (link === WIRE_LINK && innerFamily(header.protocol) !== 0) return peerFault(out, destination);
  const isLater = isLaterFragment(header.fragment) && (header.protocol === 6 || header.protocol === 17);
  if (isTranslated && !isLater && parsePorts(out.view, header) !== NO_FAULT)
    return "translated, and no good transport header";
  if (link === WIRE_LINK) {
    const isDip = source === DIP || source === DIP6;
    if (!outside.includes(source)) return `from ${source}`;
    return isDip && !isInside(destination) ? "from a DIP to the outside" : null;
  }
  if (link === HOST_LINK) return null; // to the host's own probes
  const own = machines.get(link);
  if (own === undefined) return `to a machine that is not here, ${link}`;
  return own.includes(destination) || isOwnLocator(destination) ? null : `for ${destination} to machine ${link}`;
}

/** From machine to machine inside, packets go by the locator. */
const isOwnLocator = (address: string): boolean => ["172.16.0.2", "2001:db8:bb::1", "10.0.0.4"].includes(address);

function replaceLast(batch: PacketBatch, packet: Uint8Array): void {
  batch.usedBytes = batch.offsets[--batch.count]!;
  batch.append(packet, WIRE_LINK);
}

describe("damaged packets", () => {
  it("pass or are dropped by a MUX, never throw, and leave as they came or as an answer of a VIP", { timeout }, () => {
    const random = createRandom(SEED);
    const mux = createMuxDataplane({ address: MUX as IpAddress, addressIpv6: MUX6 as IpAddress, sampleOneIn: 10 });
    const muxKey = Uint8Array.from({ length: 16 }, (_, i) => i);
    const items = MUX_CONFIGURATIONS["pool of three"]!.map((item) =>
      item.kind === "site" ? { ...item, muxKey } : item,
    );
    expect(mux.tables.apply({ kind: "snapshot", items }, 1 as LogIndex)).toBe("in-force");
    // What the fixtures send, good and bad: both families, fragments, ICMP errors, packets that a peer relays.
    const seeds: Uint8Array[] = MUX_FIXTURES.flatMap((row) => row.steps.map((step) => packetOf(step.in)));
    const out = new PacketBatch({ packets: BATCH * 16 });
    const batch = new PacketBatch({ packets: BATCH });
    let nowMs = 1_000;
    // And what its peers tell it: none that is damaged may be believed, and each that is not only once.
    const bootId = "0".repeat(32); // of both, as the fixtures have it
    const peer = createMuxDataplane({ address: "192.0.2.2" as IpAddress, addressIpv6: MUX6 as IpAddress });
    expect(peer.tables.apply({ kind: "snapshot", items }, 1 as LogIndex)).toBe("in-force");
    peer.peers.tell({ bootId, clusterEpoch: 1, index: 0, isLeased: true, isAnnouncing: true }, 0);
    for (let told = 1; told <= 20; told++) {
      out.clear();
      peer.peers.tell({ bootId, clusterEpoch: 1, index: told, isLeased: true, isAnnouncing: true }, told * 1_000);
      peer.tick(told * 1_000, out);
      seeds.push(out.packet(0).slice()); // to mux-1
    }
    mux.peers.tell({ bootId, clusterEpoch: 1, index: 1, isLeased: true, isAnnouncing: true }, nowMs);
    for (let sent = 0; sent < PACKETS; sent += BATCH) {
      batch.clear();
      for (let i = 0; i < BATCH; i++) batch.append(damaged(random, seeds[random.below(seeds.length)]!, [0]));
      out.clear();
      mux.process(batch, (nowMs += random.below(20)), out);
      if (random.below(20) === 0) mux.tick(nowMs, out);
      for (let i = 0; i < out.count; i++) if (!isSane(out, i)) throw new Error(`seed ${SEED}: ${toHex(out.packet(i))}`);
    }
    mux.tick(nowMs + 1_000, out); // fragments that still wait for their first one are given up
    const { received, drops } = mux.telemetry.counters();
    const { received: believed } = mux.peers.counts(nowMs);
    expect(received.packets + believed, `seed ${SEED}`).toBe(PACKETS);
    expect(believed).toBeLessThanOrEqual(20);
    expect([drops.peer_forged, drops.peer_replayed].every((count) => count > 0)).toBe(true);
    expect(mux.telemetry.gauges().entries).toMatchObject({ "fragments-held": 0 });
    expect(mux.pathMtusLearned(), "words of routers about what was sent").toBeGreaterThan(5);
    expect(drops.path_mtu_unmatched).toBeGreaterThan(5);
    expect(Object.values(drops).filter((count) => count > 0).length).toBeGreaterThan(12);
    mux.flows.reset({}, () => undefined);
    expect(mux.telemetry.gauges().flows).toBe(0);
  });

  it(
    "pass, wait or are dropped by an agent, never throw, and leave as a VIP's or for their own machine",
    { timeout },
    () => {
      const random = createRandom(SEED + 1);
      const layout = { ...hostKit.SMALL_LAYOUT, dips: 8, endpoints: 64 };
      const agent = createAgentDataplane({ random: createRandom(SEED + 2), layout });
      const items = [...AGENT_CONFIGURATIONS["host"]!, ...ofIpv6(AGENT_CONFIGURATIONS["host6"]!), ...RANGES];
      expect(agent.tables.apply({ kind: "snapshot", items }, 1 as LogIndex)).toBe("in-force");
      // What the fixtures send, good and bad, each from where it comes; of IPv6 machines under ids of their own.
      const seeds = [
        ...AGENT_FIXTURES.flatMap(({ steps }) => steps.map((step) => ({ link: step.link ?? WIRE_LINK, step }))),
        ...AGENT_FIXTURES_IPV6.flatMap(({ steps }) =>
          steps.map((step) => ({ link: step.link === 1 ? 11 : WIRE_LINK, step })),
        ),
        ...AGENT_CHANCE_ROWS.flatMap(({ steps }) => steps.map((step) => ({ link: WIRE_LINK, step }))),
      ].map(({ link, step }) => ({ link, packet: packetOf(step.in) }));
      const machines = new Map([
        [1, [DIP, VIP]],
        [2, [DIP]],
        [11, [DIP6, VIP6]],
        [14, [DIP6_MIXED]],
      ]);
      const outside = [DIP, DIP6, VIP, OTHER_VIP, VIP6];
      const out = new PacketBatch({ packets: BATCH * 20 });
      const batch = new PacketBatch({ packets: BATCH });
      const counts = { toWire: 0, toVm: 0 };
      let nowMs = 1_000;
      for (let sent = 0; sent < PACKETS; sent += BATCH) {
        batch.clear();
        for (let i = 0; i < BATCH; i++) {
          const seed = seeds[random.below(seeds.length)]!;
          batch.append(damaged(random, seed.packet, seed.link === WIRE_LINK ? [0, 20] : [0]), seed.link);
        }
        // Half of the way segments without state stay, then they go on to owners.
        if (agent.tables.index() === 1 && sent >= PACKETS / 2) {
          const changes = CHANCE.map((item) => ({ op: "upsert" as const, item }));
          expect(agent.tables.apply({ kind: "changes", changes }, 2 as LogIndex)).toBe("in-force");
        }
        // Redirects are good once: new ones now and then, or nothing would go from host to host.
        if (sent % (BATCH * 5) === 0) replaceLast(batch, packetOf(redirectOf(10 + sent)));
        out.clear();
        agent.process(batch, (nowMs += 20), out);
        agent.tick(nowMs, out);
        for (let i = 0; i < out.count; i++) {
          const why = hostFault(out, i, machines, outside);
          if (why !== null) throw new Error(`seed ${SEED}: ${why}: ${toHex(out.packet(i))}`);
          if (out.links[i] === WIRE_LINK) counts.toWire++;
          else counts.toVm++;
        }
      }
      const { received, drops } = agent.telemetry.counters();
      expect(received.packets).toBe(PACKETS);
      const { redirected, sent, received: direct } = agent.fastpath();
      expect(Math.min(redirected, sent, direct), "FastPath was in it").toBeGreaterThan(5);
      const { passed, received: fromOwners } = agent.secondChance();
      expect(Math.min(passed, fromOwners), "and second chance").toBeGreaterThan(5);
      expect(Math.min(agent.pathMtusLearned(), drops.path_mtu_unmatched), "and narrow paths").toBeGreaterThan(0);
      expect(Object.values(drops).filter((count) => count > 0).length).toBeGreaterThan(15);
      expect(Math.min(counts.toWire, counts.toVm)).toBeGreaterThan(PACKETS / 50);
      for (let i = 0; i < 20; i++) agent.tick((nowMs += 10_000_000), out);
      expect(agent.telemetry.gauges()).toMatchObject({
        flows: 0,
        entries: { "held-packets": 0, fragments: 0, "fragments-held": 0 },
      });
      expect(agent.releasableRanges(nowMs, 0)).toHaveLength(RANGES.length + 1);
    },
  );
});
