// polarc · llama_d128_rows · TypeScript class · avx2
// Generated from polarc.config.ts (plan 0261287333362bda)
// through templates/shared/binding.ts.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target avx2
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// LlamaD128Rows:
//   the kernels of this cache over typed arrays that the caller owns
// LlamaD128RowsCache:
//   holds the tokens of many sequences, some of them in full precision, and attends over them
//
//   keys     d = 128, 4,2,2,2 bits, radius f16, hadamard, rows/2
//   values   d = 128, 4,2,2,2 bits, radius f16, hadamard, rows/2
//   queries  4 query heads a KV head; q_head = kv_head × 4 + i
//   pages    64 tokens; dense rows are f16

import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const STEM =
  'llama-d128-rows';
const PLAN_HASH =
  '0261287333362bda45aaa03c124ad34c817d0b08d5b5e53138a0a55a00a34ac3';
const GROUP: number = 4;
const PAGE_TOKENS: number = 64;
const MEMORY_PAGE_BYTES = 4096;
const DENSE_DTYPE: 'f32' | 'f16' | 'bf16' = 'f16';

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

const KEY: Format = {
  headDim: 128,
  unitTokens: 1,
  unitBytes: 64,
  bytesPerToken: 64,
  formatHash: '4e9e9d03a90d27cbb81626641d0b9debbdb50c038217b5d50c9f42fb444c652b',
  needsMean: false,
  needsMatrix: 'no',
  needsDual: false,
};

const VALUE: Format = {
  headDim: 128,
  unitTokens: 1,
  unitBytes: 64,
  bytesPerToken: 64,
  formatHash: '4e9e9d03a90d27cbb81626641d0b9debbdb50c038217b5d50c9f42fb444c652b',
  needsMean: false,
  needsMatrix: 'no',
  needsDual: false,
};

/** Rows of numbers: f16 and bf16 as bit patterns in a Uint16Array, with `dtype` saying which. */
export interface Rows {
  readonly data: Float32Array | Uint16Array;
  /** Default: `f32` for a Float32Array, `f16` for a Uint16Array. */
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
  readonly data: Uint8Array;
  /** Bytes before the first page. The first page lies at a multiple of 16 in memory. */
  readonly offset?: number;
  readonly pages: number;
  /** Bytes from page to page. Default: kvHeads × headStride. */
  readonly pageStride?: number;
  /** Bytes from KV head to KV head. Default: units of a page × unitStride. */
  readonly headStride?: number;
  /** Bytes from unit to unit. Default: the bytes of a unit. */
  readonly unitStride?: number;
}

/**
 * Which tokens a sequence has, and where: `lengths` with `blockTable`, or `indptr`, `indices`,
 * `lastPageLen`, or with no table page i of sequence s is page s × pagesPerSequence + i.
 */
export interface CacheIndex {
  readonly sequences: number;
  /** Upper bound of every length. */
  readonly maxTokens: number;
  /** `[sequences]` */
  readonly lengths?: Int32Array;
  /** `[sequences][blockTableStride]` page indices. */
  readonly blockTable?: Int32Array;
  /** Default: the pages of maxTokens. */
  readonly blockTableStride?: number;
  /** `[sequences + 1]` */
  readonly indptr?: Int32Array;
  /** `[indptr[sequences]]` page indices. */
  readonly indices?: Int32Array;
  /** `[sequences]`, 1 to the tokens of a page. */
  readonly lastPageLen?: Int32Array;
  /** Default: the pages of maxTokens. */
  readonly pagesPerSequence?: number;
  /** `[sequences]`: token i has position firstPosition + i. Default 0. */
  readonly firstPosition?: Int32Array;
  /** `[sequences][positionsStride]`: the position of every token. */
  readonly positions?: Int32Array;
  /** Default: maxTokens. */
  readonly positionsStride?: number;
}

/** Run-time vectors and matrices of a format; left out where the format does not use them. */
export interface Transform {
  /** `[kv_head][d]`, centred formats. */
  readonly mean?: Float32Array;
  /** S: `[kv_head][d][d]`, or `[d][d]` for `orthogonal` (the file beside the plan). */
  readonly matrix?: Float32Array;
  /** S⁻ᵀ: `[kv_head][d][d]`, for `matrix`. */
  readonly dual?: Float32Array;
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
  /** `[count]`: page × pageTokens + offset; negative: skip the row. */
  readonly slots: BigInt64Array;
  /** Written. */
  readonly cache: Pool;
  readonly transform?: Transform;
  /** `[count][kvHeads]`, written: the squared error of every row. Skipped rows are left alone. */
  readonly errors?: Float32Array;
  /** One word; bits are set where tables were out of range (docs/abi.md). */
  readonly flags?: Uint32Array;
}

export interface DecodeCall {
  readonly cache: Pool;
  /** `[count]`; negative: skip the row. */
  readonly slots: BigInt64Array;
  readonly count: number;
  readonly kvHeads: number;
  readonly basis?: Basis;
  /** `[count][kvHeads][d]`, written. */
  readonly rows: Rows;
  readonly transform?: Transform;
  readonly flags?: Uint32Array;
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
  readonly transform?: Transform;
}

/** What `scores`, `weightedSum` and the two attentions share. */
export interface RowsOfSequences {
  /** Query rows. */
  readonly rows: number;
  readonly kvHeads: number;
  /** `[rows]`. Default: the row's index. */
  readonly rowSequence?: Int32Array;
  readonly flags?: Uint32Array;
  /** As many bytes as the workspace query says, at a multiple of 16. Default: the binding's own. */
  readonly workspace?: Uint8Array;
}

export interface Visibility {
  /** Factor of q·k, often 1/√d. */
  readonly scale: number;
  /** Logits become softcap × tanh(logit / softcap). Default 0: none. */
  readonly softcap?: number;
  /** Tokens that a query sees, itself included. Default 0: all. */
  readonly window?: number;
  /** `[rows]`. Default: the sequence's last position. */
  readonly rowPosition?: Int32Array;
}

export interface ScoresCall extends RowsOfSequences, Visibility {
  /** `[rows][q_head][d_k]` */
  readonly q: Rows;
  /** `[rows][q_head][maxTokens]`, written: logits, −∞ where the query does not see the token. */
  readonly scores: Float32Array;
  readonly scoresRowStride?: number;
  readonly scoresHeadStride?: number;
  readonly basis?: Basis;
  readonly keys: Pool;
  readonly index: CacheIndex;
  readonly key?: Transform;
}

export interface WeightedSumCall extends RowsOfSequences {
  /** `[rows][q_head][maxTokens]` */
  readonly weights: Float32Array;
  readonly weightsRowStride?: number;
  readonly weightsHeadStride?: number;
  /** `[rows][q_head][d_v]`, written. */
  readonly out: Rows;
  readonly basis?: Basis;
  readonly values: Pool;
  readonly index: CacheIndex;
  readonly value?: Transform;
}

export interface AttendCall extends RowsOfSequences, Visibility {
  /** `[rows][q_head][d_k]` */
  readonly q: Rows;
  /** `[rows][q_head][d_v]`, written. */
  readonly out: Rows;
  /** `[rows][q_head]`, written: natural logarithm of Σ exp(logit). */
  readonly lse?: Float32Array;
  readonly lseRowStride?: number;
  readonly basis?: Basis;
  readonly keys: Pool;
  readonly values: Pool;
  readonly index: CacheIndex;
  readonly key?: Transform;
  readonly value?: Transform;
  /** Tokens of a split, a multiple of 32. Default 0: the kernel chooses. */
  readonly splitTokens?: number;
}

export interface AttendDenseCall extends RowsOfSequences, Visibility {
  /** `[rows][q_head][d_k]` */
  readonly q: Rows;
  /** `[rows][q_head][d_v]`, written. */
  readonly out: Rows;
  /** `[rows][q_head]`, written. */
  readonly lse?: Float32Array;
  readonly lseRowStride?: number;
  /** `[sequence][token][kv_head][d_k]` in the dense dtype. */
  readonly keys: Float32Array | Uint16Array;
  /** `[sequence][token][kv_head][d_v]` in the dense dtype. */
  readonly values: Float32Array | Uint16Array;
  readonly keySequenceStride?: number;
  readonly keyTokenStride?: number;
  readonly keyHeadStride?: number;
  readonly valueSequenceStride?: number;
  readonly valueTokenStride?: number;
  readonly valueHeadStride?: number;
  readonly sequences: number;
  readonly maxTokens: number;
  /** `[sequences]` */
  readonly lengths: Int32Array;
  /** `[sequences]` */
  readonly firstPosition?: Int32Array;
  /** `[sequences][positionsStride]` */
  readonly positions?: Int32Array;
  /** `[sequences][positionsStride]`: tokens that are not 0 are seen by every query. */
  readonly alwaysVisible?: Uint8Array;
  /** Default: maxTokens. */
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
  /** One sink logit a query head: it takes weight and adds no value. */
  readonly sink?: Float32Array;
  /** Written; may be one part's rows. */
  readonly out: Rows;
  /** Written: of the visible tokens, without the sink. */
  readonly lse?: Float32Array;
  readonly lseRowStride?: number;
}

/** What the compiled addon exports. */
export interface Addon {
  readonly name: string;
  readonly target: string;
  readonly planHash: string;
  readonly variant: (wanted?: string) => string;
  readonly bytesToPage: (array: Uint8Array) => number;
  readonly Kernels: new (threads: number) => NativeKernels;
}

export interface NativeKernels {
  encodeKey(call: EncodeCall): void;
  encodeKeyAsync(call: EncodeCall): Promise<void>;
  decodeKey(call: DecodeCall): void;
  decodeKeyAsync(call: DecodeCall): Promise<void>;
  rotateKey(call: RotateCall): void;
  rotateKeyAsync(call: RotateCall): Promise<void>;
  encodeValue(call: EncodeCall): void;
  encodeValueAsync(call: EncodeCall): Promise<void>;
  decodeValue(call: DecodeCall): void;
  decodeValueAsync(call: DecodeCall): Promise<void>;
  rotateValue(call: RotateCall): void;
  rotateValueAsync(call: RotateCall): Promise<void>;
  scores(call: ScoresCall): void;
  scoresAsync(call: ScoresCall): Promise<void>;
  weightedSum(call: WeightedSumCall): void;
  weightedSumAsync(call: WeightedSumCall): Promise<void>;
  attend(call: AttendCall): void;
  attendAsync(call: AttendCall): Promise<void>;
  attendDense(call: AttendDenseCall): void;
  attendDenseAsync(call: AttendDenseCall): Promise<void>;
  merge(call: MergeCall): void;
  mergeAsync(call: MergeCall): Promise<void>;
  scoresWorkspace(call: ScoresCall): number;
  weightedSumWorkspace(call: WeightedSumCall): number;
  attendWorkspace(call: AttendCall): number;
  attendDenseWorkspace(call: AttendDenseCall): number;
  close(): void;
}

/**
 * The kernels of this cache. Arrays are the caller's: outputs are written in place, nothing is
 * copied, and a stride left out is that of a contiguous array. An Error carries the kernel's
 * message and a `code` such as `POLARC_INVALID_ARGUMENT`; then nothing was written.
 *
 * `nameAsync` does the same off the JavaScript thread, on up to `threads` threads, in the order
 * of the calls. Its arrays must be left alone, and not be transferred, until the promise settles.
 * Results do not depend on the number of threads.
 */
export class LlamaD128Rows {
  static readonly key: Format = KEY;
  static readonly value: Format = VALUE;
  /** Query heads of a KV head. */
  static readonly group: number = GROUP;
  /** Tokens of a page. */
  static readonly pageTokens: number = PAGE_TOKENS;
  /** Dtype of the rows of `attendDense`. */
  static readonly denseDtype: 'f32' | 'f16' | 'bf16' = DENSE_DTYPE;
  /** Bytes of a token and KV head, key and value. */
  static readonly bytesPerToken: number = KEY.bytesPerToken + VALUE.bytesPerToken;
  static readonly planHash: string = PLAN_HASH;

  readonly #native: NativeKernels;
  readonly #addon: Addon;

  /**
   * Loads the compiled addon, by default what node-gyp builds beside this file, in build/Release.
   * `threads` (1 … 256, default 1) is the number of threads that work on a call.
   */
  static load(
    addon?: string | URL,
    options: { readonly threads?: number } = {},
  ): LlamaD128Rows {
    const file = addon ?? new URL(`./build/Release/${STEM}.node`, import.meta.url);
    const path = typeof file === 'string' ? file : fileURLToPath(file);
    const loaded = createRequire(import.meta.url)(path) as Addon;
    return new LlamaD128Rows(loaded, options);
  }

  constructor(addon: Addon, options: { readonly threads?: number } = {}) {
    if (addon.planHash !== PLAN_HASH) {
      throw misuse(
        `the addon holds ${addon.name}, plan ${addon.planHash.slice(0, 16)}; this class is of ` +
          `plan ${PLAN_HASH.slice(0, 16)}: build the addon from the files beside it`,
      );
    }
    this.#addon = addon;
    this.#native = new addon.Kernels(options.threads ?? 1);
  }

  /**
   * The variant of the kernels that runs in this process, by default the fastest for this machine.
   * Given a name uses that one from now on, in all instances, if the machine can. Variants differ
   * in speed and in last bits, and keep to the same bounds.
   */
  variant(wanted?: string): string {
    return this.#addon.variant(wanted);
  }

  /**
   * `length` zeroed bytes from a page of memory on, for pools and dense rows: kernels read such
   * memory fastest. Any other array will do, from a multiple of 16 bytes on for pools.
   */
  bytes(length: number): Uint8Array {
    const whole = new Uint8Array(length + MEMORY_PAGE_BYTES);
    const first = this.#addon.bytesToPage(whole);
    return whole.subarray(first, first + length);
  }

  /**
   * Packs rows `[count][kvHeads][128]` into slots: 64 bytes
   * for a token of a KV head. `errors` gets every row's squared error, in the units of the rows
   * squared after preconditioning. Slots must be distinct.
   */
  encodeKey(call: EncodeCall): void {
    this.#native.encodeKey(call);
  }

  /** `encodeKey` off the JavaScript thread. */
  encodeKeyAsync(call: EncodeCall): Promise<void> {
    return this.#native.encodeKeyAsync(call);
  }

  /**
   * Slots to rows `[count][kvHeads][128]`, original or preconditioned.
   */
  decodeKey(call: DecodeCall): void {
    this.#native.decodeKey(call);
  }

  /** `decodeKey` off the JavaScript thread. */
  decodeKeyAsync(call: DecodeCall): Promise<void> {
    return this.#native.decodeKeyAsync(call);
  }

  /**
   * Multiplies rows `[count][heads][128]` with the preconditioner of keys: S
   * (forward), S⁻ᵀ (dual, for queries) or S⁻¹ (inverse).
   */
  rotateKey(call: RotateCall): void {
    this.#native.rotateKey(call);
  }

  /** `rotateKey` off the JavaScript thread. */
  rotateKeyAsync(call: RotateCall): Promise<void> {
    return this.#native.rotateKeyAsync(call);
  }

  /**
   * Packs rows `[count][kvHeads][128]` into slots: 64 bytes
   * for a token of a KV head. `errors` gets every row's squared error, in the units of the rows
   * squared after preconditioning. Slots must be distinct.
   */
  encodeValue(call: EncodeCall): void {
    this.#native.encodeValue(call);
  }

  /** `encodeValue` off the JavaScript thread. */
  encodeValueAsync(call: EncodeCall): Promise<void> {
    return this.#native.encodeValueAsync(call);
  }

  /**
   * Slots to rows `[count][kvHeads][128]`, original or preconditioned.
   */
  decodeValue(call: DecodeCall): void {
    this.#native.decodeValue(call);
  }

  /** `decodeValue` off the JavaScript thread. */
  decodeValueAsync(call: DecodeCall): Promise<void> {
    return this.#native.decodeValueAsync(call);
  }

  /**
   * Multiplies rows `[count][heads][128]` with the preconditioner of values: S
   * (forward), S⁻ᵀ (dual, for queries) or S⁻¹ (inverse).
   */
  rotateValue(call: RotateCall): void {
    this.#native.rotateValue(call);
  }

  /** `rotateValue` off the JavaScript thread. */
  rotateValueAsync(call: RotateCall): Promise<void> {
    return this.#native.rotateValueAsync(call);
  }

  /**
   * Logits of queries `[rows][kvHeads·4][128]` against packed keys:
   * `scores[row][q_head][token]` = scale × q·k, −∞ where the query does not see the token.
   */
  scores(call: ScoresCall): void {
    this.#native.scores(call);
  }

  /** `scores` off the JavaScript thread. */
  scoresAsync(call: ScoresCall): Promise<void> {
    return this.#native.scoresAsync(call);
  }

  /**
   * Sums of packed values with given weights; every token of the sequence counts:
   * `out[row][q_head]`, 128 numbers, = Σ weights[row][q_head][token] × v.
   */
  weightedSum(call: WeightedSumCall): void {
    this.#native.weightedSum(call);
  }

  /** `weightedSum` off the JavaScript thread. */
  weightedSumAsync(call: WeightedSumCall): Promise<void> {
    return this.#native.weightedSumAsync(call);
  }

  /**
   * Softmax attention of queries `[rows][kvHeads·4][128]` over packed tokens, to
   * `[rows][kvHeads·4][128]`, and the log-sum-exp of the logits. Rows that see nothing
   * get 0 and −∞.
   */
  attend(call: AttendCall): void {
    this.#native.attend(call);
  }

  /** `attend` off the JavaScript thread. */
  attendAsync(call: AttendCall): Promise<void> {
    return this.#native.attendAsync(call);
  }

  /**
   * The same over rows of f16: keys `[sequence][token][kv_head][128]`, values
   * `[sequence][token][kv_head][128]`.
   */
  attendDense(call: AttendDenseCall): void {
    this.#native.attendDense(call);
  }

  /** `attendDense` off the JavaScript thread. */
  attendDenseAsync(call: AttendDenseCall): Promise<void> {
    return this.#native.attendDenseAsync(call);
  }

  /**
   * Combines partial results `[rows][qHeads][128]` by their log-sum-exp, and applies the
   * sink logits, once. Parts that saw nothing count for nothing.
   */
  merge(call: MergeCall): void {
    this.#native.merge(call);
  }

  /** `merge` off the JavaScript thread. */
  mergeAsync(call: MergeCall): Promise<void> {
    return this.#native.mergeAsync(call);
  }

  /** Bytes of the workspace of this `scores` call. */
  scoresWorkspace(call: ScoresCall): number {
    return this.#native.scoresWorkspace(call);
  }

  /** Bytes of the workspace of this `weightedSum` call. */
  weightedSumWorkspace(call: WeightedSumCall): number {
    return this.#native.weightedSumWorkspace(call);
  }

  /** Bytes of the workspace of this `attend` call. */
  attendWorkspace(call: AttendCall): number {
    return this.#native.attendWorkspace(call);
  }

  /** Bytes of the workspace of this `attendDense` call. */
  attendDenseWorkspace(call: AttendDenseCall): number {
    return this.#native.attendDenseWorkspace(call);
  }

  /** Waits for the calls that run, then ends the threads. */
  close(): void {
    this.#native.close();
  }
}

export interface LlamaD128RowsCacheOptions {
  readonly kvHeads: number;
  /** Sequences held at once, numbered from 0. All begin empty. */
  readonly sequences: number;
  /** Most tokens of a sequence. */
  readonly maxTokens: number;
  /** Pages of the pools. Default: enough for every sequence at its longest. */
  readonly pages?: number;
  /** First tokens of a sequence that stay dense (attention sinks). Default 4. */
  readonly sinks?: number;
  /** Most recent tokens, which stay dense until newer ones come. Default 64. */
  readonly recent?: number;
  /** Room for pinned tokens in a sequence, which stay dense. Default 0. */
  readonly pinned?: number;
  /**
   * Pins a token, while there is room, whose key or value has a squared encode error above these
   * in any KV head. Default: none is pinned by its error.
   */
  readonly pinAbove?: { readonly key?: number; readonly value?: number };
  /** Whether sinks are seen by queries whose window has passed them. Default false. */
  readonly sinksAlwaysVisible?: boolean;
  readonly key?: Transform;
  readonly value?: Transform;
}

/** Attention of query rows over sequences. Queries and outputs are in the original basis. */
export interface LlamaD128RowsCacheAttend {
  /** `[rows][q_head][128]` */
  readonly q: Rows;
  /** `[rows][q_head][128]`, written. */
  readonly out: Rows;
  /** `[rows][q_head]`, written: log Σ exp(logit) of the visible tokens, without the sink logit. */
  readonly lse?: Float32Array;
  /** Sequence of every row. Default: row i is of sequence i, one row a sequence. */
  readonly rowSequence?: Int32Array;
  /** Position of every row. Default: the last token of its sequence. */
  readonly rowPosition?: Int32Array;
  readonly scale: number;
  readonly softcap?: number;
  readonly window?: number;
  /** One sink logit a query head. */
  readonly sink?: Float32Array;
  readonly splitTokens?: number;
}

const RECENT = 0;
const SINK = 1;
const PINNED = 2;
/** Tokens encoded at a time. */
const BATCH = 256;

type Dense = Uint16Array;
type DenseRows = { readonly keys: Dense; readonly values: Dense; readonly row: number };
type Leaving = DenseRows & { readonly position: number; readonly slot: number };

/**
 * The keys and values of many sequences: most tokens packed, in pages; some dense, in full
 * precision: the first `sinks` tokens, the last `recent`, and pinned ones. A token is in exactly
 * one part. A recent token that newer ones push out of the window is packed, for good.
 *
 * Rows are kept as f16, and packed from that, so that bytes do not depend on how tokens were
 * cut into `append` calls. Pages are shared between forks and copied when one of them writes.
 */
export class LlamaD128RowsCache {
  readonly #kernels: LlamaD128Rows;
  readonly #options: LlamaD128RowsCacheOptions;
  readonly #kvHeads: number;
  readonly #sequences: number;
  readonly #maxTokens: number;
  readonly #sinks: number;
  readonly #recent: number;
  readonly #pinned: number;

  // Packed: two pools with the same pages; a page counts the sequences that hold it.
  readonly #keyPool: Uint8Array;
  readonly #valuePool: Uint8Array;
  readonly #keyPageBytes: number;
  readonly #valuePageBytes: number;
  readonly #pages: number;
  readonly #holders: Int32Array;
  readonly #freePages: number[] = [];
  /** `[sequence][page of the sequence]` */
  readonly #blockTable: Int32Array;
  readonly #pagesPerSequence: number;
  /** `[sequence][packed token]`, ascending. */
  readonly #packedPositions: Int32Array;
  readonly #packedLengths: Int32Array;

  // Dense: `[sequence][dense token][kv_head][d]`, in no order of positions.
  readonly #denseKeys: Dense;
  readonly #denseValues: Dense;
  readonly #capacity: number;
  readonly #densePositions: Int32Array;
  readonly #denseKinds: Uint8Array;
  readonly #denseLengths: Int32Array;
  readonly #alwaysVisible: Uint8Array;

  readonly #tokens: Int32Array;
  /** Positions to pin that have not come yet. */
  readonly #plannedPins: Set<number>[] = [];
  #running = 0;

  /** Throws where the format needs a mean or a matrix that `key` or `value` lacks. */
  constructor(
    kernels: LlamaD128Rows,
    options: LlamaD128RowsCacheOptions,
  ) {
    this.#kernels = kernels;
    this.#options = options;
    this.#kvHeads = whole('kvHeads', options.kvHeads, 1);
    this.#sequences = whole('sequences', options.sequences, 1);
    this.#maxTokens = whole('maxTokens', options.maxTokens, 1);
    this.#sinks = whole('sinks', options.sinks ?? 4, 0);
    this.#recent = whole('recent', options.recent ?? 64, 0);
    this.#pinned = whole('pinned', options.pinned ?? 0, 0);
    if (options.pinAbove !== undefined && this.#pinned === 0) {
      throw misuse('pinAbove needs room: give `pinned`, the most pinned tokens of a sequence');
    }
    requireTransform('key', KEY, options.key, this.#kvHeads);
    requireTransform('value', VALUE, options.value, this.#kvHeads);

    this.#pagesPerSequence = Math.ceil(this.#maxTokens / PAGE_TOKENS);
    this.#pages = whole('pages', options.pages ?? this.#sequences * this.#pagesPerSequence, 1);
    this.#keyPageBytes = pageBytes(KEY, this.#kvHeads);
    this.#valuePageBytes = pageBytes(VALUE, this.#kvHeads);
    this.#keyPool = kernels.bytes(this.#pages * this.#keyPageBytes);
    this.#valuePool = kernels.bytes(this.#pages * this.#valuePageBytes);
    this.#holders = new Int32Array(this.#pages);
    for (let page = this.#pages - 1; page >= 0; page--) this.#freePages.push(page);
    this.#blockTable = new Int32Array(this.#sequences * this.#pagesPerSequence);
    this.#packedPositions = new Int32Array(this.#sequences * this.#maxTokens);
    this.#packedLengths = new Int32Array(this.#sequences);

    this.#capacity = Math.max(1, this.#sinks + this.#recent + this.#pinned);
    const denseTokens = this.#sequences * this.#capacity;
    this.#denseKeys = newDense(denseTokens * this.#kvHeads * KEY.headDim);
    this.#denseValues = newDense(denseTokens * this.#kvHeads * VALUE.headDim);
    this.#densePositions = new Int32Array(denseTokens);
    this.#denseKinds = new Uint8Array(denseTokens);
    this.#denseLengths = new Int32Array(this.#sequences);
    this.#alwaysVisible = new Uint8Array(denseTokens);

    this.#tokens = new Int32Array(this.#sequences);
    for (let s = 0; s < this.#sequences; s++) this.#plannedPins.push(new Set());
  }

  /** Tokens of a sequence. */
  tokens(sequence: number): number {
    return this.#tokens[this.#checked(sequence)]!;
  }

  /** Positions of a sequence's dense tokens, ascending. */
  densePositions(sequence: number): number[] {
    const first = this.#checked(sequence) * this.#capacity;
    const length = this.#denseLengths[sequence]!;
    return [...this.#densePositions.subarray(first, first + length)].sort((a, b) => a - b);
  }

  /** Positions of a sequence's packed tokens, ascending. */
  packedPositions(sequence: number): number[] {
    const first = this.#checked(sequence) * this.#maxTokens;
    return [...this.#packedPositions.subarray(first, first + this.#packedLengths[sequence]!)];
  }

  /** Pages that no sequence holds. */
  get freePages(): number {
    return this.#freePages.length;
  }

  /**
   * Appends tokens: rows `[token][kv_head][128]` of keys and `[token][kv_head][128]`
   * of values, as the model has them, float32 or f16. Throws, with nothing changed, where the
   * sequence or the pools have no room.
   */
  append(
    sequence: number,
    keys: Float32Array | Uint16Array,
    values: Float32Array | Uint16Array,
  ): void {
    this.#mutable('append');
    const s = this.#checked(sequence);
    const count = this.#rowCount('keys', keys, KEY);
    if (this.#rowCount('values', values, VALUE) !== count) {
      throw misuse(`append: keys are rows of ${count} tokens, values are not`);
    }
    const before = this.#tokens[s]!;
    const after = before + count;
    if (after > this.#maxTokens) {
      throw misuse(
        `append: sequence ${s} would have ${after} tokens; maxTokens is ${this.#maxTokens}`,
      );
    }
    const denseKeys = toDense(keys);
    const denseValues = toDense(values);

    // Who leaves the recent window: dense tokens first, then new ones that never enter it.
    const boundary = after - this.#recent;
    const leaving: Leaving[] = this.#pushedOut(s, boundary);
    const staying: { row: number; kind: number }[] = [];
    for (let row = 0; row < count; row++) {
      const position = before + row;
      if (position < this.#sinks) staying.push({ row, kind: SINK });
      else if (this.#plannedPins[s]!.has(position)) staying.push({ row, kind: PINNED });
      else if (position >= boundary) staying.push({ row, kind: RECENT });
      else leaving.push({ keys: denseKeys, values: denseValues, row, position, slot: -1 });
    }

    this.#reservePages(s, this.#packedLengths[s]! + leaving.length);
    const pinnedByError = this.#pack(s, leaving);

    // Dense rows that were packed make room for those that stay.
    const holes: number[] = [];
    for (const token of leaving) {
      const pinned = pinnedByError.has(token.position);
      if (pinned && token.slot >= 0) this.#denseKinds[s * this.#capacity + token.slot] = PINNED;
      else if (pinned) staying.push({ row: token.position - before, kind: PINNED });
      else if (token.slot >= 0) holes.push(token.slot);
    }
    for (const { row, kind } of staying) {
      const slot = holes.shift() ?? this.#denseLengths[s]!++;
      this.#putDense(s, slot, { keys: denseKeys, values: denseValues, row }, before + row, kind);
      this.#plannedPins[s]!.delete(before + row);
    }
    this.#removeDense(s, holes);
    this.#tokens[s] = after;
  }

  /**
   * Keeps the token at a position dense for good: one that is still to come, or is dense now.
   * Throws for a token that is packed already: its full precision is gone.
   */
  pin(sequence: number, position: number): void {
    this.#mutable('pin');
    const s = this.#checked(sequence);
    whole('position', position, 0);
    const planned = this.#plannedPins[s]!;
    if (planned.has(position)) return;
    const tokens = this.#tokens[s]!;
    const slot = position < tokens ? this.#denseSlot(s, position) : -1;
    if (position < tokens && slot < 0) throw misuse(`pin: token ${position} is packed already`);
    const at = s * this.#capacity + slot;
    if (position < this.#sinks || (slot >= 0 && this.#denseKinds[at] !== RECENT)) return;
    if (this.#pinRoom(s) === 0) {
      throw misuse(`pin: sequence ${s} has ${this.#pinned} pinned tokens; that is its room`);
    }
    if (slot < 0) planned.add(position);
    else this.#denseKinds[at] = PINNED;
  }

  /** Drops the tokens at positions ≥ `tokens`; 0 empties the sequence and frees its pages. */
  truncate(sequence: number, tokens: number): void {
    this.#mutable('truncate');
    const s = this.#checked(sequence);
    whole('tokens', tokens, 0);
    if (tokens > this.#tokens[s]!) {
      throw misuse(`truncate: sequence ${s} has ${this.#tokens[s]} tokens, fewer than ${tokens}`);
    }
    const positions = this.#packedPositions.subarray(s * this.#maxTokens);
    let packed = this.#packedLengths[s]!;
    const pagesBefore = Math.ceil(packed / PAGE_TOKENS);
    while (packed > 0 && positions[packed - 1]! >= tokens) packed--;
    this.#packedLengths[s] = packed;
    this.#releasePages(s, Math.ceil(packed / PAGE_TOKENS), pagesBefore);

    const gone: number[] = [];
    for (let slot = 0; slot < this.#denseLengths[s]!; slot++) {
      if (this.#densePositions[s * this.#capacity + slot]! >= tokens) gone.push(slot);
    }
    this.#removeDense(s, gone);
    this.#plannedPins[s]!.clear();
    this.#tokens[s] = tokens;
  }

  /** Makes the empty sequence `to` a copy of `from`. Pages are shared until one of them writes. */
  fork(from: number, to: number): void {
    this.#mutable('fork');
    this.#checked(from);
    this.#requireEmpty('fork', to);
    const packed = this.#packedLengths[from]!;
    for (let i = 0; i < Math.ceil(packed / PAGE_TOKENS); i++) {
      const page = this.#blockTable[from * this.#pagesPerSequence + i]!;
      this.#blockTable[to * this.#pagesPerSequence + i] = page;
      this.#holders[page]!++;
    }
    const first = from * this.#maxTokens;
    this.#packedPositions.copyWithin(to * this.#maxTokens, first, first + packed);
    this.#packedLengths[to] = packed;

    const dense = this.#denseLengths[from]!;
    for (let slot = 0; slot < dense; slot++) {
      const at = from * this.#capacity + slot;
      this.#putDense(
        to,
        slot,
        { keys: this.#denseKeys, values: this.#denseValues, row: at },
        this.#densePositions[at]!,
        this.#denseKinds[at]!,
      );
    }
    this.#denseLengths[to] = dense;
    for (const position of this.#plannedPins[from]!) this.#plannedPins[to]!.add(position);
    this.#tokens[to] = this.#tokens[from]!;
  }

  /** Attends over both parts of the rows' sequences. */
  attend(call: LlamaD128RowsCacheAttend): void {
    const { packed, dense, merge } = this.#attention(call);
    this.#kernels.attend(packed);
    this.#kernels.attendDense(dense);
    this.#kernels.merge(merge);
  }

  /** The same off the JavaScript thread. The cache must not change until the promise settles. */
  async attendAsync(
    call: LlamaD128RowsCacheAttend,
  ): Promise<void> {
    const { packed, dense, merge } = this.#attention(call);
    this.#running++;
    try {
      // The kernels run in the order of their calls.
      const parts = [
        this.#kernels.attendAsync(packed),
        this.#kernels.attendDenseAsync(dense),
        this.#kernels.mergeAsync(merge),
      ];
      const failed = (await Promise.allSettled(parts)).find((part) => part.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
    } finally {
      this.#running--;
    }
  }

  /** A sequence as bytes, with the hashes of its formats, means and matrices. */
  serialize(sequence: number): Uint8Array {
    const s = this.#checked(sequence);
    const header = new TextEncoder().encode(
      JSON.stringify({
        ...this.#identity(),
        tokens: this.#tokens[s],
        packedTokens: this.#packedLengths[s],
        denseTokens: this.#denseLengths[s],
      }),
    );
    const sections = this.#sections(this.#packedLengths[s]!, this.#denseLengths[s]!);
    const length = 8 + header.length;
    const bytes = new Uint8Array(length + sections.total);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
    bytes.set(header, 8);
    for (const [part, at] of this.#stored(s, sections, length)) bytes.set(part, at);
    return bytes;
  }

  /**
   * Fills an empty sequence from the bytes of `serialize`. Throws, with nothing changed, where they
   * are of another format, other means or matrices, damaged, or more than this cache has room for.
   */
  restore(sequence: number, bytes: Uint8Array): void {
    this.#mutable('restore');
    const s = this.#requireEmpty('restore', sequence);
    const { header, length } = readHeader(bytes);
    for (const [field, want] of Object.entries(this.#identity())) {
      if (header[field] === want) continue;
      throw misuse(`restore: ${field} is ${show(header[field])}; this cache has ${show(want)}`);
    }
    const count = (field: string): number => {
      const value = header[field];
      if (typeof value === 'number' && Number.isInteger(value) && value >= 0) return value;
      throw misuse(`restore: the header is damaged: ${field} is ${show(value)}`);
    };
    const tokens = count('tokens');
    const packed = count('packedTokens');
    const dense = count('denseTokens');
    if (tokens > this.#maxTokens) {
      throw misuse(`restore: ${tokens} tokens; maxTokens is ${this.#maxTokens}`);
    }
    if (dense > this.#capacity) {
      throw misuse(`restore: ${dense} dense tokens; this cache has room for ${this.#capacity}`);
    }
    const sections = this.#sections(packed, dense);
    if (packed + dense !== tokens || bytes.length !== length + sections.total) {
      throw misuse(`restore: ${bytes.length} bytes; the header says ${length + sections.total}`);
    }
    const at = length;
    const part = (begin: number, size: number) => bytes.slice(at + begin, at + begin + size);
    const packedPositions = new Int32Array(part(sections.packedPositions, packed * 4).buffer);
    const densePositions = new Int32Array(part(sections.densePositions, dense * 4).buffer);
    const denseKinds = part(sections.denseKinds, dense);
    requirePartition(tokens, packedPositions, densePositions, denseKinds);

    this.#reservePages(s, packed);
    this.#packedPositions.set(packedPositions, s * this.#maxTokens);
    this.#packedLengths[s] = packed;
    this.#densePositions.set(densePositions, s * this.#capacity);
    this.#denseKinds.set(denseKinds, s * this.#capacity);
    this.#denseLengths[s] = dense;
    this.#tokens[s] = tokens;
    for (const [stored, from] of this.#stored(s, sections, length)) {
      stored.set(bytes.subarray(from, from + stored.length));
    }
    this.#markVisible(s);
  }

  // ---- Packing

  /** Dense tokens of the recent window before `boundary`, in the order of their positions. */
  #pushedOut(s: number, boundary: number): Leaving[] {
    const leaving: Leaving[] = [];
    for (let slot = 0; slot < this.#denseLengths[s]!; slot++) {
      const row = s * this.#capacity + slot;
      const position = this.#densePositions[row]!;
      if (this.#denseKinds[row] === RECENT && position < boundary) {
        leaving.push({ keys: this.#denseKeys, values: this.#denseValues, row, position, slot });
      }
    }
    return leaving.sort((a, b) => a.position - b.position);
  }

  /** Encodes tokens behind the packed ones; returns the positions that it pinned instead. */
  #pack(s: number, leaving: readonly Leaving[]): Set<number> {
    const pinned = new Set<number>();
    let packed = this.#packedLengths[s]!;
    for (let begin = 0; begin < leaving.length; begin += BATCH) {
      let batch = leaving.slice(begin, begin + BATCH);
      const worst = this.#encode(s, packed, batch, this.#pinRoom(s) - pinned.size);
      if (worst.size > 0) {
        for (const position of worst) pinned.add(position);
        batch = batch.filter((token) => !worst.has(token.position));
        this.#encode(s, packed, batch, 0);
      }
      batch.forEach((token, i) => {
        this.#packedPositions[s * this.#maxTokens + packed + i] = token.position;
      });
      packed += batch.length;
    }
    this.#packedLengths[s] = packed;
    return pinned;
  }

  /** Encodes a batch; returns up to `room` positions with errors above the limits, worst first. */
  #encode(s: number, packed: number, batch: readonly Leaving[], room: number): Set<number> {
    const count = batch.length;
    const limits = this.#options.pinAbove;
    const slots = new BigInt64Array(count);
    for (let i = 0; i < count; i++) {
      const offset = (packed + i) % PAGE_TOKENS;
      const page = s * this.#pagesPerSequence + (packed + i - offset) / PAGE_TOKENS;
      slots[i] = BigInt(this.#blockTable[page]! * PAGE_TOKENS + offset);
    }
    const excess = new Float64Array(count);
    const run = (
      format: Format,
      data: Dense,
      rowsOf: (token: Leaving) => Dense,
      limit: number | undefined,
    ): void => {
      const width = this.#kvHeads * format.headDim;
      const rows = data;
      batch.forEach((token, i) => {
        rows.set(rowsOf(token).subarray(token.row * width, (token.row + 1) * width), i * width);
      });
      const errors = new Float32Array(count * this.#kvHeads);
      const transform = format === KEY ? this.#options.key : this.#options.value;
      const call: EncodeCall = {
        rows: { data: rows, dtype: DENSE_DTYPE },
        count,
        kvHeads: this.#kvHeads,
        slots,
        cache: format === KEY ? this.#keys() : this.#values(),
        errors,
        ...(transform === undefined ? {} : { transform }),
      };
      if (format === KEY) this.#kernels.encodeKey(call);
      else this.#kernels.encodeValue(call);
      if (limit === undefined) return;
      errors.forEach((error, i) => {
        const token = Math.floor(i / this.#kvHeads);
        if (error > limit) excess[token] = Math.max(excess[token]!, error / limit);
      });
    };
    if (count === 0) return new Set();
    const width = count * this.#kvHeads;
    run(KEY, newDense(width * KEY.headDim), (token) => token.keys, limits?.key);
    run(VALUE, newDense(width * VALUE.headDim), (token) => token.values, limits?.value);
    const worst = batch
      .map((token, i) => ({ position: token.position, excess: excess[i]! }))
      .filter((token) => token.excess > 0)
      .sort((a, b) => b.excess - a.excess);
    return new Set(worst.slice(0, Math.max(0, room)).map((token) => token.position));
  }

  // ---- Pages

  /** Gives the sequence pages of its own to write tokens up to `packed`, or throws. */
  #reservePages(s: number, packed: number): void {
    const held = Math.ceil(this.#packedLengths[s]! / PAGE_TOKENS);
    const wanted = Math.ceil(packed / PAGE_TOKENS);
    const last = s * this.#pagesPerSequence + held - 1;
    const partial = this.#packedLengths[s]! % PAGE_TOKENS !== 0;
    const grows = packed > this.#packedLengths[s]!;
    const copies = grows && partial && this.#holders[this.#blockTable[last]!]! > 1;
    const needed = wanted - held + (copies ? 1 : 0);
    if (needed > this.#freePages.length) {
      throw misuse(
        `sequence ${s} needs ${needed} more pages; ` +
          `${this.#freePages.length} of ${this.#pages} are free`,
      );
    }
    if (copies) {
      const shared = this.#blockTable[last]!;
      const own = this.#takePage();
      copyPage(this.#keyPool, this.#keyPageBytes, shared, own);
      copyPage(this.#valuePool, this.#valuePageBytes, shared, own);
      this.#holders[shared]!--;
      this.#blockTable[last] = own;
    }
    for (let i = held; i < wanted; i++) {
      this.#blockTable[s * this.#pagesPerSequence + i] = this.#takePage();
    }
  }

  #takePage(): number {
    const page = this.#freePages.pop()!;
    this.#holders[page] = 1;
    return page;
  }

  #releasePages(s: number, from: number, to: number): void {
    for (let i = to - 1; i >= from; i--) {
      const page = this.#blockTable[s * this.#pagesPerSequence + i]!;
      if (--this.#holders[page]! === 0) this.#freePages.push(page);
    }
  }

  #keys(): Pool {
    return { data: this.#keyPool, pages: this.#pages };
  }

  #values(): Pool {
    return { data: this.#valuePool, pages: this.#pages };
  }

  // ---- The dense part

  #putDense(s: number, slot: number, from: DenseRows, position: number, kind: number): void {
    const at = s * this.#capacity + slot;
    const keys = this.#kvHeads * KEY.headDim;
    const values = this.#kvHeads * VALUE.headDim;
    this.#denseKeys.set(from.keys.subarray(from.row * keys, (from.row + 1) * keys), at * keys);
    this.#denseValues.set(
      from.values.subarray(from.row * values, (from.row + 1) * values),
      at * values,
    );
    this.#densePositions[at] = position;
    this.#denseKinds[at] = kind;
    this.#alwaysVisible[at] = kind === SINK ? 1 : 0;
  }

  /** Frees dense slots: the last ones move into them. */
  #removeDense(s: number, slots: readonly number[]): void {
    for (const slot of [...slots].sort((a, b) => b - a)) {
      const last = --this.#denseLengths[s]!;
      if (slot === last) continue;
      const at = s * this.#capacity + last;
      this.#putDense(
        s,
        slot,
        { keys: this.#denseKeys, values: this.#denseValues, row: at },
        this.#densePositions[at]!,
        this.#denseKinds[at]!,
      );
    }
  }

  #denseSlot(s: number, position: number): number {
    const first = s * this.#capacity;
    return this.#densePositions.subarray(first, first + this.#denseLengths[s]!).indexOf(position);
  }

  #pinRoom(s: number): number {
    const first = s * this.#capacity;
    const kinds = this.#denseKinds.subarray(first, first + this.#denseLengths[s]!);
    const pinned = kinds.filter((kind) => kind === PINNED).length;
    return this.#pinned - pinned - this.#plannedPins[s]!.size;
  }

  #markVisible(s: number): void {
    for (let at = s * this.#capacity; at < (s + 1) * this.#capacity; at++) {
      this.#alwaysVisible[at] = this.#denseKinds[at] === SINK ? 1 : 0;
    }
  }

  // ---- Attention

  #attention(call: LlamaD128RowsCacheAttend): {
    packed: AttendCall;
    dense: AttendDenseCall;
    merge: MergeCall;
  } {
    const rows = call.rowSequence?.length ?? this.#sequences;
    const sequenceOf = (row: number): number => call.rowSequence?.[row] ?? row;
    const rowPosition = call.rowPosition ?? new Int32Array(rows);
    if (rowPosition.length < rows) {
      throw misuse(`attend: rowPosition has ${rowPosition.length} entries for ${rows} rows`);
    }
    for (let row = 0; row < rows; row++) {
      const s = this.#checked(sequenceOf(row));
      if (call.rowPosition === undefined) rowPosition[row] = Math.max(0, this.#tokens[s]! - 1);
    }

    const qHeads = this.#kvHeads * GROUP;
    const part = (): MergePart => ({
      out: { data: new Float32Array(rows * qHeads * VALUE.headDim) },
      lse: new Float32Array(rows * qHeads),
    });
    const parts = [part(), part()] as const;
    const common = {
      q: call.q,
      rows,
      kvHeads: this.#kvHeads,
      rowPosition,
      scale: call.scale,
      softcap: call.softcap ?? 0,
      window: call.window ?? 0,
      splitTokens: call.splitTokens ?? 0,
      ...(call.rowSequence === undefined ? {} : { rowSequence: call.rowSequence }),
    };
    const { key, value } = this.#options;
    return {
      packed: {
        ...common,
        ...parts[0],
        keys: this.#keys(),
        values: this.#values(),
        index: {
          sequences: this.#sequences,
          maxTokens: Math.max(1, ...this.#packedLengths),
          lengths: this.#packedLengths,
          blockTable: this.#blockTable,
          blockTableStride: this.#pagesPerSequence,
          positions: this.#packedPositions,
          positionsStride: this.#maxTokens,
        },
        ...(key === undefined ? {} : { key }),
        ...(value === undefined ? {} : { value }),
      },
      dense: {
        ...common,
        ...parts[1],
        keys: this.#denseKeys,
        values: this.#denseValues,
        sequences: this.#sequences,
        maxTokens: this.#capacity,
        lengths: this.#denseLengths,
        positions: this.#densePositions,
        ...(this.#options.sinksAlwaysVisible === true
          ? { alwaysVisible: this.#alwaysVisible }
          : {}),
      },
      merge: {
        parts,
        rows,
        qHeads,
        out: call.out,
        ...(call.sink === undefined ? {} : { sink: call.sink }),
        ...(call.lse === undefined ? {} : { lse: call.lse }),
      },
    };
  }

  // ---- Storing

  /** What a stored sequence must share with the cache that takes it. */
  #identity(): Record<string, string | number | null> {
    const { key, value } = this.#options;
    return {
      format: 'polarc-sequence/1',
      keyFormat: KEY.formatHash,
      valueFormat: VALUE.formatHash,
      keyMean: hash(key?.mean),
      keyMatrix: hash(key?.matrix),
      keyDual: hash(key?.dual),
      valueMean: hash(value?.mean),
      valueMatrix: hash(value?.matrix),
      valueDual: hash(value?.dual),
      kvHeads: this.#kvHeads,
      pageTokens: PAGE_TOKENS,
      denseDtype: DENSE_DTYPE,
    };
  }

  /** Where the parts of a stored sequence begin behind the header. */
  #sections(packed: number, dense: number): Sections {
    const pages = Math.ceil(packed / PAGE_TOKENS);
    const row = this.#kvHeads * Math.max(1, this.#denseKeys.BYTES_PER_ELEMENT);
    const keyPages = packed * 4;
    const valuePages = keyPages + pages * this.#keyPageBytes;
    const densePositions = valuePages + pages * this.#valuePageBytes;
    const denseKinds = densePositions + dense * 4;
    const denseKeys = denseKinds + dense;
    const denseValues = denseKeys + dense * row * KEY.headDim;
    const total = denseValues + dense * row * VALUE.headDim;
    return {
      packedPositions: 0,
      keyPages,
      valuePages,
      densePositions,
      denseKinds,
      denseKeys,
      denseValues,
      total,
    };
  }

  /** The memory of a sequence, part by part, and where each part stands among the stored bytes. */
  #stored(s: number, sections: Sections, start: number): [Uint8Array, number][] {
    const packed = this.#packedLengths[s]!;
    const dense = this.#denseLengths[s]!;
    const first = s * this.#capacity;
    const keys = this.#kvHeads * KEY.headDim;
    const values = this.#kvHeads * VALUE.headDim;
    const parts: [Uint8Array, number][] = [
      [bytesOf(this.#packedPositions, s * this.#maxTokens, packed), sections.packedPositions],
      [bytesOf(this.#densePositions, first, dense), sections.densePositions],
      [bytesOf(this.#denseKinds, first, dense), sections.denseKinds],
      [bytesOf(this.#denseKeys, first * keys, dense * keys), sections.denseKeys],
      [bytesOf(this.#denseValues, first * values, dense * values), sections.denseValues],
    ];
    for (let i = 0; i < Math.ceil(packed / PAGE_TOKENS); i++) {
      const page = this.#blockTable[s * this.#pagesPerSequence + i]!;
      const { keyPages, valuePages } = sections;
      parts.push(
        [
          bytesOf(this.#keyPool, page * this.#keyPageBytes, this.#keyPageBytes),
          keyPages + i * this.#keyPageBytes,
        ],
        [
          bytesOf(this.#valuePool, page * this.#valuePageBytes, this.#valuePageBytes),
          valuePages + i * this.#valuePageBytes,
        ],
      );
    }
    return parts.map(([bytes, at]) => [bytes, start + at]);
  }

  // ---- Checks

  #checked(sequence: number): number {
    if (Number.isInteger(sequence) && sequence >= 0 && sequence < this.#sequences) return sequence;
    throw misuse(`there is no sequence ${sequence}: they are 0 to ${this.#sequences - 1}`);
  }

  #requireEmpty(what: string, sequence: number): number {
    if (this.#tokens[this.#checked(sequence)] === 0) return sequence;
    throw misuse(`${what}: sequence ${sequence} has tokens: truncate(${sequence}, 0) empties it`);
  }

  #mutable(what: string): void {
    if (this.#running > 0) throw misuse(`${what}: attendAsync is running: await it first`);
  }

  #rowCount(what: string, rows: Float32Array | Uint16Array, format: Format): number {
    const width = this.#kvHeads * format.headDim;
    if (rows.length % width === 0) return rows.length / width;
    throw misuse(
      `append: ${what} has ${rows.length} elements, no multiple of ${width} (kvHeads × d)`,
    );
  }
}

interface Sections {
  readonly packedPositions: number;
  readonly keyPages: number;
  readonly valuePages: number;
  readonly densePositions: number;
  readonly denseKinds: number;
  readonly denseKeys: number;
  readonly denseValues: number;
  readonly total: number;
}

function whole(what: string, value: number, least: number): number {
  if (Number.isInteger(value) && value >= least && value < 2 ** 31) return value;
  throw misuse(`${what} must be a whole number from ${least} to ${2 ** 31 - 1}, not ${value}`);
}

function requireTransform(
  role: string,
  format: Format,
  given: Transform | undefined,
  kvHeads: number,
): void {
  const { headDim } = format;
  const matrices = format.needsMatrix === 'shared' ? 1 : kvHeads;
  const require = (field: 'mean' | 'matrix' | 'dual', needed: boolean, length: number): void => {
    const array = given?.[field];
    if (needed && array === undefined) {
      throw misuse(`${role}.${field} is missing: the format needs it`);
    }
    if (needed && array!.length < length) {
      throw misuse(`${role}.${field} has ${array!.length} elements; ${length} are needed`);
    }
  };
  require('mean', format.needsMean, kvHeads * headDim);
  require('matrix', format.needsMatrix !== 'no', matrices * headDim * headDim);
  require('dual', format.needsDual, kvHeads * headDim * headDim);
}

function pageBytes(format: Format, kvHeads: number): number {
  return kvHeads * (PAGE_TOKENS / format.unitTokens) * format.unitBytes;
}

function newDense(length: number): Dense {
  return new Uint16Array(length);
}

/** Rows in the dense dtype: as they are, or rounded to it, ties to even. */
function toDense(rows: Float32Array | Uint16Array): Dense {
  if (!(rows instanceof Float32Array)) return rows;
  const rounded = new Uint16Array(rows.length);
  const bits = new Uint32Array(rows.buffer, rows.byteOffset, rows.length);
  for (let i = 0; i < rows.length; i++) {
    const sign = (bits[i]! >>> 16) & 0x8000;
    const magnitude = bits[i]! & 0x7fffffff;
    if (magnitude > 0x7f800000) rounded[i] = 0x7e00;
    else if (magnitude >= 0x477ff000) rounded[i] = sign | 0x7c00;
    else if (magnitude < 0x38800000) rounded[i] = sign | roundEven(Math.abs(rows[i]!) * 2 ** 24);
    else rounded[i] = sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
  }
  return rounded;
}

function roundEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

function copyPage(pool: Uint8Array, bytes: number, from: number, to: number): void {
  pool.copyWithin(to * bytes, from * bytes, (from + 1) * bytes);
}

function bytesOf(
  array: Int32Array | Uint8Array | Float32Array | Uint16Array,
  first: number,
  length: number,
): Uint8Array {
  const size = array.BYTES_PER_ELEMENT;
  return new Uint8Array(array.buffer, array.byteOffset + first * size, length * size);
}

function hash(array: Float32Array | undefined): string | null {
  if (array === undefined) return null;
  return createHash('sha256').update(bytesOf(array, 0, array.length)).digest('hex');
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? 'missing';
  return text.length > 24 ? `${text.slice(0, 20)}…` : text;
}

function readHeader(bytes: Uint8Array): { header: Record<string, unknown>; length: number } {
  const damaged = misuse('restore: these bytes were not written by serialize');
  if (bytes.length < 8) throw damaged;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = 8 + Number(view.getBigUint64(0, true));
  if (length > bytes.length) throw damaged;
  try {
    const header: unknown = JSON.parse(new TextDecoder().decode(bytes.subarray(8, length)));
    if (typeof header !== 'object' || header === null) throw damaged;
    return { header: { ...header }, length };
  } catch {
    throw damaged;
  }
}

/** Every token in exactly one part, packed ones ascending. */
function requirePartition(
  tokens: number,
  packed: Int32Array,
  dense: Int32Array,
  kinds: Uint8Array,
): void {
  const seen = new Set<number>([...packed, ...dense]);
  const inside = [...seen].every((position) => position >= 0 && position < tokens);
  const ascending = packed.every((position, i) => i === 0 || packed[i - 1]! < position);
  if (seen.size === tokens && inside && ascending && kinds.every((kind) => kind <= PINNED)) return;
  throw misuse('restore: the positions are damaged');
}

function misuse(message: string): Error {
  return Object.assign(new Error(message), { code: 'POLARC_INVALID_ARGUMENT' });
}
