/**
 * How fast is a MUX's pipeline, in memory, on one core? 64-byte packets of known flows (1, 10 k, 100 k, 1 M of them) and a SYN
 * flood; what a packet allocates; the memory of a MUX that holds what the paper's holds; balance and disruption of its Maglev
 * tables. The rate over loopback I/O is told apart. bench/README.md says how.
 */
import { createSocket } from "node:dgram";
import { assert } from "../core/assert.js";
import { PacketBatch } from "../dataplane/packet-batch.js";
import { bytesAllocated, collectGarbage } from "./measure/allocation.js";
import { print, progress, runBenchmark } from "./measure/benchmark.js";
import { numberText, resultNumber, spreadOf, spreadText } from "./measure/statistics.js";
import { maglevReport } from "./mux/maglev-report.js";
import { knownFlows, largeSite, PACKET_BYTES, PACKETS_PER_BATCH, synFlood, type Traffic } from "./mux/traffic.js";

const FLOWS = [1, 10_000, 100_000, 1_000_000] as const;
const WARM_UP_MS = 1_000;
/** Between two looks at the heap: few enough packets that even 200 bytes each would not fill the young generation. */
const ALLOCATION_TURNS = 64;

interface Measured {
  readonly rates: readonly number[];
  readonly bytesPerPacket: number;
}

/** Traffics are measured in turn, run by run, so that a slow moment of the machine meets all of them. */
function measure(name: string, traffic: Traffic, runs: number, runMs: number): Measured {
  const out = new PacketBatch();
  const { mux } = traffic;
  // Whole milliseconds, read once per 64 batches: what reading a clock costs is not the pipeline's.
  let nowMs = Math.floor(performance.now());
  const turn = (): void => {
    out.clear();
    mux.process(traffic.next(), nowMs, out);
  };
  for (const until = performance.now() + WARM_UP_MS; performance.now() < until;) turn();
  const rates: number[] = [];
  for (let run = 0; run < runs; run++) {
    let turns = 0;
    const from = performance.now();
    let to = from;
    while (to - from < runMs) {
      for (let i = 0; i < 64; i++) turn();
      turns += 64;
      to = performance.now();
      nowMs = Math.floor(to);
      mux.tick(nowMs, out);
    }
    rates.push((turns * PACKETS_PER_BATCH * 1_000) / (to - from));
  }
  const bytesPerPacket = bytesAllocated(turn, ALLOCATION_TURNS) / PACKETS_PER_BATCH;
  traffic.check(performance.now());
  progress(`${name}: ${spreadText(spreadOf(rates))} packets/s`);
  return { rates, bytesPerPacket };
}

/** Packets as datagrams on loopback, to the pipeline and out again, as the embedded default has them; 64 under way. */
async function loopback(runMs: number): Promise<number> {
  const traffic = knownFlows(10_000);
  const [arrived, out] = [new PacketBatch(), new PacketBatch()];
  const [client, mux] = [createSocket("udp4"), createSocket("udp4")];
  for (const socket of [client, mux]) await new Promise<void>((done) => socket.bind(0, "127.0.0.1", () => done()));
  const send = (from: typeof client, packet: Uint8Array, to: typeof client): void =>
    from.send(packet, to.address().port, "127.0.0.1");
  mux.on("message", (bytes) => {
    arrived.clear();
    out.clear();
    arrived.append(bytes);
    traffic.mux.process(arrived, performance.now(), out);
    if (out.count > 0) send(mux, out.packet(0), client);
  });
  const packets = traffic.next();
  let returned = 0;
  const sendNext = (): void => send(client, packets.packet(returned % packets.count), mux);
  client.on("message", () => {
    returned++;
    sendNext();
  });
  for (let i = 0; i < 64; i++) sendNext();
  await new Promise((done) => setTimeout(done, runMs));
  client.close();
  mux.close();
  return (returned * 1_000) / runMs;
}

await runBenchmark({
  name: "mux",
  question: "How many packets does a MUX's pipeline forward on one core, in memory, and what does a packet allocate?",
  options: {
    runs: { meaning: "runs of each traffic", default: 5, min: 1, max: 100 },
    seconds: { meaning: "length of a run", default: 2, min: 1, max: 60 },
  },
  run: async ({ runs, seconds }) => {
    collectGarbage();
    const before = process.memoryUsage().rss;
    const site = largeSite();
    collectGarbage();
    const residentMb = (process.memoryUsage().rss - before) / 2 ** 20;
    site.check();
    print(
      `${numberText(site.endpoints)} endpoints and ${numberText(site.ranges * 8)} SNAT ports: ${numberText(residentMb)} MB resident (the paper's MUX: 1 GB)`,
    );
    const measured = new Map<string, Measured>();
    for (const flows of FLOWS) {
      const name = `${numberText(flows)} ${flows === 1 ? "flow" : "flows"}`;
      measured.set(name, measure(name, knownFlows(flows), runs, seconds * 1_000));
    }
    measured.set("SYN flood", measure("SYN flood", synFlood(), runs, seconds * 1_000));
    print(
      `\npackets of ${PACKET_BYTES} bytes, IPv4 in IPv4, one core; ${runs} runs of ${seconds} s, median [smallest..largest]`,
    );
    for (const [name, { rates, bytesPerPacket }] of measured) {
      const spread = spreadOf(rates);
      const each = `${numberText(1e9 / spread.median)} ns/packet`;
      print(
        `${name.padEnd(16)} ${spreadText(spread).padEnd(36)} packets/s ${each.padStart(14)} ${numberText(bytesPerPacket, 3)} bytes allocated/packet`,
      );
    }
    print(`over loopback UDP, one datagram per packet: ${numberText(await loopback(seconds * 1_000))} packets/s`);
    for (const line of maglevReport()) print(line);
    const known = measured.get("100,000 flows");
    const flood = measured.get("SYN flood");
    assert(known !== undefined && flood !== undefined, "both were measured");
    return {
      packetsPerSecond100k: resultNumber(spreadOf(known.rates).median),
      packetsPerSecondSynFlood: resultNumber(spreadOf(flood.rates).median),
      bytesPerPacketAllocated: resultNumber(Math.max(...[...measured.values()].map((m) => m.bytesPerPacket)), 3),
      residentMb: resultNumber(residentMb, 1),
    };
  },
});
