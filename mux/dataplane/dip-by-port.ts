/**
 * (VIP, protocol, ports) -> DIP. Of inbound NAT, a port. Of source NAT, a range of eight: the way of return traffic is
 * stateless on purpose, one record per range, the same on every MUX, so a reply may come by any of them (Ananta §3.2.3).
 */
import { RecordTable } from "../../dataplane/record-table.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";

export class DipByPort {
  readonly #records: RecordTable;
  readonly #dipId: Int32Array;
  readonly #shift: number;

  /** A range is 2 to the power of `shift` ports, and its number is port >> shift. */
  constructor(capacity: number, shift = 0) {
    this.#records = new RecordTable(capacity);
    this.#dipId = new Int32Array(capacity);
    this.#shift = shift;
  }

  get size(): number {
    return this.#records.size;
  }

  /** DIP that the port leads to, or 0. */
  find(vipId: number, protocol: number, port: number): number {
    if (this.#records.size === 0) return 0;
    const record = this.#records.find(vipId, (protocol << 16) | (port >>> this.#shift));
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
