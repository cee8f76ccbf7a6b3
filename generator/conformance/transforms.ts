/** Run-time vectors and matrices of a codec for the suite. */

import { type CodecPlan, orthogonalMatrix, type Transform } from '../plan/index.ts';
import type { Random } from './random.ts';

/** Entries below this are written as 0, as the format asks (docs/format.md). */
const SMALLEST_ENTRY = 2 ** -32;

/** Singular values lie between 1/SPREAD and SPREAD. */
const SPREAD = 2;

/**
 * What a plan's kernels need at run time, for `kvHeads` heads: a mean if centred, the plan's matrix for `orthogonal`, a
 * well-conditioned random matrix and its dual for `matrix`. Undefined when they need nothing.
 */
export const drawTransform = (
  plan: CodecPlan,
  kvHeads: number,
  random: Random,
): Transform | undefined => {
  const { headDim, center, precondition } = plan;
  const mean = center
    ? Float32Array.from({ length: kvHeads * headDim }, () => random.normal())
    : undefined;
  if (precondition.kind === 'orthogonal') {
    return { ...(mean && { mean }), matrix: orthogonalMatrix(headDim, precondition.seed) };
  }
  if (precondition.kind === 'matrix') {
    const matrix = new Float32Array(kvHeads * headDim * headDim);
    const dual = new Float32Array(kvHeads * headDim * headDim);
    for (let head = 0; head < kvHeads; head++) {
      const drawn = drawInvertible(headDim, random);
      matrix.set(drawn.matrix, head * headDim * headDim);
      dual.set(drawn.dual, head * headDim * headDim);
    }
    return { ...(mean && { mean }), matrix, dual };
  }
  return mean && { mean };
};

/** S = P·D·Q and S⁻ᵀ = P·D⁻¹·Q, P and Q products of two random reflections, D diagonal. */
const drawInvertible = (
  d: number,
  random: Random,
): { matrix: Float32Array; dual: Float32Array } => {
  const stretch = Float64Array.from({ length: d }, () => SPREAD ** (2 * random.uniform() - 1));
  const reflections = Array.from({ length: 4 }, () =>
    Float64Array.from({ length: d }, () => random.normal()),
  );
  const compose = (diagonal: (i: number) => number): Float32Array => {
    const entries = new Float64Array(d * d);
    for (let i = 0; i < d; i++) entries[i * d + i] = diagonal(i);
    for (const vector of reflections.slice(0, 2)) reflectColumns(entries, vector);
    for (const vector of reflections.slice(2)) reflectRows(entries, vector);
    return Float32Array.from(entries, (x) => (Math.abs(x) < SMALLEST_ENTRY ? 0 : x));
  };
  return { matrix: compose((i) => stretch[i]!), dual: compose((i) => 1 / stretch[i]!) };
};

/** M ← (I − 2vvᵀ/vᵀv)·M */
const reflectColumns = (m: Float64Array, v: Float64Array): void => {
  const d = v.length;
  const products = new Float64Array(d);
  let energy = 0;
  for (let i = 0; i < d; i++) {
    energy += v[i]! * v[i]!;
    for (let j = 0; j < d; j++) products[j]! += v[i]! * m[i * d + j]!;
  }
  for (let i = 0; i < d; i++) {
    const factor = (2 * v[i]!) / energy;
    for (let j = 0; j < d; j++) m[i * d + j]! -= factor * products[j]!;
  }
};

/** M ← M·(I − 2vvᵀ/vᵀv) */
const reflectRows = (m: Float64Array, v: Float64Array): void => {
  const d = v.length;
  let energy = 0;
  for (let j = 0; j < d; j++) energy += v[j]! * v[j]!;
  for (let i = 0; i < d; i++) {
    let product = 0;
    for (let j = 0; j < d; j++) product += m[i * d + j]! * v[j]!;
    const factor = (2 * product) / energy;
    for (let j = 0; j < d; j++) m[i * d + j]! -= factor * v[j]!;
  }
};
