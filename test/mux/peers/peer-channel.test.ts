/** What MUXes tell each other, packet by packet: believed once, from whom it is said to be, by whom it is for. */
import { describe, expect, it } from "vitest";
import type { IpAddress, LogIndex, MuxId } from "../../../core/brands.js";
import type { DropReason } from "../../../dataplane/drop-reasons.js";
import { PacketBatch } from "../../../dataplane/packet-batch.js";
import type { MuxItem } from "../../../dataplane/mux-items.js";
import { createMuxDataplane, type MuxDataplane } from "../../../mux/dataplane/mux-dataplane.js";
import { processMark, PEER_MESSAGE_BYTES, peerChannelKey, writePeerMessage } from "../../../mux/peers/peer-message.js";
import { PEER_PORT } from "../../../mux/peers/peer-message.js";
import type { OwnWord } from "../../../mux/peers/peer-channel.js";
import { batchOf, packetsOf, udp } from "../../packet/packet-kit.js";
import { SITE, SMALL_LAYOUT } from "../dataplane/mux-kit.js";

const MASTER = Uint8Array.from({ length: 16 }, (_, i) => 0x30 + i);
const HEADERS = 28;
const WORD: Omit<OwnWord, "bootId"> = { clusterEpoch: 1, index: 10, isLeased: true, isAnnouncing: true };

const addressOf = (muxId: number): IpAddress => `192.0.2.${muxId}` as IpAddress;
const muxItem = (muxId: number, more: { incarnation?: number; bootId?: string } = {}): MuxItem => ({
  kind: "mux",
  muxId: muxId as MuxId,
  name: `mux-${muxId}`,
  incarnation: 1,
  address: addressOf(muxId),
  bootId: `boot-${muxId}`,
  joinedIndex: 1 as LogIndex,
  ...more,
});

class Pool {
  nowMs = 1_000;
  /** Of processes that are not the first of their MUX. */
  readonly boots = new Map<number, string>();
  readonly muxes: readonly MuxDataplane[];
  #index = 1;

  constructor(count: number, master: Uint8Array | null = MASTER) {
    this.muxes = Array.from({ length: count }, (_, at) => this.#make(at + 1));
    const site = SITE.map((item) => (item.kind === "site" && master !== null ? { ...item, muxKey: master } : item));
    const members = Array.from({ length: count }, (_, at) => muxItem(at + 1));
    for (const mux of this.muxes) mux.tables.apply({ kind: "snapshot", items: [...site, ...members] }, 1 as LogIndex);
  }

  #make(muxId: number): MuxDataplane {
    return createMuxDataplane({ address: addressOf(muxId), layout: SMALL_LAYOUT });
  }

  mux(muxId: number): MuxDataplane {
    return this.muxes[muxId - 1]!;
  }

  change(muxId: number, item: MuxItem): void {
    this.mux(muxId).tables.apply({ kind: "changes", changes: [{ op: "upsert", item }] }, ++this.#index as LogIndex);
  }

  /** The messages that it sends now, by receiver. */
  told(muxId: number, word: Partial<OwnWord> = {}): ReadonlyMap<number, Uint8Array> {
    const out = new PacketBatch();
    this.#tell(muxId, word); // it may have begun a life just now
    this.nowMs += 600;
    this.#tell(muxId, word);
    this.mux(muxId).tick(this.nowMs, out);
    return new Map(packetsOf(out).map((packet) => [packet[19]!, packet]));
  }

  /** Control has said what is true of this MUX. */
  #tell(muxId: number, word: Partial<OwnWord> = {}): void {
    const bootId = this.boots.get(muxId) ?? `boot-${muxId}`;
    this.mux(muxId).peers.tell({ ...WORD, bootId, ...word }, this.nowMs);
  }

  /** What it does with the packet: nothing leaves. The reason of a drop, or "believed". */
  takes(muxId: number, packet: Uint8Array): DropReason | "believed" {
    const mux = this.mux(muxId);
    this.#tell(muxId);
    const before = { ...mux.telemetry.counters().drops };
    const { received } = mux.peers.counts(this.nowMs);
    const out = new PacketBatch();
    mux.process(batchOf(packet), this.nowMs, out);
    expect(out.count).toBe(0);
    const { drops } = mux.telemetry.counters();
    const reasons = (Object.keys(drops) as DropReason[]).filter((reason) => drops[reason] > before[reason]);
    expect(reasons.length + mux.peers.counts(this.nowMs).received - received).toBe(1);
    return reasons[0] ?? "believed";
  }
}

/** A packet with other bytes in its payload, and a checksum of UDP that nobody looks at. */
const altered = (packet: Uint8Array, at: number): Uint8Array =>
  packet.map((byte, place) => (place === HEADERS + at ? byte ^ 1 : byte));

/** MUXes to which mux-1 relays what is for ports that it does not know. */
function relayedTo(pool: Pool): ReadonlySet<number> {
  const to = new Set<number>();
  for (let port = 2_000; port < 2_060; port++) {
    const out = new PacketBatch();
    pool.mux(1).process(batchOf(udp(`198.51.100.7:${port}`, "203.0.113.10:5000")), pool.nowMs, out);
    for (const packet of packetsOf(out)) to.add(packet[19]!);
  }
  return to;
}

describe("MUXes of a pool", () => {
  it("tell each peer twice a second, and believe each other once", () => {
    const pool = new Pool(3);
    const messages = pool.told(1);
    expect([...messages.keys()]).toEqual([2, 3]);
    expect(messages.get(2)).toHaveLength(HEADERS + PEER_MESSAGE_BYTES);
    expect(pool.takes(2, messages.get(2)!)).toBe("believed");
    expect(pool.takes(2, messages.get(2)!)).toBe("peer_replayed");
    expect(pool.mux(2).telemetry.counters().drops).toMatchObject({ peer_replayed: 1, peer_forged: 0 });
    expect(pool.mux(2).peers.counts(pool.nowMs)).toEqual({ sent: 0, received: 1, heard: 1 });
    pool.nowMs += 3_000;
    expect(pool.mux(2).peers.counts(pool.nowMs).heard).toBe(0);
    const out = new PacketBatch();
    for (let ms = 0; ms < 10_000; ms += 100) pool.mux(1).tick((pool.nowMs += 100), out);
    expect(out.count / 2).toBe(20);
  });

  it("tell at once when they stop or begin to announce", () => {
    const pool = new Pool(2);
    pool.told(1);
    const out = new PacketBatch();
    pool.nowMs += 50;
    pool.mux(1).peers.tell({ ...WORD, bootId: "boot-1", isAnnouncing: false }, pool.nowMs);
    pool.mux(1).tick(pool.nowMs, out);
    expect(out.count).toBe(1);
  });

  // It was declared lost, and does not hear of that: it has to hear of the others.
  it("go on telling one that is in the pool no more, until its place is taken", () => {
    const pool = new Pool(3);
    const receivers = (): number[] => [...pool.told(1).keys()].sort();
    expect(receivers()).toEqual([2, 3]);
    const gone = { kind: "changes", changes: [{ op: "remove", key: "mux/3" }] } as const;
    pool.mux(1).tables.apply(gone, 9 as LogIndex);
    expect(receivers()).toEqual([2, 3]);
    expect(pool.takes(3, pool.told(1).get(3)!)).toBe("believed");
    expect(pool.takes(1, pool.told(3).get(1)!)).toBe("unknown_peer");
    pool.change(1, muxItem(4));
    expect(receivers()).toEqual([2, 3, 4]);
    const successor = { ...muxItem(5), address: addressOf(3) } as MuxItem;
    pool.change(1, successor);
    expect(pool.takes(3, pool.told(1).get(3)!)).toBe("peer_stale"); // it is for the successor
    pool.mux(1).tables.apply({ kind: "changes", changes: [{ op: "remove", key: "mux/5" }] }, 99 as LogIndex);
    expect(receivers()).toEqual([2, 3, 4]);
  });

  // The old process has not heard yet that it is replaced, or the new one starts before the Managers let it join.
  it("say nothing in the name of another process of the same MUX: its successor is believed from its first word on", () => {
    const pool = new Pool(2);
    expect(pool.takes(2, pool.told(1).get(2)!)).toBe("believed");
    const successor = muxItem(1, { incarnation: 2, bootId: "boot-1-again" });
    for (const mux of [1, 2]) pool.change(mux, successor);
    for (let round = 0; round < 5; round++) expect(pool.told(1).size, "the old process").toBe(0);
    const toItself = new Pool(2);
    toItself.boots.set(1, "boot-1-again");
    expect(toItself.told(1).size, "the new one, before its join").toBe(0);
    toItself.change(1, successor);
    expect(pool.takes(2, toItself.told(1).get(2)!)).toBe("believed");
  });

  it("say nothing without the site's key, before control has said what, and to themselves", () => {
    expect(new Pool(2, null).told(1).size).toBe(0);
    expect(new Pool(1).told(1).size).toBe(0);
    const out = new PacketBatch();
    new Pool(2).mux(1).tick(10_000, out);
    expect(out.count).toBe(0);
  });
});

describe("a message that is not what it says is refused, and counted by why", () => {
  const good = () => {
    const pool = new Pool(3);
    return { pool, message: pool.told(1).get(2)! };
  };

  it("forged: every bit of it is signed, with the pool's key alone", () => {
    const { pool, message } = good();
    for (let at = 0; at < PEER_MESSAGE_BYTES; at++)
      expect(pool.takes(2, altered(message, at)), `byte ${at}`).toBe("peer_forged");
    const other = new Pool(
      3,
      MASTER.map((byte) => byte ^ 1),
    )
      .told(1)
      .get(2)!;
    expect(pool.takes(2, other)).toBe("peer_forged");
    expect(pool.takes(2, udp(`192.0.2.1:${PEER_PORT}`, `192.0.2.2:${PEER_PORT}`, new Uint8Array(3)))).toBe(
      "peer_forged",
    );
    expect(pool.takes(2, message)).toBe("believed");
  });

  it("forged: signed by one MUX in the name of another", () => {
    const { pool } = good();
    const bytes = new Uint8Array(PEER_MESSAGE_BYTES);
    const claim = { ...WORD, from: 3, to: 2, incarnation: 1, sequence: 1 };
    writePeerMessage(bytes, claim, processMark("boot-2"), peerChannelKey(MASTER));
    expect(pool.takes(2, udp(`192.0.2.1:${PEER_PORT}`, `192.0.2.2:${PEER_PORT}`, bytes))).toBe("peer_forged");
    expect(pool.takes(2, udp(`192.0.2.3:${PEER_PORT}`, `192.0.2.2:${PEER_PORT}`, bytes))).toBe("believed");
  });

  it("early: a MUX that starts knows neither the key nor its own place yet, and nobody forged anything", () => {
    const { message } = good();
    expect(new Pool(3, null).takes(2, message)).toBe("peer_early");
    const { pool, message: toTwo } = good();
    pool.mux(2).tables.apply({ kind: "changes", changes: [{ op: "remove", key: "mux/2" }] }, 9 as LogIndex);
    expect(pool.takes(2, toTwo)).toBe("peer_early");
    expect(pool.mux(2).telemetry.counters().drops).toMatchObject({ peer_early: 1, peer_forged: 0 });
  });

  it("of nobody in the pool", () => {
    const { pool, message } = good();
    pool.mux(2).tables.apply({ kind: "changes", changes: [{ op: "remove", key: "mux/1" }] }, 9 as LogIndex);
    expect(pool.takes(2, message)).toBe("unknown_peer");
  });

  it("stale: for another MUX, or for an earlier start of this one", () => {
    const { pool, message } = good();
    const toThree = message.slice();
    toThree[19] = 3; // sent on to mux-3 by somebody in between
    toThree.set([0, 0], 10);
    let sum = 0;
    for (let at = 0; at < 20; at += 2) sum += toThree[at]! * 256 + toThree[at + 1]!;
    const folded = ~((sum & 0xffff) + (sum >>> 16)) & 0xffff;
    toThree.set([folded >>> 8, folded & 255], 10);
    expect(pool.takes(3, toThree)).toBe("peer_stale");
    pool.change(2, muxItem(2, { incarnation: 2, bootId: "boot-2-again" }));
    pool.boots.set(2, "boot-2-again");
    expect(pool.takes(2, message)).toBe("peer_stale");
    expect(pool.mux(2).telemetry.counters().drops).toMatchObject({ peer_stale: 1, peer_forged: 0 });
  });

  it("stale: of an earlier life of its sender; a later one than the tables know is believed", () => {
    const { pool, message } = good();
    pool.change(1, muxItem(1, { incarnation: 2 }));
    const next = pool.told(1).get(2)!;
    expect(pool.takes(2, next)).toBe("believed");
    expect(pool.takes(2, message)).toBe("peer_stale");
    const { pool: other, message: old } = good();
    other.change(2, muxItem(1, { incarnation: 2 }));
    expect(other.takes(2, old)).toBe("peer_stale");
  });

  it("too many of them: signatures are checked a thousand times a second at most", () => {
    const { pool, message } = good();
    const reasons = Array.from({ length: 1_100 }, () => pool.takes(2, altered(message, 40)));
    expect(reasons.filter((reason) => reason === "peer_forged")).toHaveLength(1_000);
    expect(reasons.filter((reason) => reason === "peer_limit")).toHaveLength(100);
    expect(pool.mux(2).telemetry.counters().drops).toMatchObject({ peer_forged: 1_000, peer_limit: 100 });
    pool.nowMs += 1_000;
    expect(pool.takes(2, message)).toBe("believed");
  });

  it("overtaken: it is none, and what the newer one said stands", () => {
    const pool = new Pool(3);
    const first = pool.told(2).get(1)!;
    const second = pool.told(2, { isLeased: false }).get(1)!;
    expect(pool.takes(1, second)).toBe("believed");
    expect(pool.takes(1, first)).toBe("believed");
    expect(pool.takes(1, pool.told(3).get(1)!)).toBe("believed");
    expect([...relayedTo(pool)], "mux-2 said last that its lease is not held").toEqual([3]);
  });
});

describe("a packet for a port that nobody here has", () => {
  it("is relayed to peers that said of late that their lease is held; where none did, to any", () => {
    const pool = new Pool(4);
    expect([...relayedTo(pool)].sort()).toEqual([2, 3, 4]);
    expect(pool.takes(1, pool.told(2).get(1)!)).toBe("believed");
    expect(pool.takes(1, pool.told(3).get(1)!)).toBe("believed");
    expect(pool.takes(1, pool.told(4, { isLeased: false }).get(1)!)).toBe("believed");
    expect([...relayedTo(pool)].sort()).toEqual([2, 3]);
    pool.nowMs += 1_000;
    expect(pool.takes(1, pool.told(2).get(1)!)).toBe("believed");
    pool.nowMs += 1_200; // mux-3 has said nothing for more than 2 s
    expect([...relayedTo(pool)]).toEqual([2]);
  });
});
