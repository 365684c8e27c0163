/**
 * How fast is a Host Agent's pipeline, in memory, on one core? 64-byte packets of established flows, half in each direction:
 * clients of a VIP (DNAT and reverse NAT), SNAT, and flows between VIPs that go straight from host to host; and what a packet allocates. bench/README.md says how.
 */
import { PacketBatch } from "../dataplane/packet-batch.js";
import {
  directFlows,
  type HostTraffic,
  inboundFlows,
  PACKET_BYTES,
  PACKETS_PER_BATCH,
  snatFlows,
} from "./agent/traffic.js";
import { bytesAllocated } from "./measure/allocation.js";
import { print, progress, runBenchmark } from "./measure/benchmark.js";
import { numberText, resultNumber, spreadOf, spreadText } from "./measure/statistics.js";

const FLOWS = [1, 10_000, 100_000] as const;
const WARM_UP_MS = 1_000;
/** Few enough packets that even 200 bytes each would not fill the young generation. */
const ALLOCATION_TURNS = 64;

interface Measured {
  readonly rates: readonly number[];
  readonly bytesPerPacket: number;
}

function measure(name: string, traffic: HostTraffic, runs: number, runMs: number): Measured {
  const out = new PacketBatch();
  const { agent } = traffic;
  let nowMs = 0;
  let packets = 0;
  const turn = (): void => {
    const batch = traffic.next();
    packets += batch.count;
    out.clear();
    agent.process(batch, nowMs, out);
  };
  const begunMs = performance.now();
  while (performance.now() - begunMs < WARM_UP_MS) turn();
  const rates: number[] = [];
  for (let run = 0; run < runs; run++) {
    packets = 0;
    const from = performance.now();
    let to = from;
    while (to - from < runMs) {
      for (let i = 0; i < 64; i++) turn();
      to = performance.now();
      nowMs = Math.floor(to - begunMs);
      out.clear();
      agent.tick(nowMs, out);
    }
    rates.push((packets * 1_000) / (to - from));
  }
  const bytesPerPacket = bytesAllocated(turn, ALLOCATION_TURNS) / PACKETS_PER_BATCH;
  traffic.check(nowMs);
  progress(`${name}: ${spreadText(spreadOf(rates))} packets/s`);
  return { rates, bytesPerPacket };
}

await runBenchmark({
  name: "agent",
  question:
    "How many packets does a Host Agent's pipeline translate on one core, in memory, and what does a packet allocate?",
  options: {
    runs: { meaning: "runs of each traffic", default: 5, min: 1, max: 100 },
    seconds: { meaning: "length of a run", default: 2, min: 1, max: 60 },
  },
  run: ({ runs, seconds }) => {
    const measured = new Map<string, Measured>();
    for (const flows of FLOWS) {
      for (const [kind, make] of [
        ["inbound", inboundFlows],
        ["SNAT", snatFlows],
        ["FastPath", directFlows],
      ] as const) {
        const name = `${kind}, ${numberText(flows)}`;
        measured.set(name, measure(name, make(flows), runs, seconds * 1_000));
      }
    }
    print(
      `\npackets of ${PACKET_BYTES} bytes, IPv4 in IPv4 from the wire, one core; ${runs} runs of ${seconds} s, median [smallest..largest]`,
    );
    for (const [name, { rates, bytesPerPacket }] of measured) {
      const spread = spreadOf(rates);
      const each = `${numberText(1e9 / spread.median)} ns/packet`;
      print(
        `${name.padEnd(18)} ${spreadText(spread).padEnd(36)} packets/s ${each.padStart(14)} ${numberText(bytesPerPacket, 3)} bytes allocated/packet`,
      );
    }
    const rate = (name: string): number | null => resultNumber(spreadOf(measured.get(name)!.rates).median);
    return Promise.resolve({
      packetsPerSecondInbound: rate(`inbound, ${numberText(100_000)}`),
      packetsPerSecondSnat: rate(`SNAT, ${numberText(100_000)}`),
    });
  },
});
