/** Random damage to packets, 100,000 of them, through both data planes: nothing throws, and every packet is accounted for. */
import { describe, expect, it } from "vitest";
import { createRandom, type Random } from "../../core/random.js";
import { PacketBatch, WIRE_LINK } from "../../dataplane/packet-batch.js";
import { AgentBench } from "../agent/dataplane/agent-kit.js";
import * as hostKit from "../agent/dataplane/agent-kit.js";
import { MuxBench } from "../mux/dataplane/mux-kit.js";
import { encapsulate, SEED, tcp, udp } from "../packet/packet-kit.js";

const { VIP } = hostKit;
const PACKETS = 50_000; // through each of the two
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

const sum = (counts: Record<string, number>): number => Object.values(counts).reduce((a, b) => a + b, 0);

describe("damaged packets", () => {
  it("pass or are dropped by a MUX, and never throw", () => {
    const random = createRandom(SEED);
    const bench = new MuxBench();
    const out = new PacketBatch({ packets: BATCH * 2 });
    const seeds = [
      tcp("198.51.100.7:40000", `${VIP}:80`, "S", { mss: 1_460, timestamp: 1 }),
      tcp("198.51.100.7:40000", `${VIP}:10320`, "A", { payload: new Uint8Array(50) }),
      udp("198.51.100.7:40000", `${VIP}:53`),
    ];
    for (let sent = 0; sent < PACKETS; sent += BATCH) {
      const batch = new PacketBatch({ packets: BATCH });
      for (let i = 0; i < BATCH; i++) batch.append(damaged(random, seeds[random.below(3)]!, [0]));
      out.clear();
      bench.mux.process(batch, bench.nowMs++, out);
    }
    bench.elapse(1_000); // fragments that still wait for their first one are given up
    const counters = bench.mux.telemetry.counters();
    expect(counters.received.packets, `seed ${SEED}`).toBe(PACKETS);
    expect(counters.sent.packets + sum(counters.drops)).toBe(PACKETS);
    expect(Object.values(bench.drops()).length).toBeGreaterThan(6);
  });

  it("pass, wait or are dropped by an agent, never throw, and never leave with a DIP as source", () => {
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
        if (!isInternal) expect([...packet.subarray(12, 16)], `seed ${SEED}`).toEqual([203, 0, 113, 10]);
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
