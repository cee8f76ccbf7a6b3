/** Rows with strides and guards: what a kernel may write, and what it must leave alone. */

import type { Rows } from '../plan/index.ts';
import type { Dtype } from '../spec/index.ts';
import { loadElement, rowArray, storeElement } from './float-formats.ts';

export interface RowBuffer {
  /** As kernels take it. */
  readonly rows: Rows;
  readonly data: Float32Array | Uint16Array;
  readonly dtype: Dtype;
  readonly count: number;
  readonly heads: number;
  readonly dimension: number;
  /** Index of the first element of a row and head. */
  at(row: number, head: number): number;
}

export interface RowShape {
  readonly count: number;
  readonly heads: number;
  readonly dimension: number;
  readonly dtype?: Dtype;
  /** Elements left free after every head and row, and before the first: 0 gives a contiguous array. */
  readonly gap?: number;
}

/** What stands in rows before a kernel writes them: the pattern is neither zero nor NaN in any dtype. */
const GUARD: Readonly<Record<Dtype, number>> = { f32: 12345.6787109375, f16: 0x5a5a, bf16: 0x5a5a };

export const createRows = (shape: RowShape): RowBuffer => {
  const { count, heads, dimension, dtype = 'f32', gap = 0 } = shape;
  const headStride = dimension + gap;
  const rowStride = heads * headStride + 2 * gap;
  const offset = gap;
  const data = rowArray(dtype, offset + count * rowStride + gap);
  data.fill(GUARD[dtype]);
  // Strides left out mean contiguous rows: both ways of saying so are in use.
  const strides = gap === 0 ? {} : { offset, rowStride, headStride };
  return {
    rows: { data, dtype, ...strides },
    data,
    dtype,
    count,
    heads,
    dimension,
    at: (row, head) => offset + row * rowStride + head * headStride,
  };
};

/** Rows filled by a function of row, head and coordinate; f16 and bf16 are rounded to nearest even. */
export const fillRows = (
  shape: RowShape,
  values: (row: number, head: number) => ArrayLike<number>,
): RowBuffer => {
  const buffer = createRows(shape);
  for (let row = 0; row < buffer.count; row++) {
    for (let head = 0; head < buffer.heads; head++) {
      const vector = values(row, head);
      const at = buffer.at(row, head);
      for (let i = 0; i < buffer.dimension; i++) {
        storeElement(buffer.data, buffer.dtype, at + i, vector[i]!);
      }
    }
  }
  return buffer;
};

/** One vector of the buffer as numbers. */
export const readRow = (buffer: RowBuffer, row: number, head: number): Float64Array => {
  const at = buffer.at(row, head);
  return Float64Array.from({ length: buffer.dimension }, (_, i) =>
    loadElement(buffer.data, buffer.dtype, at + i),
  );
};

/** True while a row and head holds what it held before any kernel ran. */
export const isUntouched = (buffer: RowBuffer, row: number, head: number): boolean => {
  const at = buffer.at(row, head);
  for (let i = 0; i < buffer.dimension; i++) {
    if (buffer.data[at + i] !== GUARD[buffer.dtype]) return false;
  }
  return true;
};

/** Elements outside the rows that are not what they were. */
export const overwrittenGuards = (buffer: RowBuffer): number => {
  const inside = new Uint8Array(buffer.data.length);
  for (let row = 0; row < buffer.count; row++) {
    for (let head = 0; head < buffer.heads; head++) {
      const at = buffer.at(row, head);
      inside.fill(1, at, at + buffer.dimension);
    }
  }
  let overwritten = 0;
  for (let i = 0; i < buffer.data.length; i++) {
    if (inside[i] === 0 && buffer.data[i] !== GUARD[buffer.dtype]) overwritten++;
  }
  return overwritten;
};
