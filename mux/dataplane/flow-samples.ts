/**
 * Sampled flow export: one packet in N, with its flow and where it went, in a ring of numbers that a collector empties. What
 * finds the ring full is lost and counted, so a flood costs nothing more.
 */
import type { DipId, VipId } from "../../core/brands.js";
import type { FiveTuple } from "../../packet/five-tuple.js";
import { formatWords } from "../../packet/address-words.js";
import type { PacketHeader } from "../../packet/header.js";

/** Our choice: at a million packets/s a thousand samples. */
export const SAMPLE_ONE_IN = 1_000;

const WORDS = 15;

export interface FlowSample {
  readonly tuple: FiveTuple;
  readonly vipId: VipId;
  readonly dipId: DipId;
  readonly bytes: number;
  /** Of the TCP header; 0 for others. */
  readonly tcpFlags: number;
  /** Milliseconds modulo 2^32 on the clock of `process`. */
  readonly atMs: number;
  /** Packets that it stands for. */
  readonly oneIn: number;
}

export class FlowSamples {
  /** Called for each sample: the sketch of heavy hitters. */
  onSample: ((header: PacketHeader, vipId: number) => void) | null = null;
  readonly #words: Int32Array;
  /** Of samples lost: a float, which no flood makes a new heap number. */
  readonly #lost = new Float64Array(1);
  readonly #capacity: number;
  readonly #oneIn: number;
  readonly #dipIdOf: (dipSlot: number) => DipId;
  #until: number;
  #first = 0;
  #count = 0;

  /** `oneIn` 0: nothing is sampled. */
  constructor(capacity: number, oneIn: number, dipIdOf: (dipSlot: number) => DipId) {
    this.#words = new Int32Array(capacity * WORDS);
    this.#capacity = capacity;
    this.#oneIn = oneIn;
    this.#until = oneIn;
    this.#dipIdOf = dipIdOf;
  }

  /** Samples that found the ring full, since the start. */
  get lost(): number {
    return this.#lost[0]!;
  }

  get waiting(): number {
    return this.#count;
  }

  /** A packet goes out. */
  sample(header: PacketHeader, vipId: number, dipSlot: number, nowMs: number): void {
    if (this.#oneIn === 0 || --this.#until !== 0) return;
    this.#until = this.#oneIn;
    this.onSample?.(header, vipId);
    if (this.#count === this.#capacity) {
      this.#lost[0]!++;
      return;
    }
    const at = ((this.#first + this.#count) % this.#capacity) * WORDS;
    const words = this.#words;
    words[at] = header.source0;
    words[at + 1] = header.source1;
    words[at + 2] = header.source2;
    words[at + 3] = header.source3;
    words[at + 4] = header.destination0;
    words[at + 5] = header.destination1;
    words[at + 6] = header.destination2;
    words[at + 7] = header.destination3;
    words[at + 8] = (header.sourcePort << 16) | header.destinationPort;
    words[at + 9] = header.protocol;
    words[at + 10] = vipId;
    words[at + 11] = this.#dipIdOf(dipSlot);
    words[at + 12] = header.totalBytes;
    words[at + 13] = header.tcpFlags;
    words[at + 14] = nowMs;
    this.#count++;
  }

  /** Takes out up to `limit` of the oldest samples. */
  drain(limit: number): readonly FlowSample[] {
    const samples: FlowSample[] = [];
    while (samples.length < limit && this.#count > 0) {
      const at = this.#first * WORDS;
      const word = (which: number): number => this.#words[at + which]!; // first < capacity
      samples.push({
        tuple: {
          protocol: word(9),
          source: formatWords(word(0), word(1), word(2), word(3)),
          sourcePort: word(8) >>> 16,
          destination: formatWords(word(4), word(5), word(6), word(7)),
          destinationPort: word(8) & 0xffff,
        },
        vipId: word(10) as VipId,
        dipId: word(11) as DipId,
        bytes: word(12),
        tcpFlags: word(13),
        atMs: word(14) >>> 0,
        oneIn: this.#oneIn,
      });
      this.#first = (this.#first + 1) % this.#capacity;
      this.#count--;
    }
    return samples;
  }
}
