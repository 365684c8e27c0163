// Other forms of a rule: the VIP held by the machine itself, a VIP that leads back to its caller, all ports, several VIPs to leave by.
import { describe, expect, it } from "vitest";
import type { HostItem } from "../../../dataplane/host-items.js";
import { read, tcp, udp } from "../../packet/packet-kit.js";
import { AgentBench, DIP, dipItem, endpointItem, HOST, outboundItem, rangeItem, upsert, VIP } from "./agent-kit.js";

const CLIENT = "198.51.100.7:40000";

describe("floating IP", () => {
  const floating: HostItem = { ...endpointItem(80, 80), floating: true } as HostItem;

  it("leaves the VIP as destination, and takes the VIP as source of the answer", () => {
    const bench = new AgentBench([...HOST, floating]);
    expect(bench.fromMux(tcp(CLIENT, `${VIP}:80`, "S")).toVm.map(read)).toMatchObject([
      { flow: `${CLIENT} > ${VIP}:80` },
    ]);
    expect(bench.vm(tcp(`${VIP}:80`, CLIENT, "SA")).toWire.map(read)).toMatchObject([
      { flow: `${VIP}:80 > ${CLIENT}` },
    ]);
  });

  it("goes on after a restart, begins nothing from the VIP, and holds for this VIP and machine alone", () => {
    const bench = new AgentBench([...HOST, floating]);
    expect(bench.vm(tcp(`${VIP}:80`, CLIENT, "A")).toWire.map(read)).toMatchObject([{ flow: `${VIP}:80 > ${CLIENT}` }]);
    bench.vm(tcp(`${VIP}:5000`, "192.0.2.99:443", "S"));
    bench.vm(tcp("203.0.113.11:80", CLIENT, "A"));
    expect(bench.drops()).toEqual({ foreign_source: 2 });
    bench.change(upsert(endpointItem(80, 8_080)));
    bench.vm(tcp(`${VIP}:81`, CLIENT, "A"));
    expect(bench.drops()).toEqual({ foreign_source: 3 });
  });
});

describe("a VIP that leads back to the machine that called it", () => {
  it("works: the machine sees a link-local address as the other end, which never reaches the wire", () => {
    const bench = new AgentBench();
    const there = bench.fromMux(tcp(`${DIP}:5000`, `${VIP}:80`, "S"));
    expect(there.toVm.map(read)).toMatchObject([{ flow: `169.254.100.2:5000 > ${DIP}:8080`, flags: "S" }]);
    const back = bench.vm(tcp(`${DIP}:8080`, "169.254.100.2:5000", "SA"));
    expect(back.toVm.map(read)).toMatchObject([{ flow: `${VIP}:80 > ${DIP}:5000`, flags: "SA" }]);
    expect([...there.toWire, ...back.toWire]).toEqual([]);
    expect(bench.fromMux(tcp(`${DIP}:5000`, `${VIP}:80`, "A")).toVm.map(read)).toMatchObject([{ flags: "A" }]);
  });

  it("is dropped and counted where the rule says so: of 200 connections over two members, those to itself", () => {
    const bench = new AgentBench();
    bench.change(upsert({ ...endpointItem(80, 8_080), hairpin: "drop" } as HostItem));
    for (let port = 5_000; port < 5_100; port++) {
      expect(bench.fromMux(tcp(`${DIP}:${port}`, `${VIP}:80`, "S")).toVm).toEqual([]);
      expect(bench.fromMux(tcp(`10.0.0.9:${port}`, `${VIP}:80`, "S")).toVm).toHaveLength(1);
    }
    expect(bench.drops()).toEqual({ hairpin: 100 });
  });

  it("takes the reserved addresses from nobody else", () => {
    const bench = new AgentBench();
    bench.fromMux(tcp("169.254.100.2:5000", `${VIP}:80`, "S"));
    bench.vm(tcp("169.254.100.2:5000", "192.0.2.1:80", "S"));
    bench.vm(tcp(`${DIP}:8080`, "169.254.100.2:1", "A"));
    expect(bench.drops()).toEqual({ reserved_address: 1, foreign_source: 1, no_flow: 1 });
  });
});

describe("a rule for all ports", () => {
  it("keeps the port, behind rules for single ports", () => {
    const bench = new AgentBench([...HOST, endpointItem(0, 0)]);
    for (const [port, dipPort] of [
      [80, 8_080],
      [1, 1],
      [65_535, 65_535],
    ]) {
      expect(bench.fromMux(tcp(CLIENT, `${VIP}:${port}`, "S")).toVm.map(read)).toMatchObject([
        { flow: `${CLIENT} > ${DIP}:${dipPort}` },
      ]);
      expect(bench.vm(tcp(`${DIP}:${dipPort}`, CLIENT, "SA")).toWire.map(read)).toMatchObject([
        { flow: `${VIP}:${port} > ${CLIENT}` },
      ]);
    }
    expect(
      new AgentBench([...HOST, endpointItem(0, 0)]).vm(tcp(`${DIP}:22`, CLIENT, "A")).toWire.map(read),
    ).toMatchObject([{ flow: `${VIP}:22 > ${CLIENT}` }]);
  });
});

describe("several VIPs to leave by", () => {
  const OTHER = "203.0.113.11";
  const both = (selection?: "paired"): readonly HostItem[] => [
    ...HOST.filter((item) => item.kind !== "outbound"),
    ...[VIP, OTHER].flatMap((vip): HostItem[] => [
      { ...outboundItem(1, vip), ...(selection ? { selection } : {}) },
      rangeItem(2_000, 1, 6, vip),
    ]),
  ];
  const vipsUsed = (bench: AgentBench): Set<string> =>
    new Set(
      Array.from({ length: 64 }, (_, i) =>
        bench.vm(tcp(`${DIP}:5000`, `192.0.2.${i + 1}:443`, "S")).toWire.map((packet) => read(packet).source),
      ).flat(),
    );

  it("are used together, spread by destination; the other one when the first has no port left", () => {
    const bench = new AgentBench(both());
    expect(vipsUsed(bench)).toEqual(new Set([VIP, OTHER]));
    const sent = Array.from(
      { length: 17 },
      (_, i) => bench.vm(tcp(`${DIP}:${6_000 + i}`, "192.0.2.200:443", "S")).toWire.length,
    );
    expect(
      sent.reduce((a, b) => a + b),
      "8 ports of each",
    ).toBe(16);
  });

  it("are one only when paired", () => {
    expect(vipsUsed(new AgentBench(both("paired"))).size).toBe(1);
  });
});

describe("tenants with the same addresses", () => {
  it("do not meet: packets go by the locator, and internal prefixes are each tenant's own", () => {
    const bench = new AgentBench([
      ...HOST.filter(({ kind }) => kind !== "dip" && kind !== "internal"),
      { ...dipItem(1, "10.0.0.4", "172.16.0.1"), tenant: "blue" } as HostItem,
      { ...dipItem(2, "10.0.0.4", "172.16.0.2"), tenant: "red" } as HostItem,
      endpointItem(80, 8_080, 2),
      { kind: "internal", prefix: "10.0.0.0/8", tenant: "blue" },
    ]);
    expect(bench.fromMux(tcp(CLIENT, `${VIP}:80`, "S"), "172.16.0.1").toVm).toHaveLength(1);
    expect(bench.fromMux(tcp(CLIENT, `${VIP}:80`, "S"), "172.16.0.2").toVm).toEqual([]);
    expect(bench.vmOf(2, tcp("10.0.0.4:8080", CLIENT, "SA")).toWire.map(read)).toMatchObject([
      { flow: `${VIP}:80 > ${CLIENT}` },
    ]);
    expect(bench.vm(udp("10.0.0.4:5000", "10.0.0.9:53")).toWire).toHaveLength(1);
    expect(bench.vmOf(2, udp("10.0.0.4:5000", "10.0.0.9:53")).toWire, "red has no VIP to leave by").toEqual([]);
  });
});
