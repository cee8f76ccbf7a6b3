/** Seeded random numbers in uint32 arithmetic, the same on every engine. */

import { log } from './numeric.ts';

/** Independent uniform uint32 numbers. */
export type RandomSource = () => number;

const rotateLeft = (x: number, k: number): number => (x << k) | (x >>> (32 - k));

/**
 * xoshiro128** 1.1 (Blackman, Vigna 2018), its four words of state taken from splitmix32 (the 32-bit
 * finaliser of MurmurHash3 over a Weyl sequence of step 0x9e3779b9) that starts at the seed's low
 * word plus 0x85ebca6b times its high word.
 */
export function randomSource(seed: number): RandomSource {
  const high = Math.floor(seed / 2 ** 32);
  let weyl = (seed + Math.imul(high, 0x85ebca6b)) >>> 0;
  const word = (): number => {
    weyl = (weyl + 0x9e3779b9) >>> 0;
    let z = weyl;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return (z ^ (z >>> 16)) >>> 0;
  };
  let a = word();
  let b = word();
  let c = word();
  let d = word();
  return () => {
    const result = Math.imul(rotateLeft(Math.imul(b, 5), 7), 9) >>> 0;
    const t = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= t;
    d = rotateLeft(d, 11);
    return result;
  };
}

/** Uniform in (0, 1), 53 bits. */
function uniform(random: RandomSource): number {
  const high = random() >>> 5;
  const low = random() >>> 6;
  return (high * 2 ** 26 + low + 0.5) / 2 ** 53;
}

/** Standard normal numbers by Marsaglia's polar method: log and √ alone. */
export function normalSource(random: RandomSource): () => number {
  let spare: number | undefined;
  return () => {
    if (spare !== undefined) {
      const value = spare;
      spare = undefined;
      return value;
    }
    for (;;) {
      const x = 2 * uniform(random) - 1;
      const y = 2 * uniform(random) - 1;
      const square = x * x + y * y;
      if (square > 0 && square < 1) {
        const factor = Math.sqrt((-2 * log(square)) / square);
        spare = y * factor;
        return x * factor;
      }
    }
  };
}
