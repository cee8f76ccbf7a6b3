/** A .safetensors file in memory: named arrays of numbers and a list of texts. */

/** Bytes of an element. */
export const DTYPE_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
} as const;

export type TensorDtype = keyof typeof DTYPE_BYTES;

export interface Tensor {
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  /** Little-endian, row-major: a view into the file's bytes. */
  readonly data: Uint8Array;
}

export interface Safetensors {
  readonly tensors: ReadonlyMap<string, Tensor>;
  readonly metadata: Readonly<Record<string, string>>;
}
