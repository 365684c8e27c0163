/**
 * Endpoint-independent mapping of UDP (RFC 4787 §4.1), for VIPs that ask for it: whatever a machine's port sends to, it leaves
 * as one port of the VIP, which no other port of a machine has meanwhile.
 *
 *     (DIP, DIP port, VIP) -> port of the VIP, held while a flow of it lives
 *
 * Who may send to that port is not widened: packets from outside still need a flow with their sender.
 *
 *  (E1) A mapping is one use of a port in `snat-ports.ts`, towards no destination, however many flows share it.
 */
import { RecordTable } from "../../../dataplane/record-table.js";
import { NOT_FOUND } from "../../../dataplane/word-index.js";
import { PROTOCOL_UDP } from "../../../packet/ipv4.js";
import { NO_ADDRESS } from "../addresses.js";
import type { SnatPorts } from "./snat-ports.js";

export class EndpointMappings {
  readonly #ports: SnatPorts;
  readonly #records: RecordTable;
  /** Mapped ports by VIP: what another mapping may not take. */
  readonly #taken: RecordTable;
  readonly #port: Uint16Array;
  readonly #range: Uint32Array;
  readonly #use: Uint32Array;
  readonly #flows: Uint32Array;

  constructor(capacity: number, ports: SnatPorts) {
    this.#ports = ports;
    this.#records = new RecordTable(capacity);
    this.#taken = new RecordTable(capacity);
    this.#port = new Uint16Array(capacity);
    this.#range = new Uint32Array(capacity);
    this.#use = new Uint32Array(capacity);
    this.#flows = new Uint32Array(capacity);
  }

  /** The mapping of this port of the machine, one flow more on it; or `NOT_FOUND`: no port is free. */
  take(dipId: number, slot: number, dipPort: number, vip: number, nowMs: number): number {
    const found = this.#records.find(slot, dipPort, vip);
    if (found !== NOT_FOUND) {
      this.#flows[found]!++;
      return found;
    }
    const port = this.#ports.allocate(this, dipId, slot, vip, PROTOCOL_UDP, NO_ADDRESS, 0, nowMs);
    if (port < 0) return NOT_FOUND;
    const record = this.#records.upsert(slot, dipPort, vip);
    if (record === NOT_FOUND) {
      this.#ports.release(this.#ports.allocatedRange, this.#ports.allocatedUse, nowMs);
      return NOT_FOUND;
    }
    this.#taken.upsert(vip, port); // has room where the mappings have
    this.#port[record] = port;
    this.#range[record] = this.#ports.allocatedRange;
    this.#use[record] = this.#ports.allocatedUse;
    this.#flows[record] = 1;
    return record;
  }

  port(mapping: number): number {
    return this.#port[mapping]!; // of a mapping in use, as below
  }

  range(mapping: number): number {
    return this.#range[mapping]!;
  }

  /** A flow of it has ended; with the last one the port is free. */
  release(mapping: number, nowMs: number): void {
    if (--this.#flows[mapping]! > 0) return;
    this.#taken.remove(this.#taken.find(this.#records.keyWord(mapping, 2), this.#port[mapping]));
    this.#ports.release(this.#range[mapping]!, this.#use[mapping]!, nowMs);
    this.#records.remove(mapping);
  }

  /** For `SnatPorts.allocate`: the port of the VIP is another mapping's. */
  isTaken(_remote: number, vip: number, _remotePort: number, port: number): boolean {
    return this.#taken.find(vip, port) !== NOT_FOUND;
  }
}
