/**
 * The kernels as TypeScript sees them: the structures of the ABI (docs/abi.md) with the same field names in camel case.
 * The caller owns every array; outputs are written in place. Strides of rows are in elements, of pools in bytes; a
 * stride left out is that of a contiguous array. Calls throw an Error with the kernel's message.
 */

/** Elements of rows: f16 and bf16 as their bit patterns in a Uint16Array, with `dtype` saying which. */
export interface Rows {
  readonly data: Float32Array | Uint16Array;
  /** Default: `f32` for a Float32Array, `f16` for a Uint16Array. */
  readonly dtype?: 'f32' | 'f16' | 'bf16';
  /** Elements before the first row. */
  readonly offset?: number;
  readonly rowStride?: number;
  readonly headStride?: number;
}

export interface Pool {
  readonly data: Uint8Array;
  /** Bytes before the first page; a multiple of 16. */
  readonly offset?: number;
  readonly pages: number;
  readonly pageStride?: number;
  readonly headStride?: number;
  readonly unitStride?: number;
}

export interface CacheIndex {
  readonly sequences: number;
  readonly maxTokens: number;
  readonly lengths?: Int32Array;
  readonly blockTable?: Int32Array;
  readonly blockTableStride?: number;
  readonly indptr?: Int32Array;
  readonly indices?: Int32Array;
  readonly lastPageLen?: Int32Array;
  readonly pagesPerSequence?: number;
  readonly firstPosition?: Int32Array;
  readonly positions?: Int32Array;
  readonly positionsStride?: number;
}

export interface Transform {
  readonly mean?: Float32Array;
  readonly matrix?: Float32Array;
  readonly dual?: Float32Array;
}

export type Basis = 'original' | 'rotated';
export type Rotation = 'forward' | 'dual' | 'inverse';

export interface EncodeCall {
  readonly rows: Rows;
  readonly count: number;
  readonly kvHeads: number;
  readonly slots: BigInt64Array;
  readonly cache: Pool;
  readonly transform?: Transform;
  readonly errors?: Float32Array;
  readonly flags?: Uint32Array;
}

export interface DecodeCall {
  readonly cache: Pool;
  readonly slots: BigInt64Array;
  readonly count: number;
  readonly kvHeads: number;
  readonly basis?: Basis;
  readonly rows: Rows;
  readonly transform?: Transform;
  readonly flags?: Uint32Array;
}

export interface RotateCall {
  readonly in: Rows;
  readonly out: Rows;
  readonly count: number;
  readonly heads: number;
  /** Default 1. */
  readonly headsPerKv?: number;
  readonly rotation: Rotation;
  readonly transform?: Transform;
}

/** What `scores`, `weighted_sum` and the two attentions share. */
interface RowsOfSequences {
  /** Query rows. */
  readonly rows: number;
  readonly kvHeads: number;
  readonly rowSequence?: Int32Array;
  readonly flags?: Uint32Array;
  /** Bytes from the workspace query; allocated by the binding when left out. */
  readonly workspace?: Uint8Array;
}

interface Visibility {
  readonly scale: number;
  /** 0 or left out: none. */
  readonly softcap?: number;
  /** 0 or left out: none. */
  readonly window?: number;
  readonly rowPosition?: Int32Array;
}

export interface ScoresCall extends RowsOfSequences, Visibility {
  readonly q: Rows;
  readonly scores: Float32Array;
  readonly scoresRowStride?: number;
  readonly scoresHeadStride?: number;
  readonly basis?: Basis;
  readonly keys: Pool;
  readonly index: CacheIndex;
  readonly key?: Transform;
}

export interface WeightedSumCall extends RowsOfSequences {
  readonly weights: Float32Array;
  readonly weightsRowStride?: number;
  readonly weightsHeadStride?: number;
  readonly out: Rows;
  readonly basis?: Basis;
  readonly values: Pool;
  readonly index: CacheIndex;
  readonly value?: Transform;
}

export interface AttendCall extends RowsOfSequences, Visibility {
  readonly q: Rows;
  readonly out: Rows;
  readonly lse?: Float32Array;
  readonly lseRowStride?: number;
  readonly basis?: Basis;
  readonly keys: Pool;
  readonly values: Pool;
  readonly index: CacheIndex;
  readonly key?: Transform;
  readonly value?: Transform;
  /** 0 or left out: the kernel chooses. */
  readonly splitTokens?: number;
}

export interface AttendDenseCall extends RowsOfSequences, Visibility {
  readonly q: Rows;
  readonly out: Rows;
  readonly lse?: Float32Array;
  readonly lseRowStride?: number;
  /** [sequence][token][kv_head][d] in the cache's dense dtype. */
  readonly keys: Float32Array | Uint16Array;
  readonly values: Float32Array | Uint16Array;
  readonly keySequenceStride?: number;
  readonly keyTokenStride?: number;
  readonly keyHeadStride?: number;
  readonly valueSequenceStride?: number;
  readonly valueTokenStride?: number;
  readonly valueHeadStride?: number;
  readonly sequences: number;
  readonly maxTokens: number;
  readonly lengths: Int32Array;
  readonly firstPosition?: Int32Array;
  readonly positions?: Int32Array;
  readonly alwaysVisible?: Uint8Array;
  readonly positionsStride?: number;
  readonly splitTokens?: number;
}

export interface MergePart {
  readonly out: Rows;
  readonly lse: Float32Array;
  readonly lseRowStride?: number;
}

export interface MergeCall {
  readonly parts: readonly MergePart[];
  readonly rows: number;
  readonly qHeads: number;
  /** One sink logit a query head. */
  readonly sink?: Float32Array;
  readonly out: Rows;
  readonly lse?: Float32Array;
  readonly lseRowStride?: number;
}

/** Every kernel of one cache. Calls on targets that run on the caller's thread are done when they return. */
export interface KernelCalls {
  encodeKey(call: EncodeCall): void | Promise<void>;
  encodeValue(call: EncodeCall): void | Promise<void>;
  decodeKey(call: DecodeCall): void | Promise<void>;
  decodeValue(call: DecodeCall): void | Promise<void>;
  rotateKey(call: RotateCall): void | Promise<void>;
  rotateValue(call: RotateCall): void | Promise<void>;
  scores(call: ScoresCall): void | Promise<void>;
  weightedSum(call: WeightedSumCall): void | Promise<void>;
  attend(call: AttendCall): void | Promise<void>;
  attendDense(call: AttendDenseCall): void | Promise<void>;
  merge(call: MergeCall): void | Promise<void>;
}
