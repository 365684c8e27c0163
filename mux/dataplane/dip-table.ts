/** Where DIPs are: dipId -> slot -> locator, the outer destination. */
import type { DipId } from "../../core/brands.js";
import type { TrafficCounter } from "../../dataplane/contract.js";
import { RecordTable } from "../../dataplane/record-table.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import { isIpv4Words } from "../../packet/address-words.js";

export class DipTable {
  readonly #slots: RecordTable;
  /** Four words per slot. */
  readonly locators: Int32Array;
  /** 1: the locator is IPv6. */
  readonly isIpv6: Uint8Array;
  /** 0: not known. */
  readonly hostIds: Int32Array;
  readonly packets: Float64Array;
  readonly bytes: Float64Array;

  constructor(capacity: number) {
    this.#slots = new RecordTable(capacity);
    this.locators = new Int32Array(capacity * 4);
    this.isIpv6 = new Uint8Array(capacity);
    this.hostIds = new Int32Array(capacity);
    this.packets = new Float64Array(capacity);
    this.bytes = new Float64Array(capacity);
  }

  get size(): number {
    return this.#slots.size;
  }

  /** Slot of a DIP, or `NOT_FOUND`. */
  find(dipId: number): number {
    return this.#slots.find(dipId);
  }

  dipId(slot: number): DipId {
    return this.#slots.keyWord(slot, 0) as DipId;
  }

  /** Answers the slot. A DIP that moved keeps it: its flows follow it to the new host. */
  put(dipId: number, locator: Int32Array, hostId = 0): number {
    const isNew = this.#slots.find(dipId) === NOT_FOUND;
    const slot = this.#slots.upsert(dipId);
    if (isNew) {
      this.packets[slot] = 0;
      this.bytes[slot] = 0;
    }
    this.locators.set(locator, slot * 4);
    this.hostIds[slot] = hostId;
    this.isIpv6[slot] = isIpv4Words(locator[0]!, locator[1]!, locator[2]!) ? 0 : 1;
    return slot;
  }

  remove(dipId: number): void {
    const slot = this.#slots.find(dipId);
    if (slot !== NOT_FOUND) this.#slots.remove(slot);
  }

  traffic(): Map<DipId, TrafficCounter> {
    const traffic = new Map<DipId, TrafficCounter>();
    for (let slot = 0; slot < this.#slots.capacity; slot++) {
      if (!this.#slots.isUsed(slot)) continue;
      traffic.set(this.dipId(slot), { packets: this.packets[slot]!, bytes: this.bytes[slot]! });
    }
    return traffic;
  }
}
