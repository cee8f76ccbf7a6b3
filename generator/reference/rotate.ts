/** S, S⁻ᵀ and S⁻¹ in float64. */

import type { Rotation, Transform } from '../plan/index.ts';
import type { Coder } from './coder.ts';

/**
 * Multiplies `vector` (d float64) in place by S (`forward`), S⁻ᵀ (`dual`) or S⁻¹ (`inverse`) of KV head `head`.
 * S = H·diag(signs)/√d for `hadamard`; for `matrix` S⁻¹ is the transpose of the dual, for `orthogonal` of the matrix.
 */
export function rotateVector(
  coder: Coder,
  rotation: Rotation,
  vector: Float64Array,
  transform: Transform | undefined,
  head: number,
): void {
  const { kind } = coder.plan.precondition;
  if (kind === 'none') return;
  const size = coder.dim * coder.dim;
  if (kind === 'hadamard') {
    rotateHadamard(coder, vector, rotation === 'inverse');
  } else if (kind === 'orthogonal') {
    multiply(need(transform, 'matrix', kind), 0, vector, rotation === 'inverse');
  } else if (rotation === 'forward') {
    multiply(need(transform, 'matrix', kind), head * size, vector, false);
  } else {
    multiply(need(transform, 'dual', kind), head * size, vector, rotation === 'inverse');
  }
}

/** The mean vector of a head, or null for formats that are not centred. */
export function meanOf(
  coder: Coder,
  transform: Transform | undefined,
  head: number,
): Float64Array | null {
  if (!coder.plan.center) return null;
  if (transform?.mean === undefined) throw new Error('a centred format needs transform.mean');
  return Float64Array.from(transform.mean.subarray(head * coder.dim, (head + 1) * coder.dim));
}

function need(
  transform: Transform | undefined,
  field: 'matrix' | 'dual',
  kind: string,
): Float32Array {
  const found = transform?.[field];
  if (found === undefined) throw new Error(`the preconditioner '${kind}' needs transform.${field}`);
  return found;
}

function multiply(
  matrix: Float32Array,
  at: number,
  vector: Float64Array,
  transposed: boolean,
): void {
  const d = vector.length;
  const x = Float64Array.from(vector);
  vector.fill(0);
  for (let i = 0; i < d; i++) {
    const row = at + i * d;
    if (transposed) {
      const factor = x[i]!;
      for (let j = 0; j < d; j++) vector[j]! += matrix[row + j]! * factor;
    } else {
      let sum = 0;
      for (let j = 0; j < d; j++) sum += matrix[row + j]! * x[j]!;
      vector[i] = sum;
    }
  }
}

function rotateHadamard(coder: Coder, vector: Float64Array, inverse: boolean): void {
  const plan = coder.plan.precondition;
  if (plan.kind !== 'hadamard') return;
  const d = coder.dim;
  const run = 1 << plan.log2;
  if (!inverse) for (let i = 0; i < d; i++) vector[i]! *= coder.signs[i]!;
  for (let stride = 1; stride < run; stride *= 2) {
    for (let start = 0; start < d; start += 2 * stride) {
      for (let i = start; i < start + stride; i++) {
        const a = vector[i]!;
        const b = vector[i + stride]!;
        vector[i] = a + b;
        vector[i + stride] = a - b;
      }
    }
  }
  if (plan.order > 1) {
    // H_m, which need not be symmetric: transposed for the inverse.
    const x = Float64Array.from(vector);
    for (let row = 0; row < plan.order; row++) {
      for (let b = 0; b < run; b++) {
        let sum = 0;
        for (let a = 0; a < plan.order; a++) {
          const entry = inverse ? a * plan.order + row : row * plan.order + a;
          sum += coder.factor[entry]! * x[a * run + b]!;
        }
        vector[row * run + b] = sum;
      }
    }
  }
  const scale = 1 / Math.sqrt(d);
  for (let i = 0; i < d; i++) vector[i]! *= inverse ? scale * coder.signs[i]! : scale;
}
