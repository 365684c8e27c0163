/**
 * FastPath at the MUX: DIP 3 of host 30 leaves as VIP 2 and talks to VIP 1, which is served by DIP 1 of host 10. Once the client
 * has answered the SYN-ACK, both hosts are told, each by its own key.
 */
import { describe, expect, it } from "vitest";
import type { HostId, LogIndex, MuxId } from "../../../core/brands.js";
import type { IpAddress } from "../../../core/brands.js";
import {
  FASTPATH_ADDRESS,
  FASTPATH_MESSAGE_BYTES,
  type FastpathMessage,
  fastpathHostKey,
  INITIATOR,
  readFastpathMessage,
  REDIRECT,
  RESPONDER,
  REVOKE,
} from "../../../dataplane/fastpath-message.js";
import type { MuxItem } from "../../../dataplane/mux-items.js";
import { PacketBatch } from "../../../dataplane/packet-batch.js";
import { formatWords } from "../../../packet/address-words.js";
import type { AddressWords } from "../../../packet/ipv6.js";
import { batchOf, packetsOf, tcp } from "../../packet/packet-kit.js";
import {
  dip,
  equalMembers,
  locatorOf,
  MUX_ADDRESS,
  MuxBench,
  poolItem,
  remove,
  ruleItem,
  SMALL_LAYOUT,
  snatItem,
  upsert,
  VIP,
  vipItem,
} from "./mux-kit.js";

const CLIENT_VIP = "203.0.113.20";
const CLIENT = `${CLIENT_VIP}:10320`; // in range 1290
const SERVER = `${VIP}:80`;
const MASTER = Uint8Array.from({ length: 16 }, (_, i) => i * 7);
const hosted = (dipId: number, hostId: number, locator = locatorOf(dipId)): MuxItem => ({
  kind: "dip",
  dipId: dip(dipId),
  locator,
  hostId: hostId as HostId,
});
const site: readonly MuxItem[] = [
  { kind: "site", hashKey: Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7), muxKey: MASTER },
  {
    kind: "mux",
    muxId: 4 as MuxId,
    name: "mux-4",
    incarnation: 6,
    address: MUX_ADDRESS as IpAddress,
    bootId: "b",
    joinedIndex: 1 as LogIndex,
  },
  vipItem(1, VIP),
  vipItem(2, CLIENT_VIP),
  ruleItem(1, 80),
  poolItem(...equalMembers(1)),
  hosted(1, 10),
  hosted(3, 30),
  snatItem(2, 1_290, 3),
];

/** Messages among packets, with the locator that each went to. */
function messages(
  packets: readonly Uint8Array[],
  hostOf: (locator: string) => number,
): (FastpathMessage & { to: string })[] {
  return packets.flatMap((packet) => {
    const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
    if (view.getInt32(20 + 16) !== FASTPATH_ADDRESS) return [];
    const to = formatWords(0, 0, 0xffff, view.getInt32(16));
    const message = readFastpathMessage(
      packet.subarray(packet.length - FASTPATH_MESSAGE_BYTES),
      fastpathHostKey(MASTER, hostOf(to)),
    );
    expect(message, "signed for the host that it goes to").not.toBeNull();
    return [{ ...message!, to }];
  });
}
const text = (words: AddressWords): string => formatWords(words[0], words[1], words[2], words[3]); // four
const hostOf = (locator: string): number => (locator === "10.0.0.3" ? 30 : 10);

function tick(bench: MuxBench): Uint8Array[] {
  const out = new PacketBatch();
  bench.mux.tick(bench.nowMs, out);
  return packetsOf(out);
}

describe("FastPath at the MUX", () => {
  it("redirects both ends after the handshake, and not before", () => {
    const bench = new MuxBench(site);
    expect(messages(bench.send(tcp(CLIENT, SERVER, "S")), hostOf)).toEqual([]);
    const packets = bench.send(tcp(CLIENT, SERVER, "A"));
    expect(packets, "the segment itself goes on").toHaveLength(3);
    const [first, second] = messages(packets, hostOf);
    expect(first).toMatchObject({
      kind: REDIRECT,
      end: INITIATOR,
      to: "10.0.0.3",
      dipId: 3,
      peerDipId: 1,
      sourcePort: 10_320,
      destinationPort: 80,
      muxId: 4,
      incarnation: 6,
      sequence: 1,
    });
    expect(text(first!.peerLocator)).toBe("10.0.0.1");
    expect(text(first!.source)).toBe(CLIENT_VIP);
    expect(second).toMatchObject({
      kind: REDIRECT,
      end: RESPONDER,
      to: "10.0.0.1",
      dipId: 1,
      peerDipId: 3,
      sequence: 2,
    });
    expect(text(second!.peerLocator)).toBe("10.0.0.3");
    expect(bench.mux.fastpath()).toEqual({ redirected: 1, revoked: 0 });
  });

  it("says it again a second later when segments still come, not for every segment", () => {
    const bench = new MuxBench(site);
    bench.send(tcp(CLIENT, SERVER, "S"));
    bench.send(tcp(CLIENT, SERVER, "A"));
    expect(bench.send(tcp(CLIENT, SERVER, "A"))).toHaveLength(1);
    bench.nowMs += 1_000;
    expect(messages(bench.send(tcp(CLIENT, SERVER, "A")), hostOf).map(({ sequence }) => sequence)).toEqual([3, 4]);
  });

  it.each([
    ["from outside", "198.51.100.7:4000", site],
    ["from a VIP's port that nobody has", `${CLIENT_VIP}:20000`, site],
    [
      "of a rule that keeps its flows",
      CLIENT,
      [...site.filter(({ kind }) => kind !== "rule"), { ...ruleItem(1, 80), fastpath: false }],
    ],
    ["on a site without a master key", CLIENT, [...site.slice(1), { kind: "site", hashKey: new Uint8Array(8) }]],
    ["of a DIP to itself", CLIENT, [...site.filter(({ kind }) => kind !== "snat"), snatItem(2, 1_290, 1)]],
  ] as readonly [string, string, readonly MuxItem[]][])("leaves a flow %s alone", (_, client, items) => {
    const bench = new MuxBench(items);
    bench.send(tcp(client, SERVER, "S"));
    expect(bench.send(tcp(client, SERVER, "A"))).toHaveLength(1);
    expect(bench.mux.fastpath()).toEqual({ redirected: 0, revoked: 0 });
  });

  it("redirects nothing at a reset or FIN", () => {
    const bench = new MuxBench(site);
    bench.send(tcp(CLIENT, SERVER, "S"));
    expect(bench.send(tcp(CLIENT, SERVER, "RA"))).toHaveLength(1);
    expect(bench.send(tcp(CLIENT, SERVER, "FA"))).toHaveLength(1);
  });

  it("takes a flow back when one of its ends moves to another host", () => {
    const bench = new MuxBench(site);
    bench.send(tcp(CLIENT, SERVER, "S"));
    bench.send(tcp(CLIENT, SERVER, "A"));
    expect(tick(bench)).toEqual([]);
    bench.change(upsert(hosted(3, 31, "10.0.7.3" as IpAddress)));
    const told = messages(tick(bench), (locator) => (locator === "10.0.7.3" ? 31 : 10));
    expect(told.map(({ kind, end, to }) => ({ kind, end, to }))).toEqual([
      { kind: REVOKE, end: INITIATOR, to: "10.0.7.3" },
      { kind: REVOKE, end: RESPONDER, to: "10.0.0.1" },
    ]);
    expect(tick(bench), "once").toEqual([]);
    expect(bench.mux.fastpath()).toEqual({ redirected: 1, revoked: 1 });
  });

  it("tells the end that is left when the other's DIP goes", () => {
    const bench = new MuxBench(site);
    bench.send(tcp(CLIENT, SERVER, "S"));
    bench.send(tcp(CLIENT, SERVER, "A"));
    bench.change(remove("dip/1"));
    expect(messages(tick(bench), hostOf).map(({ kind, to }) => ({ kind, to }))).toEqual([
      { kind: REVOKE, to: "10.0.0.3" },
    ]);
  });

  it("takes flows back when their rule keeps them from now on", () => {
    const bench = new MuxBench(site);
    bench.send(tcp(CLIENT, SERVER, "S"));
    bench.send(tcp(CLIENT, SERVER, "A"));
    bench.change(upsert({ ...ruleItem(1, 80), fastpath: false } as MuxItem));
    expect(messages(tick(bench), hostOf).map(({ kind, to }) => ({ kind, to }))).toEqual([
      { kind: REVOKE, to: "10.0.0.3" },
      { kind: REVOKE, to: "10.0.0.1" },
    ]);
    bench.nowMs += 1_000;
    expect(bench.send(tcp(CLIENT, SERVER, "A")), "and tells nobody anew").toHaveLength(1);
  });

  it("leaves a flow alone whose ends have locators of different families", () => {
    const bench = new MuxBench(site, { addressIpv6: "2001:db8:aa::1" as IpAddress });
    bench.change(upsert(hosted(3, 30, "2001:db8:bb::3" as IpAddress)));
    bench.send(tcp(CLIENT, SERVER, "S"));
    expect(bench.send(tcp(CLIENT, SERVER, "A"))).toHaveLength(1);
  });

  const CLIENTS = Array.from({ length: 300 }, (_, i) => `${CLIENT_VIP}:${10_320 + i}`);
  /** Flows of DIP 3, all of them redirected. */
  function redirected(clients: readonly string[]): MuxBench {
    const ranges = Array.from({ length: 40 }, (_, i) => snatItem(2, 1_290 + i, 3));
    const layout = { ...SMALL_LAYOUT, snatRanges: 64, trustedFlows: 512, untrustedFlows: 512 };
    const bench = new MuxBench([...site.filter(({ kind }) => kind !== "snat"), ...ranges], { layout });
    for (const client of clients) {
      bench.send(tcp(client, SERVER, "S"));
      bench.send(tcp(client, SERVER, "A"));
    }
    expect(bench.mux.fastpath()).toEqual({ redirected: clients.length, revoked: 0 });
    return bench;
  }
  const host31 = (n: number): MuxItem => hosted(3, 31, `10.0.7.${n}` as IpAddress);
  /** Ports of the revocations that leave in one tick, with room for `packets`. */
  function revokedIn(bench: MuxBench, packets: number): number[] {
    const out = new PacketBatch({ packets });
    bench.nowMs += 100;
    bench.mux.tick(bench.nowMs++, out);
    const told = messages(packetsOf(out), (locator) => (locator.startsWith("10.0.7.") ? 31 : 10));
    expect(told.every(({ kind }) => kind === REVOKE)).toBe(true);
    return told.filter(({ end }) => end === INITIATOR).map(({ sourcePort }) => sourcePort);
  }

  it("takes back more flows than one batch has room for: none is forgotten", () => {
    const bench = redirected(CLIENTS);
    bench.change(upsert(host31(1)));
    const ports = [revokedIn(bench, 256), revokedIn(bench, 256), revokedIn(bench, 256)];
    expect(ports.map(({ length }) => length)).toEqual([128, 128, 44]);
    expect(new Set(ports.flat()).size).toBe(300);
    expect(bench.mux.fastpath().revoked).toBe(300);
  });

  it("takes back every flow however fast changes come, and none for a move that its redirect knew", () => {
    const clients = CLIENTS.slice(0, 24);
    const bench = redirected(clients);
    bench.change(upsert(host31(1)));
    const ports = [];
    for (let step = 0; step < 6; step++) {
      ports.push(...revokedIn(bench, 16));
      for (const client of clients) bench.send(tcp(client, SERVER, "A")); // what was taken back is redirected anew
      bench.change(upsert(poolItem(...equalMembers(...(step % 2 === 0 ? [1, 3] : [1])))));
    }
    expect(ports.sort()).toEqual(clients.map((client) => Number(client.split(":")[1])).sort());
    for (let step = 0; step < 3; step++) {
      bench.change(upsert(host31(2 + step)));
      const before = ports.length;
      ports.push(...revokedIn(bench, 16));
      expect(ports.length - before).toBe(8);
      for (const client of clients) bench.send(tcp(client, SERVER, "A"));
    }
    expect(new Set(ports.slice(24)), "the walk goes on where it was").toHaveLength(24);
  });

  it.each([
    [2, 1],
    [3, 3],
  ])("says nothing when the segment itself would find no room behind it: room for %i, %i packets", (room, sent) => {
    const bench = new MuxBench(site);
    bench.send(tcp(CLIENT, SERVER, "S"));
    const out = new PacketBatch({ packets: room });
    bench.mux.process(batchOf(tcp(CLIENT, SERVER, "A")), bench.nowMs, out);
    expect(out.count).toBe(sent);
    expect(bench.mux.fastpath().redirected).toBe(sent === 3 ? 1 : 0);
    expect(bench.drops()).toEqual({});
  });

  it("goes on with its flows under a new master key", () => {
    const bench = new MuxBench(site);
    bench.send(tcp(CLIENT, SERVER, "S"));
    bench.send(tcp(CLIENT, SERVER, "A"));
    bench.change(upsert({ ...site[0]!, muxKey: MASTER.map((byte) => byte ^ 1) } as MuxItem));
    bench.nowMs += 1_000;
    expect(bench.send(tcp(CLIENT, SERVER, "A")), "two messages, by the new key").toHaveLength(3);
    expect(bench.mux.telemetry.gauges().flows).toBe(1);
  });

  it("does not walk for changes that move nobody", () => {
    const bench = new MuxBench(site);
    bench.send(tcp(CLIENT, SERVER, "S"));
    bench.send(tcp(CLIENT, SERVER, "A"));
    bench.change(upsert(poolItem(...equalMembers(1, 3))));
    expect(tick(bench)).toEqual([]);
    expect(bench.mux.fastpath().revoked).toBe(0);
  });
});
