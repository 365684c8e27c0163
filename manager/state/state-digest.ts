/**
 * A 64-bit hash of bytes for comparing replicas: two lanes of multiply-xor with the mixing steps of MurmurHash3. It finds
 * drift, not an attacker.
 */
export function digestOfBytes(chunks: Iterable<Uint8Array>): string {
  let high = 0x2545f491;
  let low = 0x9e3779b9;
  for (const chunk of chunks) {
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at]!; // at < length
      high = Math.imul(high ^ byte, 0x01000193);
      low = Math.imul(low ^ byte, 0x5bd1e995);
      low ^= low >>> 15;
    }
  }
  high = mix(high ^ Math.imul(low, 0x27d4eb2f));
  low = mix(low ^ Math.imul(high, 0x165667b1));
  return hex(high) + hex(low);
}

function mix(lane: number): number {
  let mixed = lane ^ (lane >>> 16);
  mixed = Math.imul(mixed, 0x85ebca6b);
  mixed ^= mixed >>> 13;
  mixed = Math.imul(mixed, 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}

const hex = (lane: number): string => (lane >>> 0).toString(16).padStart(8, "0");
