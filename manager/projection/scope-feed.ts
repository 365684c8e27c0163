/**
 * Feeds one receiver its projection: a whole view first where needed, then deltas, never anything older than what it has.
 * A view is held as it is at one index and handed out part by part, in turns with those of other receivers (`turns`).
 *
 * (I1) Index order: each update's index is above the one before (progress with an equal index is not sent).
 * (I2) Nothing above `limit()` is sent: the applied index for MUXes, muxSafeIndex too for Host Agents.
 *      A receiver that missed much gets several deltas, a turn of the event loop apart, each up to an index of the log.
 * (I3) While the peer reads too slowly nothing is queued here: the feed falls behind and then sends one larger delta,
 *      or a whole view when the effect log no longer reaches back.
 */
import type { LogIndex } from "../../core/brands.js";
import { MESSAGE_BYTES_MAX } from "../../runtime/serving.js";
import type { Part } from "./effect-log.js";
import {
  deltaUpdate,
  foldChanges,
  viewUpdate,
  type FoldedChanges,
  type ScopeCodec,
  type WireUpdate,
} from "./projection-wire.js";
import type { Step } from "./turns.js";

/** Changes in one delta, about 200 kB and ten milliseconds of work: who missed more gets several. */
const DELTA_CHANGES = 4_000;
/** Of one entry, which is never cut: whoever missed one with more gets the whole view, which comes in parts. */
const ENTRY_CHANGES_MAX = 20_000;
/** Of one delta, whatever it is made of. A receiver refuses a longer message than `MESSAGE_BYTES_MAX`, and would get it again and again. */
const DELTA_BYTES_MAX = MESSAGE_BYTES_MAX / 2;
/** Tried in this order: 4,000 tables of large pools are too long together, and an entry is never cut. */
const DELTA_SIZES = [DELTA_CHANGES, DELTA_CHANGES / 40, 1];

export interface ScopeSource<Item, Change> {
  readonly codec: ScopeCodec<Item, Change>;
  readonly clusterEpoch: () => number;
  readonly appliedIndex: () => LogIndex;
  /** (I2) */
  readonly limit: () => LogIndex;
  readonly covers: (index: LogIndex) => boolean;
  /** Changes in (after, upTo], the first ones: about `most`. */
  readonly changes: (after: LogIndex, upTo: LogIndex, most: number) => Part<Change>;
  /** The view at the applied index, as it is now; null: a large entry changes it just now, and `pump` follows. */
  readonly view: () => HeldView<Item> | null;
  /** Of the view at the applied index; null: not known, and dear to find out. */
  readonly digest: () => string | null;
}

/** As `ViewCapture`: `next` gives parts, then null. */
interface HeldView<Item> {
  readonly index: LogIndex;
  next(): readonly Item[] | null;
  digest(): string;
  end(): void;
}

/** A view on its way to the receiver. */
interface Sending<Item> {
  readonly held: HeldView<Item>;
  readonly clusterEpoch: number;
  /** Cut, and not sent: the last one is sent as such. Null: nothing was cut yet. */
  part: readonly Item[] | null;
}

export class ScopeFeed<Item, Change> {
  readonly #source: ScopeSource<Item, Change>;
  /** False: hold on until `resume`. */
  readonly #send: (update: WireUpdate) => boolean;
  readonly #later: (step: Step) => void;
  /** What the receiver has been sent; null: it needs a whole view. */
  #sent: LogIndex | null;
  /** The most that the receiver can have in force: what it brought, or what it was sent since. */
  #told: LogIndex;
  #sending: Sending<Item> | null = null;
  /** Its turn will come. */
  #isWaiting = false;
  #isOver = false;
  /** The next delta's turn will come. */
  #goesOn = false;
  #paused = false;
  #digestDue = false;

  /**
   * `held`: what the receiver says it has in force; 0 when nothing (or of another epoch). `later` calls a step until it is
   * done, when its turn has come.
   */
  constructor(
    source: ScopeSource<Item, Change>,
    held: LogIndex,
    send: (update: WireUpdate) => boolean,
    later: (step: Step) => void,
  ) {
    this.#source = source;
    this.#later = later;
    this.#send = send;
    this.#told = held;
    this.#sent = held > 0 && source.covers(held) ? held : null;
  }

  get sentIndex(): LogIndex {
    return this.#sent ?? (0 as LogIndex);
  }

  /** `index` as the receiver acknowledges it, never above what it was told: it would vouch for what it does not know. */
  acknowledged(index: LogIndex): LogIndex {
    return Math.min(index, this.#told) as LogIndex;
  }

  /** The next delta carries the view's digest. Not every one does: a hash per item costs more than the item. */
  askForDigest(): void {
    this.#digestDue = true;
  }

  /** Nothing is sent any more, and no view is held. */
  stop(): void {
    this.#isOver = true;
    this.#sending?.held.end();
    this.#sending = null;
  }

  resume(): void {
    this.#paused = false;
    this.pump();
  }

  /** Sends what is due. An empty delta (progress) is sent too when `progress` is true. */
  pump(progress = true): void {
    if (this.#paused || this.#isOver) return;
    if (this.#sent !== null && !this.#source.covers(this.#sent)) this.#sent = null;
    if (this.#sent === null) {
      this.#pumpView();
      return;
    }
    const limit = this.#source.limit();
    if (limit <= this.#sent) return; // (I1); also when this replica is behind the receiver: it waits
    const next = this.#nextDelta(this.#sent, limit);
    if (next === null) {
      this.#sent = null;
      this.#pumpView();
      return;
    }
    const { folded, index } = next;
    if (folded.items.length + folded.removedKeys.length === 0 && !progress) return;
    const digest = this.#digestDue && index === this.#source.appliedIndex() ? (this.#source.digest() ?? "") : "";
    if (digest !== "") this.#digestDue = false;
    this.#sent = this.#told = index;
    const clusterEpoch = this.#source.clusterEpoch();
    this.#paused = !this.#send(deltaUpdate(this.#source.codec, folded, { clusterEpoch, index, digest }));
    if (index < limit) this.#goOnLater();
  }

  /** As much of what comes next as one message takes; null: one entry alone is too much. */
  #nextDelta(
    after: LogIndex,
    limit: LogIndex,
  ): { readonly folded: FoldedChanges<Item>; readonly index: LogIndex } | null {
    for (const most of DELTA_SIZES) {
      const { changes, upTo: index } = this.#source.changes(after, limit, most);
      if (changes.length > ENTRY_CHANGES_MAX) return null;
      const folded = foldChanges(this.#source.codec, changes);
      if (folded.bytes <= DELTA_BYTES_MAX) return { folded, index };
    }
    return null;
  }

  #goOnLater(): void {
    if (this.#goesOn) return;
    this.#goesOn = true;
    this.#later(() => {
      this.#goesOn = false;
      this.pump();
      return true;
    });
  }

  #pumpView(): void {
    if (this.#isWaiting) return;
    if (this.#sending !== null && this.#sending.held.index > this.#source.limit()) return; // (I2): it has not come this far
    this.#isWaiting = true;
    this.#later(() => {
      const isDone = this.#viewStep();
      if (isDone) this.#isWaiting = false;
      return isDone;
    });
  }

  /** True when there is nothing to do now: the view was sent, the receiver reads too slowly, or (I2). */
  #viewStep(): boolean {
    if (this.#isOver || this.#paused) return true;
    const clusterEpoch = this.#source.clusterEpoch();
    const held = this.#sending?.held ?? this.#source.view();
    if (held === null) return true;
    const sending = (this.#sending ??= { held, clusterEpoch, part: null });
    if (held.index > this.#source.limit()) return true; // (I2)
    const next = held.next();
    if (next !== null) {
      if (sending.part !== null) this.#sendPart(sending, sending.part, "");
      sending.part = next;
      return this.#paused;
    }
    this.#sending = null;
    held.end();
    this.#sent = this.#told = held.index;
    this.#sendPart(sending, sending.part ?? [], held.digest());
    this.pump();
    return true;
  }

  /** With a digest it is the last part. */
  #sendPart({ held, clusterEpoch }: Sending<Item>, items: readonly Item[], digest: string): void {
    const at = { clusterEpoch, index: held.index, digest };
    this.#paused = !this.#send(viewUpdate(this.#source.codec, items, at));
  }
}
