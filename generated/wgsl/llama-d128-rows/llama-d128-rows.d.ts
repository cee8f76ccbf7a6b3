// polarc · llama_d128_rows · types · wgsl
// Generated from polarc.config.ts (plan 0261287333362bda)
// through templates/wgsl/binding.d.ts.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target wgsl
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The kernels of a cache on a WebGPU device, over buffers that the caller owns.
//
//   keys     d = 128, 4,2,2,2 bits, radius f16, hadamard, rows/2
//   values   d = 128, 4,2,2,2 bits, radius f16, hadamard, rows/2
//   queries  4 query heads a KV head; q_head = kv_head × 4 + i
//   pages    64 tokens; dense rows are f16
//
//   const kernels = await LlamaD128Rows.create(device);      // compiles pipelines, once
//   const call = kernels.attend({ … });                   // checks, binds; once a shape
//   call.record(encoder);                                 // every step; allocates nothing
//
// The types of WebGPU come from your project: @webgpu/types, or a DOM library that has them.

/** Rows of numbers in a buffer; f16 and bf16 stand two to a word, the first in its lower half. */
export interface Rows {
  readonly buffer: GPUBuffer;
  /** Default: f32. */
  readonly dtype?: 'f32' | 'f16' | 'bf16';
  /** Elements before the first row. Default 0. */
  readonly offset?: number;
  /** Elements from row to row. Default: heads × headStride. */
  readonly rowStride?: number;
  /** Elements from head to head. Default: the head dimension. */
  readonly headStride?: number;
}

/** Packed keys or values, `[page][kv_head][unit]` unless strides say otherwise. */
export interface Pool {
  readonly buffer: GPUBuffer;
  /** Bytes before the first page, a multiple of 4. Default 0. */
  readonly offset?: number;
  readonly pages: number;
  /** Bytes from page to page, a multiple of 4. Default: kvHeads × headStride. */
  readonly pageStride?: number;
  /** Bytes from KV head to KV head, a multiple of 4. Default: units of a page × unitStride. */
  readonly headStride?: number;
  /** Bytes from unit to unit, a multiple of 4, no less than a unit has. Default: what it has. */
  readonly unitStride?: number;
}

/** 32-bit words of a buffer. */
export interface Words {
  readonly buffer: GPUBuffer;
  /** Words before the first. Default 0. */
  readonly offset?: number;
}

/** Log-sum-exps `[row][q_head]`, float32. */
export interface Sums extends Words {
  /** Words from row to row. Default: query heads. */
  readonly rowStride?: number;
}

/** Logits or weights `[row][q_head][token]`, float32. */
export interface TokenRows extends Words {
  /** Words from row to row. Default: query heads × headStride. */
  readonly rowStride?: number;
  /** Words from query head to query head. Default: maxTokens. */
  readonly headStride?: number;
}

/** Rows of full precision, `[sequence][token][kv_head][d]` in the dense dtype, f16. */
export interface DenseRows {
  readonly buffer: GPUBuffer;
  /** Elements before the first. Default 0. */
  readonly offset?: number;
  readonly sequenceStride?: number;
  readonly tokenStride?: number;
  readonly headStride?: number;
}

/** Scratch of as many bytes as the workspace query says. */
export interface Workspace {
  readonly buffer: GPUBuffer;
  /** Bytes before it, a multiple of 4. Default 0. */
  readonly offset?: number;
}

/**
 * Which tokens a sequence has, and where. Every table is int32, all of them in one buffer, `tables`
 * of the call: the members that name a table are the index of its first number there.
 * `lengths` with `blockTable`, or `indptr`, `indices`, `lastPageLen`, or with no table page i of
 * sequence s is page s × pagesPerSequence + i.
 */
export interface CacheIndex {
  readonly sequences: number;
  /** Upper bound of every length; lengths may change on the device from step to step. */
  readonly maxTokens: number;
  /** Table `[sequences]`. */
  readonly lengths?: number;
  /** Table `[sequences][blockTableStride]` of page indices. */
  readonly blockTable?: number;
  /** Default: the pages of maxTokens. */
  readonly blockTableStride?: number;
  /** Table `[sequences + 1]`. */
  readonly indptr?: number;
  /** Table `[indicesCount]` of page indices. */
  readonly indices?: number;
  readonly indicesCount?: number;
  /** Table `[sequences]`, 1 to the tokens of a page. */
  readonly lastPageLen?: number;
  /** Default: the pages of maxTokens. */
  readonly pagesPerSequence?: number;
  /** Table `[sequences]`: token i has position firstPosition + i. Default 0. */
  readonly firstPosition?: number;
  /** Table `[sequences][positionsStride]`: the position of every token. */
  readonly positions?: number;
  /** Default: maxTokens. */
  readonly positionsStride?: number;
}

/**
 * Vectors and matrices of a format, float32, all of them in one buffer, `transforms` of the call:
 * the index of the first number of each. Left out where the format does not use them.
 */
export interface Transform {
  /** `[kv_head][d]`, centred formats. */
  readonly mean?: number;
  /** S: `[kv_head][d][d]`, or `[d][d]` for `orthogonal` (the file beside the plan). */
  readonly matrix?: number;
  /** S⁻ᵀ: `[kv_head][d][d]`, for `matrix`. */
  readonly dual?: number;
}

/** As the model has them, or multiplied by S (keys, values) and its dual (queries). */
export type Basis = 'original' | 'rotated';
/** S, S⁻ᵀ (queries), S⁻¹ (outputs). */
export type Rotation = 'forward' | 'dual' | 'inverse';

export interface EncodeCall {
  /** `[count][kvHeads][d]` */
  readonly rows: Rows;
  readonly count: number;
  readonly kvHeads: number;
  readonly tables: GPUBuffer;
  /** Table `[count]`: page × pageTokens + offset; negative: skip the row. */
  readonly slots: number;
  /** Written: only the bits of these slots. */
  readonly cache: Pool;
  readonly transforms?: GPUBuffer;
  readonly transform?: Transform;
  /** `[count][kvHeads]` float32, written: the squared error of every row. */
  readonly errors?: Words;
  /** One word; bits are set where tables were out of range (docs/abi.md). */
  readonly flags?: Words;
}

export interface DecodeCall {
  readonly cache: Pool;
  readonly tables: GPUBuffer;
  /** Table `[count]`; negative: skip the row. */
  readonly slots: number;
  readonly count: number;
  readonly kvHeads: number;
  readonly basis?: Basis;
  /** `[count][kvHeads][d]`, written. */
  readonly rows: Rows;
  readonly transforms?: GPUBuffer;
  readonly transform?: Transform;
  readonly flags?: Words;
}

export interface RotateCall {
  /** `[count][heads][d]` */
  readonly in: Rows;
  /** Written; may be the same memory with the same strides. */
  readonly out: Rows;
  readonly count: number;
  readonly heads: number;
  /** Heads that share a KV head's matrix: the group for queries, 1 (default) for keys, values. */
  readonly headsPerKv?: number;
  readonly rotation: Rotation;
  readonly transforms?: GPUBuffer;
  readonly transform?: Transform;
}

/** What `scores`, `weightedSum` and the two attentions share. */
export interface RowsOfSequences {
  /** Query rows. */
  readonly rows: number;
  readonly kvHeads: number;
  readonly tables: GPUBuffer;
  /** Table `[rows]`. Default: the row's index. */
  readonly rowSequence?: number;
  readonly workspace: Workspace;
  readonly flags?: Words;
}

export interface Visibility {
  /** Factor of q·k, often 1/√d. */
  readonly scale: number;
  /** Logits become softcap × tanh(logit / softcap). Default 0: none. */
  readonly softcap?: number;
  /** Tokens that a query sees, itself included. Default 0: all. */
  readonly window?: number;
  /** Table `[rows]`. Default: the sequence's last position. */
  readonly rowPosition?: number;
}

export interface ScoresCall extends RowsOfSequences, Visibility {
  /** `[rows][q_head][d_k]` */
  readonly q: Rows;
  /** Written: logits, −∞ where the query does not see the token. */
  readonly scores: TokenRows;
  readonly basis?: Basis;
  readonly keys: Pool;
  readonly index: CacheIndex;
  readonly transforms?: GPUBuffer;
  readonly key?: Transform;
}

export interface WeightedSumCall extends RowsOfSequences {
  readonly weights: TokenRows;
  /** `[rows][q_head][d_v]`, written. */
  readonly out: Rows;
  readonly basis?: Basis;
  readonly values: Pool;
  readonly index: CacheIndex;
  readonly transforms?: GPUBuffer;
  readonly value?: Transform;
}

export interface AttendCall extends RowsOfSequences, Visibility {
  /** `[rows][q_head][d_k]` */
  readonly q: Rows;
  /** `[rows][q_head][d_v]`, written. */
  readonly out: Rows;
  /** Written: natural logarithm of Σ exp(logit). */
  readonly lse?: Sums;
  readonly basis?: Basis;
  readonly keys: Pool;
  readonly values: Pool;
  readonly index: CacheIndex;
  readonly transforms?: GPUBuffer;
  readonly key?: Transform;
  readonly value?: Transform;
  /** Tokens of a split, a multiple of 32. Default 0: chosen from maxTokens. */
  readonly splitTokens?: number;
}

export interface AttendDenseCall extends RowsOfSequences, Visibility {
  /** `[rows][q_head][d_k]` */
  readonly q: Rows;
  /** `[rows][q_head][d_v]`, written. */
  readonly out: Rows;
  readonly lse?: Sums;
  readonly keys: DenseRows;
  readonly values: DenseRows;
  readonly sequences: number;
  readonly maxTokens: number;
  /** Table `[sequences]`. */
  readonly lengths: number;
  /** Table `[sequences]`. */
  readonly firstPosition?: number;
  /** Table `[sequences][positionsStride]`. */
  readonly positions?: number;
  /** Table `[sequences][positionsStride]`: tokens that are not 0 are seen by every query. */
  readonly alwaysVisible?: number;
  /** Default: maxTokens. */
  readonly positionsStride?: number;
  readonly splitTokens?: number;
}

export interface MergePart {
  /** `[rows][qHeads][d_v]` */
  readonly out: Rows;
  readonly lse: Sums;
}

export interface MergeCall {
  readonly parts: readonly MergePart[];
  readonly rows: number;
  readonly qHeads: number;
  /** `[qHeads]` float32: one sink logit a query head; it takes weight and adds no value. */
  readonly sink?: Words;
  /** Written; may be one part's rows. */
  readonly out: Rows;
  /** Written: of the visible tokens, without the sink. */
  readonly lse?: Sums;
  readonly workspace: Workspace;
}

/** What the size of a workspace depends on. */
export interface Shape {
  readonly rows: number;
  readonly kvHeads: number;
}

export interface SplitShape extends Shape {
  readonly maxTokens: number;
  readonly splitTokens?: number;
}

/** A method that prepares a call. */
export type KernelName =
  | 'encodeKey'
  | 'encodeValue'
  | 'decodeKey'
  | 'decodeValue'
  | 'rotateKey'
  | 'rotateValue'
  | 'scores'
  | 'weightedSum'
  | 'attend'
  | 'attendDense'
  | 'merge';

/** A call with its pipelines, bindings and parameters. */
export interface PreparedCall {
  /** Records the call's dispatches, in a pass of their own or in yours, as often as you like. */
  record(target: GPUCommandEncoder | GPUComputePassEncoder): void;
  /** Frees its parameters; your buffers stay. */
  destroy(): void;
}

/** What is fixed of the keys, or of the values. */
export interface Format {
  readonly headDim: number;
  /** Tokens of a unit of storage: 1, or 32 for tiles. */
  readonly unitTokens: number;
  /** Bytes of a unit. */
  readonly unitBytes: number;
  /** Bytes of a token and KV head. */
  readonly bytesPerToken: number;
  /** SHA-256 over all that decides bytes. */
  readonly formatHash: string;
  /** Whether calls need `mean`. */
  readonly needsMean: boolean;
  /** Whether calls need `matrix`, and whether one serves all KV heads. */
  readonly needsMatrix: 'no' | 'shared' | 'per head';
  /** Whether calls need `dual`. */
  readonly needsDual: boolean;
}

/**
 * The kernels of this cache. A method checks its call, binds it and returns it prepared; an Error
 * says what was wrong, with a `code` such as `POLARC_INVALID_ARGUMENT`, before the device has seen
 * anything. What lies on the device (lengths, page indices) is checked there: `flags` tells.
 */
export declare class LlamaD128Rows {
  private constructor();
  static readonly key: Format;
  static readonly value: Format;
  /** Query heads of a KV head. */
  static readonly group: number;
  /** Tokens of a page. */
  static readonly pageTokens: number;
  /** Dtype of the rows of `attendDense`. */
  static readonly denseDtype: 'f32' | 'f16' | 'bf16';
  /** Bytes of a token and KV head, key and value. */
  static readonly bytesPerToken: number;
  static readonly planHash: string;

  /** Features of an adapter that the kernels use: ask for them with the device. */
  static features(adapter: GPUAdapter): GPUFeatureName[];

  /**
   * Compiles the pipelines. `variant` is the fastest that the device can run unless it is named:
   * `subgroups` needs that feature, `core` none. `kernels` names what will be called, and nothing
   * else is compiled; default: all.
   */
  static create(
    device: GPUDevice,
    options?: {
      readonly variant?: 'subgroups' | 'core';
      readonly kernels?: readonly KernelName[];
    },
  ): Promise<LlamaD128Rows>;

  /** The variant of the kernels that runs. */
  readonly variant: 'subgroups' | 'core';

  /** Packs rows into slots. */
  encodeKey(call: EncodeCall): PreparedCall;
  encodeValue(call: EncodeCall): PreparedCall;
  /** Slots to rows, original or preconditioned. */
  decodeKey(call: DecodeCall): PreparedCall;
  decodeValue(call: DecodeCall): PreparedCall;
  /** Multiplies rows with the preconditioner. */
  rotateKey(call: RotateCall): PreparedCall;
  rotateValue(call: RotateCall): PreparedCall;
  /** Logits of queries against packed keys. */
  scores(call: ScoresCall): PreparedCall;
  /** Sums of packed values with given weights; every token of the sequence counts. */
  weightedSum(call: WeightedSumCall): PreparedCall;
  /** Softmax attention over packed tokens. Rows that see nothing get 0 and −∞. */
  attend(call: AttendCall): PreparedCall;
  /** The same over rows of full precision. */
  attendDense(call: AttendDenseCall): PreparedCall;
  /** Combines partial results by their log-sum-exp, and applies the sink logits, once. */
  merge(call: MergeCall): PreparedCall;

  /** Bytes of the workspace of a call. */
  scoresWorkspace(shape: Shape): number;
  weightedSumWorkspace(shape: SplitShape): number;
  attendWorkspace(shape: SplitShape): number;
  attendDenseWorkspace(shape: SplitShape): number;
  mergeWorkspace(shape: { readonly rows: number; readonly qHeads: number }): number;

  /** Frees what `create` allocated; prepared calls are of no use then. */
  destroy(): void;
}
