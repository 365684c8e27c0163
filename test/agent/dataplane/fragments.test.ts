/**
 * Packets in pieces at a host, against a machine that puts them together: whatever the order in which they come, it gets the packets
 * that were sent, translated. What each piece alone looks like is in the fixtures.
 */
import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { createRandom } from "../../../core/random.js";
import type { IpAddress } from "../../../core/brands.js";
import type { HostItem } from "../../../dataplane/host-items.js";
import { buildUdpPacket } from "../../../packet/build.js";
import { fragmentCount, writeFragment } from "../../../packet/fragment.js";
import { createPacketHeader } from "../../../packet/header.js";
import { parseIpHeader } from "../../../packet/parse.js";
import { MuxBench } from "../../mux/dataplane/mux-kit.js";
import * as muxKit from "../../mux/dataplane/mux-kit.js";
import { address, read, SEED } from "../../packet/packet-kit.js";
import { AgentBench, DIP, dipItem, HOST, MUX, outboundItem, rangeItem, remove, upsert, VIP } from "./agent-kit.js";

/** A datagram that may be fragmented. */
function datagram(from: string, to: string, payload: Uint8Array, id: number): Uint8Array {
  const [source = "", sourcePort] = from.split(":");
  const [destination = "", destinationPort] = to.split(":");
  return buildUdpPacket({
    source: address(source),
    destination: address(destination),
    sourcePort: Number(sourcePort),
    destinationPort: Number(destinationPort),
    payload,
    id,
    dontFragment: false,
  });
}

function pieces(packet: Uint8Array, mtu: number): Uint8Array[] {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  const header = createPacketHeader();
  parseIpHeader(view, 0, packet.length, header);
  return Array.from({ length: fragmentCount(header, mtu) }, (_, piece) => {
    const out = new DataView(new ArrayBuffer(mtu));
    return new Uint8Array(out.buffer, 0, writeFragment(view, header, piece, mtu, out, 0)).slice();
  });
}

/** Reassembly by the letter of RFC 791, with none of the product's code: whole datagrams as "flow: digest of the payload", in no order. */
function reassembled(packets: readonly Uint8Array[]): string[] {
  const open = new Map<string, { bytes: Map<number, number>; end: number }>();
  const whole: string[] = [];
  for (const packet of packets) {
    const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
    const key = `${view.getUint32(12)}/${view.getUint32(16)}/${view.getUint16(4)}`;
    const word = view.getUint16(6);
    const record = open.get(key) ?? { bytes: new Map<number, number>(), end: -1 };
    open.set(key, record);
    packet.subarray(20).forEach((byte, i) => record.bytes.set((word & 0x1fff) * 8 + i, byte));
    if ((word & 0x2000) === 0) record.end = (word & 0x1fff) * 8 + packet.length - 20;
    if (record.bytes.size !== record.end) continue;
    open.delete(key);
    const joined = new Uint8Array(20 + record.end);
    joined.set(packet.subarray(0, 20));
    for (const [place, byte] of record.bytes) joined[20 + place] = byte;
    new DataView(joined.buffer).setUint16(2, joined.length);
    new DataView(joined.buffer).setUint16(6, 0);
    new DataView(joined.buffer).setUint16(10, 0);
    let sum = 0;
    for (let i = 0; i < 20; i += 2) sum += joined[i]! * 256 + joined[i + 1]!;
    while (sum > 0xffff) sum = (sum % 65_536) + Math.floor(sum / 65_536);
    new DataView(joined.buffer).setUint16(10, 0xffff - sum);
    whole.push(text(joined));
  }
  return whole;
}

/** Reads the packet, which checks its checksums. */
const text = (packet: Uint8Array): string => {
  const { flow, body } = read(packet);
  return `${flow}: ${digest(body.subarray(8))}`;
};

const digest = (payload: Uint8Array): string => createHash("sha256").update(payload).digest("hex").slice(0, 16);

describe("packets in pieces", () => {
  it("are put together by the machine as they were sent, whatever the order of their pieces, and so are its answers", () => {
    const random = createRandom(SEED);
    const bench = new AgentBench(HOST, { layout: { heldFragments: 64, flows: 512, fragments: 64 } });
    const wanted = { toVm: [] as string[], toWire: [] as string[] };
    const got = { toVm: [] as Uint8Array[], toWire: [] as Uint8Array[] };
    for (let round = 0; round < 300; round++) {
      const inputs: { packet: Uint8Array; fromVm: boolean }[] = [];
      for (let n = 1 + random.below(4); n > 0; n--) {
        const client = `198.51.100.${1 + random.below(5)}:${1_024 + random.below(4)}`;
        const payload = Uint8Array.from({ length: random.below(3_000) }, () => random.below(256));
        const fromVm = random.below(2) === 0;
        const id = round * 8 + n;
        const packet = fromVm ? datagram(`${DIP}:53`, client, payload, id) : datagram(client, `${VIP}:53`, payload, id);
        if (fromVm) wanted.toWire.push(`${VIP}:53 > ${client}: ${digest(payload)}`);
        else wanted.toVm.push(`${client} > ${DIP}:53: ${digest(payload)}`);
        for (const piece of pieces(packet, 200 + random.below(1_300))) inputs.push({ packet: piece, fromVm });
      }
      for (let i = inputs.length - 1; i > 0; i--) {
        const j = random.below(i + 1);
        [inputs[i], inputs[j]] = [inputs[j]!, inputs[i]!];
      }
      for (const { packet, fromVm } of inputs) {
        const sent = fromVm ? bench.vm(packet) : bench.fromMux(packet);
        got.toVm.push(...sent.toVm);
        got.toWire.push(...sent.toWire);
      }
      bench.elapse(10);
    }
    expect(bench.drops(), `seed ${SEED}`).toEqual({});
    expect(reassembled(got.toVm).sort(), `seed ${SEED}`).toEqual(wanted.toVm.sort());
    expect(reassembled(got.toWire).sort(), `seed ${SEED}`).toEqual(wanted.toWire.sort());
  });

  it("of a new flow wait together for a SNAT port, and leave together", () => {
    const bench = new AgentBench();
    const payload = Uint8Array.from({ length: 2_000 }, (_, i) => i & 255);
    const [first, second] = pieces(datagram(`${DIP}:5000`, "192.0.2.99:9000", payload, 7), 1_480);
    expect(bench.vm(first!, second!).toWire).toEqual([]);
    bench.nowMs += 2_500;
    bench.change(upsert(rangeItem(2_000, 1, 17)));
    const { toWire } = bench.elapse(1);
    expect(toWire).toHaveLength(2);
    expect(reassembled(toWire)[0]).toMatch(/^203\.0\.113\.10:160\d\d > 192\.0\.2\.99:9000: /);
    expect(bench.drops()).toEqual({});
  });

  it("of a new flow are given up together when no port comes, and the machine is told", () => {
    const bench = new AgentBench();
    const [first, second] = pieces(datagram(`${DIP}:5000`, "192.0.2.99:9000", new Uint8Array(2_000), 7), 1_480);
    bench.vm(first!, second!);
    const { toVm } = bench.elapse(3_000);
    expect(
      toVm.map((packet) => read(packet).protocol),
      "port unreachable",
    ).toEqual([1]);
    expect(read(toVm[0]!).body[1]).toBe(3);
    expect(bench.drops()).toEqual({ snat_hold_expired: 1, fragment_unmatched: 1 });
  });

  it("of a new flow wait as long as the VIP lets its first one wait", () => {
    const waits = { ...outboundItem(), queueSeconds: 10 } as HostItem;
    const bench = new AgentBench([...HOST.filter(({ kind }) => kind !== "outbound"), waits]);
    const [first, second] = pieces(datagram(`${DIP}:5000`, "192.0.2.99:9000", new Uint8Array(2_000), 7), 1_480);
    expect(bench.vm(second!, first!).toWire).toEqual([]);
    expect(bench.elapse(9_500)).toEqual({ toVm: [], toWire: [] });
    bench.change(upsert(rangeItem(2_000, 1, 17)));
    expect(bench.elapse(1).toWire).toHaveLength(2);
    expect(bench.drops()).toEqual({});
  });

  it("from the wire wait a moment only: nothing there waits for a port", () => {
    const bench = new AgentBench();
    const [first, second] = pieces(datagram("198.51.100.7:4000", `${VIP}:53`, new Uint8Array(2_000), 7), 1_480);
    bench.fromMux(second!);
    bench.elapse(499);
    expect(bench.drops()).toEqual({});
    bench.elapse(1);
    expect(bench.drops()).toEqual({ fragment_unmatched: 1 });
    expect(bench.fromMux(first!).toVm).toHaveLength(1);
  });

  it("leave room to those of other machines, and to those of the other direction", () => {
    const layout = { heldFragments: 16, heldFragmentsPerDip: 4, flows: 512, fragments: 64 };
    const bench = new AgentBench([...HOST, dipItem(2), outboundItem(2)], { layout });
    const later = (from: string, to: string, id: number): Uint8Array =>
      pieces(datagram(from, to, new Uint8Array(2_000), id), 1_480)[1]!;
    for (let id = 1; id <= 10; id++) bench.vm(later(`${DIP}:5000`, "192.0.2.99:9000", id));
    expect(bench.drops()).toEqual({ fragment_table_full: 6 });
    bench.vmOf(2, later("10.0.0.2:5000", "192.0.2.99:9000", 1));
    for (let id = 1; id <= 10; id++) bench.fromMux(later("198.51.100.7:4000", `${VIP}:53`, id));
    expect(bench.drops()).toEqual({ fragment_table_full: 12 });
    expect(bench.agent.telemetry.gauges().entries["fragments-held"]).toBe(9);
    bench.elapse(10_000);
    for (let id = 1; id <= 4; id++) bench.vm(later(`${DIP}:5000`, "192.0.2.99:9000", id));
    expect(bench.drops()["fragment_table_full"], "those that waited in vain are no longer counted").toBe(12);
  });

  it("do not follow a flow that is over", () => {
    const bench = new AgentBench();
    const [first, second] = pieces(datagram("198.51.100.7:4000", `${VIP}:53`, new Uint8Array(2_000), 7), 1_480);
    expect(bench.fromMux(first!).toVm).toHaveLength(1);
    bench.agent.flows.reset({}, () => undefined);
    expect(bench.fromMux(second!).toVm).toEqual([]);
    expect(bench.drops()).toEqual({ fragment_unmatched: 1 });
  });

  it("do not follow another flow that has the place of theirs", () => {
    const bench = new AgentBench();
    const [first, second] = pieces(datagram("198.51.100.7:4000", `${VIP}:53`, new Uint8Array(2_000), 7), 1_480);
    const [answered, rest] = pieces(datagram(`${DIP}:53`, "198.51.100.7:4000", new Uint8Array(2_000), 8), 1_480);
    bench.fromMux(first!);
    expect(bench.vm(answered!).toWire).toHaveLength(1);
    bench.agent.flows.reset({}, () => undefined);
    expect(bench.fromMux(datagram("198.51.100.8:4000", `${VIP}:53`, new Uint8Array(9), 9)).toVm).toHaveLength(1);
    expect(bench.fromMux(second!).toVm).toEqual([]);
    expect(bench.vm(rest!).toWire).toEqual([]);
    expect(bench.drops()).toEqual({ fragment_unmatched: 2 });
  });

  it("never leave with the machine's own address because the table is full", () => {
    const bench = new AgentBench(HOST, { layout: { flows: 0 } });
    const [first, second] = pieces(datagram(`${DIP}:53`, "198.51.100.7:4000", new Uint8Array(2_000), 7), 1_480);
    expect(
      bench.vm(first!).toWire.map((packet) => read(packet).source),
      "by the endpoint",
    ).toEqual([VIP]);
    expect(bench.vm(second!).toWire).toEqual([]);
  });

  it("are forgotten oldest first when more are under way than fit", () => {
    const bench = new AgentBench(HOST, { layout: { flows: 512, fragments: 4, heldFragments: 4 } });
    const sent = Array.from({ length: 6 }, (_, i) =>
      pieces(datagram("198.51.100.7:4000", `${VIP}:53`, new Uint8Array(2_000), 7 + i), 1_480),
    );
    for (const [first] of sent) expect(bench.fromMux(first!).toVm).toHaveLength(1);
    expect(sent.map(([, second]) => bench.fromMux(second!).toVm.length)).toEqual([0, 0, 1, 1, 1, 1]);
  });

  it("lose those of a machine that leaves the host", () => {
    const bench = new AgentBench();
    const [first, second] = pieces(datagram("198.51.100.7:4000", `${VIP}:53`, new Uint8Array(2_000), 7), 1_480);
    bench.fromMux(first!);
    bench.change(remove("dip/1"));
    expect(bench.fromMux(second!).toVm).toEqual([]);
    expect(bench.drops()).toEqual({ not_our_dip: 1 });
  });

  it("come whole from the client to the machine when the MUX had to fragment, or the client did", () => {
    const items = [
      muxKit.siteItem,
      muxKit.vipItem(1, VIP),
      muxKit.ruleItem(1, 53, 17),
      muxKit.poolItem(...muxKit.equalMembers(1)),
      muxKit.dipItem(1),
    ];
    const mux = new MuxBench(items, { address: MUX as IpAddress });
    const bench = new AgentBench();
    const payload = Uint8Array.from({ length: 1_472 }, (_, i) => i & 255);
    const whole = datagram("198.51.100.7:4000", `${VIP}:53`, payload, 7);
    const encapsulated = mux.send(whole);
    expect(whole.length, "it fits the client's path").toBe(1_500);
    expect(encapsulated, "and not the tunnel").toHaveLength(2);
    expect(reassembled(bench.wire(...encapsulated).toVm)).toEqual([
      `198.51.100.7:4000 > ${DIP}:53: ${digest(payload)}`,
    ]);
    const large = datagram("198.51.100.7:4000", `${VIP}:53`, new Uint8Array(4_000), 8);
    const arrived = pieces(large, 1_500)
      .reverse()
      .flatMap((piece) => mux.send(piece))
      .flatMap((packet) => bench.wire(packet).toVm);
    expect(reassembled(arrived)).toHaveLength(1);
    expect(mux.drops()).toEqual({});
    expect(bench.drops()).toEqual({});
  });
});
