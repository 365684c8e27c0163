/**
 * Puts what the Managers say in force, in order, with the disk in between:
 *
 *     update or grant --> queue --> new ranges on disk, one fsync for all that waits --> tables --> acknowledged
 *                                                                                       `--> ranges gone: stopped
 *
 *  (F1) A range is used only once it is in the durable record (H1).
 *  (F2) Updates are put in force in the order in which they came; one that fails takes those behind it along.
 *  (F3) A range that is being given back is stopped in the data plane and not in the record: it is not put back by an
 *       update that does not know of the release yet.
 *  (F4) A range leaves the record only when we give it back or a welcome refuses it. One that the view does not show any
 *       more is not used, but declared: ownership outlives a deleted VIP, and a VIP that is made again brings it back.
 *       Declaring too much is harmless, since the welcome says what is not ours.
 */
import type { DipId, IpAddress, LogIndex } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import type { Tables } from "../../dataplane/contract.js";
import type { HostChange, HostItem, HostRangeItem } from "../../dataplane/host-items.js";
import type { PortProtocol } from "../../dataplane/mux-items.js";
import { tableIndexOf, type Position, type ReceivedDelta } from "../../dataplane/projection-receiver.js";
import type { Log } from "../../runtime/env.js";
import { isHeldFor, rangeName, type HeldRange } from "./held-range.js";
import type { HeldRanges } from "./held-ranges.js";
import { HostView } from "./host-view.js";

type RangeName = Pick<HeldRange, "vip" | "protocol" | "range">;

/** The part of the data plane that stops single ranges. */
export interface RangeStops {
  stopRange(vip: IpAddress, protocol: PortProtocol, range: number): boolean;
  resumeRange(vip: IpAddress, protocol: PortProtocol, range: number): void;
}

type Work =
  | { readonly kind: "update"; readonly received: ReceivedDelta<HostItem> }
  | { readonly kind: "granted"; readonly items: readonly HostRangeItem[]; readonly index: LogIndex }
  /** Declared, but not ours (Welcome); as of `position`. */
  | { readonly kind: "refused"; readonly ranges: readonly RangeName[]; readonly position: Position }
  /** Not given back after all: used again if the view still shows it. */
  | { readonly kind: "resume"; readonly ranges: readonly HeldRange[] };

export interface InForceEvents {
  /** The tables show `position` now: it may be acknowledged. */
  inForce(position: Position, isWholeView: boolean): void;
  /** Nothing more is waiting. */
  settled(): void;
  /** Only a whole view helps. */
  outOfStep(reason: string): void;
  /** The record cannot be written: nothing new is used any more, and the process has to end. */
  failed(error: AnantaError): void;
}

export class InForce {
  readonly view = new HostView();
  readonly #tables: Tables<HostItem, HostChange>;
  readonly #stops: RangeStops;
  readonly #held: HeldRanges;
  readonly #log: Log;
  readonly #events: InForceEvents;
  /** By name; each is shown by the view, for the DIP that gives it up. */
  readonly #releasing = new Map<string, HeldRange>();
  #queue: Work[] = [];
  #position: Position = { clusterEpoch: 0, index: 0 as LogIndex };
  #isRunning = false;
  #isOver = false;
  #ended: Promise<void> = Promise.resolve();

  constructor(options: {
    readonly tables: Tables<HostItem, HostChange>;
    readonly stops: RangeStops;
    readonly held: HeldRanges;
    readonly log: Log;
    readonly events: InForceEvents;
  }) {
    this.#tables = options.tables;
    this.#stops = options.stops;
    this.#held = options.held;
    this.#log = options.log;
    this.#events = options.events;
  }

  get position(): Position {
    return this.#position;
  }

  update(received: ReceivedDelta<HostItem>): void {
    this.#enqueue({ kind: "update", received });
  }

  granted(items: readonly HostRangeItem[], index: LogIndex): void {
    this.#enqueue({ kind: "granted", items, index });
  }

  refused(ranges: readonly RangeName[], position: Position): void {
    this.#enqueue({ kind: "refused", ranges, position });
  }

  /** Stops the idle ones among `ranges`, and takes them off the record. Resolves with those that may be given back. */
  async giveUp(ranges: readonly HeldRange[]): Promise<readonly HeldRange[]> {
    const stopped = ranges.filter(
      (range) =>
        !this.#releasing.has(rangeName(range)) &&
        this.#held.has(range) &&
        this.#stops.stopRange(range.vip, range.protocol, range.range),
    );
    for (const range of stopped) this.#releasing.set(rangeName(range), range);
    try {
      await this.#held.remove(stopped);
    } catch (caught) {
      this.#fail(caught);
      return [];
    }
    return stopped;
  }

  resume(ranges: readonly HeldRange[]): void {
    this.#enqueue({ kind: "resume", ranges });
  }

  /** Resolves when nothing is being written any more. */
  async stop(): Promise<void> {
    this.#isOver = true;
    this.#queue = [];
    await this.#ended;
  }

  #enqueue(work: Work): void {
    if (this.#isOver) return;
    this.#queue.push(work);
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#ended = this.#run();
  }

  async #run(): Promise<void> {
    try {
      while (this.#queue.length > 0 && !this.#isOver) {
        const batch = this.#queue;
        this.#queue = [];
        const toHold = this.#rangesToHold(batch);
        if (toHold.length > 0) await this.#held.add(toHold); // (F1)
        if (this.#isOver) return;
        const gone = this.#putAllInForce(batch);
        if (gone.length > 0) await this.#held.remove(gone);
      }
      this.#isRunning = false; // before the event: what it brings about may be more work
      if (!this.#isOver) this.#events.settled();
    } catch (caught) {
      this.#isRunning = false;
      this.#fail(caught);
    }
  }

  #fail(caught: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#events.failed(AnantaError.from(caught));
  }

  #rangesToHold(batch: readonly Work[]): readonly HeldRange[] {
    const dips = new Map<DipId, { readonly tenant: string; readonly address: IpAddress }>();
    for (const dip of this.view.allDips()) dips.set(dip.dipId, dip);
    const wanted: HostRangeItem[] = [];
    const resumed: HeldRange[] = [];
    for (const work of batch) {
      if (work.kind === "granted") wanted.push(...work.items);
      else if (work.kind === "resume") resumed.push(...work.ranges.filter((range) => this.#isReleasing(range)));
      if (work.kind !== "update") continue;
      const { delta } = work.received;
      const items =
        delta.kind === "snapshot"
          ? delta.items
          : delta.changes.flatMap((change) => (change.op === "upsert" ? [change.item] : []));
      for (const item of items) {
        if (item.kind === "dip") dips.set(item.dipId, item);
        else if (item.kind === "range") wanted.push(item);
      }
    }
    const toHold = new Map(resumed.map((range) => [rangeName(range), range]));
    for (const item of wanted) {
      const dip = dips.get(item.dipId);
      const name = rangeName(item);
      const known = toHold.get(name) ?? this.#releasing.get(name) ?? this.#held.get(item); // (F3)
      if (known && (dip === undefined || isHeldFor(known, dip))) continue;
      if (dip === undefined)
        this.#log.error("a range of a DIP that is not known here", { dip: item.dipId, vip: item.vip });
      else
        toHold.set(name, {
          vip: item.vip,
          protocol: item.protocol,
          range: item.range,
          tenant: dip.tenant,
          dip: dip.address,
        });
    }
    return [...toHold.values()];
  }

  /** Answers the ranges to take off the record (F4). */
  #putAllInForce(batch: readonly Work[]): readonly RangeName[] {
    const candidates: RangeName[] = [];
    let failed = false;
    for (const work of batch) {
      if (work.kind === "update") {
        if (failed) continue; // (F2)
        failed = !this.#putUpdate(work.received);
      } else if (work.kind === "granted") this.#putEarly(work);
      else if (work.kind === "refused") this.#takeOut(work, candidates);
      else this.#takeBack(work.ranges, candidates);
    }
    if (failed) this.#queue = this.#queue.filter((work) => work.kind !== "update"); // (F2)
    return candidates.filter((range) => !this.view.hasRange(range));
  }

  #putUpdate(received: ReceivedDelta<HostItem>): boolean {
    const { position, digest, delta } = received;
    const result = this.#tables.apply(this.view.tableDelta(received), tableIndexOf(position));
    if (result !== "in-force") {
      this.#log.error("the tables cannot take an update; what was in force stays", { result, index: position.index });
      this.#events.outOfStep(`tables: ${result}`);
      return false;
    }
    this.view.follow(received);
    this.#forgetReleases();
    this.#position = position;
    const ours = digest === "" ? "" : this.view.viewDigest(this.#tables.digest());
    if (ours !== digest) {
      this.#log.error("digest differs from the Manager's", { index: position.index, ours, theirs: digest });
      this.#events.outOfStep("digest differs");
      return false;
    }
    this.#events.inForce(position, delta.kind === "snapshot");
    return true;
  }

  #putEarly({ items, index }: { readonly items: readonly HostRangeItem[]; readonly index: LogIndex }): void {
    if (index <= this.#position.index) return; // the view is as new as the grant: it shows what is to be used
    const early = items.filter((item) => !this.view.hasRange(item));
    if (early.length === 0) return;
    const changes = early.map((item): HostChange => ({ op: "upsert", item }));
    const result = this.#tables.apply({ kind: "changes", changes }, tableIndexOf(this.#position));
    if (result === "in-force") this.view.putEarly(early, index);
    else this.#log.error("the tables have no room for granted ranges", { result, ranges: early.length });
  }

  #takeOut(
    { ranges, position }: { readonly ranges: readonly RangeName[]; readonly position: Position },
    candidates: RangeName[],
  ): void {
    const isNewer = this.#position.clusterEpoch === position.clusterEpoch && this.#position.index >= position.index;
    candidates.push(...ranges);
    if (isNewer) return; // the view tells better what is ours
    const keys = ranges.map((range) => this.view.keyOfRange(range)).filter((key) => key !== null);
    if (keys.length === 0) return;
    const changes = keys.map((key): HostChange => ({ op: "remove", key }));
    if (this.#tables.apply({ kind: "changes", changes }, tableIndexOf(this.#position)) === "in-force")
      this.view.takeOut(keys);
    this.#forgetReleases();
  }

  #takeBack(ranges: readonly HeldRange[], candidates: RangeName[]): void {
    for (const range of ranges) {
      if (!this.#isReleasing(range)) continue; // the view has dropped it, or shows it for another DIP
      this.#releasing.delete(rangeName(range));
      this.#stops.resumeRange(range.vip, range.protocol, range.range);
    }
    candidates.push(...ranges);
  }

  #isReleasing(range: HeldRange): boolean {
    const released = this.#releasing.get(rangeName(range));
    return released !== undefined && isHeldFor(released, { tenant: range.tenant, address: range.dip });
  }

  /** A release is over once the view does not show the range for its DIP. */
  #forgetReleases(): void {
    for (const [name, range] of this.#releasing) {
      const owner = this.view.ownerOf(range);
      if (owner === null || !isHeldFor(range, owner)) this.#releasing.delete(name);
    }
  }
}
