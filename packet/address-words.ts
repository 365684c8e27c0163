/** Addresses as four signed 32-bit words, see `header.ts`: from text and back, at the edges. */
import { formatIpv4, formatIpv6, parseIpv4, parseIpv6 } from "../core/address.js";
import type { IpAddress, Ipv4 } from "../core/brands.js";
import { MAPPED_WORD } from "./header.js";

/** Null when `text` is neither an IPv4 nor an IPv6 address. */
export function addressWords(text: string): Int32Array | null {
  const v4 = parseIpv4(text);
  if (v4 !== null) return Int32Array.of(0, 0, MAPPED_WORD, v4);
  const groups = parseIpv6(text);
  if (groups === null) return null;
  const word = (at: number): number => (groups[at]! << 16) | groups[at + 1]!; // there are eight
  return Int32Array.of(word(0), word(2), word(4), word(6));
}

export const isIpv4Words = (word0: number, word1: number, word2: number): boolean =>
  word0 === 0 && word1 === 0 && word2 === MAPPED_WORD;

export function formatWords(word0: number, word1: number, word2: number, word3: number): IpAddress {
  if (isIpv4Words(word0, word1, word2)) return formatIpv4((word3 >>> 0) as Ipv4);
  return formatIpv6([word0, word1, word2, word3].flatMap((word) => [word >>> 16, word & 0xffff]));
}
