/**
 * Endpoints of this host: (VIP, protocol, port, DIP) -> DIP port, and back: which endpoint a packet of the machine from
 * (DIP, protocol, DIP port) may belong to, when no NAT entry tells.
 */
import { parseIpv4 } from "../../core/address.js";
import type { VipId } from "../../core/brands.js";
import type { HostEndpointItem } from "../../dataplane/host-items.js";
import { RecordTable } from "../../dataplane/record-table.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";

export class EndpointTable {
  readonly #records: RecordTable;
  readonly #dipPort: Uint16Array;
  readonly #vipId: Uint32Array;
  /** Records by (DIP, protocol, DIP port), as one number; mostly one. */
  readonly #byDipPort = new Map<number, readonly number[]>();

  constructor(capacity: number) {
    this.#records = new RecordTable(capacity);
    this.#dipPort = new Uint16Array(capacity);
    this.#vipId = new Uint32Array(capacity);
  }

  /** Endpoint of VIP:port for this DIP, or `NOT_FOUND`. */
  find(vip: number, protocol: number, port: number, dipId: number): number {
    return this.#records.find(vip, dipId, (protocol << 16) | port);
  }

  /** The one endpoint behind (DIP, protocol, DIP port); `NOT_FOUND` when there is none, or more than one. */
  findOnlyByDipPort(dipId: number, protocol: number, dipPort: number): number {
    const records = this.#byDipPort.get(reverseKey(dipId, protocol, dipPort));
    return records?.length === 1 ? records[0]! : NOT_FOUND;
  }

  vip(endpoint: number): number {
    return this.#records.keyWord(endpoint, 0);
  }

  vipId(endpoint: number): VipId {
    return this.#vipId[endpoint]! as VipId;
  }

  port(endpoint: number): number {
    return this.#records.keyWord(endpoint, 2) & 0xffff;
  }

  dipPort(endpoint: number): number {
    return this.#dipPort[endpoint]!;
  }

  put(item: HostEndpointItem): void {
    const record = this.#records.upsert(parseIpv4(item.vip)!, item.dipId, (item.protocol << 16) | item.port); // IPv4
    this.#dipPort[record] = item.dipPort;
    this.#vipId[record] = item.vipId;
    const key = reverseKey(item.dipId, item.protocol, item.dipPort);
    this.#byDipPort.set(key, [...(this.#byDipPort.get(key) ?? []), record]);
  }

  remove(item: HostEndpointItem): void {
    const record = this.find(parseIpv4(item.vip)!, item.protocol, item.port, item.dipId);
    if (record === NOT_FOUND) return;
    this.#records.remove(record);
    const key = reverseKey(item.dipId, item.protocol, item.dipPort);
    const rest = (this.#byDipPort.get(key) ?? []).filter((other) => other !== record);
    if (rest.length === 0) this.#byDipPort.delete(key);
    else this.#byDipPort.set(key, rest);
  }
}

/** Exact in a double: 32 + 5 + 16 bits. */
const reverseKey = (dipId: number, protocol: number, dipPort: number): number =>
  (dipId * 32 + protocol) * 65_536 + dipPort;
