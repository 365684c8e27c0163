import { describe, expect, it } from "vitest";
import type { DipId, IpAddress, VipId } from "../../../../core/brands.js";
import { createRandom } from "../../../../core/random.js";
import type { HostItem } from "../../../../dataplane/host-items.js";
import { read, SEED, tcp, udp } from "../../../packet/packet-kit.js";
import { AgentBench, DIP, HOST, outboundItem, rangeItem, remove, upsert, VIP } from "../agent-kit.js";

const REMOTE = "192.0.2.99:443";
const RANGE = 1_290;
const PORTS = Array.from({ length: 8 }, (_, i) => RANGE * 8 + i);
const vip = VIP as IpAddress;

/** VIP port that a packet left with, or 0. */
const portOf = (packets: readonly Uint8Array[]): number => {
  const flow = packets[0] === undefined ? "" : read(packets[0]).flow;
  expect(flow === "" || flow.startsWith(`${VIP}:`)).toBe(true);
  return flow === "" ? 0 : Number(flow.split(" ")[0]!.split(":")[1]);
};
const withRange = (...ranges: readonly number[]): AgentBench =>
  new AgentBench([...HOST, ...ranges.flatMap((range) => [rangeItem(range), rangeItem(range, 1, 17)])]);
const syn = (port: number, remote = REMOTE, timestamp?: number): Uint8Array =>
  tcp(`${DIP}:${port}`, remote, "S", { mss: 1_460, ...(timestamp === undefined ? {} : { timestamp }) });

describe("source NAT", () => {
  it("leaves with a port of an owned range, and finds the way back", () => {
    const bench = withRange(RANGE);
    const { toWire } = bench.vm(syn(5_000));
    const port = portOf(toWire);
    expect(PORTS).toContain(port);
    expect(read(toWire[0]!)).toMatchObject({ flow: `${VIP}:${port} > ${REMOTE}`, mss: 1_440 });
    const back = bench.fromMux(tcp(REMOTE, `${VIP}:${port}`, "SA", { mss: 1_460 }));
    expect(back.toVm.map(read)).toMatchObject([{ flow: `${REMOTE} > ${DIP}:5000`, flags: "SA", mss: 1_440 }]);
    expect(portOf(bench.vm(tcp(`${DIP}:5000`, REMOTE, "A")).toWire)).toBe(port);
  });

  it("uses one port for many flows as long as their destinations differ (Ananta §3.5.1)", () => {
    const bench = withRange(RANGE);
    const perDestination = new Map<string, Set<number>>();
    for (let i = 0; i < 40; i++) {
      const remote = `192.0.2.${100 + (i % 5)}:443`;
      const used = perDestination.get(remote) ?? new Set();
      perDestination.set(remote, used.add(portOf(bench.vm(syn(5_000 + i, remote)).toWire)));
    }
    expect([...perDestination.values()].map((used) => used.size)).toEqual([8, 8, 8, 8, 8]);
  });

  it("lets only the remote of a flow in", () => {
    const bench = withRange(RANGE);
    const port = portOf(bench.vm(syn(5_000)).toWire);
    expect(bench.fromMux(tcp("192.0.2.66:443", `${VIP}:${port}`, "SA")).toVm).toEqual([]);
    expect(bench.drops()).toEqual({ no_snat_flow: 1 });
  });

  it("translates UDP, and frees the port of a question soon after its answer", () => {
    const bench = withRange(RANGE);
    const port = portOf(bench.vm(udp(`${DIP}:5000`, "192.0.2.53:53")).toWire);
    expect(bench.fromMux(udp("192.0.2.53:53", `${VIP}:${port}`)).toVm.map(read)).toMatchObject([
      { flow: `192.0.2.53:53 > ${DIP}:5000` },
    ]);
    bench.elapse(9_999);
    expect(bench.agent.telemetry.gauges().flows).toBe(1);
    bench.elapse(1);
    expect(bench.agent.telemetry.gauges().flows).toBe(0);
  });

  it("takes the next VIP when the first has no port left", () => {
    const second = "203.0.113.11";
    const bench = new AgentBench([...HOST, outboundItem(1, second), rangeItem(RANGE), rangeItem(RANGE, 1, 6, second)]);
    const sources = Array.from({ length: 16 }, (_, i) => read(bench.vm(syn(5_000 + i)).toWire[0]!).source);
    expect(sources.filter((source) => source === VIP)).toHaveLength(8);
    expect(sources.filter((source) => source === second)).toHaveLength(8);
  });
});

describe("a flow without a port", () => {
  it("waits, leaves when ports come, and its repeated SYN is not held twice", () => {
    const bench = new AgentBench();
    expect(bench.vm(syn(5_000), syn(5_000), syn(5_001))).toEqual({ toWire: [], toVm: [] });
    const { events } = bench.agent.telemetry.drainEvents(10);
    expect(events.map(({ kind }) => kind)).toEqual(["snat-miss", "hold", "snat-miss", "hold"]);
    expect(bench.drops()).toEqual({ already_held: 1 });
    expect(bench.agent.snatDemand(bench.nowMs)).toMatchObject([
      { dipId: 1, protocol: 6, portsOwned: 0, waiting: 2 },
      { dipId: 1, protocol: 17, portsOwned: 0, waiting: 0 },
    ]);
    bench.change(upsert(rangeItem(RANGE)));
    const { toWire } = bench.elapse(0);
    expect(toWire.map((packet) => read(packet).flags)).toEqual(["S", "S"]);
    expect(new Set(toWire.map((packet) => portOf([packet]))).size).toBe(2);
    expect(bench.elapse(10_000).toVm).toEqual([]);
  });

  it("leaves with the next packet, too, without waiting for the tick", () => {
    const bench = new AgentBench();
    bench.vm(syn(5_000));
    bench.change(upsert(rangeItem(RANGE)));
    expect(bench.vm(syn(5_001)).toWire).toHaveLength(2);
  });

  it("is refused after three seconds: TCP by a reset, UDP by port unreachable, both to the VM", () => {
    const bench = new AgentBench();
    bench.vm(tcp(`${DIP}:5000`, REMOTE, "S", { sequence: 0xffff_ffff }), udp(`${DIP}:5000`, "192.0.2.53:53"));
    expect(bench.elapse(2_999)).toEqual({ toWire: [], toVm: [] });
    const { toVm, toWire } = bench.elapse(1);
    expect(toWire).toEqual([]);
    const [reset, unreachable] = toVm.map(read);
    expect(reset).toMatchObject({ flow: `${REMOTE} > ${DIP}:5000`, flags: "RA" });
    expect([...reset!.body.subarray(8, 12)]).toEqual([0, 0, 0, 0]); // acknowledges the SYN: sequence + 1
    expect(unreachable).toMatchObject({ flow: `192.0.2.53 > ${DIP}`, protocol: 1 });
    expect([...unreachable!.body.subarray(0, 2)]).toEqual([3, 3]);
    expect(bench.drops()).toEqual({ snat_hold_expired: 2 });
  });

  it("is refused at once when too many wait already", () => {
    const bench = new AgentBench();
    const { toVm } = bench.vm(...Array.from({ length: 10 }, (_, i) => syn(5_000 + i)));
    expect(toVm.map((packet) => read(packet).flags)).toEqual(["RA", "RA"]);
    expect(bench.drops()).toEqual({ snat_hold_full: 2 });
  });

  it("never leaves untranslated", () => {
    const bench = new AgentBench();
    bench.vm(syn(5_000), udp(`${DIP}:5000`, "192.0.2.53:53"), udp(`${DIP}:5000`, "192.0.2.53:53"));
    for (let i = 0; i < 100; i++) for (const packet of bench.elapse(100).toWire) expect(read(packet).source).toBe(VIP);
  });
});

describe("closing", () => {
  /** Opens a flow, returns its port. */
  const open = (bench: AgentBench, timestamp?: number): number => {
    const port = portOf(bench.vm(syn(5_000, REMOTE, timestamp)).toWire);
    bench.fromMux(tcp(REMOTE, `${VIP}:${port}`, "SA", { sequence: 100, acknowledgement: 1 }));
    bench.vm(tcp(`${DIP}:5000`, REMOTE, "A", { sequence: 1, acknowledgement: 101 }));
    return port;
  };
  const own = (flags: string, acknowledgement: number, timestamp?: number): Uint8Array =>
    tcp(`${DIP}:5000`, REMOTE, flags, {
      sequence: 1,
      acknowledgement,
      ...(timestamp === undefined ? {} : { timestamp }),
    });
  const remote = (port: number, flags: string, acknowledgement: number): Uint8Array =>
    tcp(REMOTE, `${VIP}:${port}`, flags, { sequence: 101, acknowledgement });
  const closeByOwn = (bench: AgentBench, port: number): void => {
    bench.vm(own("FA", 101));
    bench.fromMux(remote(port, "FA", 2));
    bench.vm(own("A", 102));
  };
  const closeByRemote = (bench: AgentBench, port: number, timestamp?: number): void => {
    bench.fromMux(remote(port, "FA", 1));
    bench.vm(own("FA", 102, timestamp));
    bench.fromMux(remote(port, "A", 2));
  };
  const rows: readonly {
    description: string;
    when: (bench: AgentBench, port: number) => void;
    state: string;
    then: number;
  }[] = [
    { description: "by the own side", when: closeByOwn, state: "hold-closed-by-own-side", then: 5_000 },
    { description: "by the remote", when: closeByRemote, state: "hold-closed-by-remote", then: 65_000 },
    {
      description: "by both at once",
      when: (bench, port) => {
        bench.vm(own("FA", 101));
        bench.fromMux(remote(port, "FA", 1));
        bench.vm(own("A", 102));
        bench.fromMux(remote(port, "A", 2));
      },
      state: "hold-closed-by-remote",
      then: 65_000,
    },
    {
      description: "by a reset",
      when: (bench, port) => bench.fromMux(remote(port, "R", 0)),
      state: "hold-reset",
      then: 16_000,
    },
    {
      description: "by one FIN, and then nothing",
      when: (bench) => bench.vm(own("FA", 101)),
      state: "closing",
      then: 240_000,
    },
  ];
  it.each(rows)("$description keeps the port for $then ms", ({ when, state, then }) => {
    const bench = withRange(RANGE);
    when(bench, open(bench));
    const states: string[] = [];
    bench.agent.flows.list(0, 10, bench.nowMs, (flows) => states.push(...flows.map((flow) => flow.state)));
    expect(states).toEqual([state]);
    bench.elapse(then - 1);
    expect(bench.agent.telemetry.gauges().flows).toBe(1);
    bench.elapse(1);
    expect(bench.agent.telemetry.gauges().flows).toBe(0);
  });

  it("without an answer to the SYN keeps the port for 30 s", () => {
    const bench = withRange(RANGE);
    bench.vm(syn(5_000));
    bench.elapse(29_999);
    expect(bench.agent.telemetry.gauges().flows).toBe(1);
    bench.elapse(1);
    expect(bench.agent.telemetry.gauges().flows).toBe(0);
  });

  it("starts the hold again at a retransmitted FIN", () => {
    const bench = withRange(RANGE);
    const port = open(bench);
    closeByOwn(bench, port);
    bench.elapse(4_000);
    bench.fromMux(remote(port, "FA", 2));
    bench.elapse(4_999);
    expect(bench.agent.telemetry.gauges().flows).toBe(1);
  });

  it("by a reset that the VM does not believe is no end", () => {
    const bench = withRange(RANGE);
    const port = open(bench);
    bench.fromMux(remote(port, "R", 0));
    expect(portOf(bench.vm(own("A", 101)).toWire)).toBe(port);
    bench.elapse(60_000);
    expect(portOf(bench.vm(own("A", 101)).toWire)).toBe(port);
  });

  it("lets the VM use its port again: on another port while the remote waits, on the same one when it is safe", () => {
    const held = withRange(RANGE);
    const port = open(held);
    closeByRemote(held, port);
    expect(portOf(held.vm(syn(5_000)).toWire)).not.toBe(port);
    const newer = withRange(RANGE);
    const stamped = open(newer, 1_000);
    closeByRemote(newer, stamped, 2_000);
    expect(portOf(newer.vm(syn(5_000, REMOTE, 2_001)).toWire)).toBe(stamped);
    const own5s = withRange(RANGE);
    const first = open(own5s);
    closeByOwn(own5s, first);
    expect(portOf(own5s.vm(syn(5_000)).toWire)).toBe(first);
  });
});

describe("port ranges", () => {
  it("are released only when unused for long, and stopped before they are given back", () => {
    const bench = withRange(RANGE, RANGE + 1);
    const port = portOf(bench.vm(syn(5_000)).toWire);
    const used = port >> 3;
    const free = used === RANGE ? RANGE + 1 : RANGE;
    expect(bench.agent.releasableRanges(bench.nowMs, 60_000)).toEqual([]);
    bench.nowMs += 60_000;
    const releasable = bench.agent.releasableRanges(bench.nowMs, 60_000);
    expect(releasable.filter(({ protocol }) => protocol === 6)).toMatchObject([{ vip: VIP, range: free, dipId: 1 }]);
    expect(bench.agent.stopRange(vip, 6, used)).toBe(false);
    expect(bench.agent.stopRange(vip, 6, free)).toBe(true);
    expect(bench.agent.stoppedRanges()).toMatchObject([{ range: free, protocol: 6 }]);
    const ports = Array.from({ length: 7 }, (_, i) => portOf(bench.vm(syn(6_000 + i)).toWire));
    expect(ports.every((other) => other >> 3 === used)).toBe(true);
    expect(bench.vm(syn(7_000)).toWire).toEqual([]);
    bench.agent.resumeRange(vip, 6, free);
    expect(bench.elapse(0).toWire).toHaveLength(1);
  });

  it("that are recalled keep their flows, get no new ones, and are returnable once the flows are over", () => {
    const bench = withRange(RANGE, RANGE + 1);
    const port = portOf(bench.vm(syn(5_000)).toWire);
    const used = port >> 3;
    const other = used === RANGE ? RANGE + 1 : RANGE;
    const recall = (ranges: readonly number[]): HostItem => ({
      kind: "recall",
      dipId: 1 as DipId,
      vipId: 1 as VipId,
      vip,
      protocol: 6,
      ranges,
    });
    bench.change(upsert(recall([used])));
    expect(bench.agent.returnableRanges(), "its flow lives").toEqual([]);
    expect(bench.fromMux(tcp(REMOTE, `${VIP}:${port}`, "SA")).toVm).toHaveLength(1);
    const ports = Array.from({ length: 8 }, (_, i) => portOf(bench.vm(syn(6_000 + i)).toWire));
    expect(ports.every((given) => given >> 3 === other)).toBe(true);
    expect(bench.vm(syn(7_000)).toWire, "no ninth port").toEqual([]);
    bench.fromMux(tcp(REMOTE, `${VIP}:${port}`, "R")); // and its port is free again after 16 s
    bench.elapse(16_000);
    expect(bench.agent.returnableRanges()).toMatchObject([{ range: used, dipId: 1 }]);
    expect(bench.agent.stopRange(vip, 6, used)).toBe(true);
    expect(bench.agent.returnableRanges(), "on its way").toEqual([]);
    bench.agent.resumeRange(vip, 6, used);
    expect(bench.vm(syn(7_001)).toWire, "refused, and still recalled").toEqual([]);
    bench.change(remove("recall/1/1/6"));
    expect(portOf(bench.vm(syn(7_002)).toWire) >> 3).toBe(used);
  });

  it("may be recalled before they are known, and come without the recall's end", () => {
    const bench = withRange(RANGE);
    bench.change(
      upsert({ kind: "recall", dipId: 1 as DipId, vipId: 1 as VipId, vip, protocol: 6, ranges: [RANGE + 1] }),
      upsert(rangeItem(RANGE + 1)),
    );
    const ports = Array.from({ length: 8 }, (_, i) => portOf(bench.vm(syn(6_000 + i)).toWire));
    expect(ports.every((given) => given >> 3 === RANGE)).toBe(true);
  });

  it("that are taken away end their flows at once", () => {
    const bench = withRange(RANGE);
    const port = portOf(bench.vm(syn(5_000)).toWire);
    bench.change(remove(`range/1/6/${RANGE}`));
    expect(bench.agent.telemetry.gauges().flows).toBe(0);
    expect(bench.fromMux(tcp(REMOTE, `${VIP}:${port}`, "SA")).toVm).toEqual([]);
    expect(bench.drops()).toEqual({ not_owned_port: 1 });
    bench.change(upsert(rangeItem(RANGE)));
    expect(PORTS).toContain(portOf(bench.vm(syn(5_000)).toWire));
  });

  it("report what is free for the busiest destination, and the rate of new flows", () => {
    const bench = withRange(RANGE, RANGE + 1);
    bench.agent.snatDemand(bench.nowMs);
    for (let i = 0; i < 5; i++) bench.vm(syn(5_000 + i), syn(6_000 + i, `192.0.2.${i}:80`));
    const [demand] = bench.agent.snatDemand(bench.nowMs + 10_000);
    expect(demand).toMatchObject({ dipId: 1, protocol: 6, portsOwned: 16, portsFree: 11, waiting: 0 });
    expect(demand!.newFlowsPerSecond).toBeCloseTo(1, 2);
  });

  it("give every flow a port of its own towards its destination, as a naive model does", () => {
    const random = createRandom(SEED);
    const bench = withRange(RANGE, RANGE + 1, RANGE + 9);
    const ports = [RANGE, RANGE + 1, RANGE + 9].flatMap((range) => Array.from({ length: 8 }, (_, i) => range * 8 + i));
    const model = new Map<string, Set<number>>(); // destination -> ports in use
    const live = new Map<string, { remote: string; port: number }>();
    // Half-open flows live as long as their SYNs are repeated.
    const keepAlive = (): void => {
      bench.vm(...[...live].map(([other, flow]) => syn(Number(other.split(" ")[0]), flow.remote)));
    };
    for (let round = 0; round < 300; round++) {
      const remote = `192.0.2.${random.below(4)}:80`;
      const used = model.get(remote) ?? new Set<number>();
      model.set(remote, used);
      const key = `${5_000 + random.below(40)} ${remote}`;
      const known = live.get(key);
      if (known === undefined) {
        const port = portOf(bench.vm(syn(Number(key.split(" ")[0]), remote)).toWire);
        const hint = `seed ${SEED} round ${round}`;
        if (used.size === ports.length) {
          expect(port, hint).toBe(0);
          keepAlive();
          bench.elapse(3_000);
          continue;
        }
        expect(ports, hint).toContain(port);
        expect(used.has(port), hint).toBe(false);
        used.add(port);
        live.set(key, { remote, port });
      } else {
        // Refused by the remote: the flow is over 16 s later.
        bench.fromMux(tcp(remote, `${VIP}:${known.port}`, "RA"));
        live.delete(key);
        keepAlive();
        bench.elapse(16_000);
        used.delete(known.port);
      }
      expect(bench.agent.telemetry.gauges().flows).toBe(live.size);
    }
  });
});

describe("explaining a flow", () => {
  it("names side, state and translation", () => {
    const bench = withRange(RANGE);
    const tuple = {
      protocol: 6,
      source: DIP as IpAddress,
      sourcePort: 5_000,
      destination: "192.0.2.99" as IpAddress,
      destinationPort: 443,
    };
    const at = { nowMs: bench.nowMs };
    expect(bench.agent.explain(tuple, at)).toMatchObject({
      side: "from-vm",
      drop: null,
      why: "a new flow: it gets a SNAT port of VIP 1",
    });
    const port = portOf(bench.vm(syn(5_000)).toWire);
    expect(bench.agent.explain(tuple, at)).toMatchObject({
      translated: { source: VIP, sourcePort: port },
      flow: { state: "half-open" },
    });
    const back = {
      protocol: 6,
      source: "192.0.2.99" as IpAddress,
      sourcePort: 443,
      destination: vip,
      destinationPort: port,
    };
    expect(bench.agent.explain(back, at)).toMatchObject({
      side: "from-wire",
      dipId: 1,
      translated: { destination: DIP, destinationPort: 5_000 },
    });
    expect(bench.agent.explain({ ...back, sourcePort: 444 }, at)).toMatchObject({ drop: "no_snat_flow" });
    expect(bench.agent.explain({ ...back, destinationPort: 80 }, at)).toMatchObject({
      drop: null,
      translated: { destinationPort: 8_080 },
    });
    expect(bench.agent.explain({ ...tuple, destination: "10.1.1.1" as IpAddress }, at).why).toBe(
      "the destination is internal: not translated",
    );
  });
});
