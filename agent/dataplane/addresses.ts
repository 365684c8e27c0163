/**
 * Addresses of both families as one 32-bit number each, so that tables, keys and comparisons are the same for both:
 *
 *     IPv4   the address itself, signed
 *     IPv6   a number in 0.0.0.1 .. 0.255.255.255, given when the address is first met and taken back when nobody keeps it
 *
 * No packet may carry an IPv4 address of 0.0.0.0/8 ("this network", RFC 1122 §3.2.1.3), so the two never meet.
 *
 * Invariants
 *  (A1) While a packet is looked at, between `name` and `unname`, both its addresses are kept. A packet and the one that it
 *       quotes are looked at together, and may share addresses.
 *  (A2) A number that is kept names the same address until it is released as often as it was kept.
 *  (A3) Numbers of packets' addresses sit in a table by a keyed hash: nobody outside can pile them up in one place.
 */
import type { IpAddress, Ipv4 } from "../../core/brands.js";
import { formatIpv4 } from "../../core/address.js";
import { FlowHasher } from "../../dataplane/flow-hash.js";
import { NOT_FOUND, WordIndex } from "../../dataplane/word-index.js";
import { addressWords, formatWords, isIpv4Words } from "../../packet/address-words.js";
import type { FiveTuple } from "../../packet/five-tuple.js";
import { MAPPED_WORD, type PacketHeader } from "../../packet/header.js";

/** No address. */
export const NO_ADDRESS = 0;

const THIS_NETWORK = 0xff00_0000 | 0;

/** The number is that of an IPv6 address. */
export const isIpv6Number = (number: number): boolean => (number & THIS_NETWORK) === 0;

export class Addresses {
  readonly #index: WordIndex;
  readonly #kept: Uint32Array;
  readonly #hasher: FlowHasher;
  /** Stack of numbers that name nothing. */
  readonly #free: Int32Array;
  #freeCount: number;

  /** IPv6 addresses at once, below 2^24. `key`: 8 bytes. */
  constructor(capacity: number, key: Uint8Array) {
    this.#index = new WordIndex(capacity);
    this.#kept = new Uint32Array(capacity);
    this.#hasher = new FlowHasher(key);
    this.#free = Int32Array.from({ length: capacity }, (_, place) => capacity - place);
    this.#freeCount = capacity;
  }

  /** IPv6 addresses that have a number. */
  get size(): number {
    return this.#index.size;
  }

  /** Four words per number, at `wordsAt`. */
  get words(): Int32Array {
    return this.#index.keys;
  }

  wordsAt(number: number): number {
    return (number - 1) * 4;
  }

  /** A copy of the four words of either family. */
  wordsOf(number: number): Int32Array {
    if (!isIpv6Number(number)) return Int32Array.of(0, 0, MAPPED_WORD, number);
    const at = this.wordsAt(number);
    return this.words.slice(at, at + 4);
  }

  /**
   * Puts the numbers of the packet's addresses in place of `source3` and `destination3`, kept until `unname`. False: an address that no packet may
   * have, or no room; then there is nothing to take back.
   */
  name(header: PacketHeader): boolean {
    if (header.family === 4) return !isIpv6Number(header.source3) && !isIpv6Number(header.destination3);
    const source = this.#numberOf(header.source0, header.source1, header.source2, header.source3);
    if (source === NO_ADDRESS) return false;
    this.keep(source);
    const { destination0, destination1, destination2, destination3 } = header;
    const destination = this.#numberOf(destination0, destination1, destination2, destination3);
    if (destination === NO_ADDRESS) {
      this.release(source);
      return false;
    }
    this.keep(destination);
    header.source3 = source;
    header.destination3 = destination;
    return true;
  }

  /** The packet is done with; numbers that nobody else keeps are taken back. */
  unname(header: PacketHeader): void {
    if (header.family === 4) return;
    this.release(header.source3);
    this.release(header.destination3);
  }

  keep(number: number): void {
    if (isIpv6Number(number)) this.#kept[number - 1]!++; // a number that is in use
  }

  release(number: number): void {
    if (!isIpv6Number(number)) return;
    if (--this.#kept[number - 1]! > 0) return;
    this.#index.remove(number - 1);
    this.#free[this.#freeCount++] = number;
  }

  /** Number of an address in text, kept once; `NO_ADDRESS`: it is none, or there is no room. */
  take(text: string): number {
    const words = addressWords(text);
    if (words === null) return NO_ADDRESS;
    const [a, b, c, d] = words as unknown as readonly [number, number, number, number];
    const number = isIpv4Words(a, b, c) ? d : this.#numberOf(a, b, c, d);
    if (isIpv4Words(a, b, c) && isIpv6Number(d)) return NO_ADDRESS;
    if (number !== NO_ADDRESS) this.keep(number);
    return number;
  }

  /** Number of an address in text if it has one, else `NO_ADDRESS`. */
  find(text: string): number {
    const words = addressWords(text);
    if (words === null) return NO_ADDRESS;
    const [a, b, c, d] = words as unknown as readonly [number, number, number, number];
    return this.findWords(a, b, c, d);
  }

  /** As `find`, of an address in four words. */
  findWords(a: number, b: number, c: number, d: number): number {
    if (isIpv4Words(a, b, c)) return isIpv6Number(d) ? NO_ADDRESS : d;
    const place = this.#index.find(this.#hash(a, b, c, d), a, b, c, d);
    return place === NOT_FOUND ? NO_ADDRESS : place + 1;
  }

  format(number: number): IpAddress {
    if (!isIpv6Number(number)) return formatIpv4((number >>> 0) as Ipv4);
    const at = this.wordsAt(number);
    const words = this.words;
    return formatWords(words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!); // of a number in use
  }

  tuple(protocol: number, source: number, sourcePort: number, destination: number, destinationPort: number): FiveTuple {
    return {
      protocol,
      source: this.format(source),
      sourcePort,
      destination: this.format(destination),
      destinationPort,
    };
  }

  #hash(a: number, b: number, c: number, d: number): number {
    return this.#hasher.ipv4(this.#hasher.ipv4(a, b, c, 0, 0), d, 0, 0, 0);
  }

  /** An old number or a new one that nobody keeps yet. */
  #numberOf(a: number, b: number, c: number, d: number): number {
    const hash = this.#hash(a, b, c, d);
    const place = this.#index.find(hash, a, b, c, d);
    if (place !== NOT_FOUND) return place + 1;
    if (this.#freeCount === 0) return NO_ADDRESS;
    const number = this.#free[--this.#freeCount]!; // freeCount was > 0
    this.#kept[number - 1] = 0;
    this.#index.insert(number - 1, hash, a, b, c, d);
    return number;
  }
}
