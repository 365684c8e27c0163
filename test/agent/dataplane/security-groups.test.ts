// Security groups at the host: stateful, by CIDR, by the group of the VIP that a packet came through, and for probes.
import { describe, expect, it } from "vitest";
import { PROBE_SOURCES } from "../../../agent/dataplane/reserved.js";
import type { HostItem, SecurityRuleItem } from "../../../dataplane/host-items.js";
import { PacketBatch } from "../../../dataplane/packet-batch.js";
import { buildTcpPacket } from "../../../packet/build.js";
import { address, read, tcp, udp } from "../../packet/packet-kit.js";
import { AgentBench, DIP, dipItem, endpointItem, HOST, rangeItem, remove, upsert, VIP } from "./agent-kit.js";

const CLIENT = "198.51.100.7:40000";
const rule = (fields: Partial<SecurityRuleItem>): SecurityRuleItem => ({
  direction: "in",
  protocol: "all",
  ports: [],
  peer: "0.0.0.0/0",
  action: "allow",
  priority: 100,
  ...fields,
});
const group = (name: string, ...rules: readonly SecurityRuleItem[]): HostItem => ({
  kind: "group",
  group: name,
  rules,
});
const guardedDip = (...groups: readonly string[]): HostItem => ({ ...dipItem(1), groups }) as HostItem;
const guardedVip = (...groups: readonly string[]): HostItem => ({ ...endpointItem(80, 8_080), groups }) as HostItem;
const SYN = tcp(CLIENT, `${VIP}:80`, "S");

describe("security groups", () => {
  it("attach to a VIP at any time: new flows are filtered at once, open ones go on", () => {
    const bench = new AgentBench();
    expect(bench.fromMux(SYN).toVm).toHaveLength(1);
    bench.change(upsert(group("default/web", rule({ peer: "192.0.2.0/24" }))), upsert(guardedVip("default/web")));
    expect(bench.fromMux(tcp(CLIENT, `${VIP}:80`, "A")).toVm).toHaveLength(1);
    expect(bench.fromMux(tcp("198.51.100.7:40001", `${VIP}:80`, "S")).toVm).toEqual([]);
    expect(bench.fromMux(tcp("192.0.2.7:40001", `${VIP}:80`, "S")).toVm).toHaveLength(1);
    expect(bench.drops()).toEqual({ security_group: 1 });
    bench.change(upsert(endpointItem(80, 8_080)));
    expect(bench.fromMux(tcp("198.51.100.7:40001", `${VIP}:80`, "S")).toVm).toHaveLength(1);
  });

  it("with a group as source admit only what came through the load balancer, with the client's own address", () => {
    const bench = new AgentBench([...HOST, { kind: "internal", prefix: "198.51.100.0/24" }]);
    bench.change(
      upsert(group("default/lb", rule({}))),
      upsert(group("default/backend", rule({ peer: "sg:default/lb" }))),
      upsert(guardedVip("default/lb")),
      upsert(guardedDip("default/backend")),
    );
    expect(bench.wire(tcp(CLIENT, `${DIP}:8080`, "S")).toVm).toEqual([]);
    expect(bench.drops()).toEqual({ security_group: 1 });
    expect(bench.fromMux(SYN).toVm.map(read)).toMatchObject([{ flow: `${CLIENT} > ${DIP}:8080` }]);
    expect(bench.vm(tcp(`${DIP}:8080`, CLIENT, "SA")).toWire.map(read)).toMatchObject([
      { flow: `${VIP}:80 > ${CLIENT}` },
    ]);
  });

  it("are stateful: a denied new flow is dropped, answers to the machine's own flows pass", () => {
    const bench = new AgentBench([...HOST, rangeItem(2_000)]);
    bench.change(upsert(group("default/closed", rule({ action: "deny" }))), upsert(guardedDip("default/closed")));
    expect(bench.fromMux(SYN).toVm).toEqual([]);
    const [out] = bench.vm(tcp(`${DIP}:5000`, "192.0.2.99:443", "S")).toWire;
    const vipPort = read(out!).flow.split(" ")[0]!;
    expect(bench.fromMux(tcp("192.0.2.99:443", vipPort, "SA")).toVm).toHaveLength(1);
    expect(bench.vm(tcp(`${DIP}:5001`, "10.9.9.9:22", "S")).toWire).toHaveLength(1);
    expect(bench.wire(tcp("10.9.9.9:22", `${DIP}:5001`, "SA")).toVm).toHaveLength(1);
    expect(bench.wire(tcp("10.9.9.9:22", `${DIP}:5002`, "SA")).toVm).toEqual([]);
    expect(bench.drops()).toEqual({ security_group: 2 });
  });

  it("filter what the machine begins, once there is a rule for that direction", () => {
    const bench = new AgentBench([...HOST, rangeItem(2_000), rangeItem(2_000, 1, 17)]);
    const out = { direction: "out" } as const;
    bench.change(
      upsert(group("default/egress", rule({ ...out, protocol: "tcp", ports: ["443", "8000-8010"] }))),
      upsert(guardedDip("default/egress")),
    );
    const sent = [443, 8_000, 8_010, 8_011, 80].map(
      (port) => bench.vm(tcp(`${DIP}:5000`, `192.0.2.99:${port}`, "S")).toWire.length,
    );
    expect(sent).toEqual([1, 1, 1, 0, 0]);
    expect(bench.vm(udp(`${DIP}:5000`, "192.0.2.53:443")).toWire).toEqual([]);
    expect(bench.fromMux(SYN).toVm, "no rule inbound: open").toHaveLength(1);
    expect(bench.drops()).toEqual({ security_group: 3 });
  });

  it("decide by the lowest priority number over all groups; of equals a denial wins", () => {
    const bench = new AgentBench();
    bench.change(
      upsert(group("default/a", rule({ priority: 200 }), rule({ priority: 50, peer: "198.51.100.8/32" }))),
      upsert(
        group(
          "default/b",
          rule({ priority: 100, peer: "198.51.100.0/24", action: "deny" }),
          rule({ priority: 200, peer: "192.0.2.1/32", action: "deny" }),
        ),
      ),
      upsert(guardedDip("default/a", "default/b")),
    );
    const arrives = (client: string): number => bench.fromMux(tcp(`${client}:1000`, `${VIP}:80`, "S")).toVm.length;
    expect(["198.51.100.8", "198.51.100.9", "203.0.113.99", "192.0.2.1"].map(arrives)).toEqual([1, 0, 1, 0]);
  });

  it("let nothing pass while a group that is named has not arrived", () => {
    const bench = new AgentBench();
    bench.change(upsert(guardedDip("default/late")));
    expect(bench.fromMux(SYN).toVm).toEqual([]);
    bench.change(upsert(group("default/late", rule({}))));
    expect(bench.fromMux(SYN).toVm).toHaveLength(1);
    bench.change(remove("group/default/late"));
    expect(bench.fromMux(tcp("198.51.100.7:40009", `${VIP}:80`, "S")).toVm).toEqual([]);
  });

  it("have a rule of their own for probes: without it the probe fails, while clients are served", () => {
    const bench = new AgentBench();
    const probe = buildTcpPacket({
      source: address(PROBE_SOURCES.ipv4),
      destination: address(DIP),
      sourcePort: 1_024,
      destinationPort: 8_080,
      flags: 2,
    });
    const probes = (): number => {
      const batch = new PacketBatch();
      batch.append(probe, 1);
      const out = new PacketBatch();
      bench.agent.processFromHost(batch, bench.nowMs, out);
      return out.count;
    };
    bench.change(
      upsert(group("default/g", rule({ ports: ["8080"] }), rule({ peer: "probe" }))),
      upsert(guardedDip("default/g")),
    );
    expect(probes()).toBe(1);
    bench.change(upsert(group("default/g", rule({ ports: ["8080"] }))));
    expect(probes()).toBe(0);
    expect(bench.fromMux(SYN).toVm).toHaveLength(1);
  });
});
