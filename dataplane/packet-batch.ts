/**
 * A batch of packets in one arena: bytes back to back, and per packet its offset, its length and the link it came from or
 * goes to. Made once and reused: appending allocates nothing, clearing is one store.
 *
 *     arena    | packet 0 | packet 1      | packet 2 | free ...
 *     offsets    0          60              160
 *
 * A link is where a packet enters or leaves a host: `WIRE_LINK` towards routers and MUXes, or the dense id of the DIP
 * whose virtual machine sends or receives. A MUX has the wire only.
 *
 * Full is not an error: `reserve` answers -1, the packet is a drop ("output_full"), as at any queue.
 */

/** The link of the network outside; DIP ids start at 1. */
export const WIRE_LINK = 0;

/** The host itself, which probes its machines. No DIP has this id. */
export const HOST_LINK = 0xffff_ffff;

/** Largest IPv4 packet, by its 16-bit total length. */
export const PACKET_BYTES_MAX = 65_535;

export interface PacketBatchOptions {
  /** Packets it can hold; default 256. */
  readonly packets?: number;
  /** Bytes it can hold; default 2,048 per packet and at least one packet of the largest size. */
  readonly bytes?: number;
}

export class PacketBatch {
  readonly arena: Uint8Array;
  /** Over the whole arena. */
  readonly view: DataView;
  /** First byte of packet i in the arena, for i in [0, count). */
  readonly offsets: Uint32Array;
  readonly lengths: Uint32Array;
  readonly links: Uint32Array;
  /** To `HOST_LINK` only: the link that the packet came from. */
  readonly sources: Uint32Array;
  count = 0;
  /** Bytes in use: the next packet starts here. */
  usedBytes = 0;

  constructor(options: PacketBatchOptions = {}) {
    const packets = options.packets ?? 256;
    const bytes = options.bytes ?? Math.max(packets * 2_048, PACKET_BYTES_MAX);
    this.arena = new Uint8Array(bytes);
    this.view = new DataView(this.arena.buffer);
    this.offsets = new Uint32Array(packets);
    this.lengths = new Uint32Array(packets);
    this.links = new Uint32Array(packets);
    this.sources = new Uint32Array(packets);
  }

  clear(): void {
    this.count = 0;
    this.usedBytes = 0;
  }

  /** Room for a packet of `length` bytes at the end: its offset, or -1 when full. The bytes there are old rubbish. */
  reserve(length: number, link: number): number {
    const index = this.count;
    const offset = this.usedBytes;
    if (index === this.offsets.length || offset + length > this.arena.length) return -1;
    this.offsets[index] = offset;
    this.lengths[index] = length;
    this.links[index] = link;
    this.count = index + 1;
    this.usedBytes = offset + length;
    return offset;
  }

  /** Packets that it still takes, if they are not too long. */
  get freePackets(): number {
    return this.offsets.length - this.count;
  }

  /** Copies a packet in; false when full. */
  append(packet: Uint8Array, link: number = WIRE_LINK): boolean {
    const offset = this.reserve(packet.length, link);
    if (offset < 0) return false;
    this.arena.set(packet, offset);
    return true;
  }

  /**
   * Copies `length` bytes of another batch to `offset` of this one, where room was reserved. Words first: for packets a
   * loop is as fast as `set`, which would need a view object per packet.
   */
  copyIn(from: PacketBatch, fromOffset: number, offset: number, length: number): void {
    const source = from.view;
    const target = this.view;
    const words = length & ~3;
    let at = 0;
    for (; at < words; at += 4) target.setUint32(offset + at, source.getUint32(fromOffset + at));
    for (; at < length; at++) target.setUint8(offset + at, source.getUint8(fromOffset + at));
  }

  /** Packet i as a view into the arena: valid until `clear`. Allocates: for edges and tests. */
  packet(index: number): Uint8Array {
    const offset = this.offsets[index] ?? 0;
    return this.arena.subarray(offset, offset + (this.lengths[index] ?? 0));
  }
}
