/**
 * The Internet checksum (RFC 1071): the 16-bit one's complement of the one's complement sum of 16-bit words. Whole, over
 * a range of bytes, and incremental, when a few words of a packet change (RFC 1624, equation 3):
 *
 *     HC' = ~(~HC + ~m + m')
 *
 * Incremental update is right for NAT for a second reason: it carries a wrong checksum through as wrong, where a fresh one
 * would hide damage done earlier. Equation 3, not RFC 1141's: that one goes wrong where a sum is 0xffff.
 *
 * Sums are kept unfolded in doubles (exact to 2^53) or in 32 bits with few terms; `foldSum` brings them to 16 bits.
 */

/** One's complement sum of 16 bits from a sum of 16-bit words. */
export function foldSum(sum: number): number {
  // 2^32 * 65,535 words would be needed to outrun two folds of a 32-bit sum; callers add fewer than 65,536 words.
  const once = (sum & 0xffff) + (sum >>> 16);
  return (once & 0xffff) + (once >>> 16);
}

/** Unfolded sum of the words in [offset, offset + length); an odd last byte is the high half of a word. */
export function sumWords(view: DataView, offset: number, length: number): number {
  let sum = 0;
  const end = offset + (length & ~1);
  for (let at = offset; at < end; at += 2) sum += view.getUint16(at);
  return length & 1 ? sum + (view.getUint8(end) << 8) : sum;
}

/** Checksum of a range in which the checksum field itself is zero. Over a range with a right checksum it gives 0. */
export const checksum = (view: DataView, offset: number, length: number): number =>
  ~foldSum(sumWords(view, offset, length)) & 0xffff;

/** Unfolded sum of the pseudo header of TCP and UDP over IPv4 (RFC 9293 §3.1, RFC 768). */
export const pseudoHeaderSum = (source: number, destination: number, protocol: number, length: number): number =>
  (source >>> 16) + (source & 0xffff) + (destination >>> 16) + (destination & 0xffff) + protocol + length;

/** Checksum after a 16-bit word changed from `before` to `after`. */
export const updateWord = (sum: number, before: number, after: number): number =>
  ~foldSum((~sum & 0xffff) + (~before & 0xffff) + after) & 0xffff;

/** Checksum after an aligned 32-bit value changed, for example an address. */
export function updateDoubleWord(sum: number, before: number, after: number): number {
  const complement = ~before;
  return (
    ~foldSum((~sum & 0xffff) + (complement >>> 16) + (complement & 0xffff) + (after >>> 16) + (after & 0xffff)) & 0xffff
  );
}
