import { describe, expect, it } from "vitest";
import type { HostItem } from "../../../dataplane/host-items.js";
import { encapsulate, read, tcp, udp } from "../../packet/packet-kit.js";
import { AgentBench, DIP, dipItem, endpointItem, HOST, MUX, muxItem, remove, upsert, VIP } from "./agent-kit.js";

const CLIENT = "198.51.100.7:40000";

describe("inbound NAT with direct return", () => {
  it("gives the VM its own port, and the reply the VIP's, straight to the router", () => {
    const bench = new AgentBench();
    const { toVm } = bench.fromMux(tcp(CLIENT, `${VIP}:80`, "S", { mss: 1_460 }));
    expect(toVm.map(read)).toMatchObject([{ flow: `${CLIENT} > ${DIP}:8080`, flags: "S", mss: 1_440 }]);
    const { toWire } = bench.vm(tcp(`${DIP}:8080`, CLIENT, "SA", { mss: 9_000 }));
    expect(toWire.map(read)).toMatchObject([{ flow: `${VIP}:80 > ${CLIENT}`, flags: "SA", mss: 1_440, protocol: 6 }]);
    expect(bench.vm(tcp(`${DIP}:8080`, CLIENT, "A")).toWire.map(read)).toMatchObject([
      { flow: `${VIP}:80 > ${CLIENT}` },
    ]);
  });

  it("serves UDP the same way", () => {
    const bench = new AgentBench();
    expect(bench.fromMux(udp(CLIENT, `${VIP}:53`)).toVm.map(read)).toMatchObject([{ flow: `${CLIENT} > ${DIP}:53` }]);
    expect(bench.vm(udp(`${DIP}:53`, CLIENT)).toWire.map(read)).toMatchObject([{ flow: `${VIP}:53 > ${CLIENT}` }]);
  });

  it("finds the VM by the locator, where the DIP has an address of its own", () => {
    const bench = new AgentBench([...HOST, dipItem(1, DIP, "172.16.0.9")]);
    const { toVm } = bench.fromMux(tcp(CLIENT, `${VIP}:80`, "S"), "172.16.0.9");
    expect(toVm.map(read)).toMatchObject([{ flow: `${CLIENT} > ${DIP}:8080` }]);
    expect(bench.fromMux(tcp(CLIENT, `${VIP}:80`, "S")).toVm).toEqual([]);
    expect(bench.drops()).toEqual({ not_our_dip: 1 });
  });

  it("goes on after a restart that lost its state: mid-stream packets are safe to translate by the rule", () => {
    const bench = new AgentBench();
    expect(bench.fromMux(tcp(CLIENT, `${VIP}:80`, "A")).toVm.map(read)).toMatchObject([
      { flow: `${CLIENT} > ${DIP}:8080` },
    ]);
    expect(new AgentBench().vm(tcp(`${DIP}:8080`, CLIENT, "A")).toWire.map(read)).toMatchObject([
      { flow: `${VIP}:80 > ${CLIENT}` },
    ]);
  });

  it("keeps flows when their endpoint goes, and starts none", () => {
    const bench = new AgentBench();
    bench.fromMux(tcp(CLIENT, `${VIP}:80`, "S"));
    bench.change(remove("endpoint/1/6/80/1"));
    expect(bench.fromMux(tcp(CLIENT, `${VIP}:80`, "A")).toVm).toHaveLength(1);
    expect(bench.vm(tcp(`${DIP}:8080`, CLIENT, "A")).toWire.map(read)).toMatchObject([
      { flow: `${VIP}:80 > ${CLIENT}` },
    ]);
    expect(bench.fromMux(tcp("198.51.100.7:40001", `${VIP}:80`, "S")).toVm).toEqual([]);
    expect(bench.drops()).toEqual({ no_endpoint: 1 });
  });

  it("ends flows when the drain of their endpoint is over: both ends of TCP are reset, other endpoints go on", () => {
    const bench = new AgentBench([...HOST, endpointItem(443, 8_443), endpointItem(0, 0)]);
    const clients = [CLIENT, "198.51.100.7:40001"] as const;
    for (const [at, port] of [80, 443].entries()) {
      bench.fromMux(tcp(clients[at]!, `${VIP}:${port}`, "S"));
      bench.vm(
        tcp(`${DIP}:8${port === 80 ? "080" : "443"}`, clients[at]!, "SA", { sequence: 100, acknowledgement: 1 }),
      );
      bench.fromMux(tcp(clients[at]!, `${VIP}:${port}`, "A", { sequence: 1, acknowledgement: 101 }));
    }
    bench.fromMux(udp(CLIENT, `${VIP}:53`));
    bench.fromMux(tcp(CLIENT, `${VIP}:81`, "S")); // of the endpoint for all ports
    const ended = (port: number, dipPort: number, protocol: 6 | 17 = 6): ReturnType<typeof upsert> =>
      upsert({ ...endpointItem(port, dipPort, 1, VIP, protocol), ended: true } as HostItem);
    bench.change(ended(80, 8_080), ended(53, 53, 17), ended(0, 0));
    const { toWire, toVm } = bench.elapse(1);
    expect(toWire.map(read)).toMatchObject([{ flow: `${VIP}:80 > ${CLIENT}`, flags: "R" }]);
    expect(toVm.map(read)).toMatchObject([{ flow: `${CLIENT} > ${DIP}:8080`, flags: "R" }]);
    expect(bench.agent.endedFlowCounts().get("the drain of the DIP was over")).toBe(3);
    expect(bench.agent.telemetry.gauges().flows, "443 goes on").toBe(1);

    bench.change(ended(80, 8_080));
    expect(bench.fromMux(tcp("198.51.100.8:1024", `${VIP}:80`, "S")).toVm, "none begins").toEqual([]);
    expect(bench.fromMux(udp("198.51.100.8:1024", `${VIP}:53`)).toVm).toEqual([]);
    expect(bench.fromMux(tcp(CLIENT, `${VIP}:80`, "A")).toVm, "the machine resets what is late").toHaveLength(1);
    expect(bench.drops()).toEqual({ drain_ended: 2 });
    bench.change(upsert(endpointItem(80, 8_080)));
    expect(bench.fromMux(tcp("198.51.100.9:1024", `${VIP}:80`, "S")).toVm).toHaveLength(1);
  });

  it("ends flows with their DIP", () => {
    const bench = new AgentBench();
    bench.fromMux(tcp(CLIENT, `${VIP}:80`, "S"));
    bench.change(remove("dip/1"));
    expect(bench.agent.telemetry.gauges().flows).toBe(0);
    const { events } = bench.agent.telemetry.drainEvents(10);
    expect(events).toMatchObject([{ kind: "flow-ended", dipId: 1, vipId: 1, tuple: { source: "198.51.100.7" } }]);
  });

  it("tells flows to two VIPs apart, and refuses a pair that the VM could not", () => {
    const second = "203.0.113.11";
    const bench = new AgentBench([...HOST, endpointItem(80, 8_080, 1, second), endpointItem(81, 8_081, 1, second)]);
    expect(bench.fromMux(tcp(CLIENT, `${VIP}:80`, "S")).toVm).toHaveLength(1);
    expect(bench.fromMux(tcp(CLIENT, `${second}:81`, "S")).toVm).toHaveLength(1);
    expect(bench.vm(tcp(`${DIP}:8081`, CLIENT, "SA")).toWire.map(read)).toMatchObject([
      { flow: `${second}:81 > ${CLIENT}` },
    ]);
    expect(bench.fromMux(tcp(CLIENT, `${second}:80`, "S")).toVm).toEqual([]);
    expect(bench.drops()).toEqual({ flow_conflict: 1 });
  });

  // A flood of SYNs fills at most half of the table with half-open entries; the rest is served without an entry.
  it("serves beyond its table's half-open share without entries", () => {
    const bench = new AgentBench(HOST, { layout: { dips: 4, flows: 20 } });
    for (let port = 1_000; port < 1_100; port++) {
      const client = `198.51.100.7:${port}`;
      expect(bench.fromMux(tcp(client, `${VIP}:80`, "S")).toVm.map(read)).toMatchObject([
        { flow: `${client} > ${DIP}:8080` },
      ]);
      const reply = bench.vm(tcp(`${DIP}:8080`, client, "SA"));
      expect(reply.toWire.map(read)).toMatchObject([{ flow: `${VIP}:80 > ${client}` }]);
    }
    expect(bench.agent.telemetry.gauges().flows).toBe(10);
    expect(bench.drops()).toEqual({});
  });
});

describe("UDP from outside", () => {
  const states = (bench: AgentBench): Record<string, number> => {
    const count: Record<string, number> = {};
    bench.agent.flows.list(0, 10_000, bench.nowMs, (records) => {
      for (const { state } of records) count[state] = (count[state] ?? 0) + 1;
    });
    return count;
  };

  // Any source address will do for a flood of UDP: nobody waits for an answer.
  it("fills at most a quarter of the table while it is not answered; the rest is served without an entry", () => {
    const bench = new AgentBench(HOST, { layout: { dips: 4, flows: 40 } });
    for (let port = 1_000; port < 1_100; port++) {
      const client = `198.51.100.7:${port}`;
      expect(bench.fromMux(udp(client, `${VIP}:53`)).toVm.map(read)).toMatchObject([{ flow: `${client} > ${DIP}:53` }]);
    }
    expect(states(bench)).toEqual({ "udp-unanswered": 10 });
    expect(bench.vm(udp(`${DIP}:53`, "198.51.100.7:1099")).toWire.map(read)).toMatchObject([
      { flow: `${VIP}:53 > 198.51.100.7:1099` },
    ]);
    expect(bench.drops()).toEqual({});
  });

  it("is kept for two minutes once the machine has answered, and 30 s while it has not", () => {
    const bench = new AgentBench();
    bench.fromMux(udp(CLIENT, `${VIP}:53`));
    bench.fromMux(udp("198.51.100.8:40000", `${VIP}:53`));
    bench.vm(udp(`${DIP}:53`, CLIENT));
    bench.fromMux(udp(CLIENT, `${VIP}:53`));
    expect(states(bench)).toEqual({ udp: 1, "udp-unanswered": 1 });
    bench.elapse(31_000);
    expect(states(bench)).toEqual({ udp: 1 });
    bench.elapse(90_000);
    expect(states(bench)).toEqual({});
  });
});

describe("a client that uses its port again", () => {
  const second = "203.0.113.11";
  const twoVips = (): AgentBench => new AgentBench([...HOST, endpointItem(80, 8_080, 1, second)]);
  /** Both sides close, the client first. */
  const runAndClose = (bench: AgentBench, vip: string): void => {
    bench.fromMux(tcp(CLIENT, `${vip}:80`, "S", { sequence: 100 }));
    bench.vm(tcp(`${DIP}:8080`, CLIENT, "SA", { sequence: 500, acknowledgement: 101 }));
    bench.fromMux(tcp(CLIENT, `${vip}:80`, "FA", { sequence: 101, acknowledgement: 501 }));
    bench.vm(tcp(`${DIP}:8080`, CLIENT, "FA", { sequence: 501, acknowledgement: 102 }));
    bench.fromMux(tcp(CLIENT, `${vip}:80`, "A", { sequence: 102, acknowledgement: 502 }));
  };

  // One DIP port serves two VIPs. The client has closed its flow to the first, begun one to the second from the same port,
  // and tries the first again.
  it("towards two VIPs gets no answer with the other's address: the flow that lives keeps the machine's packets", () => {
    const bench = twoVips();
    runAndClose(bench, VIP);
    expect(bench.fromMux(tcp(CLIENT, `${second}:80`, "S")).toVm).toHaveLength(1);
    expect(bench.fromMux(tcp(CLIENT, `${VIP}:80`, "S")).toVm).toEqual([]);
    expect(bench.fromMux(tcp(CLIENT, `${VIP}:80`, "A")).toVm).toEqual([]);
    expect(bench.drops()).toEqual({ flow_conflict: 2 });
    expect(bench.vm(tcp(`${DIP}:8080`, CLIENT, "SA")).toWire.map(read)).toMatchObject([
      { flow: `${second}:80 > ${CLIENT}` },
    ]);
  });

  it("towards the first of two VIPs is served by it again, once the flow to the other is over", () => {
    const bench = twoVips();
    runAndClose(bench, VIP);
    runAndClose(bench, second);
    expect(bench.fromMux(tcp(CLIENT, `${VIP}:80`, "A")).toVm).toEqual([]); // late, and of neither
    expect(bench.fromMux(tcp(CLIENT, `${VIP}:80`, "S")).toVm).toHaveLength(1);
    expect(bench.vm(tcp(`${DIP}:8080`, CLIENT, "SA")).toWire.map(read)).toMatchObject([
      { flow: `${VIP}:80 > ${CLIENT}` },
    ]);
    expect(bench.agent.telemetry.gauges().flows).toBe(2);
  });

  // The client has crashed behind its FIN, and its next connection comes from the same port.
  it("while the old connection is closing begins anew: FINs of the old one end nothing", () => {
    const bench = new AgentBench();
    const state = (): string => {
      let found = "";
      bench.agent.flows.list(0, 10, bench.nowMs, ([record]) => (found = record?.state ?? "none"));
      return found;
    };
    bench.fromMux(tcp(CLIENT, `${VIP}:80`, "S", { sequence: 100 }));
    bench.vm(tcp(`${DIP}:8080`, CLIENT, "SA", { sequence: 500, acknowledgement: 101 }));
    bench.fromMux(tcp(CLIENT, `${VIP}:80`, "FA", { sequence: 101, acknowledgement: 501 }));
    bench.vm(tcp(`${DIP}:8080`, CLIENT, "A", { sequence: 501, acknowledgement: 102 }));
    expect(state()).toBe("closing");
    bench.fromMux(tcp(CLIENT, `${VIP}:80`, "S", { sequence: 9_000 }));
    expect(state()).toBe("half-open");
    bench.vm(tcp(`${DIP}:8080`, CLIENT, "SA", { sequence: 700, acknowledgement: 9_001 }));
    bench.fromMux(tcp(CLIENT, `${VIP}:80`, "A", { sequence: 9_001, acknowledgement: 701 }));
    expect(state()).toBe("established");
    bench.vm(tcp(`${DIP}:8080`, CLIENT, "FA", { sequence: 701, acknowledgement: 9_001 }));
    bench.fromMux(tcp(CLIENT, `${VIP}:80`, "A", { sequence: 9_001, acknowledgement: 702 }));
    expect(state()).toBe("closing");
  });
});

describe("from the wire", () => {
  const syn = tcp(CLIENT, `${VIP}:80`, "S");
  const rows = [
    {
      description: "an encapsulator that is no MUX",
      when: encapsulate(syn, "192.0.2.66", DIP),
      then: "unknown_encapsulator",
    },
    { description: "another host's DIP", when: encapsulate(syn, MUX, "10.0.0.99"), then: "not_our_dip" },
    {
      description: "a port without endpoint",
      when: encapsulate(tcp(CLIENT, "203.0.113.77:80", "S"), MUX, DIP),
      then: "no_endpoint",
    },
    {
      description: "a port that the DIP does not own",
      when: encapsulate(tcp(CLIENT, `${VIP}:20000`, "A"), MUX, DIP),
      then: "not_owned_port",
    },
    { description: "no encapsulation", when: syn, then: "not_encapsulated" },
    {
      description: "congestion marked on what cannot bear it (RFC 6040)",
      when: encapsulate(syn, MUX, DIP, 3),
      then: "bad_encapsulation",
    },
    { description: "half a packet inside", when: encapsulate(syn.slice(0, 30), MUX, DIP), then: "truncated" },
  ];
  it.each(rows)("$description is dropped as $then", ({ when, then }) => {
    const bench = new AgentBench();
    expect(bench.wire(when)).toEqual({ toWire: [], toVm: [] });
    expect(bench.drops()).toEqual({ [then]: 1 });
  });

  it("congestion is marked on the inner packet (RFC 6040)", () => {
    const packet = encapsulate(tcp(CLIENT, `${VIP}:80`, "S", { tos: 2 }), MUX, DIP, 3);
    expect(new AgentBench().wire(packet).toVm.map(read)).toMatchObject([{ tos: 3 }]);
  });

  it("plain packets between machines inside pass as they are", () => {
    const bench = new AgentBench();
    const packet = tcp("10.9.9.9:1000", `${DIP}:8080`, "S", { mss: 1_460 });
    expect(bench.wire(packet).toVm).toEqual([packet]);
    const reply = tcp(`${DIP}:8080`, "10.9.9.9:1000", "SA", { mss: 1_460 });
    expect(bench.vm(reply).toWire).toEqual([reply]);
  });

  it("a MUX that starts again under a new id is known until its last item goes", () => {
    const bench = new AgentBench();
    bench.change(upsert(muxItem(2)));
    bench.change(remove("mux/1"));
    expect(bench.fromMux(syn).toVm).toHaveLength(1);
    bench.change(remove("mux/2"));
    expect(bench.fromMux(syn).toVm).toHaveLength(0);
  });
});

describe("from a VM", () => {
  const rows = [
    {
      description: "a source that is not its own",
      when: tcp("10.0.0.2:5000", "192.0.2.99:443", "S"),
      then: "foreign_source",
    },
    { description: "the VIP as source", when: tcp(`${VIP}:80`, "192.0.2.99:443", "S"), then: "foreign_source" },
    {
      description: "encapsulation of its own making",
      when: encapsulate(tcp(CLIENT, `${VIP}:80`, "S"), DIP, "10.0.0.2"),
      then: "forbidden_protocol",
    },
    { description: "rubbish", when: Uint8Array.of(0x45, 0, 0), then: "truncated" },
  ];
  it.each(rows)("$description is dropped as $then", ({ when, then }) => {
    const bench = new AgentBench();
    expect(bench.vm(when)).toEqual({ toWire: [], toVm: [] });
    expect(bench.drops()).toEqual({ [then]: 1 });
  });

  it("a machine that is not of this host is not heard", () => {
    const bench = new AgentBench();
    expect(bench.vmOf(9, tcp(`${DIP}:5000`, "192.0.2.99:443", "S")).toWire).toEqual([]);
    expect(bench.drops()).toEqual({ unknown_link: 1 });
  });

  it("a DIP without outbound VIP reaches nothing outside", () => {
    const bench = new AgentBench(HOST.filter((item) => item.kind !== "outbound"));
    expect(bench.vm(tcp(`${DIP}:5000`, "192.0.2.99:443", "S"))).toEqual({ toWire: [], toVm: [] });
    expect(bench.drops()).toEqual({ no_outbound_vip: 1 });
  });

  it("mid-stream TCP of a flow that nobody knows is reset towards the VM", () => {
    const bench = new AgentBench();
    const { toVm, toWire } = bench.vm(tcp(`${DIP}:5000`, "192.0.2.99:443", "A", { acknowledgement: 77 }));
    expect(toWire).toEqual([]);
    expect(toVm.map(read)).toMatchObject([{ flow: `192.0.2.99:443 > ${DIP}:5000`, flags: "R" }]);
    expect(bench.drops()).toEqual({ no_flow: 1 });
  });
});
