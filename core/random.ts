/**
 * Seeded pseudo-random numbers: xoshiro128** (Blackman and Vigna 2018), seeded through SplitMix32. Same seed, same
 * sequence, on every machine; 32-bit operations only. Not for secrets: those come from the environment's `entropy`.
 */
export interface Random {
  /** Uniform integer in [0, 2^32). */
  nextUint32(): number;
  /** Uniform float in [0, 1), 32 bits of it. */
  nextFloat(): number;
  /** Uniform integer in [0, bound); bound is an integer in 1..2^32. */
  below(bound: number): number;
  /** An independent generator, so that one consumer's draws do not shift another's. */
  fork(): Random;
}

function splitMix32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  };
}

const rotateLeft = (value: number, by: number): number => ((value << by) | (value >>> (32 - by))) >>> 0;

/** `seed` is an integer; its low 32 bits count. */
export function createRandom(seed: number): Random {
  const next = splitMix32(seed);
  let a = next();
  let b = next();
  let c = next();
  let d = next() | 1; // an all-zero state would stay zero for ever
  const nextUint32 = (): number => {
    const result = Math.imul(rotateLeft(Math.imul(b, 5) >>> 0, 7), 9) >>> 0;
    const t = (b << 9) >>> 0;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c = (c ^ t) >>> 0;
    d = rotateLeft(d >>> 0, 11);
    a >>>= 0;
    b >>>= 0;
    return result;
  };
  const nextFloat = (): number => nextUint32() / 0x1_0000_0000;
  return {
    nextUint32,
    nextFloat,
    below: (bound) => Math.floor(nextFloat() * bound),
    fork: () => createRandom(nextUint32()),
  };
}
