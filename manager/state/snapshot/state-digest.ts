/**
 * A 64-bit hash of bytes for comparing replicas: two lanes of multiply-xor with the mixing steps of MurmurHash3. It finds
 * drift, not an attacker.
 */
export class ByteDigest {
  private high = 0x2545f491;
  private low = 0x9e3779b9;

  add(chunk: Uint8Array): void {
    let { high, low } = this;
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at]!; // at < length
      high = Math.imul(high ^ byte, 0x01000193);
      low = Math.imul(low ^ byte, 0x5bd1e995);
      low ^= low >>> 15;
    }
    this.high = high;
    this.low = low;
  }

  /** 16 hex digits. */
  finish(): string {
    const high = mix(this.high ^ Math.imul(this.low, 0x27d4eb2f));
    const low = mix(this.low ^ Math.imul(high, 0x165667b1));
    return hex(high) + hex(low);
  }
}

export function digestOfBytes(chunks: Iterable<Uint8Array>): string {
  const digest = new ByteDigest();
  for (const chunk of chunks) digest.add(chunk);
  return digest.finish();
}

function mix(lane: number): number {
  let mixed = lane ^ (lane >>> 16);
  mixed = Math.imul(mixed, 0x85ebca6b);
  mixed ^= mixed >>> 13;
  mixed = Math.imul(mixed, 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}

const hex = (lane: number): string => (lane >>> 0).toString(16).padStart(8, "0");
