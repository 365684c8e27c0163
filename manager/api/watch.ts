/**
 * Watch: changes of objects and of how they stand, in log order, resumable from an index (proto/ananta/v1/operator.proto).
 *
 * A bounded journal of changes is kept in memory; who comes back from before its start lists again. Only what is applied here
 * is told, so a watch may trail a write answered elsewhere, but it never skips or reorders. The object in an event is as it
 * stands when it is told.
 *
 * (W1) An index in an event means "everything up to here has been told": of the changes of one entry only the last carries
 *      the entry's index, the others one less; the present state carries 0 until the progress event after it. Who resumes
 *      from the last index it saw may hear a change again, and misses none.
 * (W2) Nothing is told twice on one stream, also when this replica is behind the index the watcher came with.
 * (W3) An object is *settled* when every live MUX uses its newest spec, which is no log entry: replicas notice it at moments of
 *      their own. No index told is beyond a change that is not settled, so who resumes elsewhere still hears of it.
 * (W4) When the first MUX comes or the last one goes, or all of them are drained or one is not any more, every object stands
 *      otherwise. They are told some in a turn, and no index beyond the change before the last of them.
 * (W5) The present state is that of a whole entry: who comes while one is being applied (docs/decisions/0023) is told it after that.
 */
import type { LogIndex } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import { muxItemKey } from "../../dataplane/mux-items.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { MessageStream, Timer } from "../../runtime/env.js";
import type { ReplicaView } from "../replica-view.js";
import { type AnyStoredObject, type ObjectKind, type ObjectRef, objectKey } from "../state/objects.js";
import type { AppliedBatch } from "../state/commands/results.js";
import type { Mux } from "../state/state-machine.js";
import { kindOf } from "./operator-service.js";
import { KINDS } from "./objects/schema.js";
import { phaseOf, wireObject } from "./objects/status.js";

type Event = ananta.v1.WatchEvent.$Properties;
export type WatchStream = MessageStream<Event, never>;

interface Change {
  /** What a watcher may resume from once it was told (W1); before (W3). */
  readonly index: LogIndex;
  readonly type: "added" | "modified" | "deleted";
  readonly ref: ObjectRef;
}

/** Changes kept: hundreds per minute at the busiest (Ananta §2.3), so this covers more than ten minutes. */
const JOURNAL_MAX = 8_192;
/** A watcher that reads so slowly is told to list again instead of holding memory. */
const BACKLOG_MAX = 1_024;
const PROGRESS_MS = 5_000;
/** Objects of the present state told in one turn of the event loop: finding out how one stands takes some 100 us. */
const TOLD_PER_TURN = 64;

export class Watches {
  readonly #replica: ReplicaView;
  #journal: { readonly change: Change; readonly entry: LogIndex }[] = [];
  /** Changes after this index are in the journal. */
  #after: LogIndex;
  /** The last entry whose changes were told; the state may be one ahead while it is being applied. */
  #applied: LogIndex;
  readonly #watchers = new Set<Watcher>();
  /** (W5) In the order in which they came. */
  readonly #unlisted = new Set<Watcher>();
  /** What the MUXes as a whole are to every object (W4). */
  #muxesAre: string;
  /** (W4) Objects yet to be told, and the entry since which. */
  #retelling: { readonly refs: Iterator<ObjectRef>; readonly changed: LogIndex } | null = null;
  #retellTurn: Timer | null = null;
  /** (W3) By key: the object, and the entry that changed it. */
  readonly #unsettled = new Map<string, { readonly ref: ObjectRef; readonly changed: LogIndex }>();

  constructor(replica: ReplicaView) {
    this.#replica = replica;
    this.#after = replica.state.appliedIndex;
    this.#applied = this.#after;
    this.#muxesAre = muxesAre(replica.state.muxes());
    replica.muxSafeIndex.onAdvance(() => this.#settle());
  }

  /** State was replaced by a snapshot: what happened in between is unknown. */
  restored(): void {
    const { state } = this.#replica;
    this.#journal = [];
    this.#after = state.appliedIndex;
    this.#applied = this.#after;
    this.#unsettled.clear();
    this.#muxesAre = muxesAre(state.muxes());
    this.#retelling = null;
    for (const kind of KINDS) for (const { ref } of state.objects(kind, null)) this.#changed(ref, state.appliedIndex);
    for (const watcher of [...this.#watchers]) watcher.end(gone(this.#after));
  }

  applied(batch: AppliedBatch): void {
    const changes: Omit<Change, "index">[] = [];
    const told = new Set<string>();
    const add = (type: Change["type"], ref: ObjectRef): void => {
      told.add(objectKey(ref));
      changes.push({ type, ref });
    };
    for (const result of batch.results) {
      if (!result.ok || result.index !== batch.index) continue; // a remembered answer changed nothing now
      if (result.value.kind !== "objects-applied" && result.value.kind !== "objects-deleted") continue;
      for (const { ref, change } of result.value.objects) {
        if (change === "unchanged") continue;
        add(change === "created" ? "added" : change === "deleted" ? "deleted" : "modified", ref);
        this.#changed(ref, batch.index);
      }
    }
    // Activation, health, hosts that come and go, withdrawals: what MUXes see of an object changes with how it stands.
    if (batch.muxChanges.length > 0) {
      const keys = batch.muxChanges.flatMap((change) => {
        if (change.op === "remove") return change.key;
        return change.item.kind === "snat" ? [] : muxItemKey(change.item); // grants come by the thousand, and change no object
      });
      for (const ref of this.#replica.state.objectsOfMuxKeys(keys)) if (!told.has(objectKey(ref))) add("modified", ref);
    }
    changes.forEach((change, position) => {
      const isLast = position === changes.length - 1;
      this.#record({ ...change, index: (isLast ? batch.index : batch.index - 1) as LogIndex }, batch.index); // (W1)
    });
    this.#applied = batch.index;
    for (const watcher of this.#unlisted) this.#list(watcher);
    if (batch.muxChanges.some((change) => (change.op === "upsert" ? change.item.kind === "mux" : isMuxKey(change.key))))
      this.#muxesChanged();
    // Not for grants alone: after a restore thousands of objects may wait to be seen settled.
    if (changes.length > 0 || batch.results.some((result) => result.ok && result.value.kind === "none")) this.#settle();
  }

  open(request: ananta.v1.WatchRequest.$Properties, stream: WatchStream): void {
    const kind = kindOf(request.kind, "kind");
    const tenant = (request.tenant ?? "") === "" ? null : (request.tenant ?? null);
    const from = (request.fromIndex ?? 0) as LogIndex;
    if (from !== 0 && from < this.#after) {
      stream.end(gone(this.#after));
      return;
    }
    const watcher = new Watcher({
      kind,
      tenant,
      told: from,
      stream,
      replica: this.#replica,
      settledIndex: () => this.#settledIndex(),
      closed: () => {
        this.#watchers.delete(watcher);
        this.#unlisted.delete(watcher);
      },
    });
    this.#watchers.add(watcher);
    if (from === 0 && this.#replica.state.isWhole) this.#list(watcher);
    else if (from === 0) this.#unlisted.add(watcher);
    else for (const { change, entry } of this.#journal) watcher.offer(change, entry, () => this.#objectOf(change));
  }

  #list(watcher: Watcher): void {
    this.#unlisted.delete(watcher);
    watcher.tellAll();
  }

  /** (W4) */
  #muxesChanged(): void {
    const { state } = this.#replica;
    const are = muxesAre(state.muxes());
    if (are === this.#muxesAre) return;
    this.#muxesAre = are;
    const refs = KINDS.flatMap((kind) => state.objects(kind, null).map(({ ref }) => ref));
    this.#retelling = { refs: refs.values(), changed: this.#retelling?.changed ?? this.#applied };
    this.#retellTurn ??= this.#replica.env.clock.nextTurn(() => this.#retell());
  }

  #retell(): void {
    this.#retellTurn = null;
    for (let told = 0; this.#retelling !== null && told < TOLD_PER_TURN; told++) {
      const next = this.#retelling.refs.next();
      if (next.done === true) this.#retelling = null;
      else this.#record({ type: "modified", ref: next.value, index: this.#applied }, this.#applied);
    }
    if (this.#retelling !== null) this.#retellTurn = this.#replica.env.clock.nextTurn(() => this.#retell());
  }

  #changed(ref: ObjectRef, index: LogIndex): void {
    const key = objectKey(ref);
    const known = this.#unsettled.get(key);
    if (known === undefined && !this.#isSettled(ref)) this.#unsettled.set(key, { ref, changed: index });
  }

  #isSettled(ref: ObjectRef): boolean {
    const { state, muxSafeIndex } = this.#replica;
    const object = state.object(ref);
    return object === null || phaseOf(object, muxSafeIndex.value) === "Ready";
  }

  /** (W3) Tells of objects that every live MUX uses by now. */
  #settle(): void {
    for (const [key, { ref }] of [...this.#unsettled]) {
      if (!this.#isSettled(ref)) continue;
      this.#unsettled.delete(key);
      this.#record({ type: "modified", ref, index: this.#applied }, this.#applied);
    }
  }

  /** (W3) The highest index that may be told. */
  #settledIndex(): LogIndex {
    let index: number = this.#replica.state.appliedIndex;
    if (this.#retelling !== null) index = Math.min(index, this.#retelling.changed - 1);
    for (const { changed } of this.#unsettled.values()) index = Math.min(index, changed - 1);
    return index as LogIndex;
  }

  /** Null: it is gone; its deletion is told on its own. */
  #objectOf({ type, ref }: Change): ananta.v1.Object.$Properties | null {
    const { state, muxSafeIndex } = this.#replica;
    const stored = state.object(ref);
    if (stored !== null) return wireObject(stored, state, muxSafeIndex.value);
    return type === "deleted" ? bare(ref) : null;
  }

  #record(change: Change, entry: LogIndex): void {
    this.#journal.push({ change, entry });
    if (this.#journal.length > JOURNAL_MAX) this.#after = this.#journal.shift()?.entry ?? this.#after;
    // Computed once, and only when somebody wants it.
    let object: ananta.v1.Object.$Properties | null | undefined;
    for (const watcher of this.#watchers) watcher.offer(change, entry, () => (object ??= this.#objectOf(change)));
  }
}

/** "none": no packet is forwarded. "drained": no VIP is announced. */
function muxesAre(muxes: readonly Mux[]): "none" | "drained" | "announcing" {
  const live = muxes.filter(({ state }) => state === "live");
  if (live.length === 0) return "none";
  return live.every(({ drain }) => drain !== undefined) ? "drained" : "announcing";
}

const isMuxKey = (key: string): boolean => key.startsWith("mux/");

class Watcher {
  readonly #kind: ObjectKind;
  readonly #tenant: string | null;
  readonly #stream: WatchStream;
  readonly #replica: ReplicaView;
  readonly #settledIndex: () => LogIndex;
  readonly #closed: () => void;
  /** (W2) Changes of entries up to here are known to the watcher, or will be by its view. */
  #told: LogIndex;
  /** The rest of the present state, sent as fast as the watcher reads; changes wait behind it. */
  #view: Iterator<AnyStoredObject> | null = null;
  #backlog: Event[] = [];
  /** False: it has still to be told the present state (W5). */
  #isListed: boolean;
  #blocked = false;
  #timer: Timer | null = null;
  /** The rest of the view goes on then. */
  #turn: Timer | null = null;

  constructor(options: {
    readonly kind: ObjectKind;
    readonly tenant: string | null;
    readonly told: LogIndex;
    readonly stream: WatchStream;
    readonly replica: ReplicaView;
    readonly settledIndex: () => LogIndex;
    readonly closed: () => void;
  }) {
    this.#kind = options.kind;
    this.#tenant = options.tenant;
    this.#told = options.told;
    this.#isListed = options.told > 0;
    this.#stream = options.stream;
    this.#replica = options.replica;
    this.#settledIndex = options.settledIndex;
    this.#closed = options.closed;
    this.#stream.listen({
      message: () => undefined,
      closed: () => this.#close(),
      drained: () => {
        this.#blocked = false;
        this.#drain();
      },
    });
    this.#timer = this.#replica.env.clock.setTimer(PROGRESS_MS, () => this.#beat());
  }

  /** First the present state. */
  tellAll(): void {
    const { state } = this.#replica;
    this.#told = state.appliedIndex;
    this.#isListed = true;
    this.#view = state.objects(this.#kind, this.#tenant).values();
    this.#pullView();
  }

  offer(change: Change, entry: LogIndex, objectOf: () => ananta.v1.Object.$Properties | null): void {
    if (entry <= this.#told || !this.#isListed) return; // (W2)
    if (change.ref.kind !== this.#kind || (this.#tenant !== null && change.ref.tenant !== this.#tenant)) return;
    const object = objectOf();
    if (object !== null) this.#send({ type: change.type, object, index: this.#upTo(change.index) });
  }

  /** (W3) */
  #upTo(index: LogIndex): LogIndex {
    return Math.min(index, this.#settledIndex()) as LogIndex;
  }

  end(error: AnantaError): void {
    this.#stream.end(error);
    this.#close();
  }

  #send(event: Event): void {
    if (!this.#blocked && this.#view === null) {
      this.#blocked = !this.#stream.send(event);
      return;
    }
    this.#backlog.push(event);
    if (this.#backlog.length > BACKLOG_MAX)
      this.end(
        new AnantaError("FAILED_PRECONDITION", "the watcher reads too slowly; list again and watch from that index"),
      );
  }

  #pullView(): void {
    const { state, muxSafeIndex, env } = this.#replica;
    if (this.#turn !== null) return;
    for (let told = 0; this.#view !== null && !this.#blocked; told++) {
      if (told === TOLD_PER_TURN) {
        this.#turn = env.clock.nextTurn(() => {
          this.#turn = null;
          this.#drain();
        });
        return;
      }
      const next = this.#view.next();
      if (next.done === true) {
        this.#view = null;
        this.#blocked = !this.#stream.send({ type: "progress", index: this.#upTo(this.#told) });
      } else {
        const object = wireObject(next.value, state, muxSafeIndex.value);
        this.#blocked = !this.#stream.send({ type: "added", object, index: 0 }); // (W1)
      }
    }
  }

  #beat(): void {
    this.#timer = this.#replica.env.clock.setTimer(PROGRESS_MS, () => this.#beat());
    const index = this.#replica.state.appliedIndex;
    if (!this.#blocked && this.#isListed && this.#view === null && index >= this.#told)
      this.#send({ type: "progress", index: this.#upTo(index) });
  }

  #drain(): void {
    this.#pullView();
    if (this.#view !== null) return;
    const backlog = this.#backlog;
    this.#backlog = [];
    for (const event of backlog) this.#send(event);
  }

  #close(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#turn?.cancel();
    this.#turn = null;
    this.#view = null;
    this.#closed();
  }
}

function gone(after: LogIndex): AnantaError {
  return new AnantaError(
    "FAILED_PRECONDITION",
    `changes up to index ${after} are no longer held; list again and watch from that index`,
    { after },
  );
}

/** A deleted object that left the state: its name is all there is to tell. */
function bare(ref: ObjectRef): ananta.v1.Object.$Properties {
  const metadata = { tenant: ref.tenant, name: ref.name };
  switch (ref.kind) {
    case "Vip":
      return { metadata, vip: {} };
    case "BackendPool":
      return { metadata, backendPool: {} };
    case "Tenant":
      return { metadata, tenant: {} };
    case "SecurityGroup":
      return { metadata, securityGroup: {} };
  }
}
