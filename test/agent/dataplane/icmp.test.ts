// ICMP through a host: errors find the flow that they quote, both headers are translated; pings leave with an identifier of a VIP.
import { describe, expect, it } from "vitest";
import { checksum } from "../../../packet/checksum.js";
import { writeUnreachable, unreachableBytes } from "../../../packet/icmp.js";
import { writeIpv4Header } from "../../../packet/ipv4.js";
import { address, read, tcp, udp } from "../../packet/packet-kit.js";
import { AgentBench, DIP, HOST, rangeItem, VIP } from "./agent-kit.js";

const CLIENT = "198.51.100.7:40000";

/** An ICMP error of `from` to `to` about `quoted`. */
function error(from: string, to: string, code: number, quoted: Uint8Array, nextHopMtu = 0): Uint8Array {
  const bytes = new Uint8Array(unreachableBytes(20, quoted.length));
  writeUnreachable(
    bytes,
    0,
    { source: address(from), destination: address(to), code, nextHopMtu },
    quoted,
    0,
    20,
    quoted.length,
  );
  return bytes;
}

function ping(from: string, to: string, type: number, id: number): Uint8Array {
  const bytes = new Uint8Array(20 + 8 + 8);
  const view = new DataView(bytes.buffer);
  writeIpv4Header(view, 0, { source: address(from), destination: address(to), protocol: 1, totalBytes: bytes.length });
  view.setUint8(20, type);
  view.setUint16(24, id);
  view.setUint16(22, checksum(view, 20, 16));
  return bytes;
}

/** Addresses and ports of the quoted packet; checks that all checksums are right. */
function quoted(packet: Uint8Array): { readonly outer: string; readonly inner: string; readonly mtu: number } {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  expect(checksum(view, 0, 20), "outer header").toBe(0);
  expect(checksum(view, 20, packet.length - 20), "ICMP").toBe(0);
  expect(checksum(view, 28, 20), "quoted header").toBe(0);
  const ip = (at: number): string => [...packet.subarray(at, at + 4)].join(".");
  return {
    outer: `${ip(12)} > ${ip(16)}`,
    inner: `${ip(40)}:${view.getUint16(48)} > ${ip(44)}:${view.getUint16(50)}`,
    mtu: view.getUint16(26),
  };
}

describe("ICMP errors", () => {
  it('"fragmentation needed" about an inbound flow reaches its machine, which knows the packet again', () => {
    const bench = new AgentBench();
    bench.fromMux(tcp(CLIENT, `${VIP}:80`, "S"));
    const [reply] = bench.vm(tcp(`${DIP}:8080`, CLIENT, "SA")).toWire;
    const { toVm } = bench.fromMux(error("192.0.2.254", VIP, 4, reply!, 1_400));
    expect(toVm.map(quoted)).toEqual([{ outer: `192.0.2.254 > ${DIP}`, inner: `${DIP}:8080 > ${CLIENT}`, mtu: 1_400 }]);
  });

  it("about a SNAT flow likewise, UDP with its checksum", () => {
    const bench = new AgentBench([...HOST, rangeItem(2_000, 1, 17)]);
    const original = udp(`${DIP}:5000`, "192.0.2.53:53");
    const [sent] = bench.vm(original).toWire;
    const { toVm } = bench.fromMux(error("192.0.2.53", VIP, 3, sent!));
    expect(toVm.map(quoted)).toEqual([{ outer: `192.0.2.53 > ${DIP}`, inner: `${DIP}:5000 > 192.0.2.53:53`, mtu: 0 }]);
    expect([...toVm[0]!.subarray(48, 56)], "ports, length and checksum as the machine wrote them").toEqual([
      ...original.subarray(20, 28),
    ]);
  });

  it("of a machine about an inbound flow leaves from the VIP, quoting the VIP", () => {
    const bench = new AgentBench();
    const [arrived] = bench.fromMux(udp(CLIENT, `${VIP}:53`)).toVm;
    const { toWire } = bench.vm(error(DIP, "198.51.100.7", 3, arrived!));
    expect(toWire.map(quoted)).toEqual([{ outer: `${VIP} > 198.51.100.7`, inner: `${CLIENT} > ${VIP}:53`, mtu: 0 }]);
  });

  it("about no flow of ours are dropped, either way", () => {
    const bench = new AgentBench();
    bench.fromMux(error("192.0.2.254", VIP, 4, tcp(`${VIP}:81`, CLIENT, "A"), 1_400));
    bench.fromMux(error("192.0.2.254", VIP, 4, tcp("203.0.113.77:80", CLIENT, "A"), 1_400));
    bench.vm(error(DIP, "198.51.100.7", 3, udp(CLIENT, `${DIP}:9`)));
    expect(bench.drops()).toEqual({ icmp_unmatched: 3 });
  });
});

describe("a ping of a machine", () => {
  it("leaves with an identifier of the DIP's UDP ports, and its reply comes back with the machine's own", () => {
    const bench = new AgentBench([...HOST, rangeItem(2_000, 1, 17)]);
    const [sent] = bench.vm(ping(DIP, "192.0.2.8", 8, 77)).toWire;
    const view = new DataView(sent!.buffer, sent!.byteOffset);
    const id = view.getUint16(24);
    expect(id >>> 3).toBe(2_000);
    expect(read(sent!).source).toBe(VIP);
    expect(checksum(view, 20, 16)).toBe(0);
    const { toVm } = bench.fromMux(ping("192.0.2.8", VIP, 0, id));
    const back = new DataView(toVm[0]!.buffer, toVm[0]!.byteOffset);
    expect([read(toVm[0]!).destination, back.getUint16(24), checksum(back, 20, 16)]).toEqual([DIP, 77, 0]);
    expect(bench.agent.releasableRanges(bench.nowMs, 0), "the range is in use").toEqual([]);
    bench.elapse(130_000);
    expect(bench.agent.releasableRanges(bench.nowMs, 0)).toHaveLength(1);
  });

  it("without a port is lost, and never leaves untranslated", () => {
    const bench = new AgentBench();
    expect(bench.vm(ping(DIP, "192.0.2.8", 8, 77))).toEqual({ toWire: [], toVm: [] });
    expect(bench.fromMux(ping("192.0.2.8", VIP, 0, 5)).toVm).toEqual([]);
    expect(bench.drops()).toEqual({ snat_hold_full: 1, icmp_unmatched: 1 });
  });
});
