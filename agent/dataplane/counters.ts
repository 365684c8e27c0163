/** Traffic of a host: in all, by drop reason, by DIP slot and by VIP. Numbers that only grow (D4). */
import type { VipId } from "../../core/brands.js";
import type { TrafficCounter } from "../../dataplane/contract.js";
import { DROP_REASONS } from "../../dataplane/drop-reasons.js";
import { RecordTable } from "../../dataplane/record-table.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";

/** A VIP beyond the table's size is not counted. */
export const NO_COUNTER = 0xffff_ffff;

export class HostCounters {
  readonly drops = new Float64Array(DROP_REASONS.length);
  receivedPackets = 0;
  receivedBytes = 0;
  sentPackets = 0;
  sentBytes = 0;
  /** Packets of flows without a NAT entry, which found no room in the table. */
  untracked = 0;
  readonly dipPackets: Float64Array;
  readonly dipBytes: Float64Array;
  readonly #vips: RecordTable;
  readonly #vipPackets: Float64Array;
  readonly #vipBytes: Float64Array;

  constructor(dips: number, vips: number) {
    this.dipPackets = new Float64Array(dips);
    this.dipBytes = new Float64Array(dips);
    this.#vips = new RecordTable(vips);
    this.#vipPackets = new Float64Array(vips);
    this.#vipBytes = new Float64Array(vips);
  }

  /** Place of a VIP's counter, for NAT entries to keep; or `NO_COUNTER`. */
  vipPlace(vipId: number): number {
    const record = this.#vips.upsert(vipId);
    return record === NOT_FOUND ? NO_COUNTER : record;
  }

  /** VIP of a place. */
  vipId(place: number): VipId {
    return (place === NO_COUNTER ? 0 : this.#vips.keyWord(place, 0)) as VipId;
  }

  count(dipSlot: number, vipPlace: number, bytes: number): void {
    this.dipPackets[dipSlot]!++;
    this.dipBytes[dipSlot]! += bytes;
    if (vipPlace === NO_COUNTER) return;
    this.#vipPackets[vipPlace]!++;
    this.#vipBytes[vipPlace]! += bytes;
  }

  vipTraffic(): Map<VipId, TrafficCounter> {
    const traffic = new Map<VipId, TrafficCounter>();
    for (let place = 0; place < this.#vips.capacity; place++) {
      if (!this.#vips.isUsed(place)) continue;
      traffic.set(this.vipId(place), { packets: this.#vipPackets[place]!, bytes: this.#vipBytes[place]! });
    }
    return traffic;
  }
}
