/** Seeded random orthogonal matrices, Haar distributed. */

import { sha256 } from './hash.ts';
import { normalSource, randomSource } from './random.ts';

const matrices = new Map<string, { readonly entries: Float32Array; readonly sha256: string }>();

/**
 * The Q of Q·R, R with a positive diagonal, of a d × d standard normal matrix drawn row by row: Haar
 * distributed. Modified Gram–Schmidt over the rows in float64, rounded to float32; row-major.
 */
export function orthogonalMatrix(d: number, seed: number): Float32Array {
  return Float32Array.from(known(d, seed).entries);
}

/** SHA-256 (hex) of the little-endian float32 entries of `orthogonalMatrix`. */
export function orthogonalHash(d: number, seed: number): string {
  return known(d, seed).sha256;
}

function known(d: number, seed: number) {
  const key = `${d}/${seed}`;
  let matrix = matrices.get(key);
  if (matrix === undefined) {
    const entries = drawn(d, seed);
    matrix = { entries, sha256: sha256(littleEndian(entries)) };
    matrices.set(key, matrix);
  }
  return matrix;
}

function drawn(d: number, seed: number): Float32Array {
  const normal = normalSource(randomSource(seed));
  const rows: Float64Array[] = [];
  for (let i = 0; i < d; i++) {
    const row = Float64Array.from({ length: d }, normal);
    for (const other of rows) {
      const product = dot(row, other);
      for (let j = 0; j < d; j++) row[j]! -= product * other[j]!;
    }
    const norm = Math.sqrt(dot(row, row));
    for (let j = 0; j < d; j++) row[j]! /= norm;
    rows.push(row);
  }
  const entries = new Float32Array(d * d);
  for (let i = 0; i < d; i++) entries.set(rows[i]!, i * d);
  return entries;
}

/** Summed in four strands, j mod 4, then (0 + 1) + (2 + 3). */
function dot(x: Float64Array, y: Float64Array): number {
  let [a, b, c, d] = [0, 0, 0, 0];
  let j = 0;
  for (; j + 3 < x.length; j += 4) {
    a += x[j]! * y[j]!;
    b += x[j + 1]! * y[j + 1]!;
    c += x[j + 2]! * y[j + 2]!;
    d += x[j + 3]! * y[j + 3]!;
  }
  for (; j < x.length; j++) a += x[j]! * y[j]!;
  return a + b + (c + d);
}

function littleEndian(entries: Float32Array): Uint8Array {
  const bytes = new Uint8Array(entries.length * 4);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < entries.length; i++) view.setFloat32(4 * i, entries[i]!, true);
  return bytes;
}
