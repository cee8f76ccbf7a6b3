/** f16 and bf16 as bit patterns, for rows that go into kernels and come out of them. */

import type { Dtype } from '../spec/index.ts';

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

const roundShift = (value: number, shift: number): number => {
  const kept = value >>> shift;
  const rest = value & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return rest > half || (rest === half && (kept & 1) === 1) ? kept + 1 : kept;
};

/** The f16 nearest to a float32, ties to even; beyond the range ±Inf, any NaN the canonical quiet one. */
export const toHalf = (value: number): number => {
  float[0] = value;
  const pattern = bits[0]!;
  const sign = (pattern >>> 16) & 0x8000;
  const magnitude = pattern & 0x7fffffff;
  if (magnitude > 0x7f800000) return 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude >= 0x38800000) return sign | roundShift(magnitude - 0x38000000, 13);
  if (magnitude <= 0x33000000) return sign;
  const exponent = magnitude >>> 23;
  return sign | roundShift((magnitude & 0x7fffff) | 0x800000, 126 - exponent);
};

export const fromHalf = (pattern: number): number => {
  const sign = pattern & 0x8000 ? -1 : 1;
  const exponent = (pattern >>> 10) & 0x1f;
  const fraction = pattern & 0x3ff;
  if (exponent === 0x1f) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
};

/** The bf16 nearest to a float32, ties to even; any NaN the canonical quiet one. */
export const toBrain = (value: number): number => {
  float[0] = value;
  const pattern = bits[0]!;
  if ((pattern & 0x7fffffff) > 0x7f800000) return 0x7fc0;
  return roundShift(pattern, 16) & 0xffff;
};

export const fromBrain = (pattern: number): number => {
  bits[0] = pattern << 16;
  return float[0]!;
};

/** An array of the elements of a dtype. */
export const rowArray = (dtype: Dtype, length: number): Float32Array | Uint16Array =>
  dtype === 'f32' ? new Float32Array(length) : new Uint16Array(length);

export const storeElement = (
  array: Float32Array | Uint16Array,
  dtype: Dtype,
  at: number,
  value: number,
): void => {
  array[at] = dtype === 'f32' ? value : dtype === 'f16' ? toHalf(value) : toBrain(value);
};

export const loadElement = (
  array: Float32Array | Uint16Array,
  dtype: Dtype,
  at: number,
): number => {
  const stored = array[at]!;
  return dtype === 'f32' ? stored : dtype === 'f16' ? fromHalf(stored) : fromBrain(stored);
};

/** Values as they are once stored in a dtype. */
export const throughDtype = (values: ArrayLike<number>, dtype: Dtype): Float32Array => {
  const stored = rowArray(dtype, values.length);
  const result = new Float32Array(values.length);
  for (let i = 0; i < values.length; i++) {
    storeElement(stored, dtype, i, values[i]!);
    result[i] = loadElement(stored, dtype, i);
  }
  return result;
};
