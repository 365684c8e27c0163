/**
 * Carries the present snapshot to one follower: a chunk, its acknowledgement, the next. The follower names the chunk it
 * wants, so a transfer that broke goes on where it stopped. Ends with the core's install-snapshot message, or with a report
 * of failure; one of the two always happens, or the follower would be forgotten.
 */
import type { NodeId } from "../../core/brands.js";
import type { Clock, Timer } from "../../runtime/env.js";
import type { InstallSnapshot } from "./core/messages.js";
import type { RaftStorage, StoredSnapshot } from "./storage/storage.js";
import type { RaftTransport, SnapshotChunkAck } from "./transport/transport.js";

/** A chunk is at most 1 MiB and one fsync; a follower that needs longer is started over once it is heard again. */
const ACK_TIMEOUT_MS = 2_000;

export interface SnapshotSenderOptions {
  readonly to: NodeId;
  /** The core's message; what is sent may be a newer snapshot than it names. */
  readonly message: InstallSnapshot;
  readonly snapshot: StoredSnapshot;
  readonly storage: Pick<RaftStorage, "readSnapshotChunk">;
  readonly transport: Pick<RaftTransport, "send" | "sendTransfer">;
  readonly clock: Clock;
  readonly finished: (delivered: boolean) => void;
  /** Storage could not be read: fail-stop. */
  readonly failed: (error: unknown) => void;
}

export class SnapshotSender {
  readonly #options: SnapshotSenderOptions;
  #wanted = 0;
  #timer: Timer | null = null;
  #over = false;

  constructor(options: SnapshotSenderOptions) {
    this.#options = options;
  }

  start(): void {
    this.#sendWanted();
  }

  acknowledged(ack: SnapshotChunkAck): void {
    if (this.#over || ack.index !== this.#options.snapshot.meta.index) return;
    this.#wanted = Math.min(ack.next, this.#options.snapshot.chunkCount);
    this.#sendWanted();
  }

  /** The connection broke, or this node leads no more. */
  abort(): void {
    this.#end(false);
  }

  #sendWanted(): void {
    const { snapshot, storage, message, transport, to, clock, failed } = this.#options;
    this.#timer?.cancel();
    if (this.#wanted === snapshot.chunkCount) {
      transport.send({ order: "now", to, message: { ...message, snapshot: snapshot.meta } });
      this.#end(true);
      return;
    }
    this.#timer = clock.setTimer(ACK_TIMEOUT_MS, () => this.#end(false));
    const number = this.#wanted;
    storage.readSnapshotChunk(number).then((data) => {
      if (this.#over || number !== this.#wanted) return;
      const { from, term } = message;
      transport.sendTransfer(to, {
        kind: "snapshot-chunk",
        from,
        term,
        snapshot: snapshot.meta,
        number,
        count: snapshot.chunkCount,
        data,
      });
    }, failed);
  }

  #end(delivered: boolean): void {
    if (this.#over) return;
    this.#over = true;
    this.#timer?.cancel();
    this.#options.finished(delivered);
  }
}
