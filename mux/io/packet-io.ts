/** How packets reach a MUX and leave it: one adapter per way to get packets. */
import type { PacketBatch } from "../../dataplane/packet-batch.js";

export interface PacketIo {
  /** From now on `receive` is called with what arrived in one turn of the event loop. The batch is the io's, and valid only during the call. */
  start(receive: (batch: PacketBatch) => void): Promise<void>;
  /** Best effort. The batch stays the caller's. */
  send(batch: PacketBatch): void;
  stop(): void;
  readonly counters: PacketIoCounters;
}

export interface PacketIoCounters {
  readonly badFrames: number;
  /** Datagrams that the socket had no room for. Asks the system. */
  readonly lost: number;
}
