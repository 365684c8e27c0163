/** How packets reach a host and leave it: one adapter per way to get packets. */
import type { DipId } from "../../core/brands.js";
import type { PacketBatch } from "../../dataplane/packet-batch.js";

export interface PacketIo {
  /**
   * From now on `receive` is called with what arrived in one turn of the event loop. A packet's link says where it came
   * from: the wire, or the DIP whose machine sent it. The batch is the io's, and valid only during the call.
   */
  start(receive: (batch: PacketBatch) => void): Promise<void>;
  /** Which DIP id a network card belongs to; before that, its packets are dropped. */
  connect(nic: string, dipId: DipId): void;
  /** Each packet leaves by its link. Best effort. The batch stays the caller's. */
  send(batch: PacketBatch): void;
  stop(): void;
  readonly counters: PacketIoCounters;
}

export interface PacketIoCounters {
  readonly badFrames: number;
  /** From an address that is no network card of ours, or whose DIP has no id yet. */
  readonly unknownNic: number;
}
