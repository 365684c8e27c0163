/**
 * Return traffic of source NAT: (VIP, protocol, port >> 3) -> DIP. Stateless on purpose: one record per eight ports, the same
 * on every MUX, so a reply may come by any of them (Ananta §3.2.3).
 */
import { RANGE_SHIFT } from "../../dataplane/layouts.js";
import { RecordTable } from "../../dataplane/record-table.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";

export class SnatTable {
  readonly #records: RecordTable;
  readonly #dipId: Int32Array;

  constructor(capacity: number) {
    this.#records = new RecordTable(capacity);
    this.#dipId = new Int32Array(capacity);
  }

  get size(): number {
    return this.#records.size;
  }

  /** DIP that owns the port's range, or 0. */
  find(vipId: number, protocol: number, port: number): number {
    const record = this.#records.find(vipId, (protocol << 16) | (port >>> RANGE_SHIFT));
    return record === NOT_FOUND ? 0 : this.#dipId[record]!;
  }

  put(vipId: number, protocol: number, range: number, dipId: number): void {
    this.#dipId[this.#records.upsert(vipId, (protocol << 16) | range)] = dipId;
  }

  remove(vipId: number, protocol: number, range: number): void {
    const record = this.#records.find(vipId, (protocol << 16) | range);
    if (record !== NOT_FOUND) this.#records.remove(record);
  }
}
