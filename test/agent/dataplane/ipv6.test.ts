// IPv6 in a host: SNAT, pings, idle connections, and numbers of addresses that are taken back when nobody needs them.
import { describe, expect, it } from "vitest";
import { Addresses, NO_ADDRESS } from "../../../agent/dataplane/addresses.js";
import type { HostEndpointItem, HostItem } from "../../../dataplane/host-items.js";
import { createRandom } from "../../../core/random.js";
import { createPacketHeader } from "../../../packet/header.js";
import { NO_FAULT } from "../../../packet/fault.js";
import { parseIpPacket } from "../../../packet/parse.js";
import { packetOf } from "../../packet/fixtures/notation.js";
import { SEED } from "../../packet/packet-kit.js";
import { AgentBench, dipItem, endpointItem, muxItem, outboundItem, rangeItem, remove, upsert } from "./agent-kit.js";

const VIP = "2001:db8:f::10";
const REMOTE = "2001:db8:9::9";
const MUX = "2001:db8:aa::1";
const LOCATOR = "2001:db8:bb::1";

const ofVip = (item: HostItem): HostItem => ({ ...item, vipId: 1, vip: VIP }) as HostItem;
const HOST: readonly HostItem[] = [
  dipItem(1, "fd00::1", LOCATOR),
  ofVip({ ...(endpointItem(80, 8_080) as HostEndpointItem), idleSeconds: 60 }),
  ofVip(outboundItem()),
  ofVip(rangeItem(1_290)),
  ofVip(rangeItem(1_290, 1, 17)),
  muxItem(1, MUX),
];

const wire = (text: string): Uint8Array => packetOf(`ipip ${MUX} > ${LOCATOR} ( ${text} )`);

/** Addresses, ports and whether the transport checksum is right. */
function read(packet: Uint8Array): {
  readonly from: string;
  readonly to: string;
  readonly flags: number;
  readonly id: number;
} {
  const header = createPacketHeader();
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  expect(parseIpPacket(view, 0, packet.length, header)).toBe(NO_FAULT);
  let sum = header.protocol + packet.length - 40;
  for (let at = 8; at < packet.length; at += 2) sum += packet[at]! * 256 + (packet[at + 1] ?? 0);
  expect(sum % 0xffff, "transport checksum").toBe(0);
  const text = (at: number): string =>
    Array.from({ length: 8 }, (_, group) => view.getUint16(at + group * 2).toString(16)).join(":");
  return {
    from: `${text(8)} ${header.sourcePort}`,
    to: `${text(24)} ${header.destinationPort}`,
    flags: header.tcpFlags,
    id: header.icmpId,
  };
}

const LONG = {
  vip: "2001:db8:f:0:0:0:0:10",
  dip: "fd00:0:0:0:0:0:0:1",
  remote: "2001:db8:9:0:0:0:0:9",
} as const;

describe("IPv6 in a host", () => {
  it("believes either address of a MUX, until the control plane takes it back", () => {
    const known = (addressIpv6?: string): HostItem =>
      ({ ...muxItem(1, "192.0.2.1"), ...(addressIpv6 === undefined ? {} : { addressIpv6 }) }) as HostItem;
    const bench = new AgentBench([...HOST.filter(({ kind }) => kind !== "mux"), known()]);
    const syn = wire(`tcp [${REMOTE}]:1000 > [${VIP}]:80 S`);
    const unknown = (): number => bench.agent.telemetry.counters().drops.unknown_encapsulator;
    expect(bench.wire(syn).toVm).toHaveLength(0);
    expect(unknown()).toBe(1);
    expect(bench.change(upsert(known(MUX)))).toBe("in-force");
    expect(bench.wire(syn).toVm).toHaveLength(1);
    // Another MUX with the same address, as after a change of names: it is known until the last one of it is gone.
    bench.change(upsert({ ...known(MUX), muxId: 2, address: "192.0.2.2" } as HostItem));
    bench.change(upsert(known()));
    expect(bench.wire(syn).toVm).toHaveLength(1);
    bench.change(remove("mux/2"));
    expect(bench.wire(syn).toVm).toHaveLength(0);
    expect(unknown()).toBe(2);
  });

  it("carries a connection of the machine out by a SNAT port and its answer back", () => {
    const bench = new AgentBench(HOST);
    const [out] = bench.vm(packetOf(`tcp [fd00::1]:5000 > [${REMOTE}]:443 S mss=1440`)).toWire;
    const sent = read(out!);
    expect(sent).toMatchObject({ to: `${LONG.remote} 443` });
    const [address, port = ""] = sent.from.split(" ");
    expect(address).toBe(LONG.vip);
    expect(Number(port) >> 3).toBe(1_290);
    const [back] = bench.wire(wire(`tcp [${REMOTE}]:443 > [${VIP}]:${port} SA`)).toVm;
    expect(read(back!)).toMatchObject({ from: `${LONG.remote} 443`, to: `${LONG.dip} 5000` });
    expect(bench.drops()).toEqual({});
    expect(bench.agent.portLedger(1, bench.nowMs)).toMatchObject([
      { vip: VIP, remote: REMOTE, remotePort: 443, inUse: 1, owned: 8 },
    ]);
    bench.agent.flows.list(0, 10, bench.nowMs, (flows) =>
      expect(flows).toMatchObject([{ tuple: { source: VIP, destination: REMOTE } }]),
    );
  });

  it("lets a machine ping, with an identifier of its UDP ports", () => {
    const bench = new AgentBench(HOST);
    const [out] = bench.vm(packetOf(`echo fd00::1 > ${REMOTE} 128 id=77`)).toWire;
    const { id, from } = read(out!);
    expect(from).toBe(`${LONG.vip} 0`);
    expect(id >> 3).toBe(1_290);
    const [back] = bench.wire(wire(`echo ${REMOTE} > ${VIP} 129 id=${id}`)).toVm;
    expect(read(back!)).toMatchObject({ to: `${LONG.dip} 0`, id: 77 });
  });

  it("tells the machine that its ping was refused on the way, with the packet that it knows", () => {
    const bench = new AgentBench(HOST);
    const [out] = bench.vm(packetOf(`echo fd00::1 > ${REMOTE} 128 id=77`)).toWire;
    const { id } = read(out!);
    const error = wire(`icmp 2001:db8:99::1 > ${VIP} 3/0 ( echo ${VIP} > ${REMOTE} 128 id=${id} )`);
    const [back] = bench.wire(error).toVm;
    expect(back).toEqual(packetOf(`icmp 2001:db8:99::1 > fd00::1 3/0 ( echo fd00::1 > ${REMOTE} 128 id=77 )`));
  });

  it("drops an error between addresses that nobody knows, although the packet it quotes has the same ones", () => {
    const bench = new AgentBench(HOST);
    const [a, b] = ["2001:db8:99::1", "2001:db8:66::1"];
    for (let times = 0; times < 3; times++) {
      const { toVm, toWire } = bench.wire(wire(`icmp ${a} > ${b} 3/0 ( echo ${b} > ${a} 128 id=7 )`));
      expect([...toVm, ...toWire]).toEqual([]);
    }
    const [out] = bench.vm(packetOf(`echo fd00::1 > ${REMOTE} 128 id=77`)).toWire;
    expect(out).toBeDefined();
  });

  it("asks an idle connection's machine, and resets both ends when it is dead", () => {
    const bench = new AgentBench(HOST);
    const client = "[2001:db8:7::7]:40000";
    bench.wire(wire(`tcp ${client} > [${VIP}]:80 S seq=9`));
    bench.vm(packetOf(`tcp [fd00::1]:8080 > ${client} SA seq=99 ack=10`));
    bench.wire(wire(`tcp ${client} > [${VIP}]:80 A seq=10 ack=100`));
    const asked = bench.elapse(60_001);
    expect(asked.toVm.map(read)).toMatchObject([{ to: `${LONG.dip} 8080`, flags: 16 }]);
    const ended = bench.elapse(3_001);
    expect(ended.toVm.map(read)).toMatchObject([{ to: `${LONG.dip} 8080`, flags: 4 }]);
    expect(ended.toWire.map(read)).toMatchObject([{ from: `${LONG.vip} 80`, flags: 4 }]);
    expect(bench.agent.endedFlows(1)).toMatchObject([{ tuple: { destination: VIP, destinationPort: 80 } }]);
  });

  it("sends a held packet when a port comes, and tells the machine when none does", () => {
    const bench = new AgentBench(HOST.filter(({ kind }) => kind !== "range"));
    expect(bench.vm(packetOf(`udp [fd00::1]:1 > [${REMOTE}]:9 data=8`)).toWire).toEqual([]);
    bench.change({ op: "upsert", item: ofVip(rangeItem(1_290, 1, 17)) });
    expect(bench.elapse(1).toWire.map(read)).toMatchObject([{ to: `${LONG.remote} 9` }]);
    bench.vm(packetOf(`tcp [fd00::1]:1 > [${REMOTE}]:9 S seq=5`));
    const { toVm } = bench.elapse(3_001);
    expect(toVm.map(read)).toMatchObject([{ from: `${LONG.remote} 9`, flags: 20 }]);
    expect(bench.drops()).toEqual({ snat_hold_expired: 1 });
  });

  it("explains a flow of either family", () => {
    const bench = new AgentBench(HOST);
    const tuple = { protocol: 6, source: "2001:db8:7::7", sourcePort: 1, destination: VIP, destinationPort: 80 };
    const asked = bench.agent.explain(tuple as never, { nowMs: bench.nowMs });
    expect(asked).toMatchObject({ drop: null, translated: { destination: "fd00::1", destinationPort: 8_080 } });
    const nothing = bench.agent.explain({ ...tuple, source: "0.1.2.3" } as never, { nowMs: bench.nowMs });
    expect(nothing).toMatchObject({ drop: "bad_ip_address" });
  });

  it("ends flows with their range and their DIP", () => {
    const bench = new AgentBench(HOST);
    bench.vm(packetOf(`tcp [fd00::1]:5000 > [${REMOTE}]:443 S`));
    bench.change(remove("range/1/6/1290"));
    expect(bench.agent.telemetry.gauges().flows).toBe(0);
    bench.wire(wire(`tcp [2001:db8:7::7]:1 > [${VIP}]:80 S`));
    bench.change(remove("dip/1"));
    expect(bench.agent.telemetry.gauges().flows).toBe(0);
    expect(bench.agent.endedFlows(2).map(({ end }) => end)).toEqual([
      "the DIP left this host",
      "the port range is owned no more",
    ]);
  });
});

describe("numbers of addresses", () => {
  it("name what they named, against a plain map, and are taken back", () => {
    const random = createRandom(SEED);
    const addresses = new Addresses(
      64,
      Uint8Array.from({ length: 8 }, () => random.below(256)),
    );
    const kept = new Map<string, { number: number; times: number }>();
    for (let step = 0; step < 2_000; step++) {
      const text =
        random.below(4) === 0 ? `10.0.0.${random.below(40)}` : `2001:db8::${(random.below(50) + 1).toString(16)}`;
      const entry = kept.get(text);
      if (random.below(2) === 0) {
        const number = addresses.take(text);
        expect(entry === undefined || entry.number === number, `seed ${SEED}`).toBe(true);
        kept.set(text, { number, times: (entry?.times ?? 0) + 1 });
      } else if (entry !== undefined) {
        addresses.release(entry.number);
        if (--entry.times === 0) kept.delete(text);
      }
      for (const [name, { number }] of kept)
        if (addresses.format(number) !== name) throw new Error(`seed ${SEED}: ${name}`);
    }
    expect(addresses.size).toBe([...kept.keys()].filter((text) => text.includes(":")).length);
  });

  it("refuse what no packet may carry, and say when there is no room", () => {
    const addresses = new Addresses(1, new Uint8Array(8));
    for (const text of ["0.0.0.0", "0.1.2.3", "::ffff:10.0.0.1", "nobody"])
      expect(addresses.take(text)).toBe(NO_ADDRESS);
    expect(addresses.take("fd00::1")).not.toBe(NO_ADDRESS);
    expect(addresses.take("fd00::2")).toBe(NO_ADDRESS);
    expect(addresses.take("10.0.0.1")).toBe(0x0a00_0001);
  });
});
