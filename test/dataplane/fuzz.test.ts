/**
 * Random damage to packets, through both data planes: nothing throws, and every packet is accounted for. `npm run fuzz` sends
 * ten million.
 */
import { describe, expect, it } from "vitest";
import { createRandom, type Random } from "../../core/random.js";
import type { IpAddress, LogIndex } from "../../core/brands.js";
import { PacketBatch, WIRE_LINK } from "../../dataplane/packet-batch.js";
import { createMuxDataplane } from "../../mux/dataplane/mux-dataplane.js";
import { createPacketHeader } from "../../packet/header.js";
import { innerFamily } from "../../packet/ip-in-ip.js";
import { NO_FAULT } from "../../packet/fault.js";
import { isIcmp, parseIpHeader } from "../../packet/parse.js";
import { MUX_ROWS } from "../packet/fixtures/mux-rows.js";
import { MUX_STORIES } from "../packet/fixtures/mux-rows-stories.js";
import { MUX, MUX6, MUX_CONFIGURATIONS } from "../packet/fixtures/mux-site.js";
import { packetOf, toHex } from "../packet/fixtures/notation.js";
import { AgentBench } from "../agent/dataplane/agent-kit.js";
import * as hostKit from "../agent/dataplane/agent-kit.js";
import { encapsulate, SEED, tcp, udp } from "../packet/packet-kit.js";

const { VIP } = hostKit;
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
  if (family === 0) return isIcmp(header) || header.protocol === 6;
  const [at, inner] = [header.transportOffset, header.totalBytes - header.headerBytes];
  return (
    parseIpHeader(out.view, at, inner, header) === NO_FAULT && header.family === family && header.totalBytes === inner
  );
}

describe("damaged packets", () => {
  it("pass or are dropped by a MUX, never throw, and leave as they came or as an answer of a VIP", { timeout }, () => {
    const random = createRandom(SEED);
    const mux = createMuxDataplane({ address: MUX as IpAddress, addressIpv6: MUX6 as IpAddress, sampleOneIn: 10 });
    const items = MUX_CONFIGURATIONS["pool of three"]!;
    expect(mux.tables.apply({ kind: "snapshot", items }, 1 as LogIndex)).toBe("in-force");
    // What the fixtures send, good and bad: both families, fragments, ICMP errors, packets that a peer relays.
    const seeds = [...MUX_ROWS, ...MUX_STORIES].flatMap((row) => row.steps.map((step) => packetOf(step.in)));
    const out = new PacketBatch({ packets: BATCH * 16 });
    const batch = new PacketBatch({ packets: BATCH });
    let nowMs = 1_000;
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
    expect(received.packets, `seed ${SEED}`).toBe(PACKETS);
    expect(mux.telemetry.gauges().entries).toMatchObject({ "fragments-held": 0 });
    expect(Object.values(drops).filter((count) => count > 0).length).toBeGreaterThan(12);
    mux.flows.reset({}, () => undefined);
    expect(mux.telemetry.gauges().flows).toBe(0);
  });

  it("pass, wait or are dropped by an agent, never throw, and never leave with a DIP as source", { timeout }, () => {
    const random = createRandom(SEED + 1);
    const bench = new AgentBench([...hostKit.HOST, hostKit.rangeItem(1_290), hostKit.rangeItem(1_290, 1, 17)]);
    const out = new PacketBatch({ packets: BATCH * 20 });
    const fromWire = [
      tcp("198.51.100.7:40000", `${VIP}:80`, "S", { mss: 1_460, timestamp: 1 }),
      tcp("198.51.100.7:40000", `${VIP}:10320`, "SA", { mss: 9_000 }),
      udp("198.51.100.7:40000", `${VIP}:53`),
    ].map((packet) => encapsulate(packet, hostKit.MUX, hostKit.DIP));
    const fromVm = [
      tcp(`${hostKit.DIP}:8080`, "198.51.100.7:40000", "SA", { mss: 1_460, timestamp: 7 }),
      tcp(`${hostKit.DIP}:5000`, "192.0.2.99:443", "S", { mss: 1_460 }),
      tcp(`${hostKit.DIP}:5000`, "192.0.2.99:443", "FA"),
      udp(`${hostKit.DIP}:5000`, "192.0.2.53:53"),
    ];
    for (let sent = 0; sent < PACKETS; sent += BATCH) {
      const batch = new PacketBatch({ packets: BATCH });
      for (let i = 0; i < BATCH; i++) {
        if (random.below(2) === 0) batch.append(damaged(random, fromWire[random.below(3)]!, [0, 20]), WIRE_LINK);
        else batch.append(damaged(random, fromVm[random.below(4)]!, [0]), 1);
      }
      out.clear();
      bench.agent.process(batch, (bench.nowMs += 20), out);
      bench.agent.tick(bench.nowMs, out);
      for (let i = 0; i < out.count; i++) {
        if (out.links[i] !== WIRE_LINK) continue;
        const packet = out.packet(i);
        const isInternal = packet[16] === 10;
        const isOurs = packet[12] === 203 && packet[13] === 0 && packet[14] === 113 && packet[15] === 10;
        if (!isInternal && !isOurs) throw new Error(`seed ${SEED}: ${toHex(packet)}`);
      }
    }
    expect(bench.agent.telemetry.counters().received.packets).toBe(PACKETS);
    expect(Object.values(bench.drops()).length).toBeGreaterThan(10);
    bench.elapse(10_000_000);
    for (let i = 0; i < 10; i++) bench.elapse(1);
    expect(bench.agent.telemetry.gauges()).toMatchObject({ flows: 0, entries: { "held-packets": 0 } });
    expect(bench.agent.releasableRanges(bench.nowMs, 0)).toHaveLength(2);
  });
});
