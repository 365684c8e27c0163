/** VIPs by address, with their traffic; and rules: (VIP, protocol, port) -> pool. */
import type { VipId } from "../../core/brands.js";
import { RecordTable } from "../../dataplane/record-table.js";
import { mixWords } from "../../dataplane/flow-hash.js";
import type { TrafficCounter } from "../../dataplane/contract.js";
import { NOT_FOUND, WordIndex } from "../../dataplane/word-index.js";

export class VipTable {
  readonly #slots: RecordTable;
  readonly #byAddress: WordIndex;
  readonly #address: Uint32Array;
  readonly announced: Uint8Array;
  readonly packets: Float64Array;
  readonly bytes: Float64Array;

  constructor(capacity: number) {
    this.#slots = new RecordTable(capacity);
    this.#byAddress = new WordIndex(capacity);
    this.#address = new Uint32Array(capacity);
    this.announced = new Uint8Array(capacity);
    this.packets = new Float64Array(capacity);
    this.bytes = new Float64Array(capacity);
  }

  get size(): number {
    return this.#slots.size;
  }

  /** Slot of the VIP with this address, or `NOT_FOUND`. */
  find(address: number): number {
    return this.#byAddress.find(mixWords(address, 0, 0, 0), address, 0, 0, 0);
  }

  vipId(slot: number): VipId {
    return this.#slots.keyWord(slot, 0) as VipId;
  }

  /** Room and uniqueness of addresses were checked by the caller. */
  put(vipId: number, address: number, announced: boolean): void {
    const isNew = this.#slots.find(vipId) === NOT_FOUND;
    const slot = this.#slots.upsert(vipId);
    if (isNew) {
      this.packets[slot] = 0;
      this.bytes[slot] = 0;
    }
    this.#address[slot] = address;
    this.announced[slot] = announced ? 1 : 0;
    this.#byAddress.insert(slot, mixWords(address, 0, 0, 0), address, 0, 0, 0);
  }

  /** First half of a change or a removal: the address leads here no more. */
  unlinkAddress(vipId: number): void {
    const slot = this.#slots.find(vipId);
    if (slot !== NOT_FOUND) this.#byAddress.remove(slot);
  }

  /** Second half of a removal. */
  remove(vipId: number): void {
    const slot = this.#slots.find(vipId);
    if (slot !== NOT_FOUND) this.#slots.remove(slot);
  }

  traffic(): Map<VipId, TrafficCounter> {
    const traffic = new Map<VipId, TrafficCounter>();
    for (let slot = 0; slot < this.#slots.capacity; slot++) {
      if (!this.#slots.isUsed(slot)) continue;
      traffic.set(this.vipId(slot), { packets: this.packets[slot]!, bytes: this.bytes[slot]! });
    }
    return traffic;
  }
}

export class RuleTable {
  readonly #records: RecordTable;
  readonly #poolId: Uint32Array;

  constructor(capacity: number) {
    this.#records = new RecordTable(capacity);
    this.#poolId = new Uint32Array(capacity);
  }

  get size(): number {
    return this.#records.size;
  }

  /** Pool of the exact rule, or 0. */
  find(vipId: number, protocol: number, port: number): number {
    const record = this.#records.find(vipId, (protocol << 16) | port);
    return record === NOT_FOUND ? 0 : this.#poolId[record]!;
  }

  put(vipId: number, protocol: number, port: number, poolId: number): void {
    this.#poolId[this.#records.upsert(vipId, (protocol << 16) | port)] = poolId;
  }

  remove(vipId: number, protocol: number, port: number): void {
    const record = this.#records.find(vipId, (protocol << 16) | port);
    if (record !== NOT_FOUND) this.#records.remove(record);
  }
}
