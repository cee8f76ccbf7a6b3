// polarc · llama_d128_rows · TypeScript class · cuda
// Generated from polarc.config.ts (plan 0261287333362bda)
// through templates/cuda/node/binding.ts.hbs. Do not edit: change the spec, then
//   npx polarc generate polarc.config.ts --target cuda
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// LlamaD128Rows: the kernels of this cache on an NVIDIA GPU, over memory of the device
//
//   keys     d = 128, 4,2,2,2 bits, radius f16, hadamard, rows/2
//   values   d = 128, 4,2,2,2 bits, radius f16, hadamard, rows/2
//   queries  4 query heads a KV head; q_head = kv_head × 4 + i
//   pages    64 tokens; dense rows are f16
//
// The addon is built without CUDA and opens the driver when it is first asked for a device. The
// kernels are a cubin or fatbin (nvcc -cubin, nvcc -fatbin) if one is given, else they are compiled
// by NVRTC from llama-d128-rows.cuh, once a load:
//
//   const why = LlamaD128Rows.missing();                // '' where there is a GPU
//   const kernels = LlamaD128Rows.load();
//   using q = kernels.alloc(bytes);                 // or q.free()
//   kernels.upload(q, array);
//   const stream = kernels.createStream();
//   kernels.attend({ q: { data: q }, … }, stream);  // returns at once
//   await stream.finished();
//   kernels.download(out, result);

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const STEM =
  'llama-d128-rows';
const PLAN_HASH =
  '0261287333362bda45aaa03c124ad34c817d0b08d5b5e53138a0a55a00a34ac3';

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

/** Memory of a device. It must live until the kernels that use it are done. */
export interface DeviceBuffer {
  /** 0 when it was freed. */
  readonly bytes: number;
  /** Where it lies on the device, for other users of CUDA; 0n when it was freed. */
  readonly address: bigint;
  /** A part of the same memory, from byte `begin` to `end` (default: its end). */
  slice(begin: number, end?: number): DeviceBuffer;
  /** Gives the memory back, all parts of it, once the device is done with it. */
  free(): void;
  [Symbol.dispose](): void;
}

/** What a buffer holds; the device does not check it. */
export type DeviceFloat32 = DeviceBuffer;
export type DeviceInt32 = DeviceBuffer;
export type DeviceUint32 = DeviceBuffer;
export type DeviceInt64 = DeviceBuffer;
export type DeviceUint8 = DeviceBuffer;

/** Work in an order; streams do not wait for each other. */
export interface Stream {
  /** The CUstream, for other users of CUDA. */
  readonly handle: bigint;
  /** Waits until all that was put on it is done. */
  synchronize(): void;
  /** The same, away from the JavaScript thread; rejects with the error that a kernel met. */
  finished(): Promise<void>;
  /** Its work goes on to its end. */
  destroy(): void;
  [Symbol.dispose](): void;
}

/** A mark in a stream, with the time at which the device came by. */
export interface Event {
  /** On the default stream if none is given. */
  record(stream?: Stream): void;
  synchronize(): void;
  /** From an earlier event on; both were passed. */
  millisecondsSince(earlier: Event): number;
  destroy(): void;
  [Symbol.dispose](): void;
}

export interface DeviceInfo {
  readonly name: string;
  /** Ten times the compute capability: 90 for 9.0. */
  readonly capability: number;
  readonly memoryBytes: number;
}

/** Rows of numbers in memory of the device; `dtype` says of which type. */
export interface Rows {
  readonly data: DeviceBuffer;
  /** Default: `f32`. */
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
  readonly data: DeviceUint8;
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
  readonly lengths?: DeviceInt32;
  /** `[sequences][blockTableStride]` page indices. */
  readonly blockTable?: DeviceInt32;
  /** Default: the pages of maxTokens. */
  readonly blockTableStride?: number;
  /** `[sequences + 1]` */
  readonly indptr?: DeviceInt32;
  /** `[indptr[sequences]]` page indices. */
  readonly indices?: DeviceInt32;
  /** `[sequences]`, 1 to the tokens of a page. */
  readonly lastPageLen?: DeviceInt32;
  /** Default: the pages of maxTokens. */
  readonly pagesPerSequence?: number;
  /** `[sequences]`: token i has position firstPosition + i. Default 0. */
  readonly firstPosition?: DeviceInt32;
  /** `[sequences][positionsStride]`: the position of every token. */
  readonly positions?: DeviceInt32;
  /** Default: maxTokens. */
  readonly positionsStride?: number;
}

/** Run-time vectors and matrices of a format; left out where the format does not use them. */
export interface Transform {
  /** `[kv_head][d]`, centred formats. */
  readonly mean?: DeviceFloat32;
  /** S: `[kv_head][d][d]`, or `[d][d]` for `orthogonal` (the file beside the plan). */
  readonly matrix?: DeviceFloat32;
  /** S⁻ᵀ: `[kv_head][d][d]`, for `matrix`. */
  readonly dual?: DeviceFloat32;
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
  readonly slots: DeviceInt64;
  /** Written. */
  readonly cache: Pool;
  readonly transform?: Transform;
  /** `[count][kvHeads]`, written: the squared error of every row. Skipped rows are left alone. */
  readonly errors?: DeviceFloat32;
  /** One word; bits are set where tables were out of range (docs/abi.md). */
  readonly flags?: DeviceUint32;
}

export interface DecodeCall {
  readonly cache: Pool;
  /** `[count]`; negative: skip the row. */
  readonly slots: DeviceInt64;
  readonly count: number;
  readonly kvHeads: number;
  readonly basis?: Basis;
  /** `[count][kvHeads][d]`, written. */
  readonly rows: Rows;
  readonly transform?: Transform;
  readonly flags?: DeviceUint32;
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
  readonly rowSequence?: DeviceInt32;
  readonly flags?: DeviceUint32;
  /** As many bytes as the workspace query says, at a multiple of 16. Default: the binding's own. */
  readonly workspace?: DeviceUint8;
}

export interface Visibility {
  /** Factor of q·k, often 1/√d. */
  readonly scale: number;
  /** Logits become softcap × tanh(logit / softcap). Default 0: none. */
  readonly softcap?: number;
  /** Tokens that a query sees, itself included. Default 0: all. */
  readonly window?: number;
  /** `[rows]`. Default: the sequence's last position. */
  readonly rowPosition?: DeviceInt32;
}

export interface ScoresCall extends RowsOfSequences, Visibility {
  /** `[rows][q_head][d_k]` */
  readonly q: Rows;
  /** `[rows][q_head][maxTokens]`, written: logits, −∞ where the query does not see the token. */
  readonly scores: DeviceFloat32;
  readonly scoresRowStride?: number;
  readonly scoresHeadStride?: number;
  readonly basis?: Basis;
  readonly keys: Pool;
  readonly index: CacheIndex;
  readonly key?: Transform;
}

export interface WeightedSumCall extends RowsOfSequences {
  /** `[rows][q_head][maxTokens]` */
  readonly weights: DeviceFloat32;
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
  readonly lse?: DeviceFloat32;
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
  readonly lse?: DeviceFloat32;
  readonly lseRowStride?: number;
  /** `[sequence][token][kv_head][d_k]` in the dense dtype. */
  readonly keys: DeviceBuffer;
  /** `[sequence][token][kv_head][d_v]` in the dense dtype. */
  readonly values: DeviceBuffer;
  readonly keySequenceStride?: number;
  readonly keyTokenStride?: number;
  readonly keyHeadStride?: number;
  readonly valueSequenceStride?: number;
  readonly valueTokenStride?: number;
  readonly valueHeadStride?: number;
  readonly sequences: number;
  readonly maxTokens: number;
  /** `[sequences]` */
  readonly lengths: DeviceInt32;
  /** `[sequences]` */
  readonly firstPosition?: DeviceInt32;
  /** `[sequences][positionsStride]` */
  readonly positions?: DeviceInt32;
  /** `[sequences][positionsStride]`: tokens that are not 0 are seen by every query. */
  readonly alwaysVisible?: DeviceUint8;
  /** Default: maxTokens. */
  readonly positionsStride?: number;
  readonly splitTokens?: number;
}

export interface MergePart {
  readonly out: Rows;
  readonly lse: DeviceFloat32;
  readonly lseRowStride?: number;
}

export interface MergeCall {
  readonly parts: readonly MergePart[];
  readonly rows: number;
  readonly qHeads: number;
  /** One sink logit a query head: it takes weight and adds no value. */
  readonly sink?: DeviceFloat32;
  /** Written; may be one part's rows. */
  readonly out: Rows;
  /** Written: of the visible tokens, without the sink. */
  readonly lse?: DeviceFloat32;
  readonly lseRowStride?: number;
}

/** What the compiled addon exports. */
export interface Addon {
  readonly name: string;
  readonly target: string;
  readonly planHash: string;
  readonly missing: () => string;
  readonly devices: () => readonly DeviceInfo[];
  readonly compile: (text: string, name: string, capability: number) => Uint8Array;
  readonly Kernels: new (device: number, code: Uint8Array) => NativeKernels;
}

export interface NativeKernels {
  encodeKey(call: EncodeCall, stream?: Stream): void;
  decodeKey(call: DecodeCall, stream?: Stream): void;
  rotateKey(call: RotateCall, stream?: Stream): void;
  encodeValue(call: EncodeCall, stream?: Stream): void;
  decodeValue(call: DecodeCall, stream?: Stream): void;
  rotateValue(call: RotateCall, stream?: Stream): void;
  scores(call: ScoresCall, stream?: Stream): void;
  weightedSum(call: WeightedSumCall, stream?: Stream): void;
  attend(call: AttendCall, stream?: Stream): void;
  attendDense(call: AttendDenseCall, stream?: Stream): void;
  merge(call: MergeCall, stream?: Stream): void;
  scoresWorkspace(call: ScoresCall): number;
  weightedSumWorkspace(call: WeightedSumCall): number;
  attendWorkspace(call: AttendCall): number;
  attendDenseWorkspace(call: AttendDenseCall): number;
  alloc(bytes: number): DeviceBuffer;
  wrap(address: bigint, bytes: number): DeviceBuffer;
  upload(to: DeviceBuffer, from: ArrayBufferView, stream?: Stream): void;
  download(from: DeviceBuffer, to: ArrayBufferView, stream?: Stream): void;
  copy(to: DeviceBuffer, from: DeviceBuffer, stream?: Stream): void;
  clear(buffer: DeviceBuffer, stream?: Stream): void;
  createStream(): Stream;
  wrapStream(handle: bigint): Stream;
  createEvent(): Event;
  close(): void;
}

export interface LoadOptions {
  /** Number of the device, of `devices()`. Default 0. */
  readonly device?: number;
  /**
   * The kernels: a cubin, fatbin or PTX, or the file that holds one. Default: llama-d128-rows.cuh
   * in the folder above, compiled by NVRTC.
   */
  readonly code?: Uint8Array | string | URL;
}

/**
 * The kernels of this cache on one device. Buffers are the caller's: outputs are written in place,
 * and a stride left out is that of a contiguous array. Calls are checked, put on a stream (the
 * default stream if none is given) and return before they are done. An Error has a `code`: what
 * the checks found (`POLARC_INVALID_ARGUMENT`, …), then nothing was written, or CUDA's own
 * (`CUDA_ERROR_OUT_OF_MEMORY`, …). What a kernel meets later comes with the next call that waits.
 *
 * A workspace that is left out is the class's own, one a stream: it grows with the longest call,
 * which waits for the stream then, so give one to calls that are captured into a graph.
 */
export class LlamaD128Rows {
  static readonly key: Format = KEY;
  static readonly value: Format = VALUE;
  /** Query heads of a KV head. */
  static readonly group: number = 4;
  /** Tokens of a page. */
  static readonly pageTokens: number = 64;
  /** Dtype of the rows of `attendDense`. */
  static readonly denseDtype: 'f32' | 'f16' | 'bf16' = 'f16';
  /** Bytes of a token and KV head, key and value. */
  static readonly bytesPerToken: number = KEY.bytesPerToken + VALUE.bytesPerToken;
  static readonly planHash: string = PLAN_HASH;

  readonly #native: NativeKernels;

  /** The compiled addon, by default what node-gyp builds beside this file, in build/Release. */
  static addon(
    file: string | URL = new URL(`./build/Release/${STEM}.node`, import.meta.url),
  ): Addon {
    const path = typeof file === 'string' ? file : fileURLToPath(file);
    return createRequire(import.meta.url)(path) as Addon;
  }

  /** Why there is no driver here; empty where there is one. */
  static missing(addon: Addon = LlamaD128Rows.addon()): string {
    return addon.missing();
  }

  /** The devices of this machine. Throws where there is no driver. */
  static devices(addon: Addon = LlamaD128Rows.addon()): readonly DeviceInfo[] {
    return addon.devices();
  }

  /**
   * The kernels for devices of a compute capability (90 for 9.0), compiled by NVRTC: what `load`
   * does by itself, to be kept in a file. Takes some seconds.
   */
  static compile(capability: number, addon: Addon = LlamaD128Rows.addon()): Uint8Array {
    const file = new URL(`../${STEM}.cuh`, import.meta.url);
    return addon.compile(readFileSync(file, 'utf8'), `${STEM}.cuh`, capability);
  }

  /** Loads the addon, and the kernels onto a device. */
  static load(addon?: string | URL, options: LoadOptions = {}): LlamaD128Rows {
    return new LlamaD128Rows(LlamaD128Rows.addon(addon), options);
  }

  constructor(addon: Addon, options: LoadOptions = {}) {
    if (addon.planHash !== PLAN_HASH) {
      throw misuse(
        `the addon holds ${addon.name}, plan ${addon.planHash.slice(0, 16)}; this class is of ` +
          `plan ${PLAN_HASH.slice(0, 16)}: build the addon from the files beside it`,
      );
    }
    const { device = 0, code } = options;
    const devices = addon.devices();
    const info = devices[device];
    if (info === undefined) {
      throw misuse(`there is no device ${device}: this machine has ${devices.length}`);
    }
    if (code instanceof Uint8Array) this.#native = new addon.Kernels(device, code);
    else if (code !== undefined) this.#native = new addon.Kernels(device, readFileSync(code));
    else this.#native = new addon.Kernels(device, LlamaD128Rows.compile(info.capability, addon));
  }

  /** Memory of the device, from a multiple of 256 bytes on; it holds anything. */
  alloc(bytes: number): DeviceBuffer {
    return this.#native.alloc(bytes);
  }

  /** Memory of this device that somebody else holds, and keeps while it is in use here. */
  wrap(address: bigint, bytes: number): DeviceBuffer {
    return this.#native.wrap(address, bytes);
  }

  /** Copies an array to the begin of a buffer, after what is on the stream; done on return. */
  upload(to: DeviceBuffer, from: ArrayBufferView, stream?: Stream): void {
    this.#native.upload(to, from, stream);
  }

  /** Fills an array from the begin of a buffer, after what is on the stream; done on return. */
  download(from: DeviceBuffer, to: ArrayBufferView, stream?: Stream): void {
    this.#native.download(from, to, stream);
  }

  /** Puts a copy on the stream: as many bytes as both have. */
  copy(to: DeviceBuffer, from: DeviceBuffer, stream?: Stream): void {
    this.#native.copy(to, from, stream);
  }

  /** Puts on the stream that the buffer becomes zero. */
  clear(buffer: DeviceBuffer, stream?: Stream): void {
    this.#native.clear(buffer, stream);
  }

  createStream(): Stream {
    return this.#native.createStream();
  }

  /** A CUstream of this device that somebody else holds. */
  wrapStream(handle: bigint): Stream {
    return this.#native.wrapStream(handle);
  }

  createEvent(): Event {
    return this.#native.createEvent();
  }

  /**
   * Packs rows `[count][kvHeads][128]` into slots: 64 bytes
   * for a token of a KV head. `errors` gets every row's squared error, in the units of the rows
   * squared after preconditioning. Slots must be distinct.
   */
  encodeKey(call: EncodeCall, stream?: Stream): void {
    this.#native.encodeKey(call, stream);
  }

  /**
   * Slots to rows `[count][kvHeads][128]`, original or preconditioned.
   */
  decodeKey(call: DecodeCall, stream?: Stream): void {
    this.#native.decodeKey(call, stream);
  }

  /**
   * Multiplies rows `[count][heads][128]` with the preconditioner of keys: S
   * (forward), S⁻ᵀ (dual, for queries) or S⁻¹ (inverse).
   */
  rotateKey(call: RotateCall, stream?: Stream): void {
    this.#native.rotateKey(call, stream);
  }

  /**
   * Packs rows `[count][kvHeads][128]` into slots: 64 bytes
   * for a token of a KV head. `errors` gets every row's squared error, in the units of the rows
   * squared after preconditioning. Slots must be distinct.
   */
  encodeValue(call: EncodeCall, stream?: Stream): void {
    this.#native.encodeValue(call, stream);
  }

  /**
   * Slots to rows `[count][kvHeads][128]`, original or preconditioned.
   */
  decodeValue(call: DecodeCall, stream?: Stream): void {
    this.#native.decodeValue(call, stream);
  }

  /**
   * Multiplies rows `[count][heads][128]` with the preconditioner of values: S
   * (forward), S⁻ᵀ (dual, for queries) or S⁻¹ (inverse).
   */
  rotateValue(call: RotateCall, stream?: Stream): void {
    this.#native.rotateValue(call, stream);
  }

  /**
   * Logits of queries `[rows][kvHeads·4][128]` against packed keys:
   * `scores[row][q_head][token]` = scale × q·k, −∞ where the query does not see the token.
   */
  scores(call: ScoresCall, stream?: Stream): void {
    this.#native.scores(call, stream);
  }

  /**
   * Sums of packed values with given weights; every token of the sequence counts:
   * `out[row][q_head]`, 128 numbers, = Σ weights[row][q_head][token] × v.
   */
  weightedSum(call: WeightedSumCall, stream?: Stream): void {
    this.#native.weightedSum(call, stream);
  }

  /**
   * Softmax attention of queries `[rows][kvHeads·4][128]` over packed tokens, to
   * `[rows][kvHeads·4][128]`, and the log-sum-exp of the logits. Rows that see nothing
   * get 0 and −∞.
   */
  attend(call: AttendCall, stream?: Stream): void {
    this.#native.attend(call, stream);
  }

  /**
   * The same over rows of f16: keys `[sequence][token][kv_head][128]`, values
   * `[sequence][token][kv_head][128]`.
   */
  attendDense(call: AttendDenseCall, stream?: Stream): void {
    this.#native.attendDense(call, stream);
  }

  /**
   * Combines partial results `[rows][qHeads][128]` by their log-sum-exp, and applies the
   * sink logits, once. Parts that saw nothing count for nothing.
   */
  merge(call: MergeCall, stream?: Stream): void {
    this.#native.merge(call, stream);
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

  /** Unloads the kernels, once they are done. Buffers and streams stay. */
  close(): void {
    this.#native.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function misuse(message: string): Error {
  return Object.assign(new Error(message), { code: 'POLARC_INVALID_ARGUMENT' });
}
