/**
 * First packets of flows that wait for a SNAT port: bounded in number, per DIP and in time (3 s, or 0..10 s as the VIP says). When ports come they are
 * sent in the order of their arrival; when none comes, the machine is told (`answers.ts`), so that it does not wait longer
 * than we do. One packet per flow: what the machine sends again meanwhile is the same SYN.
 */
import { AgedQueues, NO_RECORD } from "../../../dataplane/aged-queues.js";
import { mixWords } from "../../../dataplane/flow-hash.js";
import { HELD_PACKET_BYTES, type HostLayout } from "../../../dataplane/layouts.js";
import { PacketBatch } from "../../../dataplane/packet-batch.js";
import { NOT_FOUND, WordIndex } from "../../../dataplane/word-index.js";
import type { Addresses } from "../addresses.js";
import type { PacketHeader } from "../../../packet/ipv4.js";

/** Whole seconds that a VIP may set; the queue behind them is the data plane's own time. */
const SECONDS_MAX = 10;
const OWN_TIME = SECONDS_MAX + 1;

/** How long a first packet may wait, per queue; and the queue for what its VIP says. */
export const holdLifetimesMs = (ownMs: number): readonly number[] => [
  ...Array.from({ length: SECONDS_MAX + 1 }, (_, seconds) => seconds * 1_000),
  ownMs,
];
export const holdQueue = (seconds: number | undefined): number =>
  seconds === undefined ? OWN_TIME : Math.min(SECONDS_MAX, Math.ceil(seconds));

export class HeldPackets {
  /** Packet of record r at `offset(r)`, `lengths[r]` bytes: in the shape the pipeline reads. */
  readonly store: PacketBatch;
  readonly lengths: Uint32Array;
  readonly dipSlot: Uint32Array;
  readonly #queue: AgedQueues;
  readonly #flows: WordIndex;
  readonly #perDip: Uint32Array;
  readonly #perDipMax: number;
  readonly #addresses: Addresses;

  constructor(layout: HostLayout, holdMs: number, addresses: Addresses) {
    this.#addresses = addresses;
    this.#queue = new AgedQueues(layout.held, holdLifetimesMs(holdMs));
    this.#flows = new WordIndex(layout.held);
    this.store = new PacketBatch({ packets: 1, bytes: Math.max(1, layout.held) * HELD_PACKET_BYTES });
    this.lengths = new Uint32Array(layout.held);
    this.dipSlot = new Uint32Array(layout.held);
    this.#perDip = new Uint32Array(layout.dips);
    this.#perDipMax = layout.heldPerDip;
  }

  get size(): number {
    return this.#queue.size;
  }

  /** Packets of a DIP and protocol that wait. Walks all that wait: for control, not for packets. */
  waiting(dipSlot: number, protocol: number): number {
    let count = 0;
    for (let record = this.oldest(); record !== NOT_FOUND; record = this.newer(record)) {
      if (this.dipSlot[record] === dipSlot && this.#flows.keys[record * 4 + 3]! >>> 24 === protocol) count++;
    }
    return count;
  }

  offset(record: number): number {
    return record * HELD_PACKET_BYTES;
  }

  isHeld(header: PacketHeader, dipSlot: number): boolean {
    const ports = (header.sourcePort << 16) | header.destinationPort;
    const word = (header.protocol << 24) | dipSlot;
    const hash = mixWords(header.source3, header.destination3, ports, word);
    return this.#flows.find(hash, header.source3, header.destination3, ports, word) !== NOT_FOUND;
  }

  /** Keeps a copy of the packet, whose flow is not held yet. False: no room, or too long. */
  hold(batch: PacketBatch, header: PacketHeader, dipSlot: number, seconds: number | undefined, nowMs: number): boolean {
    if (header.totalBytes > HELD_PACKET_BYTES || this.#perDip[dipSlot]! >= this.#perDipMax) return false;
    const record = this.#queue.add(holdQueue(seconds), nowMs);
    if (record === NO_RECORD) return false;
    const ports = (header.sourcePort << 16) | header.destinationPort;
    const word = (header.protocol << 24) | dipSlot;
    const hash = mixWords(header.source3, header.destination3, ports, word);
    this.#flows.insert(record, hash, header.source3, header.destination3, ports, word);
    this.#addresses.keep(header.source3);
    this.#addresses.keep(header.destination3);
    this.store.copyIn(batch, header.offset, this.offset(record), header.totalBytes);
    this.lengths[record] = header.totalBytes;
    this.dipSlot[record] = dipSlot;
    this.#perDip[dipSlot]!++;
    return true;
  }

  /** The one that has waited longest of those that wait equally long, or `NOT_FOUND`; then the next newer, then the next time's. */
  oldest(): number {
    return this.#oldestFrom(0);
  }

  newer(record: number): number {
    const next = this.#queue.newer(record);
    return next !== NOT_FOUND ? next : this.#oldestFrom(this.#queue.queueOf[record]! + 1);
  }

  /** One that has waited its time, or `NOT_FOUND`. */
  expired(nowMs: number): number {
    for (let queue = 0; queue <= OWN_TIME; queue++) {
      const record = this.#queue.expired(queue, nowMs);
      if (record !== NOT_FOUND) return record;
    }
    return NOT_FOUND;
  }

  #oldestFrom(first: number): number {
    for (let queue = first; queue <= OWN_TIME; queue++) {
      const record = this.#queue.oldest(queue);
      if (record !== NOT_FOUND) return record;
    }
    return NOT_FOUND;
  }

  remove(record: number): void {
    const { keys } = this.#flows;
    this.#addresses.release(keys[record * 4]!); // of a record in use
    this.#addresses.release(keys[record * 4 + 1]!);
    this.#flows.remove(record);
    this.#queue.free(record);
    this.#perDip[this.dipSlot[record]!]!--;
  }
}
