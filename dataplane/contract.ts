/**
 * What every data plane keeps, whichever way it is built: `userspace` in TypeScript now, one in the kernel later, whose
 * slow path is again this TypeScript. A MUX and a Host Agent are two data planes with different items.
 *
 *     control plane --Tables.apply--> [ tables ]
 *     packets in ----- process ------> [ pipeline ] -----> packets out, or a drop with a named reason
 *                                        [ flows ]
 *     operators, control <---- Flows, Telemetry
 *
 * Invariants
 *  (D1) All of a delta is in force or none of it, and after "in-force" every later packet sees it.
 *  (D2) Flows belong to the data path: no change of tables flushes them as a whole.
 *  (D3) A packet never throws. It leaves, is held for a bounded time, or is counted under a drop reason.
 *  (D4) Counters only grow; an event that found the ring full is counted as lost.
 *  (D5) Same deltas, packets and times: same output, byte for byte. No clock, no chance but a seeded generator.
 */
import type { DipId, LogIndex, VipId } from "../core/brands.js";
import type { FiveTuple } from "../packet/five-tuple.js";
import type { DropReason } from "./drop-reasons.js";
import type { PacketBatch } from "./packet-batch.js";

/** A step of a projection: the whole view, or changes to what is in force. */
export type TableDelta<Item, Change> =
  | { readonly kind: "snapshot"; readonly items: Iterable<Item> }
  | { readonly kind: "changes"; readonly changes: readonly Change[] };

/**
 * "full": a table has no room. "unsupported": this data plane cannot do what an item asks (for example another address
 * family). In both cases nothing was changed, and the index in force is the former one.
 */
export type ApplyResult = "in-force" | "full" | "unsupported";

export interface Tables<Item, Change> {
  /** Puts a delta in force as a whole, by one flip of the generation (D1). `index` never goes back. Takes no packet. */
  apply(delta: TableDelta<Item, Change>, index: LogIndex): ApplyResult;
  /** Index in force; 0: nothing was applied. */
  index(): LogIndex;
  /** Counts flips from 0. */
  generation(): number;
  /** Digest of the items in force, 16 hex digits: equal to that of the sender's view at the same index, see `digest.ts`. */
  digest(): string;
  /** The items in force, in no particular order. For snapshots, tests and people; costs O(items). */
  items(): Iterable<Item>;
  /**
   * Called once by a control process that found this data plane running: it takes over what is in force, flushes nothing,
   * and asks the control plane for what follows `index`. A data plane that starts empty answers index 0.
   */
  adopt(): { readonly index: LogIndex; readonly digest: string };
}

/** One flow as people see it. */
export interface FlowRecord {
  /** As the first packet had it. */
  readonly tuple: FiveTuple;
  readonly vipId: VipId;
  readonly dipId: DipId;
  /** "untrusted", "trusted" in a MUX; state of the NAT entry in an agent. */
  readonly state: string;
  readonly idleMs: number;
}

export interface FlowFilter {
  readonly vipId?: VipId;
  readonly dipId?: DipId;
  readonly protocol?: number;
}

/**
 * Answers come by callback, because a data plane in the kernel cannot answer at once; the userspace one calls back before
 * the call returns. `nowMs` is on the clock of `process`.
 */
export interface Flows {
  lookUp(tuple: FiveTuple, nowMs: number, answer: (flow: FlowRecord | null) => void): void;
  /**
   * Up to `limit` flows from `cursor` on (0: from the start), and the cursor to go on from; null at the end. A flow that
   * lives through the whole listing is listed; one that comes or goes meanwhile may be.
   */
  list(
    cursor: number,
    limit: number,
    nowMs: number,
    answer: (flows: readonly FlowRecord[], next: number | null) => void,
  ): void;
  /** Forgets flows that match every given field; an empty filter matches all. Answers how many. */
  reset(filter: FlowFilter, answer: (count: number) => void): void;
}

export interface TrafficCounter {
  readonly packets: number;
  readonly bytes: number;
}

/** All numbers count from the start of the data plane and only grow (D4); exact to 2^53. */
export interface CounterSnapshot {
  readonly received: TrafficCounter;
  readonly sent: TrafficCounter;
  readonly drops: Readonly<Record<DropReason, number>>;
  readonly vips: ReadonlyMap<VipId, TrafficCounter>;
  readonly dips: ReadonlyMap<DipId, TrafficCounter>;
  readonly eventsLost: number;
}

/** What is now, not since the start. */
export interface GaugeSnapshot {
  readonly flows: number;
  readonly flowCapacity: number;
  /** By kind of table or queue, for example "flows-trusted", "rules", "held-packets". */
  readonly entries: Readonly<Record<string, number>>;
}

export type TelemetryEventKind = "flow-ended" | "redirect-due" | "snat-miss" | "hold" | "punt" | "conflict";

export interface TelemetryEvent {
  readonly kind: TelemetryEventKind;
  readonly atMs: number;
  readonly tuple: FiveTuple;
  /** 0 where none is known. */
  readonly vipId: VipId;
  readonly dipId: DipId;
}

export interface Telemetry {
  counters(): CounterSnapshot;
  gauges(): GaugeSnapshot;
  /** Takes up to `limit` of the oldest events out of the ring; `lost` counts since the start. */
  drainEvents(limit: number): { readonly events: readonly TelemetryEvent[]; readonly lost: number };
}

/** The packet side. `batch` is read only; `out` is appended to and belongs to the caller. */
export interface PacketProcessor {
  /** Handles every packet of `batch`, and appends 0..n packets to `out`. `nowMs` is monotonic, in milliseconds. */
  process(batch: PacketBatch, nowMs: number, out: PacketBatch): void;
  /** What time alone brings about: timeouts, held packets given up. Call at least every 100 ms; bounded work per call. */
  tick(nowMs: number, out: PacketBatch): void;
}
