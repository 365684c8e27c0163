/**
 * Events of a data plane, in a ring of numbers: writing one allocates nothing, so an attack that makes an event of every
 * packet costs memory of fixed size. A full ring loses the new event and counts it (D4): the oldest ones say how it began.
 */
import type { DipId, VipId } from "../core/brands.js";
import { type FiveTuple, ipv4FiveTuple } from "../packet/five-tuple.js";
import type { TelemetryEvent, TelemetryEventKind } from "./contract.js";

const KINDS: readonly TelemetryEventKind[] = ["flow-ended", "redirect-due", "snat-miss", "hold", "punt", "conflict"];

export const EVENT_FLOW_ENDED = 0;
export const EVENT_SNAT_MISS = 2;
export const EVENT_HOLD = 3;
export const EVENT_CONFLICT = 5;

const FIELDS = 9;

/** What the addresses of events mean: they are numbers here, and stay valid while an event has them. */
export interface EventAddresses {
  keep(address: number): void;
  release(address: number): void;
  tuple(protocol: number, source: number, sourcePort: number, destination: number, destinationPort: number): FiveTuple;
}

const IPV4_ADDRESSES: EventAddresses = { keep: () => undefined, release: () => undefined, tuple: ipv4FiveTuple };

export class EventRing {
  readonly #cells: Float64Array;
  readonly #capacity: number;
  #first = 0;
  #count = 0;
  #lost = 0;
  readonly #addresses: EventAddresses;

  constructor(capacity: number, addresses: EventAddresses = IPV4_ADDRESSES) {
    this.#addresses = addresses;
    this.#capacity = capacity;
    this.#cells = new Float64Array(capacity * FIELDS);
  }

  get lost(): number {
    return this.#lost;
  }

  push(
    kind: number,
    atMs: number,
    protocol: number,
    source: number,
    sourcePort: number,
    destination: number,
    destinationPort: number,
    vipId: number,
    dipId: number,
  ): void {
    if (this.#count === this.#capacity) {
      this.#lost++;
      return;
    }
    const at = ((this.#first + this.#count) % this.#capacity) * FIELDS;
    const cells = this.#cells;
    this.#addresses.keep(source);
    this.#addresses.keep(destination);
    cells[at] = kind;
    cells[at + 1] = atMs;
    cells[at + 2] = protocol;
    cells[at + 3] = source;
    cells[at + 4] = sourcePort;
    cells[at + 5] = destination;
    cells[at + 6] = destinationPort;
    cells[at + 7] = vipId;
    cells[at + 8] = dipId;
    this.#count++;
  }

  /** Takes out up to `limit` of the oldest events. */
  drain(limit: number): readonly TelemetryEvent[] {
    const events: TelemetryEvent[] = [];
    while (events.length < limit && this.#count > 0) {
      const at = this.#first * FIELDS;
      const cell = (field: number): number => this.#cells[at + field]!; // first < capacity
      events.push({
        kind: KINDS[cell(0)]!, // push was given one of the constants above
        atMs: cell(1),
        tuple: this.#addresses.tuple(cell(2), cell(3), cell(4), cell(5), cell(6)),
        vipId: cell(7) as VipId,
        dipId: cell(8) as DipId,
      });
      this.#addresses.release(cell(3));
      this.#addresses.release(cell(5));
      this.#first = (this.#first + 1) % this.#capacity;
      this.#count--;
    }
    return events;
  }
}
