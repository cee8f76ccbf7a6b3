/** Hadamard matrices of order m·2^k: H_m ⊗ H_2^k, H_m by Paley's constructions. */

import { randomSource } from './random.ts';

/** Quadratic character of the field of q elements, q an odd prime. */
function quadraticCharacter(q: number): (x: number) => number {
  const squares = new Set<number>();
  for (let x = 1; x < q; x++) squares.add((x * x) % q);
  return (x) => {
    const reduced = ((x % q) + q) % q;
    return reduced === 0 ? 0 : squares.has(reduced) ? 1 : -1;
  };
}

/**
 * Paley's conference matrix of order q + 1: zeros on the diagonal, C·Cᵀ = q·I; skew for
 * q ≡ 3 (mod 4), symmetric for q ≡ 1.
 */
function conferenceMatrix(q: number): number[][] {
  const character = quadraticCharacter(q);
  const corner = q % 4 === 3 ? -1 : 1;
  const size = q + 1;
  return Array.from({ length: size }, (_, i) =>
    Array.from({ length: size }, (_, j) => {
      if (i === 0) return j === 0 ? 0 : 1;
      return j === 0 ? corner : character(i - j);
    }),
  );
}

/** Rows of +1 and −1: Paley I (I + C) for orders 12, 20; Paley II for 28, 36. First row and column +1. */
function paleyMatrix(order: number): number[][] {
  const first = order === 12 || order === 20;
  const conference = conferenceMatrix(first ? order - 1 : order / 2 - 1);
  const rows = first
    ? conference.map((row, i) => row.map((c, j) => (i === j ? 1 : c)))
    : Array.from({ length: order }, (_, i) =>
        Array.from({ length: order }, (_, j) => {
          const c = conference[i >> 1]![j >> 1]!;
          const [y, x] = [i & 1, j & 1];
          // C ⊗ [[1, 1], [1, −1]] + I ⊗ [[1, −1], [−1, −1]].
          if (c !== 0) return y === 1 && x === 1 ? -c : c;
          return y === 0 && x === 0 ? 1 : -1;
        }),
      );
  const columns = [...rows[0]!];
  const flipped = rows.map((row) => row.map((entry, j) => entry * columns[j]!));
  return flipped.map((row) => row.map((entry) => entry * row[0]!));
}

/** H_m as strings of '0' (+1) and '1' (−1). */
export function hadamardMatrix(order: number): readonly string[] {
  if (order === 1) return ['0'];
  return paleyMatrix(order).map((row) => row.map((entry) => (entry < 0 ? '1' : '0')).join(''));
}

/** d random signs, '0' (+1) or '1' (−1): the topmost bits of the seed's random numbers. */
export function randomSigns(d: number, seed: number): string {
  const random = randomSource(seed);
  let signs = '';
  for (let i = 0; i < d; i++) signs += random() >>> 31 === 1 ? '1' : '0';
  return signs;
}
