/** Rows of f32, f16 or bf16, read exactly. */

import type { Rows } from '../plan/index.ts';
import type { Dtype } from '../spec/index.ts';
import { fromBf16, fromF16 } from './half.ts';

/** The value of one element of an array of float32s or of 16-bit patterns. */
export function elementOf(
  data: Float32Array | Uint16Array,
  dtype: Dtype | undefined,
  index: number,
): number {
  const element = data[index]!;
  if (data instanceof Float32Array) return element;
  return dtype === 'bf16' ? fromBf16(element) : fromF16(element);
}

/** Copies row `row`, head `head` of `[row][heads][d]` into `out` (d values from index `at`). */
export function readRow(
  rows: Rows,
  heads: number,
  d: number,
  row: number,
  head: number,
  out: Float32Array | Float64Array,
  at = 0,
): void {
  const headStride = rows.headStride ?? d;
  const rowStride = rows.rowStride ?? heads * headStride;
  const from = (rows.offset ?? 0) + row * rowStride + head * headStride;
  const { data } = rows;
  if (data instanceof Float32Array) {
    for (let i = 0; i < d; i++) out[at + i] = data[from + i]!;
  } else {
    const value = rows.dtype === 'bf16' ? fromBf16 : fromF16;
    for (let i = 0; i < d; i++) out[at + i] = value(data[from + i]!);
  }
}
