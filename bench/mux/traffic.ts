/** Sites and packets for `bench:mux`: made before the clock runs, so that only the pipeline is measured. */
import { assert } from "../../core/assert.js";
import type { DipId, IpAddress, Ipv4, LogIndex, PoolId, VipId } from "../../core/brands.js";
import { formatIpv4 } from "../../core/address.js";
import type { MuxItem } from "../../dataplane/mux-items.js";
import { PacketBatch } from "../../dataplane/packet-batch.js";
import { createMuxDataplane, type MuxDataplane } from "../../mux/dataplane/mux-dataplane.js";
import { writeTcpPacket } from "../../packet/build.js";
import { TCP_ACK, TCP_SYN } from "../../packet/tcp.js";

/** IP packets of 64 bytes: IPv4 and TCP header, 24 bytes of data. */
export const PACKET_BYTES = 64;
export const PACKETS_PER_BATCH = 256;
const PAYLOAD = new Uint8Array(24);
const MEMBERS = 100;
const VIP = 0xcb00710a as Ipv4; // 203.0.113.10
const FIRST_LOCATOR = 0x0a000001;
const FIRST_CLIENT = 0x64400000; // 100.64.0.0
const MUX_ADDRESS = "192.0.2.1" as IpAddress;
const HASH_KEY = Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7);

const ipv4 = (value: number): IpAddress => formatIpv4((value >>> 0) as Ipv4);

/** One VIP with one rule, a pool of 100. */
export function siteOf(
  layout: { readonly trustedFlows?: number; readonly untrustedFlows?: number } = {},
): MuxDataplane {
  const mux = createMuxDataplane({ address: MUX_ADDRESS, layout });
  const members = Array.from({ length: MEMBERS }, (_, i) => ({ dipId: (i + 1) as DipId, weight: 1 }));
  const items: MuxItem[] = [
    { kind: "site", hashKey: HASH_KEY },
    { kind: "vip", vipId: 1 as VipId, address: ipv4(VIP), announced: true },
    { kind: "rule", vipId: 1 as VipId, protocol: 6, port: 80, poolId: 1 as PoolId },
    { kind: "pool", poolId: 1 as PoolId, maxMembers: MEMBERS, members },
    ...members.map(({ dipId }, i): MuxItem => ({ kind: "dip", dipId, locator: ipv4(FIRST_LOCATOR + i) })),
  ];
  assert(mux.tables.apply({ kind: "snapshot", items }, 1 as LogIndex) === "in-force", "the site is in force");
  return mux;
}

export class Traffic {
  readonly mux: MuxDataplane;
  readonly batches: readonly PacketBatch[];
  readonly #keepsFlows: boolean;
  #next = 0;

  constructor(mux: MuxDataplane, batches: readonly PacketBatch[], keepsFlows: boolean) {
    this.mux = mux;
    this.batches = batches;
    this.#keepsFlows = keepsFlows;
  }

  next(): PacketBatch {
    const batch = this.batches[this.#next]!;
    this.#next = (this.#next + 1) % this.batches.length;
    return batch;
  }

  /** Every packet leaves, encapsulated, to a member; and, for known flows, to the same one each time. */
  check(nowMs: number): void {
    const out = new PacketBatch();
    const destinations = new Set<number>();
    for (const batch of this.batches) {
      out.clear();
      this.mux.process(batch, nowMs, out);
      assert(out.count === batch.count, "every packet leaves");
      const first = Array.from({ length: out.count }, (_, i) => out.view.getInt32(out.offsets[i]! + 16));
      for (const destination of first) destinations.add(destination);
      const last = out.count - 1;
      assert(out.lengths[last] === PACKET_BYTES + 20, "an outer header of 20 bytes");
      const inner = out.packet(last).subarray(20);
      assert(
        inner.every((byte, i) => byte === batch.packet(last)[i]),
        "the inner packet is untouched",
      );
      out.clear();
      this.mux.process(batch, nowMs, out);
      first.forEach((destination, i) => {
        assert(out.view.getInt32(out.offsets[i]! + 16) === destination, "a flow keeps its DIP");
      });
    }
    for (const destination of destinations) {
      const place = (destination >>> 0) - FIRST_LOCATOR;
      assert(place >= 0 && place < MEMBERS, "all go to members of the pool");
    }
    if (!this.#keepsFlows) return;
    const packets = this.batches.length * PACKETS_PER_BATCH;
    assert(destinations.size === MEMBERS || packets < 10_000, "all members get flows");
    const { entries } = this.mux.telemetry.gauges();
    const flows = entries["flows-trusted"] ?? 0;
    assert(flows > 0 && (entries["flows-refused"] ?? 0) === 0, "every flow is known and trusted");
  }
}

function batchOf(flows: number, firstFlow: number, flags: number): PacketBatch {
  const batch = new PacketBatch({ packets: PACKETS_PER_BATCH, bytes: PACKETS_PER_BATCH * PACKET_BYTES });
  for (let i = 0; i < PACKETS_PER_BATCH; i++) {
    const flow = (firstFlow + i) % flows;
    const at = batch.reserve(PACKET_BYTES, 0);
    writeTcpPacket(batch.arena, at, {
      source: (FIRST_CLIENT + (flow >>> 5)) as Ipv4,
      sourcePort: 20_000 + (flow & 31) * 7,
      destination: VIP,
      destinationPort: 80,
      flags,
      payload: PAYLOAD,
    });
  }
  return batch;
}

/** Packets of flows that the MUX knows, in turn: every packet is of another flow than the one before. */
export function knownFlows(flows: number): Traffic {
  const mux = siteOf({ trustedFlows: Math.max(1_024, flows), untrustedFlows: 65_536 });
  const out = new PacketBatch();
  const batches: PacketBatch[] = [];
  for (let first = 0; first < flows; first += PACKETS_PER_BATCH) {
    const batch = batchOf(flows, first, TCP_ACK);
    batches.push(batch);
    for (const packets of [batchOf(flows, first, TCP_SYN), batch]) {
      out.clear();
      mux.process(packets, 1, out);
    }
  }
  return new Traffic(mux, batches, true);
}

/** SYNs of a million flows, none of which says more: the untrusted quota is full nearly all the time. */
export function synFlood(): Traffic {
  const flows = 1_000_000;
  const batches: PacketBatch[] = [];
  for (let first = 0; first < flows; first += PACKETS_PER_BATCH) batches.push(batchOf(flows, first, TCP_SYN));
  return new Traffic(siteOf(), batches, false);
}

export interface LargeSite {
  readonly endpoints: number;
  readonly ranges: number;
  check(): void;
}

/** What the paper's MUX holds in 1 GB (Ananta §4): 20,000 endpoints, and 1.6 M SNAT ports, which are 200,000 ranges. */
export function largeSite(): LargeSite {
  const [vips, ports, pools, members, rangesPerVip] = [1_000, 20, 2_000, 10, 200] as const;
  const mux = createMuxDataplane({ address: MUX_ADDRESS });
  function* items(): Iterable<MuxItem> {
    yield { kind: "site", hashKey: HASH_KEY };
    for (let dip = 1; dip <= pools * members; dip++)
      yield { kind: "dip", dipId: dip as DipId, locator: ipv4(FIRST_LOCATOR + dip) };
    for (let pool = 1; pool <= pools; pool++) {
      const own = Array.from({ length: members }, (_, i) => ({
        dipId: ((pool - 1) * members + i + 1) as DipId,
        weight: 1,
      }));
      yield { kind: "pool", poolId: pool as PoolId, maxMembers: members, members: own };
    }
    for (let vip = 1; vip <= vips; vip++) {
      yield { kind: "vip", vipId: vip as VipId, address: ipv4(VIP + vip), announced: true };
      for (let port = 1; port <= ports; port++) {
        const poolId = ((vip * ports + port) % pools) + 1;
        yield { kind: "rule", vipId: vip as VipId, protocol: 6, port, poolId: poolId as PoolId };
      }
      for (let range = 0; range < rangesPerVip; range++) {
        const dipId = ((vip * rangesPerVip + range) % (pools * members)) + 1;
        yield { kind: "snat", vipId: vip as VipId, protocol: 6, range: 1_024 + range, dipId: dipId as DipId };
      }
    }
  }
  const applied = mux.tables.apply({ kind: "snapshot", items: items() }, 1 as LogIndex);
  assert(applied === "in-force", `the large site is in force, not ${applied}`);
  return {
    endpoints: vips * ports,
    ranges: vips * rangesPerVip,
    check: () => {
      const out = new PacketBatch();
      const batch = new PacketBatch();
      for (let vip = 1; vip <= vips; vip += 7) {
        for (const port of [1, ports, 1_024 * 8, (1_024 + rangesPerVip) * 8 - 1]) {
          batch.clear();
          out.clear();
          const fields = { source: FIRST_CLIENT as Ipv4, sourcePort: 1_024, flags: TCP_SYN, payload: PAYLOAD };
          const at = batch.reserve(PACKET_BYTES, 0);
          writeTcpPacket(batch.arena, at, { ...fields, destination: (VIP + vip) as Ipv4, destinationPort: port });
          mux.process(batch, 1, out);
          assert(out.count === 1, `VIP ${vip} forwards port ${port}`);
        }
      }
    },
  };
}
