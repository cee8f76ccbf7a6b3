/** Seeded random numbers of the suite: the same cases for the same seed on every machine. */

export interface Random {
  /** Uniform in [0, 1). */
  uniform(): number;
  /** Integer in [low, high]. */
  integer(low: number, high: number): number;
  /** Standard normal. */
  normal(): number;
  /** One of the list's elements. */
  pick<T>(list: readonly T[]): T;
  /** True with the given probability. */
  chance(probability: number): boolean;
  /** A shuffled copy (Fisher–Yates). */
  shuffle<T>(list: readonly T[]): T[];
  /** An independent generator whose numbers depend on this one's seed and the label alone. */
  fork(label: string): Random;
}

/** 32 bits of an FNV-1a hash of the label, mixed with the seed. */
const seedOf = (seed: number, label: string): number => {
  let hash = (0x811c9dc5 ^ seed) >>> 0;
  for (let i = 0; i < label.length; i++) {
    hash = Math.imul(hash ^ label.charCodeAt(i), 0x01000193) >>> 0;
  }
  return hash;
};

/** SplitMix32 (Steele, Lea and Flood's SplitMix with 32-bit constants). */
export const createRandom = (seed: number): Random => {
  let state = (seed ^ 0x9e3779b9) >>> 0;
  const next = (): number => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  };
  const uniform = (): number => next() / 2 ** 32;
  const integer = (low: number, high: number): number =>
    low + Math.floor(uniform() * (high - low + 1));
  return {
    uniform,
    integer,
    normal: () => {
      // Box–Muller; 1 − u is never 0.
      const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
      return radius * Math.cos(2 * Math.PI * uniform());
    },
    pick: (list) => list[integer(0, list.length - 1)]!,
    chance: (probability) => uniform() < probability,
    shuffle: (list) => {
      const copy = [...list];
      for (let i = copy.length - 1; i > 0; i--) {
        const j = integer(0, i);
        const kept = copy[i]!;
        copy[i] = copy[j]!;
        copy[j] = kept;
      }
      return copy;
    },
    fork: (label) => createRandom(seedOf(seed, label)),
  };
};
