/** A small site for MUX tests: two VIPs, a pool of four DIPs, one SNAT range. */
import type { DipId, IpAddress, LogIndex, PoolId, VipId } from "../../../core/brands.js";
import type { ApplyResult } from "../../../dataplane/contract.js";
import type { MuxChange, MuxItem, MuxPoolMember } from "../../../dataplane/mux-items.js";
import {
  createMuxDataplane,
  type MuxDataplane,
  type MuxDataplaneOptions,
} from "../../../mux/dataplane/mux-dataplane.js";
import { PacketBatch } from "../../../dataplane/packet-batch.js";
import { batchOf, packetsOf } from "../../packet/packet-kit.js";

export const VIP = "203.0.113.10";
export const MUX_ADDRESS = "192.0.2.1";
export const POOL = 5 as PoolId;

export const SMALL_LAYOUT = {
  vips: 16,
  rules: 16,
  pools: 16,
  dips: 16,
  snatRanges: 16,
  trustedFlows: 64,
  untrustedFlows: 16,
} as const;

export const dip = (dipId: number): DipId => dipId as DipId;
export const locatorOf = (dipId: number): IpAddress => `10.0.0.${dipId}` as IpAddress;

export const vipItem = (vipId: number, address: string): MuxItem => ({
  kind: "vip",
  vipId: vipId as VipId,
  address: address as IpAddress,
  announced: true,
});
export const ruleItem = (vipId: number, port: number, protocol: 6 | 17 = 6, poolId: number = POOL): MuxItem => ({
  kind: "rule",
  vipId: vipId as VipId,
  protocol,
  port,
  poolId: poolId as PoolId,
});
export const poolItem = (...members: readonly MuxPoolMember[]): MuxItem => ({
  kind: "pool",
  poolId: POOL,
  maxMembers: 10,
  members,
});
export const equalMembers = (...dipIds: readonly number[]): MuxPoolMember[] =>
  dipIds.map((dipId) => ({ dipId: dip(dipId), weight: 1 }));
export const dipItem = (dipId: number, locator: string = locatorOf(dipId)): MuxItem => ({
  kind: "dip",
  dipId: dip(dipId),
  locator: locator as IpAddress,
});
export const snatItem = (vipId: number, range: number, dipId: number, protocol: 6 | 17 = 6): MuxItem => ({
  kind: "snat",
  vipId: vipId as VipId,
  protocol,
  range,
  dipId: dip(dipId),
});
export const siteItem: MuxItem = { kind: "site", hashKey: Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7) };

export const upsert = (item: MuxItem): MuxChange => ({ op: "upsert", item });
export const remove = (key: string): MuxChange => ({ op: "remove", key });

/** VIP 1 has rules for TCP 80 and UDP 53 on DIPs 1..4, and range 1290 (ports 10320..10327) of DIP 3. */
export const SITE: readonly MuxItem[] = [
  siteItem,
  vipItem(1, VIP),
  ruleItem(1, 80),
  ruleItem(1, 53, 17),
  poolItem(...equalMembers(1, 2, 3, 4)),
  dipItem(1),
  dipItem(2),
  dipItem(3),
  dipItem(4),
  snatItem(1, 1_290, 3),
];

export class MuxBench {
  readonly mux: MuxDataplane;
  nowMs = 1_000;
  #index = 0;
  readonly #out = new PacketBatch();

  constructor(items: readonly MuxItem[] = SITE, options: Partial<MuxDataplaneOptions> = {}) {
    this.mux = createMuxDataplane({ address: MUX_ADDRESS as IpAddress, layout: SMALL_LAYOUT, ...options });
    this.snapshot(items);
  }

  snapshot(items: readonly MuxItem[]): ApplyResult {
    return this.mux.tables.apply({ kind: "snapshot", items }, ++this.#index as LogIndex);
  }

  change(...changes: readonly MuxChange[]): ApplyResult {
    return this.mux.tables.apply({ kind: "changes", changes }, ++this.#index as LogIndex);
  }

  send(...packets: readonly Uint8Array[]): Uint8Array[] {
    this.#out.clear();
    this.mux.process(batchOf(...packets), this.nowMs, this.#out);
    return packetsOf(this.#out);
  }

  elapse(ms: number): void {
    this.nowMs += ms;
    this.mux.tick(this.nowMs, new PacketBatch());
  }

  /** Drop reasons counted so far, those above 0. */
  drops(): Record<string, number> {
    return Object.fromEntries(Object.entries(this.mux.telemetry.counters().drops).filter(([, count]) => count > 0));
  }
}
