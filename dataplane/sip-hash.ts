/**
 * SipHash-2-4 with 128 bits of output (Aumasson and Bernstein): a keyed hash for short messages that nobody without the key
 * can compute. What MUXes tell hosts is authenticated with it. In 32-bit halves, because that is what the engine computes in.
 *
 *     word v0..v3 -> state[0..7], low half first
 */
import { assert } from "../core/assert.js";

export const SIP_KEY_BYTES = 16;
export const SIP_TAG_BYTES = 16;

const state = new Int32Array(8);

/** Writes the 16 bytes of the hash of `bytes` to `out` at `at`. `key` has 16 bytes. */
export function sipHash128(key: Uint8Array, bytes: Uint8Array, out: Uint8Array, at: number): void {
  assert(key.length === SIP_KEY_BYTES, "a SipHash key has 16 bytes");
  const k0 = littleEndian(key, 0);
  const k1 = littleEndian(key, 4);
  const k2 = littleEndian(key, 8);
  const k3 = littleEndian(key, 12);
  // "somepseudorandomlygeneratedbytes", as the authors chose; v1 differs by 0xee for 128 bits.
  state[0] = 0x70736575 ^ k0;
  state[1] = 0x736f6d65 ^ k1;
  state[2] = 0x6e646f6d ^ k2 ^ 0xee;
  state[3] = 0x646f7261 ^ k3;
  state[4] = 0x6e657261 ^ k0;
  state[5] = 0x6c796765 ^ k1;
  state[6] = 0x79746573 ^ k2;
  state[7] = 0x74656462 ^ k3;
  const whole = bytes.length & ~7;
  for (let place = 0; place < whole; place += 8) compress(littleEndian(bytes, place), littleEndian(bytes, place + 4));
  // The last word: what is left of the message, and its length in the top byte.
  compress(littleEndian(bytes, whole), (littleEndian(bytes, whole + 4) & 0xff_ffff) | (bytes.length << 24));
  state[4] ^= 0xee;
  finish(out, at);
  state[2] ^= 0xdd;
  finish(out, at + 8);
}

/** Equal, in a time that does not tell where they differ. */
export function isEqualTag(bytes: Uint8Array, at: number, tag: Uint8Array): boolean {
  let difference = 0;
  for (let i = 0; i < SIP_TAG_BYTES; i++) difference |= bytes[at + i]! ^ tag[i]!; // both have that many
  return difference === 0;
}

/** Four bytes from `at`, those beyond the end as 0. */
const littleEndian = (bytes: Uint8Array, at: number): number =>
  (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24);

function compress(low: number, high: number): void {
  state[6]! ^= low;
  state[7]! ^= high;
  round();
  round();
  state[0]! ^= low;
  state[1]! ^= high;
}

function finish(out: Uint8Array, at: number): void {
  for (let i = 0; i < 4; i++) round();
  const low = state[0]! ^ state[2]! ^ state[4]! ^ state[6]!;
  const high = state[1]! ^ state[3]! ^ state[5]! ^ state[7]!;
  for (let i = 0; i < 4; i++) {
    out[at + i] = low >>> (8 * i);
    out[at + 4 + i] = high >>> (8 * i);
  }
}

function round(): void {
  add(0, 2);
  rotate(2, 13);
  xor(2, 0);
  rotate(0, 32);
  add(4, 6);
  rotate(6, 16);
  xor(6, 4);
  add(0, 6);
  rotate(6, 21);
  xor(6, 0);
  add(4, 2);
  rotate(2, 17);
  xor(2, 4);
  rotate(4, 32);
}

function add(to: number, from: number): void {
  const low = (state[to]! >>> 0) + (state[from]! >>> 0);
  state[to] = low;
  state[to + 1] = state[to + 1]! + state[from + 1]! + (low > 0xffff_ffff ? 1 : 0);
}

function xor(to: number, from: number): void {
  state[to]! ^= state[from]!;
  state[to + 1]! ^= state[from + 1]!;
}

/** To the left by 1..31 bits, or by 32: the halves change places. */
function rotate(at: number, bits: number): void {
  const low = state[at]!;
  const high = state[at + 1]!;
  state[at] = bits === 32 ? high : (low << bits) | (high >>> (32 - bits));
  state[at + 1] = bits === 32 ? low : (high << bits) | (low >>> (32 - bits));
}
