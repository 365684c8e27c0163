/** VIPs by address, with their traffic and what the MUX holds against them when it is overloaded. */
import type { VipId } from "../../core/brands.js";
import type { TrafficCounter } from "../../dataplane/contract.js";
import { mixWords } from "../../dataplane/flow-hash.js";
import { RecordTable } from "../../dataplane/record-table.js";
import { NOT_FOUND, WordIndex } from "../../dataplane/word-index.js";

export class VipTable {
  readonly capacity: number;
  readonly #slots: RecordTable;
  readonly #byAddress: WordIndex;
  readonly announced: Uint8Array;
  /** Weight of the tenant, at least 1. */
  readonly weights: Uint32Array;
  readonly packets: Float64Array;
  readonly bytes: Float64Array;
  /**
   * Share of packets that is dropped for fairness: 0 none, 0x7fff_ffff all. Set by `fairness/fair-share`, read for every
   * packet.
   */
  readonly dropThresholds: Int32Array;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.#slots = new RecordTable(capacity);
    this.#byAddress = new WordIndex(capacity);
    this.announced = new Uint8Array(capacity);
    this.weights = new Uint32Array(capacity);
    this.packets = new Float64Array(capacity);
    this.bytes = new Float64Array(capacity);
    this.dropThresholds = new Int32Array(capacity);
  }

  get size(): number {
    return this.#slots.size;
  }

  /** Slot of the VIP with this address, or `NOT_FOUND`. */
  find(word0: number, word1: number, word2: number, word3: number): number {
    return this.#byAddress.find(mixWords(word0, word1, word2, word3), word0, word1, word2, word3);
  }

  isUsed(slot: number): boolean {
    return this.#slots.isUsed(slot);
  }

  vipId(slot: number): VipId {
    return this.#slots.keyWord(slot, 0) as VipId;
  }

  findId(vipId: number): number {
    return this.#slots.find(vipId);
  }

  /** The four words of the address. */
  address(slot: number): Int32Array {
    return this.#byAddress.keys.subarray(slot * 4, slot * 4 + 4);
  }

  /** Room and uniqueness of addresses were checked by the caller. */
  put(vipId: number, address: Int32Array, announced: boolean, weight: number): void {
    const isNew = this.#slots.find(vipId) === NOT_FOUND;
    const slot = this.#slots.upsert(vipId);
    if (isNew) {
      this.packets[slot] = 0;
      this.bytes[slot] = 0;
      this.dropThresholds[slot] = 0;
    }
    this.announced[slot] = announced ? 1 : 0;
    this.weights[slot] = Math.max(1, weight);
    const [a, b, c, d] = address as unknown as readonly [number, number, number, number];
    this.#byAddress.insert(slot, mixWords(a, b, c, d), a, b, c, d);
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
    for (let slot = 0; slot < this.capacity; slot++) {
      if (!this.#slots.isUsed(slot)) continue;
      traffic.set(this.vipId(slot), { packets: this.packets[slot]!, bytes: this.bytes[slot]! });
    }
    return traffic;
  }
}
