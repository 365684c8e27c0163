/**
 * Feeds one receiver its projection: a whole view first where needed, then deltas, never anything older than what it has.
 *
 * (I1) Index order: each update's index is above the one before (progress with an equal index is not sent).
 * (I2) Nothing above `limit()` is sent: the applied index for MUXes, muxSafeIndex too for Host Agents.
 * (I3) While the peer reads too slowly nothing is queued here: the feed falls behind and then sends one larger delta,
 *      or a whole view when the effect log no longer reaches back.
 */
import type { LogIndex } from "../../core/brands.js";
import { deltaUpdate, snapshotUpdates, type ScopeCodec, type WireUpdate } from "./projection-wire.js";

/** Changes in one delta, about 1 MB: whoever missed more gets the whole view, which comes in parts. */
const DELTA_CHANGES_MAX = 20_000;

export interface ScopeSource<Item, Change> {
  readonly codec: ScopeCodec<Item, Change>;
  readonly clusterEpoch: () => number;
  readonly appliedIndex: () => LogIndex;
  /** (I2) */
  readonly limit: () => LogIndex;
  readonly covers: (index: LogIndex) => boolean;
  /** Changes in (after, upTo]. */
  readonly changes: (after: LogIndex, upTo: LogIndex) => Change[];
  /** The view at the applied index. */
  readonly items: () => Iterable<Item>;
  readonly digest: () => string;
}

export class ScopeFeed<Item, Change> {
  readonly #source: ScopeSource<Item, Change>;
  /** False: hold on until `resume`. */
  readonly #send: (update: WireUpdate) => boolean;
  /** What the receiver has been sent; null: it needs a whole view. */
  #sent: LogIndex | null;
  /** The most that the receiver can have in force: what it brought, or what it was sent since. */
  #told: LogIndex;
  /** A view that was cut above the limit and waits for it. */
  #prepared: { readonly index: LogIndex; readonly updates: WireUpdate[] } | null = null;
  #paused = false;
  #digestDue = false;

  /** `held`: what the receiver says it has in force; 0 when nothing (or of another epoch). */
  constructor(source: ScopeSource<Item, Change>, held: LogIndex, send: (update: WireUpdate) => boolean) {
    this.#source = source;
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

  resume(): void {
    this.#paused = false;
    this.pump();
  }

  /** Sends what is due. An empty delta (progress) is sent too when `progress` is true. */
  pump(progress = true): void {
    if (this.#paused) return;
    if (this.#sent !== null && !this.#source.covers(this.#sent)) this.#sent = null;
    if (this.#sent === null) {
      this.#pumpView();
      return;
    }
    const limit = this.#source.limit();
    if (limit <= this.#sent) return; // (I1); also when this replica is behind the receiver: it waits
    const changes = this.#source.changes(this.#sent, limit);
    if (changes.length === 0 && !progress) return;
    if (changes.length > DELTA_CHANGES_MAX) {
      this.#sent = null;
      this.#pumpView();
      return;
    }
    const withDigest = this.#digestDue && limit === this.#source.appliedIndex();
    if (withDigest) this.#digestDue = false;
    const digest = withDigest ? this.#source.digest() : "";
    this.#sent = this.#told = limit;
    this.#paused = !this.#send(
      deltaUpdate(this.#source.codec, changes, { clusterEpoch: this.#source.clusterEpoch(), index: limit, digest }),
    );
  }

  #pumpView(): void {
    if (this.#prepared === null) {
      const index = this.#source.appliedIndex();
      const at = { clusterEpoch: this.#source.clusterEpoch(), index, digest: this.#source.digest() };
      this.#prepared = { index, updates: snapshotUpdates(this.#source.codec, this.#source.items(), at) };
    }
    if (this.#prepared.index > this.#source.limit()) return; // (I2): sent when the limit has come this far
    const { index, updates } = this.#prepared;
    this.#prepared = null;
    this.#sent = this.#told = index;
    let open = true;
    for (const update of updates) open = this.#send(update) && open;
    this.#paused = !open;
    if (open) this.pump();
  }
}
