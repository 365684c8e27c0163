/**
 * Endpoints of this host: (VIP, protocol, port, DIP) -> DIP port, and back: which endpoint a packet of the machine from
 * (DIP, protocol, DIP port) may belong to, when no NAT entry tells.
 */
import type { VipId } from "../../core/brands.js";
import type { HostEndpointItem } from "../../dataplane/host-items.js";
import type { Addresses } from "./addresses.js";
import type { NatState } from "./nat-state.js";
import { RecordTable } from "../../dataplane/record-table.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";

const NO_GROUPS: readonly string[] = [];

export class EndpointTable {
  readonly #addresses: Addresses;
  readonly #records: RecordTable;
  readonly #dipPort: Uint16Array;
  readonly #vipId: Uint32Array;
  readonly #items: (HostEndpointItem | undefined)[] = [];
  /** Endpoints with floating IP of each (DIP, VIP). */
  readonly #floating = new Map<number, number>();
  /** Records by (DIP, protocol, DIP port), as one number; mostly one. */
  readonly #byDipPort = new Map<number, readonly number[]>();

  constructor(capacity: number, addresses: Addresses) {
    this.#addresses = addresses;
    this.#records = new RecordTable(capacity);
    this.#dipPort = new Uint16Array(capacity);
    this.#vipId = new Uint32Array(capacity);
  }

  /** Endpoint of VIP:port for this DIP, or `NOT_FOUND`. */
  find(vip: number, protocol: number, port: number, dipId: number): number {
    const exact = this.#records.find(vip, dipId, (protocol << 16) | port);
    return exact !== NOT_FOUND ? exact : this.#records.find(vip, dipId, protocol << 16); // all ports
  }

  /** There is an endpoint for just this port. */
  hasExact(vip: number, protocol: number, port: number, dipId: number): boolean {
    return this.#records.find(vip, dipId, (protocol << 16) | port) !== NOT_FOUND;
  }

  /** The one endpoint behind (DIP, protocol, DIP port); `NOT_FOUND` when there is none, or more than one. */
  findOnlyByDipPort(dipId: number, protocol: number, dipPort: number): number {
    const records =
      this.#byDipPort.get(reverseKey(dipId, protocol, dipPort)) ?? this.#byDipPort.get(reverseKey(dipId, protocol, 0));
    return records?.length === 1 ? records[0]! : NOT_FOUND;
  }

  vip(endpoint: number): number {
    return this.#records.keyWord(endpoint, 0);
  }

  vipId(endpoint: number): VipId {
    return this.#vipId[endpoint]! as VipId;
  }

  /** Port of the VIP that leads to `dipPort`: the same with an endpoint for all ports. */
  portFor(endpoint: number, dipPort: number): number {
    const port = this.#records.keyWord(endpoint, 2) & 0xffff;
    return port === 0 ? dipPort : port;
  }

  dipPortFor(endpoint: number, port: number): number {
    const dipPort = this.#dipPort[endpoint]!;
    return dipPort === 0 ? port : dipPort;
  }

  isFloating(endpoint: number): boolean {
    return this.#items[endpoint]?.floating === true;
  }

  /** No FastPath for its flows. */
  staysOnMuxes(endpoint: number): boolean {
    return this.#items[endpoint]?.fastpath === false;
  }

  dropsHairpin(endpoint: number): boolean {
    return this.#items[endpoint]?.hairpin === "drop";
  }

  /** No flow begins here: the drain of the DIP is over. */
  isEnded(endpoint: number): boolean {
    return this.#items[endpoint]?.ended === true;
  }

  /** Security groups of the VIP. */
  groups(endpoint: number): readonly string[] {
    return this.#items[endpoint]?.groups ?? NO_GROUPS;
  }

  /** The entry lives as long as the rule says. */
  applyIdle(endpoint: number, nat: NatState, entry: number): void {
    const item = this.#items[endpoint];
    const seconds = item?.idleSeconds;
    nat.setIdle(entry, seconds === undefined ? undefined : seconds * 1_000, item?.idleReset !== false);
  }

  /** The machine of the DIP holds this VIP: it may send from it. */
  isFloatingVip(vip: number, dipId: number): boolean {
    return this.#floating.has(floatingKey(vip, dipId));
  }

  put(item: HostEndpointItem): void {
    const vip = this.#addresses.take(item.vip); // kept until `remove`
    const record = this.#records.upsert(vip, item.dipId, (item.protocol << 16) | item.port);
    this.#dipPort[record] = item.dipPort;
    this.#vipId[record] = item.vipId;
    this.#items[record] = item;
    if (item.floating === true) this.#countFloating(vip, item.dipId, 1);
    const key = reverseKey(item.dipId, item.protocol, item.dipPort);
    this.#byDipPort.set(key, [...(this.#byDipPort.get(key) ?? []), record]);
  }

  remove(item: HostEndpointItem): void {
    const vip = this.#addresses.find(item.vip);
    const record = this.#records.find(vip, item.dipId, (item.protocol << 16) | item.port);
    if (record === NOT_FOUND) return;
    this.#items[record] = undefined;
    if (item.floating === true) this.#countFloating(vip, item.dipId, -1);
    this.#records.remove(record);
    const key = reverseKey(item.dipId, item.protocol, item.dipPort);
    const rest = (this.#byDipPort.get(key) ?? []).filter((other) => other !== record);
    if (rest.length === 0) this.#byDipPort.delete(key);
    else this.#byDipPort.set(key, rest);
    this.#addresses.release(vip);
  }

  #countFloating(vip: number, dipId: number, by: 1 | -1): void {
    const key = floatingKey(vip, dipId);
    const count = (this.#floating.get(key) ?? 0) + by;
    if (count === 0) this.#floating.delete(key);
    else this.#floating.set(key, count);
  }
}

/** Exact in a double: ids are far below 2^21. */
const floatingKey = (vip: number, dipId: number): number => dipId * 0x1_0000_0000 + (vip >>> 0);

/** Exact in a double: 32 + 5 + 16 bits. */
const reverseKey = (dipId: number, protocol: number, dipPort: number): number =>
  (dipId * 32 + protocol) * 65_536 + dipPort;
