/**
 * How flows ended: who closed, which timer, which change. A ring of numbers, newest over oldest, so that a question that comes
 * minutes later ("why did it break?") has an answer, and a million short flows cost nothing but each other's memory.
 */
import type { DipId, VipId } from "../../core/brands.js";
import type { FiveTuple } from "../../packet/five-tuple.js";
import { type Addresses, NO_ADDRESS } from "./addresses.js";

export const FLOW_ENDS = [
  "closed by the machine first", // then its own TIME-WAIT judges
  "closed by the remote first",
  "reset by the machine",
  "reset by the remote",
  "no answer to the first packet",
  "one side closed, the other never did",
  "idle",
  "idle, and the machine did not answer a keepalive",
  "the DIP left this host",
  "the port range is owned no more",
  "ended by the operator",
  "the drain of the DIP was over",
] as const;

export type FlowEnd = (typeof FLOW_ENDS)[number];

export const END_OWN_CLOSE = 0;
export const END_REMOTE_CLOSE = 1;
export const END_OWN_RESET = 2;
export const END_REMOTE_RESET = 3;
export const END_UNANSWERED = 4;
export const END_HALF_CLOSED = 5;
export const END_IDLE = 6;
export const END_DEAD_MACHINE = 7;
export const END_DIP_GONE = 8;
export const END_RANGE_GONE = 9;
export const END_OPERATOR = 10;
export const END_DRAINED = 11;

export interface EndedFlow {
  /** As its first packet was seen by the outside. */
  readonly tuple: FiveTuple;
  readonly vipId: VipId;
  readonly dipId: DipId;
  readonly end: FlowEnd;
  readonly endedMs: number;
  /** Packets from the machine and to it. */
  readonly packetsOut: number;
  readonly packetsIn: number;
}

const FIELDS = 11;

export class LastWords {
  /** Flows that ended, by place in `FLOW_ENDS`. */
  readonly counts = new Float64Array(FLOW_ENDS.length);
  readonly #cells: Float64Array;
  readonly #capacity: number;
  readonly #addresses: Addresses;
  #written = 0;

  constructor(capacity: number, addresses: Addresses) {
    this.#addresses = addresses;
    this.#capacity = capacity;
    this.#cells = new Float64Array(capacity * FIELDS);
  }

  push(
    end: number,
    endedMs: number,
    protocol: number,
    source: number,
    sourcePort: number,
    destination: number,
    destinationPort: number,
    vipId: number,
    dipId: number,
    packetsOut: number,
    packetsIn: number,
  ): void {
    const at = (this.#written++ % this.#capacity) * FIELDS;
    const cells = this.#cells;
    this.#keep(at + 3, source);
    this.#keep(at + 5, destination);
    cells[at] = end;
    this.counts[end]!++;
    cells[at + 1] = endedMs;
    cells[at + 2] = protocol;
    cells[at + 4] = sourcePort;
    cells[at + 6] = destinationPort;
    cells[at + 7] = vipId;
    cells[at + 8] = dipId;
    cells[at + 9] = packetsOut;
    cells[at + 10] = packetsIn;
  }

  /** An address takes the place of an older one. */
  #keep(cell: number, address: number): void {
    const before = this.#cells[cell]!; // 0 when the place was never written
    this.#addresses.keep(address);
    if (before !== NO_ADDRESS) this.#addresses.release(before);
    this.#cells[cell] = address;
  }

  /** Newest first, up to `limit`, of those that match. Walks the ring: for people. */
  list(limit: number, matches: (flow: EndedFlow) => boolean = () => true): readonly EndedFlow[] {
    const found: EndedFlow[] = [];
    const oldest = Math.max(0, this.#written - this.#capacity);
    for (let n = this.#written - 1; n >= oldest && found.length < limit; n--) {
      const flow = this.#read((n % this.#capacity) * FIELDS);
      if (matches(flow)) found.push(flow);
    }
    return found;
  }

  #read(at: number): EndedFlow {
    const cell = (field: number): number => this.#cells[at + field]!; // at is of a written place
    return {
      tuple: this.#addresses.tuple(cell(2), cell(3), cell(4), cell(5), cell(6)),
      vipId: cell(7) as VipId,
      dipId: cell(8) as DipId,
      end: FLOW_ENDS[cell(0)]!, // push was given one of the constants
      endedMs: cell(1),
      packetsOut: cell(9),
      packetsIn: cell(10),
    };
  }
}
