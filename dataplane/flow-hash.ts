/**
 * The flow hash: which DIP a new flow gets, and where a flow sits in a table. Keyed, so that nobody outside can choose
 * packets that pile up in one place; the same key and function on every MUX of a site, so that any MUX picks the same DIP.
 *
 * HalfSipHash-2-4 with 32 bits of output (Aumasson and Bernstein; the variant of SipHash with 32-bit words). Key: 8 bytes,
 * two little-endian words. Message for IPv4, 14 bytes, everything as on the wire:
 *
 *     bytes  0..3   source address
 *            4..7   destination address
 *            8..9   source port        (0 where the distribution leaves ports out)
 *           10..11  destination port   (likewise)
 *           12      protocol           (likewise)
 *           13      distribution: 0 five-tuple, 1 source + destination + protocol, 2 source + destination
 *
 * For IPv6 the addresses have 16 bytes each, so lengths differ and the two families never share a message.
 */
import { assert } from "../core/assert.js";
import { MAPPED_WORD, type PacketHeader } from "../packet/header.js";

/** Which fields of a flow choose its DIP. Flow tables always use the five-tuple. */
export type Distribution = 0 | 1 | 2;
export const DISTRIBUTION_FIVE_TUPLE = 0;
/** Client address, VIP and protocol. */
export const DISTRIBUTION_CLIENT_PROTOCOL = 1;
/** Client address and VIP. */
export const DISTRIBUTION_CLIENT = 2;
/** In the place of a distribution, for hashes over fragments: they are apart from those of flows. */
export const FRAGMENT_HASH = 3;

/** 32-bit HalfSipHash of any bytes: the definition, for tests, tables built off the packet path, and other lengths. */
export function halfSipHash(key0: number, key1: number, message: Uint8Array): number {
  const state = new Uint32Array([key0, key1, 0x6c796765 ^ key0, 0x74656462 ^ key1]);
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  const whole = message.length & ~3;
  for (let at = 0; at < whole; at += 4) compress(state, view.getUint32(at, true));
  let last = message.length << 24;
  for (let at = whole; at < message.length; at++) last |= message[at]! << (8 * (at - whole)); // at < length
  compress(state, last);
  state[2]! ^= 0xff;
  for (let round = 0; round < 4; round++) sipRound(state);
  return (state[1]! ^ state[3]!) >>> 0;
}

function compress(state: Uint32Array, word: number): void {
  state[3]! ^= word;
  sipRound(state);
  sipRound(state);
  state[0]! ^= word;
}

function sipRound(v: Uint32Array): void {
  v[0]! += v[1]!;
  v[1] = (v[1]! << 5) | (v[1]! >>> 27);
  v[1] ^= v[0]!;
  v[0] = (v[0]! << 16) | (v[0]! >>> 16);
  v[2]! += v[3]!;
  v[3] = (v[3]! << 8) | (v[3]! >>> 24);
  v[3] ^= v[2]!;
  v[0] += v[3];
  v[3] = (v[3] << 7) | (v[3] >>> 25);
  v[3] ^= v[0];
  v[2]! += v[1];
  v[1] = (v[1] << 13) | (v[1] >>> 19);
  v[1] ^= v[2]!;
  v[2] = (v[2]! << 16) | (v[2]! >>> 16);
}

const swap = (word: number): number => (word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24);

const MESSAGE_BYTES = 14;
const MESSAGE_BYTES_IPV6 = 38;

/** The packet path's form: numbers in host order in, no bytes in between, nothing allocated. */
export class FlowHasher {
  readonly #key0: number;
  readonly #key1: number;
  readonly #words = new Int32Array(9);

  /** `key` has 8 bytes. */
  constructor(key: Uint8Array) {
    assert(key.length === 8, "the flow-hash key has 8 bytes");
    const view = new DataView(key.buffer, key.byteOffset, key.byteLength);
    this.#key0 = view.getUint32(0, true) | 0;
    this.#key1 = view.getUint32(4, true) | 0;
  }

  /**
   * Hash of an IPv4 flow, *signed* 32 bits (no heap number; `>>> 0` gives the unsigned one). `ports`: source port in the high
   * half, destination port in the low half. Four words go in: three of addresses and ports, then protocol, distribution and
   * the length of the message. The caller leaves out (0) what the distribution leaves out.
   */
  ipv4(source: number, destination: number, ports: number, protocol: number, distribution: number): number {
    let v0 = this.#key0;
    let v1 = this.#key1;
    let v2 = 0x6c796765 ^ v0;
    let v3 = 0x74656462 ^ v1;
    let word = swap(source);
    // Twelve rounds in one loop: two per word, four to finish. V8 keeps v0..v3 in registers.
    for (let round = 0; round < 12; round++) {
      if (round < 8) {
        if ((round & 1) === 0) v3 ^= word;
      } else if (round === 8) v2 ^= 0xff;
      v0 = (v0 + v1) | 0;
      v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
      v0 = (v0 << 16) | (v0 >>> 16);
      v2 = (v2 + v3) | 0;
      v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
      v0 = (v0 + v3) | 0;
      v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
      v2 = (v2 + v1) | 0;
      v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
      v2 = (v2 << 16) | (v2 >>> 16);
      if (round < 8 && (round & 1) === 1) {
        v0 ^= word;
        if (round === 1) word = swap(destination);
        else if (round === 3) word = swap(ports);
        else word = protocol | (distribution << 8) | (MESSAGE_BYTES << 24);
      }
    }
    return v1 ^ v3;
  }

  /** Hash of a flow of either family in a parsed header, with the ports and the protocol of the flow; see `ipv4`. */
  header(header: PacketHeader, ports: number, protocol: number, distribution: number): number {
    if (header.source0 === 0 && header.source1 === 0 && header.source2 === MAPPED_WORD)
      return this.ipv4(header.source3, header.destination3, ports, protocol, distribution);
    return this.#ipv6(header, ports, protocol, distribution);
  }

  #ipv6(header: PacketHeader, ports: number, protocol: number, distribution: number): number {
    const words = this.#words;
    words[0] = header.source0;
    words[1] = header.source1;
    words[2] = header.source2;
    words[3] = header.source3;
    words[4] = header.destination0;
    words[5] = header.destination1;
    words[6] = header.destination2;
    words[7] = header.destination3;
    words[8] = ports;
    const last = protocol | (distribution << 8) | (MESSAGE_BYTES_IPV6 << 24);
    let v0 = this.#key0;
    let v1 = this.#key1;
    let v2 = 0x6c796765 ^ v0;
    let v3 = 0x74656462 ^ v1;
    for (let at = 0; at <= 11; at++) {
      // Ten words of two rounds each, then, as words 10 and 11, the four rounds that finish.
      const word = at < 9 ? swap(words[at]!) : at === 9 ? last : 0;
      if (at === 10) v2 ^= 0xff;
      v3 ^= word;
      for (let round = 0; round < 2; round++) {
        v0 = (v0 + v1) | 0;
        v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
        v0 = (v0 << 16) | (v0 >>> 16);
        v2 = (v2 + v3) | 0;
        v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
        v0 = (v0 + v3) | 0;
        v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
        v2 = (v2 + v1) | 0;
        v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
        v2 = (v2 << 16) | (v2 >>> 16);
      }
      v0 ^= word;
    }
    return v1 ^ v3;
  }
}

/** Ports that take part in a distribution. */
export const distributionPorts = (ports: number, distribution: number): number =>
  distribution === DISTRIBUTION_FIVE_TUPLE ? ports : 0;

/** Protocol that takes part in a distribution. */
export const distributionProtocol = (protocol: number, distribution: number): number =>
  distribution === DISTRIBUTION_CLIENT ? 0 : protocol;

/**
 * Spreads four words of a trusted key (dense ids, configured addresses) over 32 bits: the finaliser of MurmurHash3 after
 * each word. Not keyed: for tables whose contents no packet chooses.
 * Signed.
 */
export function mixWords(a: number, b: number, c: number, d: number): number {
  let h = Math.imul(a ^ 0x9e3779b9, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 15) ^ b, 0xc2b2ae35);
  h = Math.imul(h ^ (h >>> 13) ^ c, 0x27d4eb2f);
  h = Math.imul(h ^ (h >>> 15) ^ d, 0x165667b1);
  return h ^ (h >>> 16);
}
