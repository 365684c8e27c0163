/**
 * Drops that need a full table, a full output or an overload: what no row of fixtures brings about, because rows have the usual room.
 * Each is counted under its own name, and what still has room goes on.
 */
import { describe, expect, it } from "vitest";
import { createRandom } from "../../core/random.js";
import type { DipId } from "../../core/brands.js";
import { PacketBatch } from "../../dataplane/packet-batch.js";
import { AgentBench, endpointItem, HOST, rangeItem, SMALL_LAYOUT, VIP } from "../agent/dataplane/agent-kit.js";
import * as muxKit from "../mux/dataplane/mux-kit.js";
import { MuxBench } from "../mux/dataplane/mux-kit.js";
import { batchOf, encapsulate, SEED, tcp, udp } from "../packet/packet-kit.js";

const client = (n: number): string => `198.51.100.${1 + (n >> 8)}:${20_000 + n}`;
const syn = (n: number): Uint8Array => tcp(client(n), `${VIP}:80`, "S");

describe("a MUX", () => {
  it("that is overloaded drops of the VIP that asks for more than its share, and of no other", () => {
    const [BIG, SMALL] = ["203.0.113.10", "203.0.113.11"];
    const items = [...muxKit.SITE, muxKit.vipItem(2, SMALL), muxKit.ruleItem(2, 80)];
    const bench = new MuxBench(items, { packetsPerSecondMax: 1_000 });
    let small = 0;
    let big = 0;
    const syns = (vip: string, count: number): Uint8Array[] =>
      Array.from({ length: count }, (_, n) => tcp(client(n), `${vip}:80`, "S"));
    const [few, many] = [syns(SMALL, 20), syns(BIG, 200)];
    for (let step = 0; step < 100; step++) {
      bench.elapse(100);
      small += bench.send(...few).length;
      big += bench.send(...many).length + bench.send(...many).length;
    }
    expect(small, "200 a second, beside 4,000").toBe(2_000);
    const { fair_share, ...others } = bench.drops();
    expect({ fair_share: fair_share! + big, others }).toEqual({ fair_share: 40_000, others: {} });
    expect(fair_share! / 40_000, "most of it").toBeGreaterThan(0.6);
  });

  it("whose output is full drops the rest of the batch", () => {
    const bench = new MuxBench();
    const out = new PacketBatch({ packets: 2 });
    bench.mux.process(batchOf(syn(1), syn(2), syn(3)), bench.nowMs, out);
    expect({ sent: out.count, drops: bench.drops() }).toEqual({ sent: 2, drops: { output_full: 1 } });
  });
});

describe("a host", () => {
  const FLOWS = 16;
  const small = (...more: readonly Parameters<typeof rangeItem>[]): AgentBench =>
    new AgentBench([...HOST, ...more.map((range) => rangeItem(...range))], {
      random: createRandom(SEED),
      layout: { ...SMALL_LAYOUT, flows: FLOWS },
    });

  it("whose NAT table is full begins no flow outwards, and keeps those that it has", () => {
    const bench = small([2_000], [2_001], [2_002], [2_003]);
    const sent = Array.from(
      { length: FLOWS + 4 },
      (_, n) => bench.vm(tcp(`10.0.0.1:${5_000 + n}`, "192.0.2.99:443", "S")).toWire.length,
    );
    expect(sent).toEqual([...Array<number>(FLOWS).fill(1), 0, 0, 0, 0]);
    expect(bench.drops()).toEqual({ nat_table_full: 4 });
    expect(bench.vm(tcp("10.0.0.1:5000", "192.0.2.99:443", "S")).toWire).toHaveLength(1);
  });

  it("whose NAT table is full serves inbound flows by their endpoint where only one leads to the port", () => {
    const bench = small([2_000], [2_001]);
    for (let n = 0; n < FLOWS; n++) bench.vm(tcp(`10.0.0.1:${5_000 + n}`, "192.0.2.99:443", "S"));
    expect(bench.agent.telemetry.gauges().flows).toBe(FLOWS);
    expect(bench.agent.untracked()).toBe(0);
    expect(bench.fromMux(syn(1)).toVm).toHaveLength(1);
    expect(bench.vm(tcp("10.0.0.1:8080", client(1), "SA")).toWire, "and its answer, likewise").toHaveLength(1);
    expect(bench.agent.untracked()).toBe(2);
    bench.change({ op: "upsert", item: endpointItem(81, 8_080) });
    expect(bench.fromMux(syn(2)).toVm, "two lead there: the answer would not find its way").toEqual([]);
    expect(bench.drops()).toEqual({ nat_table_full: 1 });
  });

  it("whose output is full drops the rest, in both directions", () => {
    const bench = new AgentBench();
    const out = new PacketBatch({ packets: 1 });
    const fromMux = [1, 2, 3].map((n) => encapsulate(syn(n), "192.0.2.1", "10.0.0.1"));
    bench.agent.processFromWire(batchOf(...fromMux), bench.nowMs, out);
    out.clear();
    const answers = [1, 2].map((n) => udp(`10.0.0.1:${n}`, "10.9.9.9:53"));
    bench.agent.processFromVm(1 as DipId, batchOf(...answers), bench.nowMs, out);
    expect(bench.drops()).toEqual({ output_full: 3 });
  });
});
