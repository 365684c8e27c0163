/**
 * Watch: changes of objects in log order, resumable from an index (proto/ananta/v1/operator.proto).
 *
 * A bounded journal of object changes is kept in memory; who comes back from before its start lists again. Only what is
 * applied here is told, so a watch may trail a write answered elsewhere, but it never skips or reorders.
 */
import type { LogIndex } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { MessageStream, Timer } from "../../runtime/env.js";
import type { ReplicaView } from "../replica-view.js";
import type { ObjectKind, ObjectRef } from "../state/objects.js";
import type { AppliedBatch } from "../state/results.js";
import { kindOf } from "./operator-service.js";
import { wireObject } from "./wire-objects.js";

type Event = ananta.v1.WatchEvent.$Properties;
export type WatchStream = MessageStream<Event, never>;

interface Change {
  readonly index: LogIndex;
  readonly type: "added" | "modified" | "deleted";
  readonly ref: ObjectRef;
  readonly object: ananta.v1.Object.$Properties;
}

/** Changes kept: hundreds per minute at the busiest (Ananta §2.3), so this covers more than ten minutes. */
const JOURNAL_MAX = 8_192;
/** A watcher that reads so slowly is told to list again instead of holding memory. */
const BACKLOG_MAX = 1_024;
const PROGRESS_MS = 5_000;

export class Watches {
  readonly #replica: ReplicaView;
  #journal: Change[] = [];
  /** Changes after this index are in the journal. */
  #after: LogIndex;
  readonly #watchers = new Set<Watcher>();

  constructor(replica: ReplicaView) {
    this.#replica = replica;
    this.#after = replica.state.appliedIndex;
  }

  /** State was replaced by a snapshot: what happened in between is unknown. */
  restored(): void {
    this.#journal = [];
    this.#after = this.#replica.state.appliedIndex;
    for (const watcher of [...this.#watchers]) watcher.end(gone(this.#after));
  }

  applied(batch: AppliedBatch): void {
    for (const result of batch.results) {
      if (!result.ok || result.index !== batch.index) continue; // a remembered answer changed nothing now
      if (result.value.kind !== "objects-applied" && result.value.kind !== "objects-deleted") continue;
      for (const { ref, change } of result.value.objects) {
        if (change === "unchanged") continue;
        const stored = this.#replica.state.object(ref);
        const object =
          stored === null ? bare(ref) : wireObject(stored, this.#replica.state, this.#replica.muxSafeIndex.value);
        const type = change === "created" ? "added" : change === "deleted" ? "deleted" : "modified";
        this.#record({ index: batch.index, type, ref, object });
      }
    }
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
      stream,
      replica: this.#replica,
      closed: () => this.#watchers.delete(watcher),
    });
    this.#watchers.add(watcher);
    if (from === 0) {
      const { state, muxSafeIndex } = this.#replica;
      for (const object of state.objects(kind, tenant)) {
        watcher.send({
          type: "added",
          object: wireObject(object, state, muxSafeIndex.value),
          index: state.appliedIndex,
        });
      }
      watcher.progress();
    } else for (const change of this.#journal) if (change.index > from) watcher.offer(change);
  }

  #record(change: Change): void {
    this.#journal.push(change);
    if (this.#journal.length > JOURNAL_MAX) this.#after = this.#journal.shift()?.index ?? this.#after;
    for (const watcher of this.#watchers) watcher.offer(change);
  }
}

class Watcher {
  readonly #kind: ObjectKind;
  readonly #tenant: string | null;
  readonly #stream: WatchStream;
  readonly #replica: ReplicaView;
  readonly #closed: () => void;
  #backlog: Event[] = [];
  #blocked = false;
  #timer: Timer | null = null;

  constructor(options: {
    readonly kind: ObjectKind;
    readonly tenant: string | null;
    readonly stream: WatchStream;
    readonly replica: ReplicaView;
    readonly closed: () => void;
  }) {
    this.#kind = options.kind;
    this.#tenant = options.tenant;
    this.#stream = options.stream;
    this.#replica = options.replica;
    this.#closed = options.closed;
    this.#stream.listen({
      message: () => undefined,
      closed: () => this.#close(),
      drained: () => this.#drain(),
    });
    this.#timer = this.#replica.env.clock.setTimer(PROGRESS_MS, () => this.#beat());
  }

  offer(change: Change): void {
    if (change.ref.kind !== this.#kind || (this.#tenant !== null && change.ref.tenant !== this.#tenant)) return;
    this.send({ type: change.type, object: change.object, index: change.index });
  }

  send(event: Event): void {
    if (!this.#blocked) {
      this.#blocked = !this.#stream.send(event);
      return;
    }
    this.#backlog.push(event);
    if (this.#backlog.length > BACKLOG_MAX)
      this.end(
        new AnantaError("FAILED_PRECONDITION", "the watcher reads too slowly; list again and watch from that index"),
      );
  }

  progress(): void {
    if (!this.#blocked) this.send({ type: "progress", index: this.#replica.state.appliedIndex });
  }

  end(error: AnantaError): void {
    this.#stream.end(error);
    this.#close();
  }

  #beat(): void {
    this.#timer = this.#replica.env.clock.setTimer(PROGRESS_MS, () => this.#beat());
    this.progress();
  }

  #drain(): void {
    this.#blocked = false;
    const backlog = this.#backlog;
    this.#backlog = [];
    for (const event of backlog) this.send(event);
  }

  #close(): void {
    this.#timer?.cancel();
    this.#timer = null;
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
  return ref.kind === "Vip" ? { metadata, vip: {} } : { metadata, backendPool: {} };
}
