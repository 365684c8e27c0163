// Idle TCP connections: the machine is asked before anything is taken from it, and nobody is left with half a connection.
import { describe, expect, it } from "vitest";
import type { HostItem } from "../../../dataplane/host-items.js";
import { read, tcp, udp } from "../../packet/packet-kit.js";
import { AgentBench, DIP, endpointItem, HOST, outboundItem, rangeItem, upsert, VIP } from "./agent-kit.js";

const CLIENT = "198.51.100.7:40000";
const view = (packet: Uint8Array): DataView => new DataView(packet.buffer, packet.byteOffset);
const sequence = (packet: Uint8Array): number => view(packet).getUint32(24);
const idle = (idleSeconds: number, idleReset?: false): HostItem =>
  ({ ...endpointItem(80, 8_080), idleSeconds, ...(idleReset === false ? { idleReset } : {}) }) as HostItem;

/** An established connection; the machine expects 101 next, the client 5001. */
function established(bench: AgentBench, client = CLIENT): void {
  bench.fromMux(tcp(client, `${VIP}:80`, "S", { sequence: 100 }));
  bench.vm(tcp(`${DIP}:8080`, client, "SA", { sequence: 5_000, acknowledgement: 101 }));
  bench.fromMux(tcp(client, `${VIP}:80`, "A", { sequence: 101, acknowledgement: 5_001 }));
}

describe("an idle connection", () => {
  it("of a live machine goes on: it answers the keepalive, again and again", () => {
    const bench = new AgentBench();
    bench.change(upsert(idle(60)));
    established(bench);
    for (let round = 0; round < 5; round++) {
      const { toVm } = bench.elapse(61_000);
      expect(toVm.map(read)).toMatchObject([{ flow: `${CLIENT} > ${DIP}:8080`, flags: "A" }]);
      expect(sequence(toVm[0]!)).toBe(100); // one before what it expects
      bench.vm(tcp(`${DIP}:8080`, CLIENT, "A", { sequence: 5_001, acknowledgement: 101 }));
    }
    expect(bench.agent.telemetry.gauges().flows).toBe(1);
  });

  it("of a dead machine ends with resets that both ends must accept, and says why", () => {
    const bench = new AgentBench();
    bench.change(upsert(idle(60)));
    established(bench);
    bench.elapse(61_000);
    const { toVm, toWire } = bench.elapse(3_100);
    expect(toVm.map(read)).toMatchObject([{ flow: `${CLIENT} > ${DIP}:8080`, flags: "R" }]);
    expect(toWire.map(read)).toMatchObject([{ flow: `${VIP}:80 > ${CLIENT}`, flags: "R" }]);
    expect([sequence(toVm[0]!), sequence(toWire[0]!)]).toEqual([101, 5_001]);
    expect(bench.agent.telemetry.gauges().flows).toBe(0);
    expect(bench.agent.endedFlows(10)).toMatchObject([
      { end: "idle, and the machine did not answer a keepalive", packetsIn: 2, packetsOut: 1 },
    ]);
  });

  it("ends in silence where the rule says so", () => {
    const bench = new AgentBench();
    bench.change(upsert(idle(60, false)));
    established(bench);
    bench.elapse(61_000);
    expect(bench.elapse(3_100)).toEqual({ toVm: [], toWire: [] });
    expect(bench.agent.telemetry.gauges().flows).toBe(0);
  });

  it("lives as long as its own rule says, whatever the others say", () => {
    const bench = new AgentBench([...HOST, { ...endpointItem(443, 8_443), idleSeconds: 600 } as HostItem]);
    bench.change(upsert(idle(60)));
    established(bench);
    bench.fromMux(tcp(CLIENT, `${VIP}:443`, "S"));
    bench.vm(tcp(`${DIP}:8443`, CLIENT, "SA", { acknowledgement: 1 }));
    bench.fromMux(tcp(CLIENT, `${VIP}:443`, "A", { acknowledgement: 1 }));
    expect(bench.elapse(61_000).toVm.map(read)).toMatchObject([{ flow: `${CLIENT} > ${DIP}:8080` }]);
    const asked = [...bench.elapse(3_100).toVm, ...bench.elapse(536_500).toVm].map(read);
    expect(asked).toMatchObject([
      { flow: `${CLIENT} > ${DIP}:8080`, flags: "R" },
      { flow: `${CLIENT} > ${DIP}:8443`, flags: "A" },
    ]);
  });

  it("of SNAT keeps its port while the machine answers, and gives it back when it resets", () => {
    const bench = new AgentBench([...HOST, rangeItem(2_000)]);
    bench.change(upsert({ ...outboundItem(), tcpIdleSeconds: 120 } as HostItem));
    const remote = "192.0.2.99:443";
    const vipPort = read(bench.vm(tcp(`${DIP}:5000`, remote, "S", { sequence: 1 })).toWire[0]!).flow.split(" ")[0]!;
    bench.fromMux(tcp(remote, vipPort, "SA", { sequence: 9, acknowledgement: 2 }));
    bench.vm(tcp(`${DIP}:5000`, remote, "A", { sequence: 2, acknowledgement: 10 }));
    expect(bench.agent.portLedger(10, bench.nowMs)).toMatchObject([
      { remote: "192.0.2.99", remotePort: 443, inUse: 1, onHold: 0, owned: 8 },
    ]);
    const use = (): unknown => bench.agent.portsInUse().map(({ inUse, onHold }) => ({ inUse, onHold }));
    expect(use()).toEqual([{ inUse: 1, onHold: 0 }]);
    expect(bench.elapse(121_000).toVm).toHaveLength(1);
    bench.vm(tcp(`${DIP}:5000`, remote, "R", { sequence: 2 }));
    const [line] = bench.agent.portLedger(10, bench.nowMs);
    expect(line).toMatchObject({ inUse: 0, onHold: 1 });
    expect(line!.nextFreeMs).toBeGreaterThan(15_000);
    expect(use()).toEqual([{ inUse: 0, onHold: 1 }]);
    bench.elapse(16_100);
    expect(bench.agent.portLedger(10, bench.nowMs)).toEqual([]);
    expect(use()).toEqual([{ inUse: 0, onHold: 0 }]);
    expect(bench.agent.endedFlows(1)).toMatchObject([{ end: "reset by the machine" }]);
  });

  it("of UDP ends without a word", () => {
    const bench = new AgentBench();
    bench.change(upsert({ ...endpointItem(53, 53, 1, VIP, 17), idleSeconds: 10 } as HostItem));
    bench.fromMux(udp(CLIENT, `${VIP}:53`));
    bench.vm(udp(`${DIP}:53`, CLIENT));
    expect(bench.elapse(10_100)).toEqual({ toVm: [], toWire: [] });
    expect(bench.agent.telemetry.gauges().flows).toBe(0);
    expect(bench.agent.endedFlows(1)).toMatchObject([{ end: "idle", packetsIn: 1, packetsOut: 1 }]);
  });
});
