/**
 * The receiving end of a projection, for MUXes and Host Agents alike: decides which updates count, and turns
 * them into deltas for the tables. It holds no items of its own, except the parts of a view that is still arriving.
 *
 *     update --receive--> a delta to put in force --inForce--> position moves on, to be acknowledged
 *                         or: ignored | a part of a view | out of step, ask for the whole view
 *
 *  (P1) Order is (clusterEpoch, index). Nothing older than what is in force is ever applied.
 *  (P2) A whole view is swapped in at its last part, never before: until then the former view stays in force.
 *  (P3) A delta counts only on top of what is in force, in the same epoch. Another epoch begins with a whole view.
 *  (P4) The parts of one view come from one stream. A change of stream drops what has arrived of it.
 *  (P5) The position moves only when the caller says "in force": what it shows may be acknowledged.
 */
import type { LogIndex } from "../core/brands.js";
import type { TableDelta } from "./contract.js";

/** One message of a projection, in our own types. */
export interface ProjectionStep<Item> {
  readonly clusterEpoch: number;
  readonly index: LogIndex;
  readonly snapshot: boolean;
  readonly last: boolean;
  readonly upserts: readonly Item[];
  readonly removedKeys: readonly string[];
  /** Of the whole view at `index`; empty when not given. */
  readonly digest: string;
}

/** What a receiver has in force; index 0: nothing. */
export interface Position {
  readonly clusterEpoch: number;
  readonly index: LogIndex;
}

export type ItemChange<Item> =
  { readonly op: "upsert"; readonly item: Item } | { readonly op: "remove"; readonly key: string };

/** Something to put in force. */
export interface ReceivedDelta<Item> {
  readonly delta: TableDelta<Item, ItemChange<Item>>;
  readonly position: Position;
  /** To be compared once it is in force; empty: nothing to compare with. */
  readonly digest: string;
}

export type Received<Item> =
  | ({ readonly kind: "delta" } & ReceivedDelta<Item>)
  /** Part of a whole view, and what came before it: one list that grows until the delta has it. More follows. */
  | { readonly kind: "part"; readonly items: readonly Item[] }
  | { readonly kind: "older" }
  /** The sender takes for granted what is not in force here: ask for the whole view. */
  | { readonly kind: "out-of-step" };

export const NOTHING_IN_FORCE: Position = { clusterEpoch: 0, index: 0 as LogIndex };

/** Below 0 when a is before b. */
export const comparePositions = (a: Position, b: Position): number =>
  a.clusterEpoch - b.clusterEpoch || a.index - b.index;

/**
 * The position as one growing number, for tables that know only an index. A restore may take the index back, but raises
 * the epoch. In the first epoch it is the index itself.
 */
export const tableIndexOf = (position: Position): LogIndex =>
  (position.index === 0 ? 0 : Math.max(0, position.clusterEpoch - 1) * 2 ** 40 + position.index) as LogIndex;

export class ProjectionReceiver<Item> {
  /** Put in force, as far as the caller has said. */
  private position: Position = NOTHING_IN_FORCE;
  /** Handed out by `receive`: at or ahead of `position` while a caller is still putting deltas in force. */
  private handedOut: Position = NOTHING_IN_FORCE;
  /** A view that is arriving (P2). */
  private view: { readonly position: Position; readonly items: Item[] } | null = null;

  get inForcePosition(): Position {
    return this.position;
  }

  receive(step: ProjectionStep<Item>): Received<Item> {
    const position: Position = { clusterEpoch: step.clusterEpoch, index: step.index };
    return step.snapshot ? this.receiveView(step, position) : this.receiveChanges(step, position);
  }

  /** (P5) */
  inForce(position: Position): void {
    if (comparePositions(position, this.position) > 0) this.position = position;
  }

  /** Another stream carries the projection from here on: it continues after what was handed out (P4). */
  streamChanged(): void {
    this.view = null;
  }

  /**
   * What was handed out could not be put in force, or the digests differ: only a whole view helps. The tables keep what
   * they have meanwhile, and a view of the same position is accepted.
   */
  expectView(): void {
    this.view = null;
    this.handedOut = NOTHING_IN_FORCE;
  }

  /** What the next stream should continue from. */
  get continueFrom(): Position {
    return this.handedOut;
  }

  private receiveView(step: ProjectionStep<Item>, position: Position): Received<Item> {
    if (comparePositions(position, this.position) < 0) return { kind: "older" }; // (P1)
    if (comparePositions(position, this.handedOut) < 0) return { kind: "older" };
    if (this.view === null || comparePositions(this.view.position, position) !== 0) this.view = { position, items: [] };
    const { items } = this.view;
    for (const item of step.upserts) items.push(item);
    if (!step.last) return { kind: "part", items };
    this.view = null;
    this.handedOut = position;
    return { kind: "delta", delta: { kind: "snapshot", items }, position, digest: step.digest };
  }

  private receiveChanges(step: ProjectionStep<Item>, position: Position): Received<Item> {
    // (P3)
    if (this.handedOut.index === 0) return { kind: "out-of-step" };
    if (position.clusterEpoch < this.handedOut.clusterEpoch) return { kind: "older" };
    if (position.clusterEpoch > this.handedOut.clusterEpoch) return { kind: "out-of-step" };
    if (position.index <= this.handedOut.index) return { kind: "older" }; // (P1)
    this.handedOut = position;
    const changes: ItemChange<Item>[] = [];
    for (const key of step.removedKeys) changes.push({ op: "remove", key });
    for (const item of step.upserts) changes.push({ op: "upsert", item });
    return { kind: "delta", delta: { kind: "changes", changes }, position, digest: step.digest };
  }
}
