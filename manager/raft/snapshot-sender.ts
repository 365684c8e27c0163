/**
 * Carries the present snapshot to one follower: an offer, which the follower answers with the first chunk it wants, then
 * chunks with a few under way, so that one's fsync and the next one's journey overlap. A transfer that broke goes on where it
 * stopped, for the follower names the chunk. Ends with the core's install-snapshot message, or with a report of failure; one
 * of the two always happens, or the follower would be forgotten.
 */
import type { NodeId } from "../../core/brands.js";
import type { Clock, Timer } from "../../runtime/env.js";
import type { InstallSnapshot } from "./core/messages.js";
import type { RaftStorage, StoredSnapshot } from "./storage/storage.js";
import type { RaftTransport, SnapshotChunkAck } from "./transport/transport.js";

/** A chunk is at most 1 MiB and one fsync; a follower that needs longer is started over once it is heard again. */
const ACK_TIMEOUT_MS = 2_000;
/** Enough to hide a follower's fsync behind the wire, a quarter of the outbox at most. */
export const CHUNKS_UNDER_WAY_MAX = 4;
/** How often a follower may find that what it received does not have the digest. */
const RESTARTS_MAX = 3;

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
  /** Chunks below are durable there. */
  #acked = 0;
  #next = 0;
  #offered = false;
  #reading = false;
  #restarts = 0;
  #timer: Timer | null = null;
  #over = false;

  constructor(options: SnapshotSenderOptions) {
    this.#options = options;
  }

  start(): void {
    const { snapshot, message, transport, to } = this.#options;
    this.#armTimer();
    transport.sendTransfer(to, { kind: "snapshot-offer", from: message.from, term: message.term, snapshot });
  }

  /** Chunks that the follower holds durably. */
  get acked(): number {
    return this.#acked;
  }

  acknowledged(ack: SnapshotChunkAck): void {
    const { snapshot, transport, to, message } = this.#options;
    if (this.#over || ack.digest !== snapshot.digest || ack.next > snapshot.chunkCount) return;
    if (!ack.rewind && ack.next <= this.#acked) return; // an old one
    this.#armTimer();
    const anew = ack.next < this.#acked || (ack.next === 0 && this.#next >= snapshot.chunkCount);
    if (ack.rewind && anew && ++this.#restarts > RESTARTS_MAX) {
      this.#end(false);
      return;
    }
    this.#offered = true;
    this.#acked = ack.next;
    this.#next = ack.rewind ? ack.next : Math.max(this.#next, ack.next);
    if (ack.next < snapshot.chunkCount) {
      this.#sendNext();
      return;
    }
    transport.send({ order: "now", to, message: { ...message, snapshot: snapshot.meta } });
    this.#end(true);
  }

  /** The connection broke, or this node leads no more. */
  abort(): void {
    this.#end(false);
  }

  #armTimer(): void {
    this.#timer?.cancel();
    this.#timer = this.#options.clock.setTimer(ACK_TIMEOUT_MS, () => this.#end(false));
  }

  #sendNext(): void {
    const { snapshot, storage, message, transport, to, failed } = this.#options;
    const room = this.#next < Math.min(snapshot.chunkCount, this.#acked + CHUNKS_UNDER_WAY_MAX);
    if (this.#over || !this.#offered || this.#reading || !room) return;
    const number = this.#next;
    this.#reading = true;
    storage.readSnapshotChunk(snapshot.digest, number).then((data) => {
      this.#reading = false;
      if (this.#over) return;
      if (data === null) {
        this.#end(false); // a newer snapshot took its place: never a mixture of the two
        return;
      }
      if (number === this.#next) {
        this.#next++;
        const { from, term } = message;
        transport.sendTransfer(to, { kind: "snapshot-chunk", from, term, digest: snapshot.digest, number, data });
      } // else: the follower asked for another one meanwhile
      this.#sendNext();
    }, failed);
  }

  #end(delivered: boolean): void {
    if (this.#over) return;
    this.#over = true;
    this.#timer?.cancel();
    this.#options.finished(delivered);
  }
}
