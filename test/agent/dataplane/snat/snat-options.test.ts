// What a VIP may ask of SNAT beside the usual: one port per port of the machine (RFC 4787 §4.1), and how long a first packet waits.
import { describe, expect, it } from "vitest";
import { createRandom } from "../../../../core/random.js";
import type { HostItem, HostOutboundItem } from "../../../../dataplane/host-items.js";
import { read, SEED, tcp, udp } from "../../../packet/packet-kit.js";
import { AgentBench, DIP, dipItem, HOST, outboundItem, rangeItem, remove, upsert, VIP } from "../agent-kit.js";

const leaving = (more: Partial<HostOutboundItem>): HostItem => ({ ...(outboundItem() as HostOutboundItem), ...more });
const hostWith = (more: Partial<HostOutboundItem>, ...items: readonly HostItem[]): AgentBench =>
  new AgentBench([...HOST.filter(({ kind }) => kind !== "outbound"), leaving(more), ...items]);
const mapped = (...items: readonly HostItem[]): AgentBench => hostWith({ udpMapping: "endpointIndependent" }, ...items);
const portOf = (packet: Uint8Array): number => Number(read(packet).flow.split(/[: ]/)[1]);

describe("UDP with endpoint-independent mapping", () => {
  it("leaves by one port of the VIP whatever the destination, and lets only those in that were asked", () => {
    const bench = mapped(rangeItem(1_290, 1, 17));
    const ports = ["192.0.2.53:53", "192.0.2.54:3478", "192.0.2.54:3479"].map((to) =>
      portOf(bench.vm(udp(`${DIP}:5000`, to)).toWire[0]!),
    );
    expect(new Set(ports).size).toBe(1);
    const answer = bench.fromMux(udp("192.0.2.54:3479", `${VIP}:${ports[0]}`)).toVm;
    expect(answer.map(read)).toMatchObject([{ flow: `192.0.2.54:3479 > ${DIP}:5000` }]);
    bench.fromMux(udp("192.0.2.99:3479", `${VIP}:${ports[0]}`));
    expect(bench.drops()).toEqual({ no_snat_flow: 1 });
  });

  it("gives every port of the machine a port of its own, until none is left", () => {
    const bench = mapped(rangeItem(1_290, 1, 17));
    const ports = Array.from({ length: 8 }, (_, n) =>
      portOf(bench.vm(udp(`${DIP}:${5_000 + n}`, "192.0.2.53:9")).toWire[0]!),
    );
    expect(ports.sort()).toEqual(Array.from({ length: 8 }, (_, n) => 10_320 + n));
    expect(bench.vm(udp(`${DIP}:6000`, "192.0.2.77:9")).toWire).toEqual([]);
    expect(bench.agent.snatDemand(bench.nowMs).find(({ protocol }) => protocol === 17)).toMatchObject({
      portsOwned: 8,
      portsFree: 0,
      waiting: 1,
    });
  });

  it("keeps the port while any flow lives, and frees it with the last", () => {
    const bench = mapped(rangeItem(1_290, 1, 17));
    const first = portOf(bench.vm(udp(`${DIP}:5000`, "192.0.2.53:9")).toWire[0]!);
    bench.elapse(60_000);
    expect(portOf(bench.vm(udp(`${DIP}:5000`, "192.0.2.54:9")).toWire[0]!)).toBe(first);
    bench.elapse(61_000); // the first flow has ended
    expect(portOf(bench.vm(udp(`${DIP}:5000`, "192.0.2.55:9")).toWire[0]!)).toBe(first);
    expect(bench.agent.releasableRanges(bench.nowMs, 0)).toEqual([]);
    bench.elapse(121_000);
    expect(bench.agent.telemetry.gauges().flows).toBe(0);
    expect(bench.agent.releasableRanges(bench.nowMs, 0)).toHaveLength(1);
  });

  it("ends with its range or its DIP, and TCP is mapped as ever", () => {
    const bench = mapped(rangeItem(1_290, 1, 17), rangeItem(1_290));
    bench.vm(udp(`${DIP}:5000`, "192.0.2.53:9"));
    bench.vm(tcp(`${DIP}:5000`, "192.0.2.53:443", "S"));
    bench.change(remove("range/1/17/1290"));
    expect(bench.agent.telemetry.gauges().flows).toBe(1);
    bench.change(upsert(rangeItem(1_291, 1, 17)));
    expect(portOf(bench.vm(udp(`${DIP}:5000`, "192.0.2.53:9")).toWire[0]!) >> 3).toBe(1_291);
    bench.change(remove("dip/1"), upsert(dipItem(3)));
    expect(bench.agent.telemetry.gauges().flows).toBe(0);
  });

  it("holds one port per machine port under random flows, as a naive map does", () => {
    const random = createRandom(SEED);
    const bench = mapped(rangeItem(1_290, 1, 17), rangeItem(1_291, 1, 17));
    const model = new Map<number, { port: number; lastMs: number }>();
    for (let step = 0; step < 1_500; step++) {
      bench.elapse(random.below(20) * 1_000);
      for (const [from, { lastMs }] of model) if (bench.nowMs - lastMs >= 120_000) model.delete(from);
      const from = 5_000 + random.below(12);
      const [out] = bench.vm(udp(`${DIP}:${from}`, `192.0.2.${random.below(200)}:${1_024 + random.below(9)}`)).toWire;
      const known = model.get(from);
      if (out === undefined) throw new Error(`seed ${SEED}: 12 ports fit in 16`);
      const port = portOf(out);
      if (known !== undefined) expect(port, `seed ${SEED}`).toBe(known.port);
      for (const [other, { port: taken }] of model) if (other !== from) expect(taken, `seed ${SEED}`).not.toBe(port);
      model.set(from, { port, lastMs: bench.nowMs });
    }
  });
});

describe("how long a first packet waits", () => {
  it.each([
    { queueSeconds: 1, waits: 1_000 },
    { queueSeconds: 10, waits: 10_000 },
  ])("$queueSeconds s when the VIP says so", ({ queueSeconds, waits }) => {
    const bench = hostWith({ queueSeconds });
    bench.vm(tcp(`${DIP}:5000`, "192.0.2.99:443", "S"));
    expect(bench.elapse(waits - 1).toVm).toEqual([]);
    expect(bench.elapse(1).toVm.map(read)).toMatchObject([{ flow: `192.0.2.99:443 > ${DIP}:5000`, flags: "RA" }]);
    expect(bench.drops()).toEqual({ snat_hold_expired: 1 });
  });

  it("not at all with 0 s: it is refused at once, and ports are asked for all the same", () => {
    const bench = hostWith({ queueSeconds: 0 });
    expect(bench.vm(tcp(`${DIP}:5000`, "192.0.2.99:443", "S")).toVm).toHaveLength(1);
    expect(bench.agent.telemetry.gauges().entries["held-packets"]).toBe(0);
    expect(bench.agent.telemetry.drainEvents(9).events).toMatchObject([{ kind: "snat-miss" }]);
    expect(bench.drops()).toEqual({ snat_hold_expired: 1 });
  });

  it("no answer when the VIP says silence", () => {
    const bench = hostWith({ queueSeconds: 0, onExhaustion: "drop" });
    expect(bench.vm(tcp(`${DIP}:5000`, "192.0.2.99:443", "S")).toVm).toEqual([]);
  });
});
